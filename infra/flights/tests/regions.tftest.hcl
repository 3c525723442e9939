# Where AWS has what the functions need, and where it has not. The stand-in for the provider has the partitions, and
# refuses what Lambda does not have in a region (`cargo xtask infra` tries that by itself).

variables {
  project          = "flights"
  table            = "flights"
  bucket           = "flights-bucket"
  folder           = "project"
  package          = "main.tf"
  function         = { name = "f", arn = "arn:aws-cn:lambda:cn-north-1:123456789012:function:f" }
  key_arn          = "arn:aws-cn:kms:cn-north-1:123456789012:key/k"
  dead_letters_arn = "arn:aws-cn:sqs:cn-north-1:123456789012:dead"
  storage = {
    table_name  = "flights"
    table_arn   = "arn:aws:dynamodb:us-east-1:123456789012:table/flights"
    bucket_name = "flights-bucket"
    bucket_arn  = "arn:aws:s3:::flights-bucket"
    key_arn     = "arn:aws:kms:us-east-1:123456789012:key/k"
  }
}

run "functions_in_china" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    region = "cn-north-1"
  }

  expect_failures = [var.region]
}

run "functions_in_govcloud" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    region = "us-gov-west-1"
  }

  expect_failures = [var.region]
}

run "functions_in_a_region_without_urls" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    region = "eu-central-2"
  }

  expect_failures = [var.region]
}

run "functions_in_a_young_region_with_urls" {
  command = plan

  module {
    source = "../modules/functions"
  }

  variables {
    region = "mx-central-1"
  }
}

# Table, bucket and key can be anywhere.
run "key_in_china" {
  command = plan

  module {
    source = "../modules/storage"
  }

  variables {
    region = "cn-north-1"
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
    region = "cn-north-1"
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
