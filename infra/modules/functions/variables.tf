variable "project" {
  type        = string
  description = "Name of the project, as in wafer.toml."

  # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
  validation {
    condition     = can(regex("^[a-z][a-z0-9_]*$", var.project)) && length("wafer-${var.project}-scheduler") <= 64
    error_message = "project: lower-case letters, digits and underscores, starting with a letter, at most 48: the role wafer-${var.project}-scheduler is named after it, and names of roles have at most 64 characters."
  }
}

variable "region" {
  type        = string
  description = "Region of everything: one with function URLs, by which requests come in."

  # The regions are those of https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html; those of China, of
  # GovCloud and of other partitions, whose names have another form, have neither URLs nor much else that is used here:
  # https://docs.amazonaws.cn/en_us/aws/latest/userguide/lambda.html,
  # https://docs.aws.amazon.com/govcloud-us/latest/UserGuide/govcloud-lambda.html.
  validation {
    condition = can(regex("^[a-z]{2}-[a-z]+-[0-9]+$", var.region)) && !startswith(var.region, "cn-") && !contains([
      "ap-east-2", "ap-south-2", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7",
      "ca-west-1", "eu-central-2", "eu-south-2", "il-central-1", "me-central-1",
    ], var.region)
    error_message = "region: Lambda has no function URLs in ${var.region}, and requests come in by one. Take another region, or the module `storage` alone, whose table and bucket `wafer serve` uses from a machine of yours."
  }
}

variable "package" {
  type        = string
  description = "The zip file of `wafer package`."
}

variable "architecture" {
  type        = string
  default     = "x86_64"
  description = "Processors: x86_64, or arm64 for Graviton; the package and the deployment are of the same."

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture: x86_64 or arm64."
  }
}

variable "storage" {
  type = object({
    table_name  = string
    table_arn   = string
    bucket_name = string
    bucket_arn  = string
    key_arn     = string
  })
  description = "What the module `storage` made."
}

variable "folder" {
  type        = string
  default     = ""
  description = "Folder of the project in the bucket, without slashes around it; empty: all of the bucket."
}

variable "streams" {
  type        = set(string)
  default     = []
  description = "Sources of events that get a queue."

  # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-quotas.html
  validation {
    condition     = alltrue([for stream in var.streams : length("wafer-${var.project}-${stream}") <= 80])
    error_message = "streams: names of queues, such as wafer-${var.project}-STREAM, have at most 80 characters, so a stream of this project may have ${80 - length("wafer-${var.project}-")}."
  }

  validation {
    condition     = !contains(var.streams, "outbox")
    error_message = "streams: no stream can be called outbox, as each project has a queue of this name."
  }
}

variable "event_sources" {
  type = map(object({
    source              = string
    arn                 = string
    kind                = string
    starting_position   = optional(string, "TRIM_HORIZON")
    batch_size          = optional(number)
    maximum_concurrency = optional(number)
    visibility_timeout  = optional(number)
    max_receive_count   = optional(number)
    maximum_record_age  = optional(number, 43200)
  }))
  default     = {}
  description = <<-EOT
    Queues and streams that are there already: whose events they are (source), ARN, and kind (sqs, kinesis or dynamodb).
    batch_size is 100 unless you say otherwise, and 10 for FIFO queues. Of queues: maximum_concurrency in the place of the
    variable of this name; visibility_timeout (seconds) and max_receive_count as the queue has them, which have to be said
    and are checked, as Terraform cannot look (`wafer doctor --aws` can). Of streams: maximum_record_age (seconds), after which
    a record that could not be taken in is set aside; 12 hours is half of the time that streams keep records by default.
  EOT

  # An alarm is named after each stream, and after runs that failed.
  validation {
    condition     = !contains(keys(var.event_sources), "runs")
    error_message = "event_sources: none can be called runs, as the alarm runs-failed is that of divided runs."
  }

  validation {
    condition     = alltrue([for source in var.event_sources : contains(["sqs", "kinesis", "dynamodb"], source.kind)])
    error_message = "event_sources: kind is sqs, kinesis or dynamodb."
  }

  # https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
  validation {
    condition = alltrue([
      for source in var.event_sources : can(regex(join("", [
        "^arn:aws(-cn|-us-gov)?:${source.kind}:${var.region}:[0-9]{12}:",
        lookup({ dynamodb = "table/[^/]+/stream/[^/]+$", kinesis = "stream/.", sqs = "[^/:]+$" }, source.kind, ""),
      ]), source.arn))
    ])
    error_message = "event_sources: each arn is of its kind, in the region of the functions (${var.region}), as Lambda takes events from no other. That of a queue is arn:aws:sqs:REGION:ACCOUNT:NAME; that of a stream of DynamoDB ends in /stream/TIME."
  }

  # https://docs.aws.amazon.com/streams/latest/dev/enhanced-consumers.html
  validation {
    condition     = !anytrue([for source in var.event_sources : strcontains(source.arn, "/consumer/")])
    error_message = "event_sources: take the arn of the stream itself, without /consumer/ and what follows. A consumer with a throughput of its own (enhanced fan-out) would need kinesis:SubscribeToShard, which the function is not given."
  }

  # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
  validation {
    condition     = alltrue([for source in var.event_sources : coalesce(source.batch_size, 1) <= 10 if endswith(source.arn, ".fifo")])
    error_message = "event_sources: a FIFO queue has ten messages in a batch at most: set batch_size to 10 or less, or leave it out."
  }

  validation {
    condition     = alltrue([for source in var.event_sources : coalesce(source.batch_size, 1) >= 1 && coalesce(source.batch_size, 1) <= 10000])
    error_message = "event_sources: batch_size is 1 to 10000."
  }

  # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
  validation {
    condition     = alltrue([for source in var.event_sources : coalesce(source.maximum_concurrency, 2) >= 2 && coalesce(source.maximum_concurrency, 2) <= 1000])
    error_message = "event_sources: maximum_concurrency is 2 to 1000."
  }

  validation {
    condition     = alltrue([for source in var.event_sources : source.maximum_concurrency == null && source.visibility_timeout == null && source.max_receive_count == null if source.kind != "sqs"])
    error_message = "event_sources: maximum_concurrency, visibility_timeout and max_receive_count are of queues; leave them out for streams, each shard of which has one invocation at a time."
  }

  # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
  validation {
    condition     = alltrue([for source in var.event_sources : source.visibility_timeout != null && source.max_receive_count != null if source.kind == "sqs"])
    error_message = "event_sources: say visibility_timeout and max_receive_count of each queue, as it has them. Terraform cannot look at them, and a queue of which nobody has said anything has 30 seconds and no dead letters: Lambda would take nothing from it."
  }

  # https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
  validation {
    condition     = alltrue([for source in var.event_sources : source.maximum_record_age >= 60 && source.maximum_record_age <= 604800])
    error_message = "event_sources: maximum_record_age is 60 to 604800 seconds, and less than the stream keeps records: older ones are lost."
  }
}

