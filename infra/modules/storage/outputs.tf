output "storage" {
  value = {
    table_name  = aws_dynamodb_table.this.name
    table_arn   = aws_dynamodb_table.this.arn
    bucket_name = aws_s3_bucket.this.bucket
    bucket_arn  = aws_s3_bucket.this.arn
    key_arn     = aws_kms_key.this.arn
  }
  description = "What the other modules need to know of it."

  # Nothing is written to the bucket before nobody else can see it.
  depends_on = [
    aws_s3_bucket_public_access_block.this,
    aws_s3_bucket_policy.this,
    aws_s3_bucket_server_side_encryption_configuration.this,
  ]
}
