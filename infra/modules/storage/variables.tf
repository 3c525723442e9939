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

  validation {
    condition     = can(regex("^[a-zA-Z0-9_.-]{3,255}$", var.table))
    error_message = "table: 3 to 255 letters, digits, or _ . -"
  }
}

variable "bucket" {
  type        = string
  description = "Name of the S3 bucket; names are shared by all of AWS."

  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket)) && !can(regex("\\.\\.|^[0-9]+(\\.[0-9]+){3}$", var.bucket))
    error_message = "bucket: 3 to 63 lower-case letters, digits, dots or dashes; no two dots side by side, and no IP address."
  }

  validation {
    condition     = !can(regex("^(xn--|sthree-|amzn-s3-demo-)|(-s3alias|--ol-s3|\\.mrap|--x-s3|--table-s3)$", var.bucket))
    error_message = "bucket: S3 keeps names that begin with xn--, sthree- or amzn-s3-demo-, or end with -s3alias, --ol-s3, .mrap, --x-s3 or --table-s3, for itself."
  }
}

variable "folder" {
  type        = string
  default     = ""
  description = "Folder of the project in the bucket, without slashes around it; empty: all of the bucket."
}

variable "deletion_protection" {
  type        = bool
  default     = true
  description = "Whether `terraform destroy` refuses to remove the table and a bucket that is not empty."
}

variable "warm_throughput" {
  type = object({
    read_units_per_second  = number
    write_units_per_second = number
  })
  default     = null
  description = "Units a second that the table takes from the moment it is made, charged once; null: 12,000 and 4,000, which cost nothing. Later changes here do nothing: it is raised by `aws dynamodb update-table --warm-throughput`."

  validation {
    condition     = var.warm_throughput == null ? true : var.warm_throughput.read_units_per_second >= 12000 && var.warm_throughput.write_units_per_second >= 4000
    error_message = "warm_throughput: at least 12,000 read and 4,000 write units, which every table has."
  }
}

variable "noncurrent_days" {
  type        = number
  default     = 7
  description = "Days that removed and replaced objects can be brought back."
}

variable "failed_days" {
  type        = number
  default     = 30
  description = "Days that what Lambda gave up of streams is kept for `wafer redrive`."

  validation {
    condition     = var.failed_days >= 1
    error_message = "failed_days: 1 or more."
  }
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of everything."
}
