"""provider.py SCHEMA.json OUT: a stub of Terraform's AWS provider, with its schema but without AWS.

Serves on 127.0.0.1 until it is killed, and writes the value of TF_REATTACH_PROVIDERS, by which Terraform finds it, to OUT.
With it, `terraform init`, `validate`, `test`, `plan` and `apply` need no download and no credentials. Enumerations, lengths and
patterns are checked by the models of AWS's APIs (`limits.py`), and what Lambda does not have in the provider's region is refused
when it is planned (`regions.py`). Checks that only the real provider makes are missing: conflicting attributes, and everything
that AWS decides.
"""

import json
import os
import pathlib
import signal
import sys
import threading
from concurrent import futures

import grpc
import limits
import msgpack
import regions
from tf.gen import grpc_controller_pb2, grpc_controller_pb2_grpc
from tf.gen import tfplugin_pb2 as plugin
from tf.gen import tfplugin_pb2_grpc

# Terraform's encoding of a value that is not known before it is applied.
UNKNOWN = msgpack.ExtType(0, b"\0")
ACCOUNT = "123456789012"
NESTING = {name: getattr(plugin.Schema.NestedBlock, name.upper()) for name in ("single", "list", "set", "map")}
MAX_MESSAGE_BYTES = 256 << 20
DEFAULT_REGION = "us-east-1"
# What follows the partition in ARNs that policies name. Others get a service, a region, the account and a name.
ARNS = {
    "aws_dynamodb_table": "dynamodb:{region}:{account}:table/{name}",
    "aws_iam_role": "iam::{account}:role/{name}",
    "aws_kms_key": "kms:{region}:{account}:key/{name}",
    "aws_cloudwatch_log_group": "logs:{region}:{account}:log-group:{name}",
    "aws_lambda_function": "lambda:{region}:{account}:function:{name}",
    "aws_s3_bucket": "s3:::{name}",
    "aws_sfn_state_machine": "states:{region}:{account}:stateMachine:{name}",
}


def known(kind, region):
    """Returns the fixed answers of a data source in a region."""
    partition, domain = regions.partition_of(region)
    return {
        "aws_caller_identity": {"account_id": ACCOUNT, "arn": f"arn:{partition}:iam::{ACCOUNT}:root", "user_id": "stub"},
        "aws_partition": {"id": partition, "partition": partition, "dns_suffix": domain},
    }.get(kind, {})


def schema_message(block):
    return plugin.Schema(version=0, block=block_message(block))


def block_message(block):
    message = plugin.Schema.Block()
    for name, attribute in sorted(block["attributes"].items()):
        use = attribute["use"]
        message.attributes.add(
            name=name,
            type=json.dumps(attribute["type"]).encode(),
            required=use == "required",
            optional=use.startswith("optional"),
            computed=use in ("computed", "optional_computed"),
        )
    for name, inner in sorted(block["blocks"].items()):
        message.block_types.add(
            type_name=name,
            block=block_message(inner),
            nesting=NESTING[inner["nesting"]],
            min_items=inner["min"],
            max_items=inner["max"],
        )
    return message


def decode(value):
    """Decodes a DynamicValue."""
    if value.json and not value.msgpack:
        return json.loads(value.json)
    return msgpack.unpackb(value.msgpack, ext_hook=lambda code, data: UNKNOWN, strict_map_key=False)


def encode(value):
    return plugin.DynamicValue(msgpack=msgpack.packb(value))


def each_attribute(value, block, change):
    """Returns a block's value with every attribute replaced by `change(name, attribute, value)`, in nested blocks, too."""
    if not isinstance(value, dict):
        return value
    changed = {}
    for name, inner in value.items():
        nested = block["blocks"].get(name)
        if name in block["attributes"]:
            changed[name] = change(name, block["attributes"][name], inner)
        elif nested is None:
            changed[name] = inner
        elif isinstance(inner, list):
            changed[name] = [each_attribute(one, nested, change) for one in inner]
        elif nested["nesting"] == "map" and isinstance(inner, dict):
            changed[name] = {key: each_attribute(one, nested, change) for key, one in inner.items()}
        else:
            changed[name] = each_attribute(inner, nested, change)
    return changed


def placeholder(kind, value, region):
    """Returns a `change` function that replaces unknown attributes, which only AWS would know, by placeholders."""
    names = (value.get(key) for key in ("name", "function_name", "bucket", "id"))
    own = next((name for name in names if isinstance(name, str)), kind)
    simple = {"string": own, "number": 0, "bool": False, "dynamic": None}

    def change(name, attribute, value):
        if value != UNKNOWN:
            return value
        if name == "arn" or name.endswith("_arn"):
            rest = ARNS.get(kind, kind.split("_")[1] + ":{region}:{account}:{name}")
            return f"arn:{regions.partition_of(region)[0]}:" + rest.format(region=region, account=ACCOUNT, name=own)
        found = attribute["type"]
        return simple[found] if isinstance(found, str) else {} if found[0] == "map" else []

    return change


