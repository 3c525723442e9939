# Alarms that somebody must act on, and one page with everything.

resource "aws_sns_topic" "this" {
  name              = "wafer-${var.project}-alarms"
  kms_master_key_id = var.key_arn
  tags              = var.tags
}

resource "aws_sns_topic_subscription" "email" {
  count     = var.email == null ? 0 : 1
  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = var.email
}

locals {
  # Seconds that a data point of an alarm or a graph stands for.
  period = 300

  # The operations by which the program calls the table. An alarm may have 10 metrics.
  operations = ["BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem"]

  # Functions whose invocations a queue or a stream repeats when they fail. One that failed once has
  # mostly succeeded since: another process was writing, or a service was busy for a moment. So these
  # alarms need failures in each of three periods. What was given up has alarms of its own (dead
  # letters, records that were set aside), and so has what waits meanwhile (the outbox, backlogs).
  repeated = ["events", "flush"]

  # What to do about the dead letters of each kind.
  dead_letters = {
    events = "mend what the log of the function events says of them, and have SQS move them back, by the command that `wafer redrive` prints"
    outbox = "what they tell of is appended by the next look as well; when the log of the function flush is well again, remove them"
    runs   = "a schedule or a run failed, and is tried again by the next look: see the log of the function runs, and remove them"
  }
  set_aside = {
    OnFailureDestinationDeliveredEventCount = { is = "failed", what = "could not be taken in and were set aside: mend what the log of the function events says of them, and take them in by `wafer redrive`" }
    DroppedEventCount                       = { is = "lost", what = "could not be taken in, and not be set aside in the bucket either: they are only in the stream, until it forgets them" }
  }

  alarms = merge(
    {
      for name, function in var.functions : "${name}-errors" => {
        namespace  = "AWS/Lambda"
        metric     = "Errors"
        statistic  = "Sum"
        dimensions = { FunctionName = function.name }
        threshold  = 0
        periods    = contains(local.repeated, name) ? 3 : 1
        says       = "Invocations of ${function.name} failed${contains(local.repeated, name) ? ", again and again for 15 minutes" : ""}: see its log group /aws/lambda/${function.name}."
      }
    },
    {
      for name, function in var.functions : "${name}-throttles" => {
        namespace  = "AWS/Lambda"
        metric     = "Throttles"
        statistic  = "Sum"
        dimensions = { FunctionName = function.name }
        threshold  = 0
        periods    = 3
        says       = "Invocations of ${function.name} were refused: the account's concurrency is used up. Ask for more in Service Quotas."
      }
    },
    {
      for kind, queue in var.dead_letters : "dead-letters-${kind}" => {
        namespace  = "AWS/SQS"
        metric     = "ApproximateNumberOfMessagesVisible"
        statistic  = "Maximum"
        dimensions = { QueueName = queue.name }
        threshold  = 0
        periods    = 1
        says       = "Messages are in ${queue.name}: ${lookup(local.dead_letters, kind, "look at them, and mend their cause")}."
      }
    },
    # SQS leaves out of the age what was received three times and not deleted, so messages that cannot be
    # read raise no alarm here; with the visibility timeout that queues need they come for the third time
    # after 12 minutes
    # (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html).
    # In a FIFO queue such a message holds up its group, and raises it. A burst that is taken in within
    # half an hour raises none.
    {
      for name, queue in var.event_queues : "backlog-${name}" => {
        namespace  = "AWS/SQS"
        metric     = "ApproximateAgeOfOldestMessage"
        statistic  = "Maximum"
        dimensions = { QueueName = queue }
        threshold  = 900
        periods    = 3
        says       = "Events have waited in ${queue} for more than 15 minutes: more come in than maximum_concurrency lets the function events take, its log says that they cannot be taken, or its mapping is disabled (`wafer doctor --aws`)."
      }
    },
    # Lambda counts them for each mapping, and never for the function:
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    merge([
      for name, mapping in var.stream_mappings : {
        for metric, says in local.set_aside : "${name}-${says.is}" => {
          namespace  = "AWS/Lambda"
          metric     = metric
          statistic  = "Sum"
          dimensions = { EventSourceMappingUUID = mapping }
          threshold  = 0
          periods    = 1
          says       = "Records of ${name} ${says.what}."
        }
      }
    ]...),
    {
      # The age of the queue's oldest message says nothing of a flush that fails: SQS leaves out of
      # it what was received three times
      # (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html).
      # So the functions look at the outbox itself (host/lambda/src/metrics.rs), every 5 minutes at
      # least. One look that finds it too old is enough. So is none for 15 minutes: of the last five
      # periods fewer than three have data then, and the others count as too old
      # (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html).
      outbox-age = {
        namespace  = "Wafer"
        metric     = "OutboxAge"
        statistic  = "Maximum"
        dimensions = { Project = var.project }
        threshold  = 900
        periods    = 3
        to_alarm   = 1
        missing    = "breaching"
        says       = "What came in has not been appended to the tables for 15 minutes, or nobody has looked for as long: see the logs of the functions flush and runs."
      }
      table-read-throttles = {
        namespace  = "AWS/DynamoDB"
        metric     = "ReadThrottleEvents"
        statistic  = "Sum"
        dimensions = { TableName = var.table_name }
        threshold  = 0
        periods    = 3
        says       = "DynamoDB refused reads of ${var.table_name}: a key is hot, or the table's limits are reached."
      }
      table-write-throttles = {
        namespace  = "AWS/DynamoDB"
        metric     = "WriteThrottleEvents"
        statistic  = "Sum"
        dimensions = { TableName = var.table_name }
        threshold  = 0
        periods    = 3
        says       = "DynamoDB refused writes to ${var.table_name}: a key is hot, or the table's limits are reached. If something is loaded in bulk, nothing is wrong: a load finds out by this what the table takes."
      }
      # DynamoDB counts them for each operation, and never for the table as a whole.
      table-errors = {
        namespace  = "AWS/DynamoDB"
        metric     = "SystemErrors"
        statistic  = "Sum"
        dimensions = { TableName = var.table_name }
        sum_over   = { Operation = local.operations }
        threshold  = 0
        periods    = 3
        says       = "DynamoDB failed calls to ${var.table_name}: see the AWS Health Dashboard."
      }
    },
    {
      for name, metric in { failed = "ExecutionsFailed", late = "ExecutionsTimedOut" } : "runs-${name}" => {
        namespace                  = "AWS/States"
        metric                     = metric
        statistic                  = "Sum"
        dimensions                 = { StateMachineArn = var.state_machine_arn }
        threshold                  = 0
        periods                    = 1
        says                       = "A divided run failed or took too long: `wafer runs` says why; run it again to go on."
      } if var.state_machine_arn != null
    },
  )
}

