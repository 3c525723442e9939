output "url" {
  value       = module.functions.url
  description = "Where requests go."
}

output "queues" {
  value       = module.functions.queues
  description = "For each source of events the URL of its queue."
}

output "policies" {
  value       = module.functions.policies
  description = "What each function may do."
}

output "access" {
  value       = module.access.policies
  description = "What people and other programs need, by their role: `terraform output -json access | jq -r .senders` is a policy."
}

output "definition" {
  value       = module.batch.definition
  description = "The state machine of divided runs."
}

output "environment" {
  value       = <<-EOT
    export AWS_REGION=${var.region}
    export WAFER_STORE_ONLINE=dynamodb://${var.table}
    export WAFER_STORE_OBJECTS=s3://${var.bucket}/${var.folder}
    export WAFER_STATE_MACHINE=${module.batch.state_machine.arn}
    export WAFER_EVENT_SOURCES='${module.functions.event_sources}'
  EOT
  description = "What `wafer` finds the project by: eval \"$(terraform output -raw environment)\"."
}
