# Names and places that AWS takes, and those that are refused before anything is made.

variables {
  project          = "flights"
  region           = "us-east-1"
  table            = "flights"
  bucket           = "flights-bucket"
  package          = "main.tf"
  key_arn          = "arn:aws:kms:us-east-1:123456789012:key/k"
  dead_letters_arn = "arn:aws:sqs:us-east-1:123456789012:dead"
  function         = { name = "f", arn = "arn:aws:lambda:us-east-1:123456789012:function:f" }
  storage = {
    table_name  = "flights"
    table_arn   = "arn:aws:dynamodb:us-east-1:123456789012:table/flights"
    bucket_name = "flights-bucket"
    bucket_arn  = "arn:aws:s3:::flights-bucket"
    key_arn     = "arn:aws:kms:us-east-1:123456789012:key/k"
  }
}

# A role has at most 64 characters, a queue 80.

run "longest_project" {
  command = plan

  module {
    source = "../modules/batch"
  }

  variables {
    project = join("", [for _ in range(42) : "p"])
  }

  assert {
    condition     = length(aws_iam_role.scheduler.name) == 64
    error_message = "The longest name of a role has as many characters as IAM allows."
  }
}

run "project_too_long" {
  command = plan

  module {
    source = "../modules/batch"
  }

  variables {
    project = join("", [for _ in range(43) : "p"])
  }

  expect_failures = [var.project]
}

run "longest_project_of_functions_alone" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    project = join("", [for _ in range(48) : "p"])
    streams = [join("", [for _ in range(25) : "s"])]
  }

  assert {
    condition     = alltrue([for role in concat(values(aws_iam_role.this), [aws_iam_role.scheduler]) : length(role.name) <= 64])
    error_message = "A role has a name that IAM does not take."
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.stream : length(queue.name) == 80])
    error_message = "The longest name of a queue has as many characters as SQS allows."
  }
}

run "project_of_functions_too_long" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    project = join("", [for _ in range(49) : "p"])
  }

  expect_failures = [var.project]
}

run "project_with_dashes" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    project = "has-dashes"
  }

  expect_failures = [var.project]
}

run "stream_too_long" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    project = join("", [for _ in range(26) : "p"])
    streams = [join("", [for _ in range(48) : "s"])]
  }

  expect_failures = [var.streams]
}

run "stream_named_as_another_queue" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    streams = ["outbox"]
  }

  expect_failures = [var.streams]
}

# The environment variables of a function have 4096 bytes at most, measured as JSON. Each of these streams takes 91.

run "most_streams" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    streams = [for n in range(43) : format("s%019d", n)]
  }

  assert {
    condition     = length(jsonencode(aws_lambda_function.this["events"].environment[0].variables)) > 4096 - 91
    error_message = "There is room for one more stream."
  }
}

run "too_many_streams" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    streams = [for n in range(44) : format("s%019d", n)]
  }

  expect_failures = [aws_lambda_function.this]
}

# Buckets

run "bucket_with_dots" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    bucket = "flights.example.org"
  }
}

run "bucket_with_two_dots" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    bucket = "flights..example"
  }

  expect_failures = [var.bucket]
}

run "bucket_that_is_an_address" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    bucket = "192.168.5.4"
  }

  expect_failures = [var.bucket]
}

run "bucket_in_capitals" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    bucket = "MY-BUCKET"
  }

  expect_failures = [var.bucket]
}

run "bucket_that_s3_keeps_for_itself" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    bucket = "flights-s3alias"
  }

  expect_failures = [var.bucket]
}

# Sources elsewhere

run "sources_in_another_region" {
  command = apply

  module {
    source = "../modules/functions"
  }

  variables {
    source_buckets = ["arn:aws:s3:::theirs.example.org"]
    key_arns       = ["arn:aws:kms:eu-west-1:999999999999:key/theirs"]
  }

  # Their key is used by way of S3 in their region, and not directly.
  assert {
    condition = anytrue([
      for statement in jsondecode(data.aws_iam_policy_document.this["runs"].json).Statement :
      contains(flatten([statement.Condition.StringLike["kms:ViaService"]]), "s3.*.amazonaws.com")
      if statement.Sid == "OtherKeys"
    ])
    error_message = "The key of a bucket in another region is used by way of S3 there."
  }

  assert {
    condition = {
      for name, document in data.aws_iam_policy_document.this :
      name => length([for statement in jsondecode(document.json).Statement : statement if contains(["ListSources", "OtherKeys"], statement.Sid)])
    } == { requests = 0, events = 1, flush = 0, runs = 2 }
    error_message = "Only runs read sources; events may come from streams that are encrypted with these keys."
  }
}

run "source_bucket_with_folder" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    source_buckets = ["arn:aws:s3:::theirs/folder"]
  }

  expect_failures = [var.source_buckets]
}

run "key_by_alias" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    key_arns = ["arn:aws:kms:eu-west-1:999999999999:alias/theirs"]
  }

  expect_failures = [var.key_arns]
}

run "events_of_another_region" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    event_sources = {
      clicks = { source = "clicks", arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks", kind = "kinesis" }
    }
  }

  expect_failures = [var.event_sources]
}

# Redriving

run "redrive" {
  command = plan

  module {
    source = "../modules/batch"
  }

  assert {
    condition = [
      for statement in jsondecode(data.aws_iam_policy_document.this.json).Statement : statement.Resource
      if contains(flatten([statement.Action]), "states:RedriveExecution")
    ] == [["arn:aws:states:us-east-1:123456789012:execution:wafer-flights-batch/*"]]
    error_message = "An execution that is redriven redrives those of its partitions."
  }
}
