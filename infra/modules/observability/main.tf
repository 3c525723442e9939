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
        periods    = 1
        says       = "Invocations of ${function.name} failed: see its log group /aws/lambda/${function.name}."
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
      outbox-age = {
        namespace  = "AWS/SQS"
        metric     = "ApproximateAgeOfOldestMessage"
        statistic  = "Maximum"
        dimensions = { QueueName = var.outbox }
        threshold  = 900
        periods    = 1
        says       = "What came in has not been appended to the tables for 15 minutes: see the log of the function flush."
      }
      table-throttles = {
        namespace  = "AWS/DynamoDB"
        metric     = "ThrottledRequests"
        statistic  = "Sum"
        dimensions = { TableName = var.table_name }
        threshold  = 0
        periods    = 3
        says       = "DynamoDB refused calls to ${var.table_name}: a key is hot, or the table's limits are reached."
      }
      table-errors = {
        namespace  = "AWS/DynamoDB"
        metric     = "SystemErrors"
        statistic  = "Sum"
        dimensions = { TableName = var.table_name }
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

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "wafer-${var.project}-${each.key}"
  alarm_description   = each.value.says
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 300
  evaluation_periods  = each.value.periods
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.this.arn]
  ok_actions          = [aws_sns_topic.this.arn]
  tags                = var.tags
}

locals {
  graph = { width = 12, height = 6, type = "metric" }

  per_function = {
    for metric, statistic in { Invocations = "Sum", Errors = "Sum", Duration = "p99", ConcurrentExecutions = "Maximum" } :
    metric => {
      title   = "${metric} (${statistic})"
      region  = var.region
      stat    = statistic
      period  = 300
      view    = "timeSeries"
      metrics = [for name, function in var.functions : ["AWS/Lambda", metric, "FunctionName", function.name, { label = name }]]
    }
  }

  others = [
    {
      title   = "DynamoDB capacity"
      region  = var.region
      stat    = "Sum"
      period  = 300
      view    = "timeSeries"
      metrics = [for metric in ["ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits", "ThrottledRequests"] : ["AWS/DynamoDB", metric, "TableName", var.table_name]]
    },
    {
      title  = "Queues"
      region = var.region
      stat   = "Maximum"
      period = 300
      view   = "timeSeries"
      metrics = [
        for metric in concat(
          [["ApproximateAgeOfOldestMessage", var.outbox]],
          [for queue in var.dead_letters : ["ApproximateNumberOfMessagesVisible", queue.name]],
        ) : ["AWS/SQS", metric[0], "QueueName", metric[1]]
      ]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = "wafer-${var.project}"
  dashboard_body = jsonencode({
    widgets = [for properties in concat(values(local.per_function), local.others) : merge(local.graph, { properties = properties })]
  })
}
