# The functions of a project: one program, four roles.
#
# | function | invoked by | does |
# | --- | --- | --- |
# | requests | its URL | features, predictions and events over HTTP, what is logged of them |
# | events | queues and streams | events |
# | flush | notifications of the bucket | what came in to the tables |
# | runs | schedules, the state machine | runs, and parts of them |

data "aws_caller_identity" "this" {}

locals {
  account = data.aws_caller_identity.this.account_id
  name    = "wafer-${var.project}"
  prefix  = var.folder == "" ? "" : "${var.folder}/"
  objects = "s3://${var.storage.bucket_name}${var.folder == "" ? "" : "/${var.folder}"}"

  functions = {
    requests = { timeout = 30, storage = var.request_storage }
    events   = { timeout = 60, storage = 512 }
    flush    = { timeout = 60, storage = 512 }
    runs     = { timeout = 900, storage = var.temporary_storage }
  }

  # What AWS asks of a queue that a function takes messages from: batches that wait for their turn are not
  # delivered again meanwhile, and what fails has several attempts.
  # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
  visibility_timeout = 6 * local.functions.events.timeout
  max_receive_count  = 5

  # Whose events a queue or stream carries. The ARNs of queues are written out, so that they are known
  # before anything is made.
  sources = merge(
    {
      for stream in var.streams :
      "arn:${data.aws_partition.this.partition}:sqs:${var.region}:${local.account}:${local.name}-${stream}" => stream
    },
    { for source in var.event_sources : source.arn => source.source },
  )

  environment = {
    for function in keys(local.functions) : function => {
      WAFER_PROJECT       = var.project
      WAFER_STORE_ONLINE  = "dynamodb://${var.storage.table_name}"
      WAFER_STORE_OBJECTS = local.objects
      WAFER_LOG           = var.log_level
      WAFER_EVENT_SOURCES = function == "events" ? join(";", [for arn, source in local.sources : "${arn}=${source}"]) : ""
    }
  }
}

resource "aws_cloudwatch_log_group" "this" {
  for_each          = local.functions
  name              = "/aws/lambda/${local.name}-${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.storage.key_arn
  tags              = var.tags
}

resource "aws_lambda_function" "this" {
  # checkov:skip=CKV_AWS_117:it calls DynamoDB, S3 and SQS only; in a VPC it would need endpoints that cost when idle
  # checkov:skip=CKV_AWS_272:the package is built by who deploys it; signing it is for those who publish packages
  # checkov:skip=CKV_AWS_115:a reserved concurrency is taken from all other functions of the account; a project that needs a bound sets one
  # checkov:skip=CKV_AWS_50:traces are charged for each request; the functions write metrics and logs
  # checkov:skip=CKV_AWS_116:events that fail are kept by the queues' own redrive and the destinations below
  for_each      = local.functions
  function_name = "${local.name}-${each.key}"
  role          = aws_iam_role.this[each.key].arn
  runtime       = "provided.al2023"
  handler       = "bootstrap"
  architectures = [var.architecture]
  filename      = var.package
  # A new package is a new version of the program.
  source_code_hash = filebase64sha256(var.package)
  memory_size      = var.memory
  timeout          = each.value.timeout
  kms_key_arn      = var.storage.key_arn
  tags             = var.tags

  ephemeral_storage {
    size = each.value.storage
  }

  environment {
    variables = local.environment[each.key]
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.this[each.key].name
  }

  lifecycle {
    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html; they are measured as JSON.
    precondition {
      condition     = length(jsonencode(local.environment[each.key])) <= 4096
      error_message = "The environment variables of ${local.name}-${each.key} have ${length(jsonencode(local.environment[each.key]))} bytes, and Lambda takes 4096. WAFER_EVENT_SOURCES names each of ${length(local.sources)} queues and streams by its ARN, with its source: give sources shorter names, or divide the project."
    }
  }

  depends_on = [aws_iam_role_policy.this]
}

# Requests

resource "aws_lambda_function_url" "this" {
  # checkov:skip=CKV_AWS_258:requests are signed (AWS_IAM) unless url_authorization says otherwise
  function_name      = aws_lambda_function.this["requests"].function_name
  authorization_type = var.url_authorization
}

