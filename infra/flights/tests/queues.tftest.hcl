# Queues and streams: what they are taken in with, where what fails goes, and what is refused before anything is
# made. Run by `cargo xtask infra`, against a stand-in for AWS.

variables {
  project      = "flights"
  region       = "us-east-1"
  folder       = "project"
  architecture = "x86_64"
  package      = "main.tf"
  streams      = ["landed_flights"]
  schedules    = { p = { expressions = ["cron(0 * * * ? *)"], timezone = "UTC" } }
  storage = {
    table_name  = "flights"
    table_arn   = "arn:aws:dynamodb:us-east-1:123456789012:table/flights"
    bucket_name = "flights-bucket"
    bucket_arn  = "arn:aws:s3:::flights-bucket"
    key_arn     = "arn:aws:kms:us-east-1:123456789012:key/k"
  }
}

run "queues_and_streams" {
  command = apply

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = {
      clicks  = { source = "landed_flights", arn = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks", kind = "kinesis" }
      rows    = { source = "landed_flights", arn = "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/2024-01-01T00:00:00.000", kind = "dynamodb", maximum_record_age = 3600 }
      mine    = { source = "landed_flights", arn = "arn:aws:sqs:us-east-1:123456789012:mine", kind = "sqs", maximum_concurrency = 7, visibility_timeout = 360, max_receive_count = 5 }
      ordered = { source = "landed_flights", arn = "arn:aws:sqs:us-east-1:123456789012:ordered.fifo", kind = "sqs", visibility_timeout = 360, max_receive_count = 5 }
    }
  }

  # Only a bucket gets the records; metadata alone is worth nothing when the stream has forgotten them.
  assert {
    condition = {
      for name, mapping in aws_lambda_event_source_mapping.other : name => try(mapping.destination_config[0].on_failure[0].destination_arn, "")
    } == { clicks = "arn:aws:s3:::flights-bucket", rows = "arn:aws:s3:::flights-bucket", mine = "", ordered = "" }
    error_message = "What fails of a stream goes to the bucket, what fails of a queue to the queue's own dead letters."
  }

  assert {
    condition = alltrue([
      for name in ["clicks", "rows"] :
      aws_lambda_event_source_mapping.other[name].bisect_batch_on_function_error && aws_lambda_event_source_mapping.other[name].maximum_retry_attempts == 10
    ])
    error_message = "A batch of a stream that fails is divided, and not tried for ever."
  }

  # Streams of both kinds keep records for 24 hours unless they are told otherwise.
  assert {
    condition     = [for name in ["clicks", "rows"] : aws_lambda_event_source_mapping.other[name].maximum_record_age_in_seconds] == [43200, 3600]
    error_message = "Records are set aside before their stream forgets them."
  }

  assert {
    condition     = [for name in ["clicks", "rows"] : tolist(aws_lambda_event_source_mapping.other[name].metrics_config[0].metrics)] == [tolist(["EventCount"]), tolist(["EventCount"])]
    error_message = "Records that are set aside are counted, for the alarm."
  }

  assert {
    condition = [
      for name in ["mine", "ordered"] :
      [aws_lambda_event_source_mapping.other[name].batch_size, coalesce(aws_lambda_event_source_mapping.other[name].maximum_batching_window_in_seconds, 0)]
    ] == [[100, 1], [10, 0]]
    error_message = "FIFO queues have ten messages in a batch, and no window."
  }

  assert {
    condition = concat(
      [for name in ["mine", "ordered"] : aws_lambda_event_source_mapping.other[name].scaling_config[0].maximum_concurrency],
      [aws_lambda_event_source_mapping.stream["landed_flights"].scaling_config[0].maximum_concurrency],
    ) == [7, 2, 2]
    error_message = "A backlog of a queue leaves concurrency to requests."
  }

  assert {
    condition     = aws_sqs_queue.stream["landed_flights"].visibility_timeout_seconds == 6 * aws_lambda_function.this["events"].timeout
    error_message = "Messages stay out of sight for six times as long as a function may work on them."
  }

  # SQS moves messages back only from a queue to which it moved all of them itself. `wafer redrive` names it.
  assert {
    condition = {
      events = [jsondecode(aws_sqs_queue.stream["landed_flights"].redrive_policy).deadLetterTargetArn]
      outbox = [jsondecode(aws_sqs_queue.outbox.redrive_policy).deadLetterTargetArn]
      runs = [
        aws_scheduler_schedule.pipeline["p-0"].target[0].dead_letter_config[0].arn,
        aws_lambda_function_event_invoke_config.runs.destination_config[0].on_failure[0].destination,
      ]
    } == { for kind, count in { events = 1, outbox = 1, runs = 2 } : kind => [for _ in range(count) : "arn:aws:sqs:us-east-1:123456789012:wafer-flights-dead-${kind}"] }
    error_message = "Dead letters of another kind are in a queue."
  }

  assert {
    condition = {
      for statement in jsondecode(data.aws_iam_policy_document.this["events"].json).Statement :
      statement.Sid => [flatten([statement.Action]), flatten([statement.Resource]), flatten([statement.Condition.StringEquals["s3:ResourceAccount"]])]
      if contains(["FailedBatches", "ListFailedBatches", "SetAside"], statement.Sid)
      } == {
      FailedBatches     = [["s3:PutObject"], ["arn:aws:s3:::flights-bucket/aws/lambda/*"], ["123456789012"]]
      ListFailedBatches = [["s3:ListBucket"], ["arn:aws:s3:::flights-bucket"], ["123456789012"]]
    }
    error_message = "Lambda may set aside what fails of streams where it does, and nothing else."
  }

  assert {
    condition     = contains(split(";", output.event_sources), "arn:aws:kinesis:us-east-1:123456789012:stream/clicks=landed_flights") && output.event_sources == aws_lambda_function.this["events"].environment[0].variables.WAFER_EVENT_SOURCES
    error_message = "`wafer redrive` finds the source of a stream as the function does."
  }

  assert {
    condition     = sort(keys(output.stream_mappings)) == tolist(["clicks", "rows"])
    error_message = "The alarms know the mappings of streams."
  }

  assert {
    condition = tomap(output.event_queues) == tomap({
      landed_flights = "wafer-flights-landed_flights"
      yours-mine     = "mine"
      yours-ordered  = "ordered.fifo"
    })
    error_message = "The alarms know the queues that events come from, and those of users as well."
  }
}

