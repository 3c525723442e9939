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

  # The names under which a service uses the key for a caller. No page says which of both domains it is
  # in China, and a name that no service has grants nothing.
  via = {
    for service in ["dynamodb", "s3", "sqs", "states"] : service => distinct([
      for domain in ["amazonaws.com", data.aws_partition.this.dns_suffix] : "${service}.${var.region}.${domain}"
    ])
  }
}

# Ask the URL, signed: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html
data "aws_iam_policy_document" "callers" {
  statement {
    sid       = "Url"
    actions   = ["lambda:InvokeFunctionUrl"]
    resources = [var.requests_arn]
    condition {
      test     = "StringEquals"
      variable = "lambda:FunctionUrlAuthType"
      values   = ["AWS_IAM"]
    }
  }

  # The function itself could be asked anything; by its URL it takes requests only.
  statement {
    sid       = "OnlyByUrl"
    actions   = ["lambda:InvokeFunction"]
    resources = [var.requests_arn]
    condition {
      test     = "Bool"
      variable = "lambda:InvokedViaFunctionUrl"
      values   = ["true"]
    }
  }
}

# Send events to the queues:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
data "aws_iam_policy_document" "senders" {
  dynamic "statement" {
    for_each = length(var.streams) > 0 ? [1] : []

    content {
      sid       = "Send"
      actions   = ["sqs:GetQueueUrl", "sqs:SendMessage"]
      resources = [for stream in var.streams : local.queues[stream]]
    }
  }

  statement {
    sid       = "KeyOfQueues"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.storage.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = local.via.sqs
    }
  }
}

# Start divided runs, and look at them (`wafer run --on aws`):
# https://docs.aws.amazon.com/step-functions/latest/dg/encryption-at-rest.html
data "aws_iam_policy_document" "starters" {
  statement {
    sid       = "Start"
    actions   = ["states:StartExecution"]
    resources = [var.state_machine_arn]
  }

  statement {
    sid       = "Look"
    actions   = ["states:DescribeExecution", "states:GetExecutionHistory"]
    resources = local.executions
  }

  statement {
    sid       = "KeyOfExecutions"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.storage.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = local.via.states
    }
    condition {
      test     = "StringLike"
      variable = "kms:EncryptionContext:aws:states:stateMachineArn"
      values   = [var.state_machine_arn, "${var.state_machine_arn}/*"]
    }
  }
}

# Do again what failed: executions that were stopped or took too long, messages that were set aside, and
# batches of streams, which Lambda writes from the start of the bucket. Those who do need what `starters` and
# `senders` have as well, and for `wafer redrive` what `deployers` have.
# https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
data "aws_iam_policy_document" "redrivers" {
  statement {
    sid       = "Redrive"
    actions   = ["states:RedriveExecution", "states:StopExecution"]
    resources = local.executions
  }

  statement {
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
  }

  statement {
    sid       = "PutBack"
    actions   = ["sqs:GetQueueAttributes", "sqs:SendMessage"]
    resources = values(local.queues)
  }

  statement {
    sid       = "Batches"
    actions   = ["s3:DeleteObject", "s3:GetObject"]
    resources = ["${var.storage.bucket_arn}/aws/lambda/*"]
  }

  statement {
    sid       = "ListBatches"
    actions   = ["s3:ListBucket"]
    resources = [var.storage.bucket_arn]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["aws/lambda/*"]
    }
  }

  statement {
    sid       = "KeyOfBatches"
    actions   = ["kms:Decrypt"]
    resources = [var.storage.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = local.via.s3
    }
  }
}

# Read the tables on S3 with any tool that reads Delta tables.
data "aws_iam_policy_document" "readers" {
  statement {
    sid       = "Tables"
    actions   = ["s3:GetObject"]
    resources = ["${local.object}offline/*"]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [var.storage.bucket_arn]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${local.prefix}offline/*"]
    }
  }

  statement {
    sid       = "KeyOfObjects"
    actions   = ["kms:Decrypt"]
    resources = [var.storage.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = local.via.s3
    }
  }
}

# Use the stores from their own machines: `wafer deploy`, `run`, `train`, `release`, `show` and all others.
data "aws_iam_policy_document" "deployers" {
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
    sid       = "Objects"
    actions   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = ["${local.object}*"]
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
    sid       = "KeyOfStores"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    resources = [var.storage.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = concat(local.via.dynamodb, local.via.s3)
    }
  }
}
