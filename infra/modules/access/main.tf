# What people and other programs need: for each of their roles a policy, which is attached to whoever has it.
# Nothing is made here. docs/aws.md says who needs which; `tests/aws/iam/people.rs` tries them out.
#
# The account's policies decide who may use the key (see the module `storage`), so those who only send a
# message or start an execution need it as well.

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

locals {
  account   = data.aws_caller_identity.this.account_id
  partition = data.aws_partition.this.partition
  prefix    = var.folder == "" ? "" : "${var.folder}/"
  object    = "${var.storage.bucket_arn}/${local.prefix}"
  executions = [
    "${replace(var.state_machine_arn, ":stateMachine:", ":execution:")}:*",
    # Those of partitions.
    "${replace(var.state_machine_arn, ":stateMachine:", ":execution:")}/*",
  ]
  queues = {
    for queue in concat(tolist(var.streams), ["outbox"]) :
    queue => "arn:${local.partition}:sqs:${var.region}:${local.account}:wafer-${var.project}-${queue}"
  }

  # The names under which a service uses the key for a caller.
  via = { for service in ["dynamodb", "s3", "sqs", "states"] : service => "${service}.${var.region}.amazonaws.com" }
}

locals {
  # What each role does, apart from listing objects and from the key.
  statements = {
    # Ask the URL, signed: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html
    callers = [
      {
        sid        = "Url"
        actions    = ["lambda:InvokeFunctionUrl"]
        resources  = [var.requests_arn]
        conditions = [{ test = "StringEquals", variable = "lambda:FunctionUrlAuthType", values = ["AWS_IAM"] }]
      },
      # The function itself could be asked anything; by its URL it takes requests only.
      {
        sid        = "OnlyByUrl"
        actions    = ["lambda:InvokeFunction"]
        resources  = [var.requests_arn]
        conditions = [{ test = "Bool", variable = "lambda:InvokedViaFunctionUrl", values = ["true"] }]
      },
    ]

    # Send events to the queues.
    senders = [
      for actions in [["sqs:GetQueueUrl", "sqs:SendMessage"]] : {
        sid       = "Send"
        actions   = actions
        resources = [for stream in var.streams : local.queues[stream]]
      } if length(var.streams) > 0
    ]

    # Start divided runs, and look at them (`wafer run --on aws`).
    starters = [
      { sid = "Start", actions = ["states:StartExecution"], resources = [var.state_machine_arn] },
      { sid = "Look", actions = ["states:DescribeExecution", "states:GetExecutionHistory"], resources = local.executions },
    ]

    # Do again what failed: executions that were stopped or took too long, messages that were set aside, and
    # batches of streams, which Lambda writes from the start of the bucket. Those who do need what `starters` and
    # `senders` have as well, and for `wafer redrive` what `deployers` have.
    # https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
    redrivers = [
      { sid = "Redrive", actions = ["states:RedriveExecution", "states:StopExecution"], resources = local.executions },
      {
        sid = "TakeOut"
        actions = [
          "sqs:CancelMessageMoveTask",
          "sqs:DeleteMessage",
          "sqs:GetQueueAttributes",
          "sqs:ListMessageMoveTasks",
          "sqs:ReceiveMessage",
          "sqs:StartMessageMoveTask",
        ]
        resources = var.dead_letters_arns
      },
      { sid = "PutBack", actions = ["sqs:GetQueueAttributes", "sqs:SendMessage"], resources = values(local.queues) },
      { sid = "Batches", actions = ["s3:DeleteObject", "s3:GetObject"], resources = ["${var.storage.bucket_arn}/aws/lambda/*"] },
    ]

    # Read the tables on S3 with any tool that reads Delta tables.
    readers = [{ sid = "Tables", actions = ["s3:GetObject"], resources = ["${local.object}offline/*"] }]

    # Use the stores from their own machines: `wafer deploy`, `run`, `train`, `release`, `show` and all others, and look
    # at what is deployed: `wafer doctor --aws`.
    deployers = [
      {
        sid = "Table"
        actions = [
          "dynamodb:BatchGetItem",
          "dynamodb:BatchWriteItem",
          "dynamodb:DeleteItem",
          "dynamodb:GetItem",
          "dynamodb:PutItem",
          "dynamodb:Query",
          "dynamodb:UpdateItem",
        ]
        resources = [var.storage.table_arn]
      },
      {
        sid       = "Objects"
        actions   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
        resources = ["${local.object}*"]
      },
      # These are of the account, and take no other resource:
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html
      { sid = "Account", actions = ["lambda:GetAccountSettings", "lambda:ListEventSourceMappings"], resources = ["*"] },
      { sid = "Function", actions = ["lambda:GetFunctionConfiguration"], resources = [var.events_arn] },
      {
        sid       = "Queues"
        actions   = ["sqs:GetQueueAttributes"]
        resources = concat(values(local.queues), tolist(var.event_queues_arns))
      },
      { sid = "StateMachine", actions = ["states:DescribeStateMachine"], resources = [var.state_machine_arn] },
    ]
  }

  # Below which prefix of the bucket a role lists objects.
  lists = {
    redrivers = "aws/lambda/*"
    readers   = "${local.prefix}offline/*"
    deployers = "${local.prefix}*"
  }

  # What a role uses the key for, by way of which services:
  # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
  # https://docs.aws.amazon.com/step-functions/latest/dg/encryption-at-rest.html
  keys = [
    { role = "senders", sid = "Key", actions = ["kms:Decrypt", "kms:GenerateDataKey"], services = ["sqs"] },
    { role = "starters", sid = "Key", actions = ["kms:Decrypt", "kms:GenerateDataKey"], services = ["states"] },
    { role = "redrivers", sid = "Key", actions = ["kms:Decrypt"], services = ["s3"] },
    { role = "readers", sid = "Key", actions = ["kms:Decrypt"], services = ["s3"] },
    {
      role     = "deployers"
      sid      = "Key"
      actions  = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
      services = ["dynamodb", "s3"]
    },
    { role = "deployers", sid = "KeyOfTheStateMachine", actions = ["kms:Decrypt"], services = ["states"] },
  ]
}

data "aws_iam_policy_document" "this" {
  for_each = local.statements

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = statement.value.sid
      actions   = statement.value.actions
      resources = statement.value.resources

      dynamic "condition" {
        for_each = try(statement.value.conditions, [])

        content {
          test     = condition.value.test
          variable = condition.value.variable
          values   = condition.value.values
        }
      }
    }
  }

  dynamic "statement" {
    for_each = [for role, prefix in local.lists : prefix if role == each.key]

    content {
      sid       = "List"
      actions   = ["s3:ListBucket"]
      resources = [var.storage.bucket_arn]
      condition {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = [statement.value]
      }
    }
  }

  dynamic "statement" {
    for_each = [for key in local.keys : key if key.role == each.key]

    content {
      sid       = statement.value.sid
      actions   = statement.value.actions
      resources = [var.storage.key_arn]
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = [for service in statement.value.services : local.via[service]]
      }

      # Step Functions says for which state machine it uses the key.
      dynamic "condition" {
        for_each = contains(statement.value.services, "states") ? [var.state_machine_arn] : []

        content {
          test     = "StringLike"
          variable = "kms:EncryptionContext:aws:states:stateMachineArn"
          values   = [condition.value, "${condition.value}/*"]
        }
      }
    }
  }
}
