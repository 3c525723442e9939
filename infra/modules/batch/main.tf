# Runs that are divided: plan, then all partitions, then one commit, then all
# partitions into the online store. Whatever is repeated changes nothing.

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

locals {
  name    = "wafer-${var.project}-batch"
  account = data.aws_caller_identity.this.account_id
  # aws, aws-cn or aws-us-gov.
  partition = data.aws_partition.this.partition
  states    = "arn:${local.partition}:states:${var.region}:${local.account}"
  machine   = "${local.states}:stateMachine:${local.name}"
  run       = "${local.states}:execution:${local.name}"

  # Errors that another attempt may pass; what the data or the definitions are to
  # blame for fails at once.
  retry = [
    {
      # The account's concurrency is used up: it gets its turn.
      ErrorEquals     = ["Lambda.TooManyRequestsException"]
      IntervalSeconds = 2
      MaxAttempts     = 100
      BackoffRate     = 2
      MaxDelaySeconds = 60
      JitterStrategy  = "FULL"
    },
    {
      ErrorEquals = [
        "Wafer.Unavailable",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.Unknown",
        "Runtime.ExitError",
        "Sandbox.Timedout",
        "States.Timeout",
      ]
      IntervalSeconds = 2
      MaxAttempts     = 6
      BackoffRate     = 2
      MaxDelaySeconds = 120
      JitterStrategy  = "FULL"
    },
  ]
  failed = [{ ErrorEquals = ["States.ALL"], ResultPath = "$.error", Next = "Fail" }]

  # A partition that failed says why; of all of them together it is only known that
  # too many did.
  partition_failed = {
    Type     = "Task"
    Resource = local.invoke
    Parameters = {
      FunctionName = var.function.arn
      Payload      = { wafer = { fail = { "run.$" = "$.run", "error.$" = "$.error" } } }
    }
    ResultPath = null
    Retry      = local.retry
    Next       = "Failed"
  }
  failed_as_caught = { Type = "Fail", ErrorPath = "$.error.Error", CausePath = "$.error.Cause" }

  # Parameters of a task of the function: keys that end in `.$` are paths.
  invoke = "arn:${local.partition}:states:::lambda:invoke"

  # Both tasks of partitions, for all of them.
  all_partitions = {
    for task, map in {
      partition = { state = "Partition", label = "Partitions", items = "$.planned.partitions" }
      online    = { state = "PartitionOnline", label = "Online", items = "$.committed.partitions" }
    } :
    task => {
      Type           = "Map"
      ItemsPath      = map.items
      MaxConcurrency = var.concurrency
      ItemSelector = {
        "run.$"       = "$.planned.run"
        "partition.$" = "$$.Map.Item.Value"
      }
      ItemProcessor = {
        ProcessorConfig = { Mode = "DISTRIBUTED", ExecutionType = "STANDARD" }
        StartAt         = map.state
        States = {
          (map.state) = {
            Type     = "Task"
            Resource = local.invoke
            Parameters = {
              FunctionName = var.function.arn
              Payload      = { wafer = { (task) = { "run.$" = "$.run", "partition.$" = "$.partition" } } }
            }
            # Of all partitions together there is room for 256 KiB.
            ResultSelector = {}
            Retry          = local.retry
            Catch          = local.failed
            End            = true
          }
          Fail   = local.partition_failed
          Failed = local.failed_as_caught
        }
      }
      Label      = map.label
      ResultPath = null
      Catch      = local.failed
    }
  }

  definition = {
    Comment        = "A run of project ${var.project}, divided among invocations"
    StartAt        = "Asked"
    TimeoutSeconds = var.time_limit_seconds

    States = {
      # Who asks: a plan whose answer was lost is asked for again.
      Asked = {
        Type       = "Pass"
        Parameters = { "execution.$" = "$$.Execution.Id" }
        ResultPath = "$.asked"
        Next       = "Plan"
      }

      Plan = {
        Type     = "Task"
        Resource = local.invoke
        Parameters = {
          FunctionName = var.function.arn
          Payload      = { wafer = { "plan.$" = "States.JsonMerge($.plan, $.asked, false)" } }
        }
        ResultSelector = { "run.$" = "$.Payload.run", "partitions.$" = "$.Payload.partitions" }
        ResultPath     = "$.planned"
        Retry          = local.retry
        Next           = "IsDue"
      }

      IsDue = {
        Type    = "Choice"
        Choices = [{ Variable = "$.planned.run", IsNull = true, Next = "NothingToDo" }]
        Default = "Partitions"
      }

      NothingToDo = { Type = "Succeed" }

      Partitions = merge(local.all_partitions.partition, { Next = "Commit" })

      Commit = {
        Type     = "Task"
        Resource = local.invoke
        Parameters = {
          FunctionName = var.function.arn
          Payload      = { wafer = { commit = { "run.$" = "$.planned.run" } } }
        }
        ResultSelector = { "partitions.$" = "$.Payload.partitions" }
        ResultPath     = "$.committed"
        Retry          = local.retry
        Catch          = local.failed
        Next           = "Online"
      }

      Online = merge(local.all_partitions.online, { Next = "Finish" })

      Finish = {
        Type     = "Task"
        Resource = local.invoke
        Parameters = {
          FunctionName = var.function.arn
          Payload      = { wafer = { finish = { "run.$" = "$.planned.run" } } }
        }
        ResultSelector = { "ran.$" = "$.Payload.ran" }
        Retry          = local.retry
        Catch          = local.failed
        End            = true
      }

      Fail = {
        Type     = "Task"
        Resource = local.invoke
        Parameters = {
          FunctionName = var.function.arn
          Payload      = { wafer = { fail = { "run.$" = "$.planned.run", "error.$" = "$.error" } } }
        }
        ResultSelector = { "error.$" = "$.Payload.error" }
        ResultPath     = "$.failed"
        Retry          = local.retry
        Catch          = [{ ErrorEquals = ["States.ALL"], ResultPath = null, Next = "FailedUnrecorded" }]
        Next           = "Failed"
      }

      Failed           = { Type = "Fail", ErrorPath = "$.error.Error", CausePath = "$.failed.error" }
      FailedUnrecorded = local.failed_as_caught
    }
  }
}

