"""What a recorded API call needs of IAM: action, ARN of what it acts on, and what the request carries.

From "Actions, resources, and condition keys for Amazon EC2" (and STS), Service Authorization Reference: the
route calls act on the route table alone, ModifyNetworkInterfaceAttribute on the network interface, with the
attribute as ``ec2:Attribute/NAME``; Describe calls have no resource.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.ec2.journal import Call
from lab.ec2.views import View
from tests.aws.policies import Request

ROUTES = ("CreateRoute", "ReplaceRoute", "DeleteRoute")
SINGLE_VALUES = ("SourceDestCheck", "Description")
"""Attributes that the condition key can see: those that are one value (EC2 User Guide, ec2:Attribute)."""
NOT_ATTRIBUTES = ("NetworkInterfaceId", "DryRun")


@dataclass(frozen=True)
class Cloud:
    """What there is, with owners and tags, by id."""

    region: str
    tables: Mapping[str, Mapping[str, Any]]
    enis: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, region: str, view: View) -> Cloud:
        tables = {table["RouteTableId"]: table for _, table in view.route_tables}
        return cls(region, tables, {eni["NetworkInterfaceId"]: eni for _, eni in view.interfaces})

    def needs(self, call: Call, *, pod_identity: bool = True) -> Iterator[Request]:
        """Yield every permission that the call needs."""
        text = str(call)
        if call.action in ROUTES:
            table = self.tables[call.params["RouteTableId"]]
            arn = self._arn(table["OwnerId"], "route-table", table["RouteTableId"])
            yield Request(f"ec2:{call.action}", arn, _tags(table["Tags"]), said=text)
        elif call.action == "ModifyNetworkInterfaceAttribute":
            eni = self.enis[call.params["NetworkInterfaceId"]]
            arn = self._arn(eni["OwnerId"], "network-interface", eni["NetworkInterfaceId"])
            context = _tags(eni["TagSet"]) | _attribute(call.params)
            yield Request(f"ec2:{call.action}", arn, context, said=text)
        elif call.action == "AssumeRole":
            role, context = call.params["RoleArn"], {"sts:RoleSessionName": call.params["RoleSessionName"]}
            yield Request("sts:AssumeRole", role, context, said=text)
            if pod_identity:  # its session tags are transitive: carrying them on is a permission of its own
                yield Request("sts:TagSession", role, context, said=text)
        elif call.action.startswith("Describe"):
            yield Request(f"ec2:{call.action}", "*", said=text)
        elif call.action != "GetCallerIdentity":  # which needs no permission
            raise AssertionError(f"what does {text} need?")

    def _arn(self, account: str, kind: str, name: str) -> str:
        return f"arn:aws:ec2:{self.region}:{account}:{kind}/{name}"


def _tags(tags: list[Mapping[str, str]]) -> dict[str, str]:
    return {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags}


def _attribute(params: Mapping[str, Any]) -> dict[str, str]:
    (name,) = set(params) - set(NOT_ATTRIBUTES)
    if name not in SINGLE_VALUES:
        return {}
    value = params[name]["Value"]
    return {f"ec2:Attribute/{name}": str(value).lower() if isinstance(value, bool) else str(value)}