def policy(value):
    """Returns the policy document of an `aws_iam_policy_document`, as the real provider renders it."""
    statements = []
    for given in value.get("statement") or []:
        statement = {"Effect": given.get("effect") or "Allow"}
        if given.get("sid"):
            statement["Sid"] = given["sid"]
        for key, name in (("Action", "actions"), ("NotAction", "not_actions"), ("Resource", "resources")):
            if given.get(name):
                statement[key] = sorted(given[name])
        for principal in given.get("principals") or []:
            statement.setdefault("Principal", {})[principal["type"]] = principal["identifiers"]
        for condition in given.get("condition") or []:
            test = statement.setdefault("Condition", {}).setdefault(condition["test"], {})
            test[condition["variable"]] = condition["values"]
        statements.append(statement)
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def has_unknown(value):
    if isinstance(value, dict):
        return any(map(has_unknown, value.values()))
    if isinstance(value, list):
        return any(map(has_unknown, value))
    return value == UNKNOWN


class Provider(tfplugin_pb2_grpc.ProviderServicer):
    def __init__(self, schema):
        self.schema = schema
        self.region = DEFAULT_REGION
        self.limits = limits.Limits()
        messages = {
            kind: {name: schema_message(block) for name, block in schema[kind].items()}
            for kind in ("resources", "data_sources")
        }
        self.answer = plugin.GetProviderSchema.Response(
            provider=schema_message(schema["provider"]),
            resource_schemas=messages["resources"],
            data_source_schemas=messages["data_sources"],
            server_capabilities=plugin.ServerCapabilities(get_provider_schema_optional=True),
        )

    def GetProviderSchema(self, request, context):
        return self.answer

    def ValidateProviderConfig(self, request, context):
        return plugin.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        kind, wrong = request.type_name, []

        def look(name, attribute, value):
            if attribute["use"] == "computed" and value is not None:
                wrong.append(("Value for unconfigurable attribute", name, "it is decided by AWS"))
            return value

        value = decode(request.config)
        each_attribute(value, self.schema["resources"][kind], look)
        wrong += [("Value that AWS refuses", name, reason) for name, reason in self.limits.broken(kind, value)]
        step = plugin.AttributePath.Step
        return plugin.ValidateResourceConfig.Response(
            diagnostics=[
                plugin.Diagnostic(
                    severity=plugin.Diagnostic.ERROR,
                    summary=summary,
                    detail=f"{kind}: {name}: {reason}",
                    attribute=plugin.AttributePath(steps=[step(attribute_name=name)]),
                )
                for summary, name, reason in wrong
            ]
        )

    def ValidateDataResourceConfig(self, request, context):
        return plugin.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request, context):
        # Terraform runs one configuration after the other; one without a region uses the default.
        region = (decode(request.config) or {}).get("region")
        self.region = region if isinstance(region, str) else DEFAULT_REGION
        return plugin.ConfigureProvider.Response()

    def StopProvider(self, request, context):
        return plugin.StopProvider.Response()

    def UpgradeResourceState(self, request, context):
        state = json.loads(request.raw_state.json)
        return plugin.UpgradeResourceState.Response(upgraded_state=encode(state))

    def ReadResource(self, request, context):
        return plugin.ReadResource.Response(new_state=request.current_state, private=request.private)

    def PlanResourceChange(self, request, context):
        wanted, before = decode(request.proposed_new_state), decode(request.prior_state)
        block = self.schema["resources"][request.type_name]
        if wanted is not None and before is None:

            def later(name, attribute, value):
                is_open = value is None and attribute["use"] in ("computed", "optional_computed")
                return UNKNOWN if is_open else value

            wanted = each_attribute(wanted, block, later)
        return plugin.PlanResourceChange.Response(
            planned_state=encode(wanted),
            diagnostics=[
                plugin.Diagnostic(
                    severity=plugin.Diagnostic.ERROR,
                    summary="Not available in this region",
                    detail=f"{request.type_name}: {what} in {self.region}",
                )
                for what in regions.missing(self.region, request.type_name, wanted)
            ],
        )

    def ApplyResourceChange(self, request, context):
        planned, kind = decode(request.planned_state), request.type_name
        if planned is not None:
            planned = each_attribute(planned, self.schema["resources"][kind], placeholder(kind, planned, self.region))
        return plugin.ApplyResourceChange.Response(new_state=encode(planned))

    def ReadDataSource(self, request, context):
        kind = request.type_name
        block, value = self.schema["data_sources"][kind], decode(request.config)

        def found(name, attribute, value):
            return UNKNOWN if value is None and attribute["use"] != "optional" else value

        value = each_attribute(value, block, found) | known(kind, self.region)
        if kind == "aws_iam_policy_document":
            value["json"] = value["minified_json"] = UNKNOWN if has_unknown(value.get("statement")) else policy(value)
        return plugin.ReadDataSource.Response(state=encode(each_attribute(value, block, placeholder(kind, value, self.region))))


class Controller(grpc_controller_pb2_grpc.GRPCControllerServicer):
    def Shutdown(self, request, context):
        # Terraform sends this after each command, but the stub keeps running for the next one.
        return grpc_controller_pb2.Empty()


def main(schema, out):
    options = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    provider = Provider(json.loads(pathlib.Path(schema).read_text()))
    tfplugin_pb2_grpc.add_ProviderServicer_to_server(provider, server)
    grpc_controller_pb2_grpc.add_GRPCControllerServicer_to_server(Controller(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    at = {
        "Protocol": "grpc",
        "ProtocolVersion": 6,
        "Pid": os.getpid(),
        "Test": True,
        "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"},
    }
    beside = pathlib.Path(f"{out}.part")
    beside.write_text(json.dumps({"registry.terraform.io/hashicorp/aws": at}))
    beside.rename(out)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    server.stop(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
