# What the example makes. Run by `cargo xtask infra`, against a stand-in for AWS.

variables {
  project      = "flights"
  region       = "us-east-1"
  table        = "flights"
  bucket       = "flights-bucket"
  folder       = "project"
  architecture = "x86_64"
  package      = "main.tf"
  streams      = ["landed_flights", "weather_reports"]
  distributed  = ["q"]
  schedules = {
    p = { expressions = ["cron(0 * * * ? *)", "cron(5 * ? * 2 *)"], timezone = "America/New_York" }
    q = { expressions = ["cron(0 6 * * ? *)"], timezone = "UTC" }
    r = { expressions = [], timezone = "UTC" }
  }
}

run "everything" {
  command = apply

  assert {
    condition     = sort(keys(output.policies)) == tolist(["events", "flush", "requests", "runs"])
    error_message = "There are four functions."
  }

  assert {
    condition     = sort(keys(output.queues)) == tolist(["landed_flights", "weather_reports"])
    error_message = "Every source of events has a queue."
  }

  assert {
    condition = alltrue(flatten([
      for policy in concat(values(output.policies), values(output.access)) : [
        for statement in jsondecode(policy).Statement : [
          for action in flatten([statement.Action]) : !strcontains(action, "*")
        ]
      ]
    ]))
    error_message = "Nobody may do whatever begins with something."
  }

  assert {
    condition = alltrue(flatten([
      for policy in concat(values(output.policies), values(output.access)) : [
        for statement in jsondecode(policy).Statement : [
          for resource in flatten([statement.Resource]) : resource != "*" || statement.Sid == "Account"
        ]
      ]
    ]))
    error_message = "Nobody may do anything with everything."
  }

  assert {
    condition = [
      for statement in jsondecode(output.access.deployers).Statement : statement.Action if statement.Sid == "Account"
    ] == [["lambda:GetAccountSettings", "lambda:ListEventSourceMappings"]]
    error_message = "Only what has no resource of its own is allowed with everything."
  }

  # Only who writes tables may touch them, only runs read sources.
  assert {
    condition = {
      for name, policy in output.policies : name => sort([for statement in jsondecode(policy).Statement : statement.Sid])
      } == {
      requests = tolist(["Code", "Key", "List", "Logs", "Outbox", "Probe", "Settings", "Table"])
      events   = tolist(["Code", "Key", "List", "Logs", "Outbox", "Probe", "Queues", "Settings", "Table"])
      flush    = tolist(["Definitions", "Key", "List", "Logs", "Outbox", "Probe", "Queues", "Settings", "Table", "Tables"])
      runs     = tolist(["Code", "Key", "List", "Logs", "Outbox", "Probe", "SetAside", "Settings", "Sources", "Table", "Tables"])
    }
    error_message = "A function may do something else than what it is for."
  }

  assert {
    condition     = sort(keys(output.access)) == tolist(["callers", "deployers", "readers", "redrivers", "senders", "starters"])
    error_message = "Each role of people has a policy."
  }

  assert {
    condition     = strcontains(output.environment, "export WAFER_STORE_OBJECTS=s3://flights-bucket/project")
    error_message = "The environment names the stores."
  }

  assert {
    condition     = !can(regex("arn:aws-|amazonaws\\.com\\.", jsonencode([output.policies, output.access, output.definition, output.environment])))
    error_message = "A name of another partition is in what is made in an ordinary region."
  }

  assert {
    condition     = output.definition.States.Partitions.ItemProcessor.ProcessorConfig.Mode == "DISTRIBUTED"
    error_message = "Partitions are worked on side by side."
  }

  # A new account has 10 invocations at a time: the queues take 4, flushes 2, a schedule 1 and a run 2.
  assert {
    condition     = [for state in ["Partitions", "Online"] : output.definition.States[state].MaxConcurrency] == [2, 2]
    error_message = "A divided run leaves nothing to requests on a new account."
  }

  # Every step but the last ones records the run as failed when it fails.
  assert {
    condition     = alltrue([for state in ["Partitions", "Commit", "Online", "Finish"] : output.definition.States[state].Catch[0].Next == "Fail"])
    error_message = "A step fails without a word."
  }
}

