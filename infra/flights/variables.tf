# Written by `wafer deploy`:

variable "project" {
  type        = string
  description = "Name of the project, as in wafer.toml."
}

variable "region" {
  type        = string
  description = "Region of everything."
}

variable "table" {
  type        = string
  description = "Name of the DynamoDB table."
}

variable "bucket" {
  type        = string
  description = "Name of the S3 bucket."
}

variable "folder" {
  type        = string
  description = "Folder of the project in the bucket."
}

variable "architecture" {
  type        = string
  description = "Processors: x86_64 or arm64."
}

variable "streams" {
  type        = set(string)
  description = "Sources of events."
}

variable "schedules" {
  type = map(object({
    expressions = list(string)
    timezone    = string
  }))
  description = "When pipelines are looked at."
}

# Yours:

variable "package" {
  type        = string
  default     = null
  description = "The zip file of `wafer package`; null: dist/wafer-ARCHITECTURE.zip of the checkout."
}

variable "distributed" {
  type        = set(string)
  default     = []
  description = "Pipelines with a schedule whose runs are divided among invocations."
}

variable "event_sources" {
  type        = any
  default     = {}
  description = "Queues and streams of yours that events come from, as the module `functions` describes them."
}

variable "maximum_concurrency" {
  type        = number
  default     = 2
  description = "Invocations that the messages of one queue may take at the same time. Raise it with the account's concurrency."
}

variable "concurrency" {
  type        = number
  default     = 2
  description = "Partitions of a divided run that are worked on at the same time, at most. Raise it with the account's concurrency: of the 10 invocations of a new account both queues, flushes and schedules take 7."
}

variable "source_buckets" {
  type        = set(string)
  default     = []
  description = "ARNs of other buckets that sources are read from, files and Delta tables, in any region."
}

variable "key_arns" {
  type        = set(string)
  default     = []
  description = "ARNs of the keys that these buckets are encrypted with."
}

variable "url_authorization" {
  type        = string
  default     = "AWS_IAM"
  description = "Who may call the URL: AWS_IAM, or NONE for everybody."
}

variable "deletion_protection" {
  type        = bool
  default     = true
  description = "Whether `terraform destroy` refuses to remove the table, and a bucket that is not empty."
}

variable "warm_throughput" {
  type = object({
    read_units_per_second  = number
    write_units_per_second = number
  })
  default     = null
  description = "What the table takes from the moment it is made; null: 12,000 read and 4,000 write units a second."
}

variable "email" {
  type        = string
  default     = null
  description = "Who is told of alarms."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of everything."
}
