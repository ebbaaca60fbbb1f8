"""The doctor's requests to EC2 and STS: reads, and dry runs of the agent's writes. Changes nothing.

The requests go through ``edges.ec2``, with service descriptions of the doctor's own
(``service_model/doctor``): the agent's do not grow by them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from ..edges.ec2 import service_model
from ..edges.ec2.client import Vpc
from ..edges.ec2.proxies import proxy_of, without_password
from ..edges.ec2.sessions import Sdk
from ..model.errors import Ec2Error
from ..model.values import Network
from .facts import (
    AclEntry,
    DryRun,
    Ec2Interface,
    EndpointAnswer,
    Identity,
    NetworkAcl,
    Rules,
    SecurityGroup,
    TgwAttachment,
)

MODELS = Path(service_model.__file__).parent / "doctor"
NOWHERE = "192.0.2.1/32"
"""The destination of a dry run: a documentation address (RFC 5737), harmless even if the write ran."""

ROUTE_ACTIONS = ("create_route", "replace_route", "delete_route")


class Ec2Reads:
    """EC2 in one region. The dry runs and ``endpoint`` raise nothing, the other methods Ec2Error."""

    def __init__(self, region: str, roles: Mapping[str, str]) -> None:
        self._region = region
        self.vpc = Vpc(region, roles, sdk=Sdk(roles, connections=8, models=[MODELS]))

    def identity(self) -> Identity:
        """Return who we are (GetCallerIdentity)."""
        answer = self.vpc.call("get_caller_identity", {}, service="sts")
        return Identity(answer["Arn"], answer["Account"], self.vpc.identity())

    def time_answer(self) -> EndpointAnswer:
        """Return how quickly EC2 answers a warm connection, and its clock; a refusal answers too."""
        times: list[tuple[float, float | None]] = []
        for _ in range(3):  # the first finds credentials and connects
            began, request = time.monotonic(), datetime.now(UTC)
            date = self._date_of_an_answer()
            took = time.monotonic() - began
            ahead = (date - request).total_seconds() if date else None
            times.append((took, ahead))
        took, ahead = min(times[1:], key=lambda item: item[0])
        return EndpointAnswer(self.endpoint(), took, ahead)

    def endpoint(self) -> str:
        """Return EC2's URL as the SDK resolves it; where it cannot, the name that it has as a rule."""
        with contextlib.suppress(Ec2Error):
            return self.vpc.endpoint()
        return f"https://ec2.{self._region}.amazonaws.com"

    def _date_of_an_answer(self) -> datetime | None:
        try:
            answer = self.vpc.call("describe_route_tables", {"MaxResults": 5})
        except Ec2Error as e:
            # The refusal of a signature that is too old comes with the date that would have been right.
            answer = getattr(e.__cause__, "response", {})
            if not answer:
                raise
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        try:
            return parsedate_to_datetime(headers["date"])
        except (KeyError, ValueError):
            return None

    # -- dry runs -----------------------------------------------------------------------------------------

    def reads(self, account: str = "") -> Iterator[DryRun]:
        """Ask whether the agent may read what it reads."""
        for operation in ("describe_route_tables", "describe_subnets", "describe_network_interfaces"):
            yield self.dry_run(operation, {}, "*", account)

    def routes(self, table: str, arn: str, eni: str, account: str = "") -> Iterator[DryRun]:
        """Ask whether the agent may write routes of this table."""
        for operation in ROUTE_ACTIONS:
            target = {} if operation == "delete_route" else {"NetworkInterfaceId": eni}
            cell = {"RouteTableId": table, "DestinationCidrBlock": NOWHERE}
            yield self.dry_run(operation, cell | target, arn, account)

    def check_off(self, eni: str, arn: str) -> DryRun:
        """Ask whether the agent may turn the source/dest check of this ENI off."""
        wanted = {"NetworkInterfaceId": eni, "SourceDestCheck": {"Value": False}}
        return self.dry_run("modify_network_interface_attribute", wanted, arn)

    def dry_run(
        self, operation: str, parameters: Mapping[str, Any], resource: str, account: str = ""
    ) -> DryRun:
        """Return what comes of one dry run. Raises nothing."""
        action = "".join(word.capitalize() for word in operation.split("_"))
        try:
            self.vpc.call(operation, {**parameters, "DryRun": True}, account)
        except Ec2Error as e:
            if e.code == "DryRunOperation":
                return DryRun(action, resource, allowed=True)
            denied = e.code in ("UnauthorizedOperation", "AccessDenied")
            return DryRun(action, resource, False if denied else None, str(e))
        return DryRun(action, resource, None, "a dry run was answered as if it had been carried out")

    # -- reads ----------------------------------------------------------------------------------------------

    def interfaces(self, instance: str) -> tuple[Ec2Interface, ...]:
        """Return the instance's ENIs by card and device index (DescribeNetworkInterfaces)."""
        filters = {"attachment.instance-id": [instance]}
        results = self.vpc.pages("describe_network_interfaces", "NetworkInterfaces", filters)
        return tuple(sorted(map(_interface, results), key=lambda eni: (eni.card, eni.device)))

    def security_groups(self, ids: Sequence[str]) -> tuple[SecurityGroup, ...]:
        """Return these groups (DescribeSecurityGroups)."""
        results = self.vpc.pages("describe_security_groups", "SecurityGroups", {"group-id": ids})
        return tuple(map(_group, results))

    def referring(self, ids: Sequence[str]) -> tuple[SecurityGroup, ...]:
        """Return the other groups whose inbound rules name one of these (DescribeSecurityGroups)."""
        results = self.vpc.pages(
            "describe_security_groups", "SecurityGroups", {"ip-permission.group-id": ids}
        )
        return tuple(map(_group, (item for item in results if item["GroupId"] not in ids)))

    def network_acls(self, subnets: Sequence[str]) -> tuple[NetworkAcl, ...]:
        """Return the network ACLs of these subnets (DescribeNetworkAcls)."""
        results = self.vpc.pages("describe_network_acls", "NetworkAcls", {"association.subnet-id": subnets})
        return tuple(map(_acl, results))

    def attachments(self, vpc: str, account: str = "") -> tuple[TgwAttachment, ...]:
        """Return where transit gateways are attached to a VPC (DescribeTransitGatewayVpcAttachments)."""
        operation, key = "describe_transit_gateway_vpc_attachments", "TransitGatewayVpcAttachments"
        results = self.vpc.pages(operation, key, {"vpc-id": [vpc]}, account)
        return tuple(
            TgwAttachment(
                item["TransitGatewayAttachmentId"],
                item.get("TransitGatewayId", ""),
                tuple(item.get("SubnetIds", ())),
            )
            for item in results
            if item.get("State", "available") not in ("deleting", "deleted", "failed", "rejected")
        )