# IAM measures policies without white space. With as many streams as a function can be told of, they are the largest:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
run "sizes_of_policies" {
  command = apply

  variables {
    streams = [for n in range(43) : format("s%019d", n)]
  }

  assert {
    condition     = max([for policy in output.policies : length(jsonencode(jsondecode(policy)))]...) <= 10240
    error_message = "The policy of a function is larger than those in a role may be together."
  }

  assert {
    condition     = max([for policy in output.access : length(jsonencode(jsondecode(policy)))]...) <= 6144
    error_message = "A policy for people is larger than one that is attached may be."
  }

  assert {
    condition     = length(jsonencode(jsondecode(output.access.senders))) > 3000
    error_message = "Not all queues are in the policy of those who send messages."
  }
}

run "functions" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    storage = {
      table_name  = "flights"
      table_arn   = "arn:aws:dynamodb:us-east-1:123456789012:table/flights"
      bucket_name = "flights-bucket"
      bucket_arn  = "arn:aws:s3:::flights-bucket"
      key_arn     = "arn:aws:kms:us-east-1:123456789012:key/k"
    }
    event_sources = {
      clicks = { source = "landed_flights", arn = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks", kind = "kinesis" }
    }
  }

  assert {
    condition     = alltrue([for function in aws_lambda_function.this : function.runtime == "provided.al2023" && function.architectures == tolist(["x86_64"])])
    error_message = "All functions are the same program."
  }

  assert {
    condition     = aws_lambda_function.this["requests"].environment[0].variables.WAFER_STORE_OBJECTS == "s3://flights-bucket/project"
    error_message = "A function finds the project's folder."
  }

  assert {
    condition     = alltrue([for mapping in concat(values(aws_lambda_event_source_mapping.stream), values(aws_lambda_event_source_mapping.other), [aws_lambda_event_source_mapping.outbox]) : mapping.function_response_types == toset(["ReportBatchItemFailures"])])
    error_message = "Of a batch only what failed is delivered again."
  }

  assert {
    condition     = aws_lambda_event_source_mapping.other["clicks"].bisect_batch_on_function_error
    error_message = "A batch of a stream that fails is divided."
  }

  # q is looked at by the state machine, r only by the regular look.
  assert {
    condition     = sort(keys(aws_scheduler_schedule.pipeline)) == tolist(["p-0", "p-1"])
    error_message = "Each expression of a pipeline that is run by a function is a schedule."
  }

  assert {
    condition     = jsondecode(aws_scheduler_schedule.pipeline["p-0"].target[0].input) == { wafer = { tick = { pipeline = "p" } } }
    error_message = "A schedule asks for its pipeline."
  }

  assert {
    condition     = jsondecode(aws_scheduler_schedule.all.target[0].input) == { wafer = { tick = { except = ["q"] } } }
    error_message = "The regular look leaves out what the state machine looks at."
  }

  assert {
    condition     = aws_s3_bucket_notification.outbox.queue[0].filter_prefix == "project/outbox/"
    error_message = "Only what comes in is told of."
  }

  assert {
    condition     = aws_lambda_function_url.this.authorization_type == "AWS_IAM"
    error_message = "Requests are signed."
  }

  # A queue's messages stay out of sight as long as a function may work on them.
  assert {
    condition     = alltrue([for queue in aws_sqs_queue.stream : queue.visibility_timeout_seconds >= aws_lambda_function.this["events"].timeout])
    error_message = "Messages would be delivered again while they are worked on."
  }
}

# The table is not there yet.
run "warm_storage" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    warm_throughput = { read_units_per_second = 12000, write_units_per_second = 40000 }
  }

  assert {
    condition     = aws_dynamodb_table.this.warm_throughput[0].read_units_per_second == 12000 && aws_dynamodb_table.this.warm_throughput[0].write_units_per_second == 40000
    error_message = "The table takes a bulk load from the moment it is made."
  }
}

