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
  value       = { name = aws_sqs_queue.dead.name, arn = aws_sqs_queue.dead.arn }
  description = "The queue of what could not be taken in."
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