# With NONE the function itself has to let everybody in.
resource "aws_lambda_permission" "everybody" {
  # checkov:skip=CKV_AWS_301:only where url_authorization is NONE, which says so
  # checkov:skip=CKV_AWS_364:only where url_authorization is NONE, which says so
  count                  = var.url_authorization == "NONE" ? 1 : 0
  statement_id           = "everybody"
  action                 = "lambda:InvokeFunctionUrl"
  function_name          = aws_lambda_function.this["requests"].function_name
  principal              = "*"
  function_url_auth_type = "NONE"
}

# https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html: both are needed.
resource "aws_lambda_permission" "everybody_by_url" {
  # checkov:skip=CKV_AWS_301:only where url_authorization is NONE, which says so
  # checkov:skip=CKV_AWS_364:only where url_authorization is NONE, which says so
  count                    = var.url_authorization == "NONE" ? 1 : 0
  statement_id             = "everybody-by-url"
  action                   = "lambda:InvokeFunction"
  function_name            = aws_lambda_function.this["requests"].function_name
  principal                = "*"
  invoked_via_function_url = true
}

# Events

# Dead letters, one queue for each kind of what sends them. SQS moves messages back to the queues that they
# came from only if it moved all of them here itself; what Lambda or a scheduler sent has no such queue
# (CouldNotDetermineMessageSource), and would stop the others.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/troubleshooting-dlq-redrive.html
resource "aws_sqs_queue" "dead" {
  for_each                          = toset(["events", "outbox", "runs"])
  name                              = "${local.name}-dead-${each.key}"
  message_retention_seconds         = 1209600
  kms_master_key_id                 = var.storage.key_arn
  kms_data_key_reuse_period_seconds = 86400
  tags                              = var.tags
}

resource "aws_sqs_queue" "stream" {
  for_each                          = var.streams
  name                              = "${local.name}-${each.key}"
  message_retention_seconds         = 1209600
  visibility_timeout_seconds        = local.visibility_timeout
  kms_master_key_id                 = var.storage.key_arn
  kms_data_key_reuse_period_seconds = 86400
  tags                              = var.tags

  # What cannot be read, and what could not be taken in for an hour, is set aside;
  # nothing is lost.
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead["events"].arn
    maxReceiveCount     = 10
  })
}

resource "aws_lambda_event_source_mapping" "stream" {
  for_each                           = var.streams
  event_source_arn                   = aws_sqs_queue.stream[each.key].arn
  function_name                      = aws_lambda_function.this["events"].arn
  batch_size                         = 100
  maximum_batching_window_in_seconds = 1
  function_response_types            = ["ReportBatchItemFailures"]
  tags                               = var.tags

  scaling_config {
    maximum_concurrency = var.maximum_concurrency
  }
}

locals {
  others = {
    for name, source in var.event_sources : name => merge(source, {
      is_queue = source.kind == "sqs"
      is_fifo  = endswith(source.arn, ".fifo")
    })
  }
}

resource "aws_lambda_event_source_mapping" "other" {
  for_each         = local.others
  event_source_arn = each.value.arn
  function_name    = aws_lambda_function.this["events"].arn
  batch_size       = coalesce(each.value.batch_size, each.value.is_fifo ? 10 : 100)
  # FIFO queues have none: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
  maximum_batching_window_in_seconds = each.value.is_fifo ? null : 1
  function_response_types            = ["ReportBatchItemFailures"]
  starting_position                  = each.value.is_queue ? null : each.value.starting_position
  bisect_batch_on_function_error     = each.value.is_queue ? null : true
  maximum_retry_attempts             = each.value.is_queue ? null : 10
  # A shard waits for what fails. Before the stream forgets a record, it is set aside.
  maximum_record_age_in_seconds = each.value.is_queue ? null : each.value.maximum_record_age
  tags                          = var.tags

  dynamic "scaling_config" {
    for_each = each.value.is_queue ? [1] : []

    content {
      maximum_concurrency = coalesce(each.value.maximum_concurrency, var.maximum_concurrency)
    }
  }

  # A bucket gets the records, below aws/lambda/; a queue or a topic gets only where they are in the stream,
  # which forgets them: https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html,
  # https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html. `wafer redrive` reads them.
  dynamic "destination_config" {
    for_each = each.value.is_queue ? [] : [1]

    content {
      on_failure {
        destination_arn = var.storage.bucket_arn
      }
    }
  }

  # How many records were set aside, for an alarm.
  dynamic "metrics_config" {
    for_each = each.value.is_queue ? [] : [1]

    content {
      metrics = ["EventCount"]
    }
  }

  lifecycle {
    precondition {
      condition     = !each.value.is_queue || coalesce(each.value.visibility_timeout, 0) >= local.visibility_timeout
      error_message = "event_sources.${each.key}: set the visibility timeout of ${each.value.arn} to ${local.visibility_timeout} seconds or more. That is six times what the function may take (${local.functions.events.timeout} s): messages that wait for their turn would be delivered again meanwhile."
    }

    precondition {
      condition     = !each.value.is_queue || coalesce(each.value.max_receive_count, 0) >= local.max_receive_count
      error_message = "event_sources.${each.key}: set maxReceiveCount in the redrive policy of ${each.value.arn} to ${local.max_receive_count} or more: messages would be dead letters after the first times that the function is busy."
    }
  }
}

