"""IAM as EC2, SSM and S3 enforce it: each resource that a call touches needs a statement that allows it.

A request signed with the key of an IAM user (moto's IAM keeps users, keys and policies) is allowed what its
policies allow, resources and conditions included; any other key is the account's root, and may do all.
moto's own enforcement knows neither resources nor conditions of these services.
docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.iam.access_control import IAMUserAccessKey
from moto.iam.models import iam_backends

from sandbox.cloud.protocol import AwsError, Call

Values = Mapping[str, list[str]]
KINDS: Final = {"i": "instance", "vol": "volume", "eipalloc": "elastic-ip", "snap": "snapshot"}
DENIED: Final = {"ec2": "UnauthorizedOperation", "s3": "AccessDenied"}
ON_INSTANCES: Final = (
    *("StartInstances", "StopInstances", "RebootInstances", "TerminateInstances"),
    *("DescribeInstanceAttribute", "ModifyInstanceAttribute", "ModifyInstanceMetadataOptions"),
)


@dataclass(frozen=True, slots=True)
class Demand:
    """An action on a resource that has to be allowed, and the condition keys that hold."""

    action: str
    resource: str = "*"
    keys: Values = field(default_factory=dict)


class Access:
    """The check before each call."""

    def check(self, call: Call) -> None:
        """Raise AwsError as the service does. The tags of the user are its principal tags."""
        key = call.environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0]
        iam = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
        owner = next((u for u in iam.users.values() for k in u.access_keys if k.access_key_id == key), None)
        if owner is None:
            return
        identity = IAMUserAccessKey(DEFAULT_ACCOUNT_ID, "aws", key, {})
        policies = [json.loads(policy["policy_document"]) for policy in identity.collect_policies()]
        tags = {f"aws:PrincipalTag/{tag['Key']}": [tag["Value"]] for tag in owner.tags or []}
        for demand in demands(call):
            if not permitted(policies, demand, tags):
                code = DENIED.get(call.service, "AccessDeniedException")
                what = f"{demand.action} on resource {demand.resource}"
                raise AwsError(code, f"User {identity.arn} is not authorized to perform: {what}")


def permitted(policies: Iterable[Mapping[str, Any]], demand: Demand, principal: Values) -> bool:
    """Return whether some statement allows it, and none denies it."""
    keys = {**demand.keys, **principal}
    effects = [
        statement["Effect"]
        for policy in policies
        for statement in policy["Statement"]
        if _covers(statement, demand, keys)
    ]
    return "Allow" in effects and "Deny" not in effects


def _covers(statement: Mapping[str, Any], demand: Demand, keys: Values) -> bool:
    return (
        any(_like(pattern, demand.action) for pattern in _many(statement["Action"]))
        and any(_like(_filled(pattern, keys), demand.resource) for pattern in _many(statement["Resource"]))
        and all(
            _holds(operator, [_filled(pattern, keys) for pattern in _many(patterns)], keys.get(key))
            for operator, condition in statement.get("Condition", {}).items()
            for key, patterns in condition.items()
        )
    )


def _holds(operator: str, patterns: list[str], values: list[str] | None) -> bool:
    of_all, _, test = operator.rpartition(":")
    if of_all == "ForAllValues":
        return all(any(_like(pattern, value) for pattern in patterns) for value in values or [])
    if values is None:
        return False
    match test:
        case "StringEquals" | "Bool":
            return any(value in patterns for value in values)
        case "StringLike":
            return any(_like(pattern, value) for pattern in patterns for value in values)
    raise NotImplementedError(f"the sandbox knows no condition {operator}")


def _many(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _like(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None


def _filled(text: str, keys: Values) -> str:
    """Put policy variables in; one that has no value matches nothing."""
    return re.sub(r"\$\{([^}]+)\}", lambda variable: keys.get(variable[1], ["\0"])[0], text)


def demands(call: Call) -> Iterator[Demand]:
    """Yield everything that has to be allowed for the call."""
    action = f"{call.service}:{call.action}"
    match call.service:
        case "ec2":
            yield from _of_ec2(call, action)
        case "ssm":
            yield from _of_ssm(call, action)
        case "s3":
            yield Demand(action, f"arn:aws:s3:::{call.params['Bucket']}/{call.params['Key']}")
        case _:
            yield Demand(action)


def _of_ec2(call: Call, action: str) -> Iterator[Demand]:
    created = _request_tags(call)
    match call.action:
        case "RunInstances":
            yield from _of_a_launch(call, action, created)
        case "CreateTags":
            request_tags = _tagged(_pairs(call.params, "Tag."))
            for id_ in _listed(call.params, "ResourceId."):
                yield Demand(action, _arn(call, id_), {**_tags_of(call, id_), **request_tags})
        case "AllocateAddress":
            yield Demand(action, _arn(call, "eipalloc-*"), created.get("elastic-ip", {}))
        case "CreateSnapshot":
            volume = call.params["VolumeId"]
            yield Demand(action, _arn(call, volume), _tags_of(call, volume))
            yield Demand(action, _arn(call, "snap-*"), created.get("snapshot", {}))
        case "DeleteVolume":
            yield Demand(action, _arn(call, call.params["VolumeId"]), _tags_of(call, call.params["VolumeId"]))
        case "AssociateAddress" | "DisassociateAddress" | "ReleaseAddress":
            yield from _of_an_address(call, action)
        case name if name in ON_INSTANCES:
            for id_ in [*_listed(call.params, "InstanceId."), *_listed(call.params, "InstanceId")]:
                yield Demand(action, _arn(call, id_), _tags_of(call, id_))
            for id_ in _listed(call.params, "GroupId."):
                yield Demand(action, f"arn:aws:ec2:{call.region}:{DEFAULT_ACCOUNT_ID}:security-group/{id_}")
        case _:
            yield Demand(action)
    for kind, tags in created.items():
        arn = _arn(call, {name: letters for letters, name in KINDS.items()}[kind] + "-*")
        yield Demand("ec2:CreateTags", arn, {**tags, "ec2:CreateAction": [call.action]})


def _of_a_launch(call: Call, action: str, created: Mapping[str, Values]) -> Iterator[Demand]:
    params, mine = call.params, f"arn:aws:ec2:{call.region}:{DEFAULT_ACCOUNT_ID}:"
    tokens = {"ec2:MetadataHttpTokens": [params.get("MetadataOptions.HttpTokens", "optional")]}
    yield Demand(action, mine + "instance/*", {**created.get("instance", {}), **tokens})
    encrypted = {"ec2:Encrypted": [params.get("BlockDeviceMapping.1.Ebs.Encrypted", "false")]}
    yield Demand(action, mine + "volume/*", {**created.get("volume", {}), **encrypted})
    yield Demand(action, f"arn:aws:ec2:{call.region}::image/{params['ImageId']}")
    yield Demand(action, mine + "network-interface/*")
    yield Demand(action, f"{mine}subnet/{params.get('SubnetId', 'subnet-default')}")
    for group in _listed(params, "SecurityGroupId.") or ["sg-default"]:
        yield Demand(action, f"{mine}security-group/{group}")
    if "KeyName" in params:
        yield Demand(action, f"{mine}key-pair/{params['KeyName']}")
    if "IamInstanceProfile.Name" in params:
        role = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/{params['IamInstanceProfile.Name']}"
        yield Demand("iam:PassRole", role, {"iam:PassedToService": ["ec2.amazonaws.com"]})


def _of_an_address(call: Call, action: str) -> Iterator[Demand]:
    ids = {call.params[name] for name in ("AllocationId", "AssociationId") if name in call.params}
    for address in ec2_backends[DEFAULT_ACCOUNT_ID][call.region].addresses:
        if {address.allocation_id, address.association_id} & ids:
            id_ = str(address.allocation_id)
            yield Demand(action, _arn(call, id_), _tags_of(call, id_))
    if "InstanceId" in call.params:
        yield Demand(action, _arn(call, call.params["InstanceId"]), _tags_of(call, call.params["InstanceId"]))
    if call.action != "ReleaseAddress":
        yield Demand(action, f"arn:aws:ec2:{call.region}:{DEFAULT_ACCOUNT_ID}:network-interface/eni-1")


def _of_ssm(call: Call, action: str) -> Iterator[Demand]:
    mine = f"arn:aws:ssm:{call.region}:{DEFAULT_ACCOUNT_ID}:"
    name = str(call.params.get("Name") or call.params.get("DocumentName") or "")
    if call.action.endswith("Parameter"):
        public = name.startswith("/aws/")
        yield Demand(
            action, f"arn:aws:ssm:{call.region}::parameter{name}" if public else f"{mine}parameter{name}"
        )
    elif "Document" in call.action or call.action == "SendCommand":
        yield Demand(action, f"{mine}document/{name}")
    else:
        yield Demand(action)
    for id_ in call.params.get("InstanceIds", []) if call.action == "SendCommand" else []:
        tags = {
            key.replace("aws:Resource", "ssm:resource"): value for key, value in _tags_of(call, id_).items()
        }
        yield Demand(action, _arn(call, id_), tags)


def _arn(call: Call, id_: str) -> str:
    kind = KINDS.get(id_.partition("-")[0], "unknown")
    account = "" if kind == "snapshot" else DEFAULT_ACCOUNT_ID
    return f"arn:aws:ec2:{call.region}:{account}:{kind}/{'*' if id_.endswith('*') else id_}"


def _tags_of(call: Call, id_: str) -> Values:
    tags = ec2_backends[DEFAULT_ACCOUNT_ID][call.region].describe_tags(filters={"resource-id": [id_]})
    return {f"aws:ResourceTag/{tag['key']}": [tag["value"]] for tag in tags}


def _request_tags(call: Call) -> dict[str, Values]:
    """Return the tags of the resources to be created, by their kind."""
    tags: dict[str, Values] = {}
    for number in range(1, 10):
        kind = call.params.get(f"TagSpecification.{number}.ResourceType")
        if kind is None:
            break
        tags[kind] = _tagged(_pairs(call.params, f"TagSpecification.{number}.Tag."))
    return tags


def _tagged(pairs: Mapping[str, str]) -> Values:
    keys: dict[str, list[str]] = {f"aws:RequestTag/{key}": [value] for key, value in pairs.items()}
    return {**keys, "aws:TagKeys": list(pairs)}


def _pairs(params: Mapping[str, Any], prefix: str) -> dict[str, str]:
    keys = {
        name: value for name, value in params.items() if name.startswith(prefix) and name.endswith(".Key")
    }
    return {key: params.get(name.removesuffix(".Key") + ".Value", "") for name, key in keys.items()}


def _listed(params: Mapping[str, Any], prefix: str) -> list[str]:
    if not prefix.endswith("."):
        return [params[prefix]] if prefix in params else []
    return [value for name, value in params.items() if re.fullmatch(re.escape(prefix) + r"\d+", name)]
