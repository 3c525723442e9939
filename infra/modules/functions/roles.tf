# Who may do what. `tests/aws/iam.rs` compares these policies with the calls that the
# functions make, and says why those are here that AWS makes for them.

data "aws_partition" "this" {}

data "aws_iam_policy_document" "lambda" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each           = local.functions
  name               = "${local.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.lambda.json
  tags               = var.tags
}

locals {
  object = "${var.storage.bucket_arn}/${local.prefix}"

  # Which queues a function takes its events from, and where it sends what failed.
  queues = {
    requests = []
    events   = concat([for queue in aws_sqs_queue.stream : queue.arn], [for s in var.event_sources : s.arn if s.kind == "sqs"])
    flush    = [aws_sqs_queue.outbox.arn]
    runs     = []
  }
  # The names under which services use a key for a role in a region, as `kms:ViaService` has them.
  via = {
    for region in [var.region, "*"] : region => [
      for service in ["dynamodb", "kinesis", "s3", "sqs"] : "${service}.${region}.amazonaws.com"
    ]
  }
  kinesis  = [for s in var.event_sources : s.arn if s.kind == "kinesis"]
  dynamodb = [for s in var.event_sources : s.arn if s.kind == "dynamodb"]
}

data "aws_iam_policy_document" "this" {
  for_each = local.functions

  statement {
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
  }

  statement {
    sid       = "Outbox"
    actions   = concat(["s3:DeleteObject", "s3:GetObject"], each.key == "flush" ? [] : ["s3:PutObject"])
    resources = ["${local.object}outbox/*"]
  }

  # Whoever opens the bucket first finds out whether it honours If-None-Match.
  statement {
    sid       = "Probe"
    actions   = ["s3:DeleteObject", "s3:PutObject"]
    resources = ["${local.object}probe/*"]
  }

  dynamic "statement" {
    for_each = each.key == "flush" ? [] : [1]

    content {
      sid       = "Code"
      actions   = ["s3:GetObject"]
      resources = ["${local.object}artifacts/*"]
    }
  }

  # Who runs no code still reads the definitions, which are an artifact.
  dynamic "statement" {
    for_each = each.key == "flush" ? [1] : []

    content {
      sid       = "Definitions"
      actions   = ["s3:GetObject"]
      resources = ["${local.object}artifacts/blobs/*"]
    }
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [var.storage.bucket_arn]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${local.prefix}*"]
    }
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    resources = [var.storage.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = local.via[var.region]
    }
  }

  dynamic "statement" {
    for_each = contains(["events", "runs"], each.key) && length(var.key_arns) > 0 ? [1] : []

    content {
      sid       = "OtherKeys"
      actions   = ["kms:Decrypt"]
      resources = var.key_arns
      # Buckets may be in other regions.
      condition {
        test     = "StringLike"
        variable = "kms:ViaService"
        values   = local.via["*"]
      }
    }
  }

  # The settings of a function are encrypted.
  statement {
    sid       = "Settings"
    actions   = ["kms:Decrypt"]
    resources = [var.storage.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:EncryptionContext:aws:lambda:FunctionArn"
      values   = ["arn:${data.aws_partition.this.partition}:lambda:${var.region}:${local.account}:function:${local.name}-${each.key}"]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this[each.key].arn}:*"]
  }

  dynamic "statement" {
    for_each = contains(["flush", "runs"], each.key) ? [1] : []

    content {
      sid       = "Tables"
      actions   = concat(["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"], each.key == "runs" ? ["s3:DeleteObject"] : [])
      resources = ["${local.object}offline/*"]
    }
  }

  dynamic "statement" {
    for_each = each.key == "runs" ? [1] : []

    content {
      sid       = "Sources"
      actions   = ["s3:GetObject"]
      resources = concat(["${local.object}sources/*"], [for bucket in var.source_buckets : "${bucket}/*"])
    }
  }

  dynamic "statement" {
    for_each = each.key == "runs" && length(var.source_buckets) > 0 ? [1] : []

    content {
      sid       = "ListSources"
      actions   = ["s3:ListBucket"]
      resources = var.source_buckets
    }
  }

  dynamic "statement" {
    for_each = length(local.queues[each.key]) > 0 ? [1] : []

    content {
      sid       = "Queues"
      actions   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
      resources = local.queues[each.key]
    }
  }

  dynamic "statement" {
    for_each = each.key == "events" && length(local.kinesis) > 0 ? [1] : []

    content {
      sid       = "Kinesis"
      actions   = ["kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"]
      resources = local.kinesis
    }
  }

  dynamic "statement" {
    for_each = each.key == "events" && length(local.dynamodb) > 0 ? [1] : []

    content {
      sid       = "Changes"
      actions   = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]
      resources = local.dynamodb
    }
  }

  dynamic "statement" {
    for_each = each.key == "events" && length(local.dynamodb) > 0 ? [1] : []

    content {
      sid       = "ListStreams"
      actions   = ["dynamodb:ListStreams"]
      resources = ["*"]
    }
  }

  # What Lambda gives up of a stream it writes to the bucket in the function's name, where it chooses the
  # keys, and it looks at the bucket. Both only in this account: whoever makes a bucket of the same name
  # after it was removed gets nothing.
  # https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
  dynamic "statement" {
    for_each = each.key == "events" && length(local.kinesis) + length(local.dynamodb) > 0 ? [1] : []

    content {
      sid       = "FailedBatches"
      actions   = ["s3:PutObject"]
      resources = ["${var.storage.bucket_arn}/aws/lambda/*"]
      condition {
        test     = "StringEquals"
        variable = "s3:ResourceAccount"
        values   = [local.account]
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "events" && length(local.kinesis) + length(local.dynamodb) > 0 ? [1] : []

    content {
      sid       = "ListFailedBatches"
      actions   = ["s3:ListBucket"]
      resources = [var.storage.bucket_arn]
      condition {
        test     = "StringEquals"
        variable = "s3:ResourceAccount"
        values   = [local.account]
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "runs" ? [1] : []

    content {
      sid       = "SetAside"
      actions   = ["sqs:SendMessage"]
      resources = [aws_sqs_queue.dead["runs"].arn]
    }
  }
}

resource "aws_iam_role_policy" "this" {
  for_each = local.functions
  name     = "wafer"
  role     = aws_iam_role.this[each.key].id
  policy   = data.aws_iam_policy_document.this[each.key].json
}

# Schedules

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
    sid       = "Tick"
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.this["runs"].arn]
  }

  statement {
    sid       = "SetAside"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.dead["runs"].arn]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.storage.key_arn]
  }
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "wafer"
  role   = aws_iam_role.scheduler.id
  policy = data.aws_iam_policy_document.scheduler.json
}