# What came in, to the tables

resource "aws_sqs_queue" "outbox" {
  name                      = "${local.name}-outbox"
  message_retention_seconds = 345600
  # What is still being written is told of again after this.
  visibility_timeout_seconds        = local.functions.flush.timeout
  kms_master_key_id                 = var.storage.key_arn
  kms_data_key_reuse_period_seconds = 86400
  tags                              = var.tags

  # The regular look flushes as well: nothing depends on a single notification.
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead["outbox"].arn
    maxReceiveCount     = 20
  })
}

data "aws_iam_policy_document" "outbox" {
  statement {
    sid       = "TheBucketTells"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.outbox.arn]
    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [var.storage.bucket_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_sqs_queue_policy" "outbox" {
  queue_url = aws_sqs_queue.outbox.id
  policy    = data.aws_iam_policy_document.outbox.json
}

resource "aws_s3_bucket_notification" "outbox" {
  bucket = var.storage.bucket_name

  queue {
    id            = "outbox"
    queue_arn     = aws_sqs_queue.outbox.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "${local.prefix}outbox/"
  }

  depends_on = [aws_sqs_queue_policy.outbox]
}

resource "aws_lambda_event_source_mapping" "outbox" {
  event_source_arn                   = aws_sqs_queue.outbox.arn
  function_name                      = aws_lambda_function.this["flush"].arn
  batch_size                         = 1000
  maximum_batching_window_in_seconds = 5
  function_response_types            = ["ReportBatchItemFailures"]
  tags                               = var.tags

  # One appends at a time; another would wait for it.
  scaling_config {
    maximum_concurrency = 2
  }
}

# Schedules

resource "aws_scheduler_schedule_group" "this" {
  name = local.name
  tags = var.tags
}

locals {
  ticks = merge([
    for pipeline, schedule in var.schedules : {
      for number, expression in schedule.expressions :
      "${pipeline}-${number}" => { pipeline = pipeline, expression = expression, timezone = schedule.timezone }
    } if !contains(var.distributed, pipeline)
  ]...)
}

resource "aws_scheduler_schedule" "pipeline" {
  for_each                     = local.ticks
  name                         = each.key
  group_name                   = aws_scheduler_schedule_group.this.name
  schedule_expression          = each.value.expression
  schedule_expression_timezone = each.value.timezone
  kms_key_arn                  = var.storage.key_arn

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this["runs"].arn
    role_arn = aws_iam_role.scheduler.arn
    input    = jsonencode({ wafer = { tick = { pipeline = each.value.pipeline } } })

    dead_letter_config {
      arn = aws_sqs_queue.dead["runs"].arn
    }
  }
}

# What is repeated, what starts later than its interval ends, what was left behind.
resource "aws_scheduler_schedule" "all" {
  name                = "all"
  group_name          = aws_scheduler_schedule_group.this.name
  schedule_expression = "rate(5 minutes)"
  kms_key_arn         = var.storage.key_arn

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this["runs"].arn
    role_arn = aws_iam_role.scheduler.arn
    input    = jsonencode({ wafer = { tick = { except = sort(tolist(var.distributed)) } } })

    retry_policy {
      maximum_retry_attempts       = 0
      maximum_event_age_in_seconds = 300
    }
  }
}

resource "aws_lambda_function_event_invoke_config" "runs" {
  function_name                = aws_lambda_function.this["runs"].function_name
  maximum_retry_attempts       = 1
  maximum_event_age_in_seconds = 3600

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead["runs"].arn
    }
  }
}
