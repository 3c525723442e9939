output "policies" {
  value = {
    callers   = data.aws_iam_policy_document.callers.json
    senders   = data.aws_iam_policy_document.senders.json
    starters  = data.aws_iam_policy_document.starters.json
    redrivers = data.aws_iam_policy_document.redrivers.json
    readers   = data.aws_iam_policy_document.readers.json
    deployers = data.aws_iam_policy_document.deployers.json
  }
  description = "For each role of people and other programs the policy that it needs, as JSON."
}