variable "maximum_concurrency" {
  type        = number
  default     = 2
  description = "Invocations that the messages of one queue may take at the same time. So a backlog leaves the rest of the account's concurrency to requests: new accounts have 10, and 2 is the least that AWS takes."

  validation {
    condition     = var.maximum_concurrency >= 2 && var.maximum_concurrency <= 1000
    error_message = "maximum_concurrency: 2 to 1000, as AWS has it."
  }
}

variable "schedules" {
  type = map(object({
    expressions = list(string)
    timezone    = string
  }))
  default     = {}
  description = "When pipelines are looked at, as `wafer deploy` writes it."
}

variable "distributed" {
  type        = set(string)
  default     = []
  description = "Pipelines with a schedule whose runs are divided: the module `batch` looks at them."
}

variable "key_arns" {
  type        = set(string)
  default     = []
  description = "ARNs of other keys that these buckets, queues and streams are encrypted with, in their regions."

  validation {
    condition     = alltrue([for arn in var.key_arns : can(regex("^arn:aws(-cn|-us-gov)?:kms:[a-z0-9-]+:[0-9]{12}:key/.", arn))])
    error_message = "key_arns: ARNs of keys, such as arn:aws:kms:REGION:ACCOUNT:key/ID; IAM does not take aliases."
  }
}

variable "source_buckets" {
  type        = set(string)
  default     = []
  description = "ARNs of other buckets that sources are read from, files and Delta tables, in any region of the partition."

  validation {
    condition     = alltrue([for arn in var.source_buckets : can(regex("^arn:aws(-cn|-us-gov)?:s3:::[a-z0-9][a-z0-9.-]+$", arn))])
    error_message = "source_buckets: ARNs of buckets, such as arn:aws:s3:::BUCKET, without a folder."
  }
}

variable "url_authorization" {
  type        = string
  default     = "AWS_IAM"
  description = "Who may call the URL: AWS_IAM (signed requests of those with lambda:InvokeFunctionUrl and lambda:InvokeFunction), or NONE (everybody)."

  validation {
    condition     = contains(["AWS_IAM", "NONE"], var.url_authorization)
    error_message = "url_authorization: AWS_IAM or NONE."
  }
}

variable "memory" {
  type        = number
  default     = 1769
  description = "MB of each function; 1769 is one whole processor."

  validation {
    condition     = var.memory >= 256 && var.memory <= 10240
    error_message = "memory: 256 to 10240 MB."
  }
}

variable "request_storage" {
  type        = number
  default     = 512
  description = "Temporary storage of the function `requests`, MB: for the compiled models of all releases that endpoints go to while it is warm."

  validation {
    condition     = var.request_storage >= 512 && var.request_storage <= 10240
    error_message = "request_storage: 512 to 10240 MB."
  }
}

variable "temporary_storage" {
  type        = number
  default     = 10240
  description = "MB of /tmp for runs: the largest source file has to fit, as it is read from there."

  validation {
    condition     = var.temporary_storage >= 512 && var.temporary_storage <= 10240
    error_message = "temporary_storage: 512 to 10240 MB."
  }
}

variable "log_retention_days" {
  type        = number
  default     = 365
  description = "Days that logs are kept."
}

variable "log_level" {
  type        = string
  default     = "info"
  description = "What is logged, such as info or debug. Libraries are logged if they are named: info,hyper=debug."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of everything."
}