locals {
  # For each alarm on a sum its metrics, one for each value of the dimension that it is a sum over.
  sums = {
    for name, alarm in local.alarms : name => merge([
      for dimension, values in alarm.sum_over : {
        for value in values : lower(value) => merge(alarm.dimensions, { (dimension) = value })
      }
    ]...) if can(alarm.sum_over)
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "wafer-${var.project}-${each.key}"
  alarm_description   = each.value.says
  namespace           = contains(keys(local.sums), each.key) ? null : each.value.namespace
  metric_name         = contains(keys(local.sums), each.key) ? null : each.value.metric
  dimensions          = contains(keys(local.sums), each.key) ? null : each.value.dimensions
  statistic           = contains(keys(local.sums), each.key) ? null : each.value.statistic
  period              = contains(keys(local.sums), each.key) ? null : local.period
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = try(each.value.to_alarm, null)
  treat_missing_data  = try(each.value.missing, "notBreaching")
  alarm_actions       = [aws_sns_topic.this.arn]
  ok_actions          = [aws_sns_topic.this.arn]
  tags                = var.tags

  dynamic "metric_query" {
    for_each = lookup(local.sums, each.key, {})

    content {
      id = metric_query.key

      metric {
        namespace   = each.value.namespace
        metric_name = each.value.metric
        dimensions  = metric_query.value
        stat        = each.value.statistic
        period      = local.period
      }
    }
  }

  # What is missing counts as 0 in a sum by `+`; the function SUM is not for alarms
  # (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html).
  dynamic "metric_query" {
    for_each = contains(keys(local.sums), each.key) ? [local.sums[each.key]] : []

    content {
      id          = "sum"
      label       = each.value.metric
      expression  = join(" + ", keys(metric_query.value))
      return_data = true
    }
  }
}

locals {
  graph = { width = 12, height = 6, type = "metric" }

  per_function = {
    for metric, statistic in { Invocations = "Sum", Errors = "Sum", Duration = "p99", ConcurrentExecutions = "Maximum" } :
    metric => {
      title   = "${metric} (${statistic})"
      region  = var.region
      stat    = statistic
      period  = local.period
      view    = "timeSeries"
      metrics = [for name, function in var.functions : ["AWS/Lambda", metric, "FunctionName", function.name, { label = name }]]
    }
  }

  others = [
    {
      title   = "DynamoDB capacity"
      region  = var.region
      stat    = "Sum"
      period  = local.period
      view    = "timeSeries"
      metrics = [for metric in ["ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits", "ReadThrottleEvents", "WriteThrottleEvents"] : ["AWS/DynamoDB", metric, "TableName", var.table_name]]
    },
    {
      title   = "Seconds that the oldest commit waits in the outbox"
      region  = var.region
      stat    = "Maximum"
      period  = local.period
      view    = "timeSeries"
      metrics = [["Wafer", "OutboxAge", "Project", var.project]]
    },
    {
      title   = "Messages in queues"
      region  = var.region
      stat    = "Maximum"
      period  = local.period
      view    = "timeSeries"
      metrics = [for queue in concat([var.outbox], values(var.event_queues), values(var.dead_letters)[*].name) : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue]]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = "wafer-${var.project}"
  dashboard_body = jsonencode({
    widgets = [for properties in concat(values(local.per_function), local.others) : merge(local.graph, { properties = properties })]
  })
}
