output "policies" {
  value       = { for role, document in data.aws_iam_policy_document.this : role => document.json }
  description = "For each role of people and other programs the policy that it needs, as JSON."
}
