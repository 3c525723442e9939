# What Lambda does not have in every region, which `terraform plan` must find: each is in the comment of its line.

terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

variable "region" {
  type = string
}

provider "aws" {
  region = var.region
}

resource "aws_lambda_function_url" "this" {
  function_name      = "f" # no URLs in China, in GovCloud, and in some regions beside them
  authorization_type = "AWS_IAM"
}

resource "aws_lambda_event_source_mapping" "this" {
  function_name    = "f"
  event_source_arn = "arn:aws:kinesis:us-east-1:123456789012:stream/s"
  tags             = { project = "p" } # no tags in China and in GovCloud

  destination_config {
    on_failure {
      destination_arn = "arn:aws:s3:::b" # no buckets in China and in GovCloud
    }
  }

  metrics_config {
    metrics = ["EventCount"] # no metrics in China and in GovCloud
  }
}
