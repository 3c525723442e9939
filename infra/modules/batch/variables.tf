variable "project" {
  type        = string
  description = "Name of the project, as in wafer.toml."

  # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
  validation {
    condition     = length("wafer-${var.project}-batch-scheduler") <= 64
    error_message = "project: \"${var.project}\" has ${length(var.project)} characters and may have 42: the role wafer-${var.project}-batch-scheduler is named after it, and names of roles have at most 64 characters."
  }
}

variable "region" {
  type        = string
  description = "Region of everything."
}

variable "function" {
  type        = object({ name = string, arn = string })
  description = "The function `runs` of the module `functions`."
}

variable "key_arn" {
  type        = string
  description = "The key that everything is encrypted with."
}

variable "dead_letters_arn" {
  type        = string
  description = "The queue of schedules that could not start a run."
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
  description = "Pipelines with a schedule whose runs are divided."
}

variable "partition_bytes" {
  type        = number
  default     = 268435456
  description = "Source bytes of a partition, about; files are not split."

  validation {
    condition     = var.partition_bytes >= 1048576
    error_message = "partition_bytes: at least 1 MiB (1048576)."
  }
}

variable "concurrency" {
  type        = number
  default     = 100
  description = "Partitions that are worked on at the same time, at most."

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 10000
    error_message = "concurrency: 1 to 10000."
  }
}

variable "time_limit_seconds" {
  type        = number
  default     = 86400
  description = "How long a run may take."
}

variable "log_retention_days" {
  type        = number
  default     = 365
  description = "Days that logs are kept."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of everything."
}
