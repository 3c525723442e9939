# The same in China: its ARNs, its domain, and the names of its services. The stand-in for the provider says
# which partition a region is of.

variables {
  region       = "cn-north-1"
  project      = "flights"
  table        = "flights"
  bucket       = "flights-bucket"
  folder       = "project"
  architecture = "x86_64"
  package      = "main.tf"
  streams      = ["landed_flights"]
  distributed  = ["q"]
  schedules    = { q = { expressions = ["cron(0 6 * * ? *)"], timezone = "UTC" } }
}

run "china" {
  command = apply

  assert {
    condition     = !strcontains(jsonencode([output.policies, output.access, output.definition, output.environment]), "arn:aws:")
    error_message = "A name of the ordinary partition is in what is made in China."
  }

  assert {
    condition = alltrue([
      for policy in output.policies : strcontains(policy, "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/flights")
    ])
    error_message = "The functions may use the table in China."
  }

  assert {
    condition = alltrue([
      for policy in output.policies :
      strcontains(policy, "s3.cn-north-1.amazonaws.com.cn") && strcontains(policy, "\"s3.cn-north-1.amazonaws.com\"")
    ])
    error_message = "The key is used by way of S3, under either name that it may have in China."
  }

  assert {
    condition     = output.definition.States.Commit.Resource == "arn:aws-cn:states:::lambda:invoke"
    error_message = "The state machine invokes functions in its partition."
  }
}

run "key_in_china" {
  command = plan

  module {
    source = "../modules/storage"
  }

  override_data {
    target = data.aws_partition.this
    values = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }

  # CloudWatch Logs is the only service of these whose principal ends with the domain of China.
  assert {
    condition = toset(flatten([
      for statement in jsondecode(data.aws_iam_policy_document.key.json).Statement : values(statement.Principal)
      ])) == toset([
      "arn:aws-cn:iam::123456789012:root",
      "cloudwatch.amazonaws.com",
      "delivery.logs.amazonaws.com",
      "logs.cn-north-1.amazonaws.com.cn",
      "s3.amazonaws.com",
    ])
    error_message = "The key names a service by a name that it does not have in China."
  }
}

run "schedules_in_china" {
  command = plan

  module {
    source = "../modules/batch"
  }

  variables {
    function         = { name = "f", arn = "arn:aws-cn:lambda:cn-north-1:123456789012:function:f" }
    key_arn          = "arn:aws-cn:kms:cn-north-1:123456789012:key/k"
    dead_letters_arn = "arn:aws-cn:sqs:cn-north-1:123456789012:dead"
  }

  override_data {
    target = data.aws_partition.this
    values = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }

  assert {
    condition     = !strcontains(data.aws_iam_policy_document.this.json, "arn:aws:")
    error_message = "A name of the ordinary partition is in the policy of the state machine."
  }
}
