variable "project" {
  type        = string
  description = "Name of the project, as in wafer.toml."
}

variable "region" {
  type        = string
  description = "Region of everything."
}

variable "storage" {
  type = object({
    table_arn  = string
    bucket_arn = string
    key_arn    = string
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
  description = "Sources of events that have a queue."
}

variable "requests_arn" {
  type        = string
  description = "ARN of the function `requests` of the module `functions`, which has the URL."
}

variable "events_arn" {
  type        = string
  description = "ARN of the function `events` of the module `functions`, which takes events."
}

variable "event_queues_arns" {
  type        = set(string)
  default     = []
  description = "ARNs of queues of yours that events come from."
}

variable "dead_letters_arns" {
  type        = set(string)
  description = "ARNs of the queues of what could not be taken in."
}

variable "state_machine_arn" {
  type        = string
  description = "ARN of the state machine of the module `batch`."
}
