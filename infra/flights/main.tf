# The flights project on AWS. `wafer deploy` writes terraform.tfvars.json beside this.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.29"
    }
  }

  # The state belongs where everybody who deploys finds it, and is locked while one of them works. This
  # needs Terraform 1.10, for the lock, and a bucket with versions that is there already:
  # https://developer.hashicorp.com/terraform/language/backend/s3
  #
  # backend "s3" {
  #   bucket       = "MY-STATE-BUCKET"
  #   key          = "wafer/flights.tfstate"
  #   region       = "us-east-1"
  #   encrypt      = true
  #   use_lockfile = true
  # }
}

provider "aws" {
  region = var.region
}

locals {
  tags = merge({ project = var.project, made-by = "wafer" }, var.tags)
}

module "storage" {
  source              = "../modules/storage"
  project             = var.project
  region              = var.region
  table               = var.table
  bucket              = var.bucket
  folder              = var.folder
  deletion_protection = var.deletion_protection
  warm_throughput     = var.warm_throughput
  tags                = local.tags
}

module "functions" {
  source            = "../modules/functions"
  project           = var.project
  region            = var.region
  storage           = module.storage.storage
  folder            = var.folder
  package           = coalesce(var.package, "${path.module}/../../dist/wafer-${var.architecture}.zip")
  architecture      = var.architecture
  streams           = var.streams
  schedules         = var.schedules
  distributed       = var.distributed
  source_buckets    = var.source_buckets
  key_arns          = var.key_arns
  url_authorization = var.url_authorization
  tags              = local.tags

  event_sources       = var.event_sources
  maximum_concurrency = var.maximum_concurrency
}

module "batch" {
  source           = "../modules/batch"
  project          = var.project
  region           = var.region
  function         = module.functions.functions["runs"]
  key_arn          = module.storage.storage.key_arn
  dead_letters_arn = module.functions.dead_letters["runs"].arn
  schedules        = var.schedules
  distributed      = var.distributed
  concurrency      = var.concurrency
  tags             = local.tags
}

module "observability" {
  source            = "../modules/observability"
  project           = var.project
  region            = var.region
  functions         = module.functions.functions
  table_name        = module.storage.storage.table_name
  dead_letters      = module.functions.dead_letters
  outbox            = module.functions.outbox
  state_machine_arn = module.batch.state_machine.arn
  key_arn           = module.storage.storage.key_arn
  email             = var.email
  tags              = local.tags

  stream_mappings = module.functions.stream_mappings
  event_queues    = module.functions.event_queues
}

module "access" {
  source            = "../modules/access"
  project           = var.project
  region            = var.region
  storage           = module.storage.storage
  folder            = var.folder
  streams           = var.streams
  requests_arn      = module.functions.functions["requests"].arn
  events_arn        = module.functions.functions["events"].arn
  event_queues_arns = [for source in var.event_sources : source.arn if source.kind == "sqs"]
  dead_letters_arns = [for queue in module.functions.dead_letters : queue.arn]
  state_machine_arn = module.batch.state_machine.arn
}
