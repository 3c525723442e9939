output "state_machine" {
  value       = { name = aws_sfn_state_machine.this.name, arn = local.machine }
  description = "What `wafer run --on aws` starts: WAFER_STATE_MACHINE is its ARN."
}

output "definition" {
  value       = local.definition
  description = "The state machine, in the Amazon States Language."
}