# A metric that nobody writes keeps an alarm silent for ever, and a graph empty. Each row of
# `metrics.csv` was looked up on the page that it names.
run "observability" {
  command = plan

  module {
    source = "../modules/observability"
  }

  variables {
    functions = {
      for name in ["requests", "events", "flush", "runs"] :
      name => { name = "wafer-flights-${name}", arn = "arn:aws:lambda:us-east-1:123456789012:function:wafer-flights-${name}" }
    }
    table_name = "flights"
    dead_letters = {
      for kind in ["events", "outbox", "runs"] :
      kind => { name = "wafer-flights-dead-${kind}", arn = "arn:aws:sqs:us-east-1:123456789012:wafer-flights-dead-${kind}" }
    }
    stream_mappings   = { clicks = "a1b2c3d4-5678-90ab-cdef-111111111111" }
    event_queues      = { landed_flights = "wafer-flights-landed_flights", yours-orders = "orders.fifo" }
    outbox            = "wafer-flights-outbox"
    state_machine_arn = "arn:aws:states:us-east-1:123456789012:stateMachine:wafer-flights-batch"
    key_arn           = "arn:aws:kms:us-east-1:123456789012:key/k"
  }

  assert {
    condition = length(setsubtract(
      flatten([
        for alarm in aws_cloudwatch_metric_alarm.this : concat(
          alarm.metric_name == null ? [] : ["${alarm.namespace} ${alarm.metric_name} ${join(" ", sort(keys(alarm.dimensions)))}"],
          flatten([
            for query in alarm.metric_query : [
              for metric in query.metric : "${metric.namespace} ${metric.metric_name} ${join(" ", sort(keys(metric.dimensions)))}"
            ]
          ]),
        )
      ]),
      [for row in csvdecode(file("../metrics.csv")) : "${row.namespace} ${row.metric} ${join(" ", sort(split(" ", row.dimensions)))}" if row.source != ""],
    )) == 0
    error_message = "An alarm watches a metric that is not in metrics.csv, or not with these dimensions: nobody writes it."
  }

  # A line of a graph is namespace, metric, pairs of name and value, and sometimes an object.
  assert {
    condition = length(setsubtract(
      flatten([
        for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : [
          for line in widget.properties.metrics :
          "${line[0]} ${line[1]} ${join(" ", sort([for place in range(2, length(line) - 1, 2) : line[place]]))}"
        ]
      ]),
      [for row in csvdecode(file("../metrics.csv")) : "${row.namespace} ${row.metric} ${join(" ", sort(split(" ", row.dimensions)))}" if row.source != ""],
    )) == 0
    error_message = "A graph shows a metric that is not in metrics.csv, or not with these dimensions: nobody writes it."
  }

  # Every alarm has exactly one result: its metric, or the sum that refers to all the others.
  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.this :
      length([for query in alarm.metric_query : query if query.return_data == true]) == (alarm.metric_name == null ? 1 : 0)
    ])
    error_message = "An alarm has no metric or several."
  }

  assert {
    condition = alltrue(flatten([
      for alarm in aws_cloudwatch_metric_alarm.this : [
        for sum in alarm.metric_query : [
          toset(split(" + ", sum.expression)) == toset([for query in alarm.metric_query : query.id if length(query.metric) > 0]),
          length(alarm.metric_query) <= 11,
        ] if length(sum.metric) == 0
      ]
    ]))
    error_message = "A sum leaves out a metric, or is of more metrics than the 10 that an alarm may have."
  }

  # What the functions may do to the table is what they call it by.
  assert {
    condition = toset([
      for query in aws_cloudwatch_metric_alarm.this["table-errors"].metric_query : query.metric[0].dimensions.Operation if length(query.metric) > 0
      ]) == toset(flatten([
        for policy in run.everything.policies : [
          for statement in jsondecode(policy).Statement : [
            for action in flatten([statement.Action]) : trimprefix(action, "dynamodb:")
          ] if statement.Sid == "Table"
        ]
    ]))
    error_message = "Errors of an operation that the functions call the table by are not counted."
  }

  # A flush that fails, and looks that nobody takes, both raise the alarm within about 15 minutes.
  assert {
    condition = [
      for alarm in [aws_cloudwatch_metric_alarm.this["outbox-age"]] :
      [alarm.statistic, alarm.threshold, alarm.period * alarm.evaluation_periods, alarm.datapoints_to_alarm, alarm.treat_missing_data]
    ] == [["Maximum", 900, 900, 1, "breaching"]]
    error_message = "The outbox can grow old without an alarm."
  }

  # What is done once or by the caller is known at once, what is repeated only if it goes on failing.
  assert {
    condition = {
      for name in ["requests", "events", "flush", "runs"] : name => aws_cloudwatch_metric_alarm.this["${name}-errors"].evaluation_periods
    } == { requests = 1, events = 3, flush = 3, runs = 1 }
    error_message = "A single failure that was repeated with success raises an alarm, or one that was not raises none."
  }

  assert {
    condition = {
      for name in ["landed_flights", "yours-orders"] : name => [
        for alarm in [aws_cloudwatch_metric_alarm.this["backlog-${name}"]] :
        "${alarm.metric_name} ${alarm.dimensions.QueueName} ${alarm.statistic} ${alarm.threshold} ${alarm.period * alarm.evaluation_periods}"
      ]
      } == {
      landed_flights = ["ApproximateAgeOfOldestMessage wafer-flights-landed_flights Maximum 900 900"]
      yours-orders   = ["ApproximateAgeOfOldestMessage orders.fifo Maximum 900 900"]
    }
    error_message = "A queue of events can grow without an alarm."
  }
}

