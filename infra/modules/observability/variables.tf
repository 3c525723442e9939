variable "project" {
  type        = string
  description = "Name of the project, as in wafer.toml."
}

variable "region" {
  type        = string
  description = "Region of everything."
}

variable "functions" {
  type        = map(object({ name = string, arn = string }))
  description = "The functions of the module `functions`."
}

variable "table_name" {
  type        = string
  description = "The DynamoDB table."
}

variable "dead_letters" {
  type        = map(object({ name = string, arn = string }))
  description = "The queues of what could not be taken in, by kind, as the module `functions` makes them."
}

variable "stream_mappings" {
  type        = map(string)
  default     = {}
  description = "The UUIDs of the mappings of streams of the module `functions`."
}

variable "event_queues" {
  type        = map(string)
  default     = {}
  description = "The names of the queues that events come from, as the module `functions` gives them."
}

variable "outbox" {
  type        = string
  description = "The queue of notifications of the outbox."
}

variable "state_machine_arn" {
  type        = string
  default     = null
  description = "The state machine of the module `batch`, if there is one."
}

variable "key_arn" {
  type        = string
  description = "The key that everything is encrypted with."
}

variable "email" {
  type        = string
  default     = null
  description = "Who is told of alarms, after confirming it; null: nobody but those who subscribe to the topic."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of everything."
}