run "failed_batches_are_kept" {
  command = apply

  module {
    source = "../modules/storage"
  }

  variables {
    table       = "flights"
    bucket      = "flights-bucket"
    failed_days = 45
  }

  assert {
    condition = [
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.expiration[0].days if rule.filter[0].prefix == "aws/lambda/"
    ] == [45]
    error_message = "What Lambda gave up is kept for a while, where Lambda writes it."
  }
}

run "alarms_of_failures" {
  command = plan

  module {
    source = "../modules/observability"
  }

  variables {
    functions       = {}
    table_name      = "flights"
    dead_letters    = { for kind in ["events", "outbox", "runs"] : kind => { name = "dead-${kind}", arn = "arn:aws:sqs:us-east-1:123456789012:dead-${kind}" } }
    stream_mappings = { clicks = "a1b2c3d4-5678-90ab-cdef-111111111111" }
    outbox          = "outbox"
    key_arn         = "arn:aws:kms:us-east-1:123456789012:key/k"
  }

  assert {
    condition = alltrue([
      for kind in ["events", "outbox", "runs"] :
      aws_cloudwatch_metric_alarm.this["dead-letters-${kind}"].dimensions == tomap({ QueueName = "dead-${kind}" })
    ])
    error_message = "Every queue of dead letters has an alarm."
  }

  assert {
    condition = {
      for name in ["clicks-failed", "clicks-lost"] : name => [
        aws_cloudwatch_metric_alarm.this[name].metric_name,
        aws_cloudwatch_metric_alarm.this[name].dimensions.EventSourceMappingUUID,
      ]
      } == {
      clicks-failed = ["OnFailureDestinationDeliveredEventCount", "a1b2c3d4-5678-90ab-cdef-111111111111"]
      clicks-lost   = ["DroppedEventCount", "a1b2c3d4-5678-90ab-cdef-111111111111"]
    }
    error_message = "Records that are set aside, and those that could not be, raise an alarm."
  }
}

