# The same in GovCloud: its ARNs, with the ordinary domain.

variables {
  region       = "us-gov-west-1"
  project      = "flights"
  table        = "flights"
  bucket       = "flights-bucket"
  folder       = "project"
  architecture = "x86_64"
  package      = "main.tf"
  streams      = ["landed_flights"]
  distributed  = ["q"]
  schedules    = { q = { expressions = ["cron(0 6 * * ? *)"], timezone = "UTC" } }
}

run "govcloud" {
  command = apply

  assert {
    condition     = !strcontains(jsonencode([output.policies, output.access, output.definition, output.environment]), "arn:aws:")
    error_message = "A name of the ordinary partition is in what is made in GovCloud."
  }

  assert {
    condition     = strcontains(output.policies.runs, "\"s3.us-gov-west-1.amazonaws.com\"")
    error_message = "Services in GovCloud have the ordinary domain."
  }
}
