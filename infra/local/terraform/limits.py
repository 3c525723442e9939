"""The limits that the services of AWS set for what their resources are made of.

The models of AWS's APIs, which botocore (Apache-2.0) has for the AWS CLI, say for each field of a request which values it
may have: an enumeration, a length, a range, a pattern. A resource of Terraform is made by one request, whose fields have
the names of the resource's arguments, written in another way. What a service refuses for other reasons is not in them.
"""

import re

import botocore.loaders
import botocore.model

# The request that makes a resource: service, operation, and the field that holds all others, if there is one.
REQUESTS = {
    "aws_cloudwatch_log_group": ("logs", "CreateLogGroup", None),
    "aws_cloudwatch_metric_alarm": ("cloudwatch", "PutMetricAlarm", None),
    "aws_dynamodb_table": ("dynamodb", "CreateTable", None),
    "aws_iam_role": ("iam", "CreateRole", None),
    "aws_iam_role_policy": ("iam", "PutRolePolicy", None),
    "aws_kms_key": ("kms", "CreateKey", None),
    "aws_lambda_event_source_mapping": ("lambda", "CreateEventSourceMapping", None),
    "aws_lambda_function": ("lambda", "CreateFunction", None),
    "aws_lambda_function_event_invoke_config": ("lambda", "PutFunctionEventInvokeConfig", None),
    "aws_lambda_function_url": ("lambda", "CreateFunctionUrlConfig", None),
    "aws_lambda_permission": ("lambda", "AddPermission", None),
    "aws_s3_bucket_lifecycle_configuration": ("s3", "PutBucketLifecycleConfiguration", "LifecycleConfiguration"),
    "aws_s3_bucket_notification": ("s3", "PutBucketNotificationConfiguration", "NotificationConfiguration"),
    "aws_s3_bucket_ownership_controls": ("s3", "PutBucketOwnershipControls", "OwnershipControls"),
    "aws_s3_bucket_server_side_encryption_configuration": (
        "s3",
        "PutBucketEncryption",
        "ServerSideEncryptionConfiguration",
    ),
    "aws_s3_bucket_versioning": ("s3", "PutBucketVersioning", None),
    "aws_scheduler_schedule": ("scheduler", "CreateSchedule", None),
    "aws_scheduler_schedule_group": ("scheduler", "CreateScheduleGroup", None),
    "aws_sfn_state_machine": ("stepfunctions", "CreateStateMachine", None),
    "aws_sns_topic_subscription": ("sns", "Subscribe", None),
}
# Arguments that have another name than their field.
FIELDS = {
    "aws_cloudwatch_log_group": {"name": "logGroupName"},
    "aws_dynamodb_table": {"name": "TableName", "attribute": "AttributeDefinitions", "type": "AttributeType"},
    "aws_iam_role": {"name": "RoleName"},
    "aws_iam_role_policy": {"name": "PolicyName", "role": "RoleName"},
    "aws_lambda_function_url": {"authorization_type": "AuthType"},
    "aws_s3_bucket_lifecycle_configuration": {"rule": "Rules"},
    "aws_s3_bucket_notification": {"queue": "QueueConfigurations"},
    "aws_s3_bucket_ownership_controls": {"rule": "Rules"},
    "aws_s3_bucket_server_side_encryption_configuration": {
        "rule": "Rules",
        "apply_server_side_encryption_by_default": "ApplyServerSideEncryptionByDefault",
        "sse_algorithm": "SSEAlgorithm",
    },
}
# Limits that only the pages of a service say.
PAGES = {
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-quotas.html
    ("aws_sqs_queue", "name"): {"pattern": "[A-Za-z0-9_-]{1,80}(\\.fifo)?"},
    ("aws_sqs_queue", "message_retention_seconds"): {"min": 60, "max": 1209600},
    ("aws_sqs_queue", "visibility_timeout_seconds"): {"min": 0, "max": 43200},
    ("aws_sqs_queue", "kms_data_key_reuse_period_seconds"): {"min": 60, "max": 86400},
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
    ("aws_dynamodb_table", "name"): {"pattern": "[a-zA-Z0-9_.-]{3,255}"},
    # https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
    ("aws_lambda_function", "function_name"): {"max": 64},
    # https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html
    ("aws_sns_topic", "name"): {"pattern": "[A-Za-z0-9_-]{1,256}"},
    # https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
    ("aws_cloudwatch_log_group", "retention_in_days"): {
        "enum": [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
    },
    # https://docs.aws.amazon.com/kms/latest/APIReference/API_ScheduleKeyDeletion.html
    ("aws_kms_key", "deletion_window_in_days"): {"min": 7, "max": 30},
}
WORD = re.compile(r"(?:^|_)([a-z0-9])")


class Limits:
    """The limits of all resources, read from the models when they are needed."""

    def __init__(self):
        self.loader = botocore.loaders.Loader()
        self.requests = {}

    def request(self, kind):
        """Returns the shape of the request that makes a resource, or None if it is not known."""
        if kind not in self.requests:
            self.requests[kind] = self.load(*REQUESTS[kind]) if kind in REQUESTS else None
        return self.requests[kind]

    def load(self, service, operation, field):
        model = botocore.model.ServiceModel(self.loader.load_service_model(service, "service-2"), service)
        shape = model.operation_model(operation).input_shape
        return shape.members[field] if field else shape

    def broken(self, kind, value):
        """Returns what is wrong with a resource: for each value that its service refuses, the argument and the reason."""
        pages = [
            (argument, reason)
            for (of, argument), limits in PAGES.items()
            if of == kind and (reason := refused(value.get(argument), limits))
        ]
        shape = self.request(kind)
        return pages + (list(in_block(kind, value, shape)) if shape is not None else [])


def in_block(kind, value, shape):
    """Yields the arguments of a block that are refused, with the reasons, and those of the blocks in it."""
    names = FIELDS.get(kind, {})
    members = {name.lower(): member for name, member in shape.members.items()}
    for argument, given in value.items():
        field = names.get(argument) or WORD.sub(lambda found: found[1].upper(), argument)
        member = members.get(field.lower())
        if member is not None and given is not None:
            yield from in_value(kind, argument, given, member)


def in_value(kind, argument, given, shape):
    # A block of which there may be several is a list in Terraform, also where the request has one.
    for one in given if isinstance(given, list) else [given]:
        inner = shape.member if shape.type_name == "list" else shape
        if inner.type_name == "structure":
            if isinstance(one, dict):
                yield from in_block(kind, one, inner)
        elif reason := refused(one, inner.metadata):
            yield argument, reason


def refused(given, limits):
    """Returns why a text or a number is refused by limits, or None."""
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        return None
    if "enum" in limits and given not in limits["enum"]:
        return f"`{given}` is none of {', '.join(map(str, limits['enum']))}"
    size, has = (len(given), f"`{given}` has {len(given)} characters") if isinstance(given, str) else (given, str(given))
    if size < limits.get("min", size):
        return f"{has}, and it is at least {limits['min']}"
    if size > limits.get("max", size):
        return f"{has}, and it is at most {limits['max']}"
    if isinstance(given, str) and not fits(given, limits.get("pattern")):
        return f"`{given}` is not of the form {limits['pattern']}"
    return None


def fits(text, pattern):
    try:
        return pattern is None or re.fullmatch(pattern, text) is not None
    except re.error:
        # A few patterns are in a dialect that Python does not have.
        return True
