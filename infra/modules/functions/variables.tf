variable "project" {
  type        = string
  description = "Name of the project, as in wafer.toml."
}

variable "region" {
  type        = string
  description = "Region of everything."
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
}

variable "event_sources" {
  type = map(object({
    source            = string
    arn               = string
    kind              = string
    starting_position = optional(string, "TRIM_HORIZON")
    batch_size        = optional(number, 100)
  }))
  default     = {}
  description = "Queues and streams that are there already: whose events they are, ARN, and kind (sqs, kinesis or dynamodb)."

  validation {
    condition     = alltrue([for source in var.event_sources : contains(["sqs", "kinesis", "dynamodb"], source.kind)])
    error_message = "event_sources: kind is sqs, kinesis or dynamodb."
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
  description = "ARNs of other keys that these buckets, queues and streams are encrypted with."
}

variable "source_buckets" {
  type        = set(string)
  default     = []
  description = "ARNs of other buckets that sources are read from."
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