def proxy_between(error: Ec2Error, url: str) -> str | None:
    """Return the proxy that a request which got no answer went through, None for none."""
    named = getattr(error.__cause__, "kwargs", {}).get("proxy_url")
    return without_password(str(named)) if named else proxy_of(url)


def _interface(raw: Mapping[str, Any]) -> Ec2Interface:
    attached = raw.get("Attachment") or {}
    return Ec2Interface(
        id=raw["NetworkInterfaceId"],
        device=attached.get("DeviceIndex", -1),
        card=attached.get("NetworkCardIndex", 0),
        subnet=raw["SubnetId"],
        groups=tuple(group["GroupId"] for group in raw.get("Groups", ())),
        checked=bool(raw.get("SourceDestCheck")),
        description=raw.get("Description") or "",
        tags={tag["Key"]: tag["Value"] for tag in raw.get("TagSet", ())},
        type=raw.get("InterfaceType") or "interface",
    )


def _group(raw: Mapping[str, Any]) -> SecurityGroup:
    inbound, outbound = _rules(raw.get("IpPermissions", ())), _rules(raw.get("IpPermissionsEgress", ()))
    return SecurityGroup(raw["GroupId"], inbound, outbound)


def _rules(permissions: Iterable[Mapping[str, Any]]) -> Rules:
    networks: set[Network] = set()
    lists: set[str] = set()
    for permission in permissions:
        networks |= {ip_network(item["CidrIp"]) for item in permission.get("IpRanges", ())}
        networks |= {ip_network(item["CidrIpv6"]) for item in permission.get("Ipv6Ranges", ())}
        lists |= {item["PrefixListId"] for item in permission.get("PrefixListIds", ())}
    return Rules(frozenset(networks), frozenset(lists))


def _acl(raw: Mapping[str, Any]) -> NetworkAcl:
    entries = (
        AclEntry(
            number=entry["RuleNumber"],
            outbound=bool(entry["Egress"]),
            allow=entry["RuleAction"] == "allow",
            network=ip_network(entry.get("CidrBlock") or entry["Ipv6CidrBlock"]),
            all_protocols=str(entry.get("Protocol", "-1")) == "-1",
        )
        for entry in raw.get("Entries", ())
        if entry.get("CidrBlock") or entry.get("Ipv6CidrBlock")
    )
    return NetworkAcl(
        raw["NetworkAclId"],
        frozenset(item["SubnetId"] for item in raw.get("Associations", ()) if "SubnetId" in item),
        tuple(sorted(entries, key=lambda entry: entry.number)),
    )
