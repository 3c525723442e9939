# Values that AWS refuses, which `terraform validate` must find: one for each line with the word in its comment.

terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

resource "aws_dynamodb_table" "this" {
  name         = "t"                # refused: too short
  billing_mode = "PAY_PER_REQUESTS" # refused: no such mode
  hash_key     = "pk"

  attribute {
    name = "pk"
    type = "T" # refused: no such type
  }
}

resource "aws_iam_role" "this" {
  name               = "wafer-a_project_whose_name_is_too_long_for_a_role-batch-scheduler" # refused: more than 64
  assume_role_policy = "{}"
}

resource "aws_lambda_function" "this" {
  function_name = "wafer-flights-requests"
  role          = "arn:aws-cn:iam::123456789012:role/wafer"
  runtime       = "provided.al2024" # refused: no such runtime
  handler       = "bootstrap"
  memory_size   = 64 # refused: too little
  timeout       = 900
}

resource "aws_sqs_queue" "this" {
  name                       = "wafer.flights" # refused: a dot
  visibility_timeout_seconds = 50000           # refused: more than 12 hours
}

resource "aws_scheduler_schedule" "this" {
  name                = "not a name" # refused: spaces
  schedule_expression = "rate(5 minutes)"

  flexible_time_window {
    mode = "SOMETIMES" # refused: no such mode
  }

  target {
    arn      = "arn:aws:lambda:us-east-1:123456789012:function:f"
    role_arn = "arn:aws:iam::123456789012:role/r"

    retry_policy {
      maximum_retry_attempts       = 186 # refused: one more than 185
      maximum_event_age_in_seconds = 300
    }
  }
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/f"
  retention_in_days = 100 # refused: none of the days that there are
}

resource "aws_cloudwatch_metric_alarm" "this" {
  alarm_name          = "late"
  comparison_operator = "IsGreater" # refused: no such operator
  evaluation_periods  = 1
}

resource "aws_s3_bucket_notification" "this" {
  bucket = "b"

  queue {
    queue_arn = "arn:aws:sqs:us-east-1:123456789012:q"
    events    = ["s3:ObjectCreated:*", "s3:ObjectRead:*"] # refused: no such event
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = "b"

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "aws:rot13" # refused: no such algorithm
    }
  }
}

resource "aws_kms_key" "this" {
  deletion_window_in_days = 3 # refused: at least 7
}