resource "aws_cloudwatch_log_group" "this" {
  # Under this name CloudWatch's own policy for deliveries applies, however many there are.
  name              = "/aws/vendedlogs/states/${local.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.key_arn
  tags              = var.tags
}

resource "aws_sfn_state_machine" "this" {
  # checkov:skip=CKV_AWS_284:traces are charged for each transition; executions keep their history
  name       = local.name
  role_arn   = aws_iam_role.this.arn
  definition = jsonencode(local.definition)
  tags       = var.tags

  encryption_configuration {
    type                              = "CUSTOMER_MANAGED_KMS_KEY"
    kms_key_id                        = var.key_arn
    kms_data_key_reuse_period_seconds = 900
  }

  logging_configuration {
    level                  = "ERROR"
    include_execution_data = true
    log_destination        = "${aws_cloudwatch_log_group.this.arn}:*"
  }

  depends_on = [aws_iam_role_policy.this]
}

# Who may do what

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["states.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role" "this" {
  name               = local.name
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = var.tags
}

data "aws_iam_policy_document" "this" {
  # checkov:skip=CKV_AWS_111:deliveries of logs have no resource of their own; see the link below
  # checkov:skip=CKV_AWS_356:deliveries of logs have no resource of their own; see the link below
  statement {
    sid       = "Work"
    actions   = ["lambda:InvokeFunction"]
    resources = [var.function.arn]
  }

  # https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
  statement {
    sid       = "Divide"
    actions   = ["states:StartExecution"]
    resources = [local.machine]
  }

  statement {
    sid       = "Watch"
    actions   = ["states:DescribeExecution", "states:StopExecution"]
    resources = ["${local.run}:*", "${local.run}/*"]
  }

  # An execution that was stopped or took too long may be redriven: its partitions that did not succeed
  # are executions of their own.
  # https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
  statement {
    sid       = "Redrive"
    actions   = ["states:RedriveExecution"]
    resources = ["${local.run}/*"]
  }

  # https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html
  statement {
    sid = "Logs"
    actions = [
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DescribeLogGroups",
      "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
    ]
    resources = ["*"]
  }

  # https://docs.aws.amazon.com/step-functions/latest/dg/encryption-at-rest.html
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.key_arn]
  }
}

resource "aws_iam_role_policy" "this" {
  name   = "wafer"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.this.json
}

# Schedules

locals {
  looks = merge(flatten([
    for pipeline in var.distributed : [
      { for number, expression in try(var.schedules[pipeline].expressions, []) :
      "${pipeline}-${number}" => { pipeline = pipeline, expression = expression, timezone = var.schedules[pipeline].timezone } },
      # What is repeated, and what starts later than its interval ends.
      { "${pipeline}-again" = { pipeline = pipeline, expression = "rate(15 minutes)", timezone = "UTC" } },
    ]
  ])...)
}

resource "aws_scheduler_schedule_group" "this" {
  name = local.name
  tags = var.tags
}

resource "aws_scheduler_schedule" "this" {
  for_each                     = local.looks
  name                         = each.key
  group_name                   = aws_scheduler_schedule_group.this.name
  schedule_expression          = each.value.expression
  schedule_expression_timezone = each.value.timezone
  kms_key_arn                  = var.key_arn

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_sfn_state_machine.this.arn
    role_arn = aws_iam_role.scheduler.arn
    input    = jsonencode({ plan = { pipeline = each.value.pipeline, partition_bytes = var.partition_bytes } })

    dead_letter_config {
      arn = var.dead_letters_arn
    }
  }
}

data "aws_iam_policy_document" "scheduler_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role" "scheduler" {
  name               = "${local.name}-scheduler"
  assume_role_policy = data.aws_iam_policy_document.scheduler_trust.json
  tags               = var.tags
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    sid       = "Start"
    actions   = ["states:StartExecution"]
    resources = [aws_sfn_state_machine.this.arn]
  }

  statement {
    sid       = "SetAside"
    actions   = ["sqs:SendMessage"]
    resources = [var.dead_letters_arn]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.key_arn]
  }
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "wafer"
  role   = aws_iam_role.scheduler.id
  policy = data.aws_iam_policy_document.scheduler.json
}
