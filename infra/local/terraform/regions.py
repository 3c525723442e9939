"""What differs from one region of AWS to the other: partitions, and what Lambda does not have everywhere."""

# The partition of a region, and the domain of its endpoints, by what the region's name begins with.
PARTITIONS = {"cn-": ("aws-cn", "amazonaws.com.cn"), "us-gov-": ("aws-us-gov", "amazonaws.com")}
# https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html
WITHOUT_URLS = [
    "ap-east-2",
    "ap-south-2",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-west-1",
    "eu-central-2",
    "eu-south-2",
    "il-central-1",
    "me-central-1",
]


def partition_of(region):
    """Returns the partition of a region, and the domain of its endpoints."""
    found = (names for start, names in PARTITIONS.items() if region.startswith(start))
    return next(found, ("aws", "amazonaws.com"))


def missing(region, kind, value):
    """Returns what Lambda does not have in a region of what a resource asks for. `value` is None if it is removed."""
    is_other = partition_of(region)[0] != "aws"
    if value is None:
        return []
    if kind == "aws_lambda_function_url":
        return ["there are no function URLs"] if is_other or region in WITHOUT_URLS else []
    if kind != "aws_lambda_event_source_mapping" or not is_other:
        return []
    # https://docs.amazonaws.cn/en_us/aws/latest/userguide/lambda.html
    # https://docs.aws.amazon.com/govcloud-us/latest/UserGuide/govcloud-lambda.html
    failed = [one for found in value.get("destination_config") or [] for one in found.get("on_failure") or []]
    asked = {
        "mappings have no tags": value.get("tags"),
        "mappings have no metrics": value.get("metrics_config"),
        "no bucket gets what failed": any(":s3:::" in str(one.get("destination_arn")) for one in failed),
    }
    return [what for what, is_asked in asked.items() if is_asked]