run "storage" {
  command = apply

  module {
    source = "../modules/storage"
  }

  assert {
    condition     = aws_dynamodb_table.this.hash_key == "pk" && aws_dynamodb_table.this.range_key == "sk" && [for a in aws_dynamodb_table.this.attribute : a.type if a.name == "sk"] == ["B"]
    error_message = "The table has the keys that the program writes."
  }

  assert {
    condition     = aws_dynamodb_table.this.ttl[0].attribute_name == "expires" && aws_dynamodb_table.this.point_in_time_recovery[0].enabled && aws_dynamodb_table.this.billing_mode == "PAY_PER_REQUEST"
    error_message = "Rows expire, can be brought back, and cost nothing when nothing is asked."
  }

  assert {
    condition     = length(aws_dynamodb_table.this.warm_throughput) == 0
    error_message = "A table is not warmed unless it is asked for, as that is charged."
  }

  assert {
    condition     = aws_s3_bucket_public_access_block.this.block_public_acls && aws_s3_bucket_public_access_block.this.block_public_policy && aws_s3_bucket_public_access_block.this.ignore_public_acls && aws_s3_bucket_public_access_block.this.restrict_public_buckets
    error_message = "Nobody else sees the bucket."
  }

  assert {
    condition     = strcontains(data.aws_iam_policy_document.bucket.json, "aws:SecureTransport")
    error_message = "Requests without TLS are refused."
  }
}

# AWS raises the throughput of a table that is used. What is written here must not make it anew.
run "later_warm_throughput" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    warm_throughput = { read_units_per_second = 12000, write_units_per_second = 40000 }
  }

  assert {
    condition     = length(aws_dynamodb_table.this.warm_throughput) == 0
    error_message = "The throughput of a table that is there is left alone."
  }
}

run "too_little_warm_throughput" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    warm_throughput = { read_units_per_second = 12000, write_units_per_second = 3999 }
  }

  expect_failures = [var.warm_throughput]
}

run "wrong_architecture" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    architecture = "mips"
    storage = {
      table_name  = "flights"
      table_arn   = "arn:aws:dynamodb:us-east-1:123456789012:table/flights"
      bucket_name = "flights-bucket"
      bucket_arn  = "arn:aws:s3:::flights-bucket"
      key_arn     = "arn:aws:kms:us-east-1:123456789012:key/k"
    }
  }

  expect_failures = [var.architecture]
}

run "wrong_bucket" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    bucket = "Has_Capitals"
  }

  expect_failures = [var.bucket]
}
