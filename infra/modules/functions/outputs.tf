output "url" {
  value       = aws_lambda_function_url.this.function_url
  description = "Where requests go."
}

output "functions" {
  value       = { for name, function in aws_lambda_function.this : name => { name = function.function_name, arn = function.arn } }
  description = "The functions by what they do."
}

output "queues" {
  value       = { for stream, queue in aws_sqs_queue.stream : stream => queue.url }
  description = "For each source of events the URL of its queue."
}

output "dead_letters" {
  value       = { for kind, queue in aws_sqs_queue.dead : kind => { name = queue.name, arn = queue.arn } }
  description = "The queues of what could not be taken in: messages of queues of events, of notifications of the outbox, and what failed of schedules and runs."
}

# Names of streams have no dashes, so that those of queues of yours are apart from them.
output "event_queues" {
  value = merge(
    { for stream, queue in aws_sqs_queue.stream : stream => queue.name },
    { for name, source in local.others : "yours-${name}" => split(":", source.arn)[5] if source.is_queue },
  )
  description = "The names of the queues that events come from. Only in the account of a queue has CloudWatch its metrics."
}

output "stream_mappings" {
  value       = { for name, mapping in aws_lambda_event_source_mapping.other : name => mapping.uuid if !local.others[name].is_queue }
  description = "For each stream the mapping that sets aside what fails."
}

output "event_sources" {
  value       = join(";", [for arn, source in local.sources : "${arn}=${source}"])
  description = "Whose events each queue and stream carries, as `wafer redrive` reads it from WAFER_EVENT_SOURCES."
}

output "outbox" {
  value       = aws_sqs_queue.outbox.name
  description = "The queue of notifications of the outbox."
}

output "policies" {
  value       = { for name, document in data.aws_iam_policy_document.this : name => document.json }
  description = "What each function may do."
}

output "schedule_group" {
  value       = aws_scheduler_schedule_group.this.name
  description = "The group of the project's schedules."
}