run "kind_of_another_service" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { rows = { source = "landed_flights", arn = "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/2024-01-01T00:00:00.000", kind = "kinesis" } }
  }

  expect_failures = [var.event_sources]
}

# Nothing would come in: the function may not subscribe.
run "consumer_of_a_stream" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { clicks = { source = "landed_flights", arn = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks/consumer/wafer:1700000000", kind = "kinesis" } }
  }

  expect_failures = [var.event_sources]
}

run "table_in_the_place_of_its_stream" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { rows = { source = "landed_flights", arn = "arn:aws:dynamodb:us-east-1:123456789012:table/t", kind = "dynamodb" } }
  }

  expect_failures = [var.event_sources]
}

# Its alarm would take the place of the one of divided runs.
run "stream_named_as_another_alarm" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { runs = { source = "landed_flights", arn = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks", kind = "kinesis" } }
  }

  expect_failures = [var.event_sources]
}

run "large_batch_of_a_fifo_queue" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { ordered = { source = "landed_flights", arn = "arn:aws:sqs:us-east-1:123456789012:ordered.fifo", kind = "sqs", batch_size = 11, visibility_timeout = 360, max_receive_count = 5 } }
  }

  expect_failures = [var.event_sources]
}

run "batch_that_no_queue_has" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { mine = { source = "landed_flights", arn = "arn:aws:sqs:us-east-1:123456789012:mine", kind = "sqs", batch_size = 10001, visibility_timeout = 360, max_receive_count = 5 } }
  }

  expect_failures = [var.event_sources]
}

run "concurrency_of_one" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    maximum_concurrency = 1
  }

  expect_failures = [var.maximum_concurrency]
}

run "concurrency_of_one_for_a_queue" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { mine = { source = "landed_flights", arn = "arn:aws:sqs:us-east-1:123456789012:mine", kind = "sqs", maximum_concurrency = 1, visibility_timeout = 360, max_receive_count = 5 } }
  }

  expect_failures = [var.event_sources]
}

run "concurrency_of_a_stream" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { clicks = { source = "landed_flights", arn = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks", kind = "kinesis", maximum_concurrency = 2 } }
  }

  expect_failures = [var.event_sources]
}

# -1, which AWS has for no limit, would lose what is too old.
run "records_of_any_age" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { clicks = { source = "landed_flights", arn = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks", kind = "kinesis", maximum_record_age = -1 } }
  }

  expect_failures = [var.event_sources]
}

run "short_visibility_timeout" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { mine = { source = "landed_flights", arn = "arn:aws:sqs:us-east-1:123456789012:mine", kind = "sqs", visibility_timeout = 359, max_receive_count = 5 } }
  }

  expect_failures = [aws_lambda_event_source_mapping.other]
}

run "few_attempts" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { mine = { source = "landed_flights", arn = "arn:aws:sqs:us-east-1:123456789012:mine", kind = "sqs", visibility_timeout = 360, max_receive_count = 4 } }
  }

  expect_failures = [aws_lambda_event_source_mapping.other]
}

run "visibility_timeout_left_out" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { mine = { source = "landed_flights", arn = "arn:aws:sqs:us-east-1:123456789012:mine", kind = "sqs", max_receive_count = 5 } }
  }

  expect_failures = [var.event_sources]
}

run "attempts_left_out" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = { mine = { source = "landed_flights", arn = "arn:aws:sqs:us-east-1:123456789012:mine", kind = "sqs", visibility_timeout = 360 } }
  }

  expect_failures = [var.event_sources]
}

run "failures_kept_for_no_day" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    table       = "flights"
    bucket      = "flights-bucket"
    failed_days = 0
  }

  expect_failures = [var.failed_days]
}
