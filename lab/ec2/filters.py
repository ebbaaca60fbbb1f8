r"""EC2's filters and pages over documents in the API's own shape.

Values of one filter are alternatives, filters are all required, names and values are case-sensitive; ``*``
is any text, ``?`` one character, ``\`` takes the next character literally ("List and filter using the CLI
and API", Amazon EC2 User Guide). The filters of each action are those its API reference lists.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from lab.ec2.refusal import Refusal, invalid_value

Document = Mapping[str, Any]

MAX_VALUES = 200
UNPAGED = 1000  # what a call without MaxResults gets at most

ROUTE_TABLES = {
    "association.gateway-id": "Associations.GatewayId",
    "association.main": "Associations.Main",
    "association.route-table-association-id": "Associations.RouteTableAssociationId",
    "association.route-table-id": "Associations.RouteTableId",
    "association.subnet-id": "Associations.SubnetId",
    "owner-id": "OwnerId",
    "route-table-id": "RouteTableId",
    "route.destination-cidr-block": "Routes.DestinationCidrBlock",
    "route.destination-ipv6-cidr-block": "Routes.DestinationIpv6CidrBlock",
    "route.destination-prefix-list-id": "Routes.DestinationPrefixListId",
    "route.egress-only-internet-gateway-id": "Routes.EgressOnlyInternetGatewayId",
    "route.gateway-id": "Routes.GatewayId",
    "route.instance-id": "Routes.InstanceId",
    "route.nat-gateway-id": "Routes.NatGatewayId",
    "route.origin": "Routes.Origin",
    "route.state": "Routes.State",
    "route.transit-gateway-id": "Routes.TransitGatewayId",
    "route.vpc-peering-connection-id": "Routes.VpcPeeringConnectionId",
    "vpc-id": "VpcId",
}
SUBNETS = {
    "availability-zone": "AvailabilityZone",
    "availabilityZone": "AvailabilityZone",
    "availability-zone-id": "AvailabilityZoneId",
    "cidr": "CidrBlock",
    "cidr-block": "CidrBlock",
    "cidrBlock": "CidrBlock",
    "default-for-az": "DefaultForAz",
    "ipv6-cidr-block-association.ipv6-cidr-block": "Ipv6CidrBlockAssociationSet.Ipv6CidrBlock",
    "ipv6-cidr-block-association.association-id": "Ipv6CidrBlockAssociationSet.AssociationId",
    "ipv6-cidr-block-association.state": "Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State",
    "ipv6-native": "Ipv6Native",
    "map-public-ip-on-launch": "MapPublicIpOnLaunch",
    "owner-id": "OwnerId",
    "state": "State",
    "subnet-arn": "SubnetArn",
    "subnet-id": "SubnetId",
    "vpc-id": "VpcId",
}
NETWORK_INTERFACES = {
    "addresses.primary": "PrivateIpAddresses.Primary",
    "addresses.private-ip-address": "PrivateIpAddresses.PrivateIpAddress",
    "attachment.attachment-id": "Attachment.AttachmentId",
    "attachment.delete-on-termination": "Attachment.DeleteOnTermination",
    "attachment.device-index": "Attachment.DeviceIndex",
    "attachment.instance-id": "Attachment.InstanceId",
    "attachment.instance-owner-id": "Attachment.InstanceOwnerId",
    "attachment.status": "Attachment.Status",
    "availability-zone": "AvailabilityZone",
    "description": "Description",
    "group-id": "Groups.GroupId",
    "interface-type": "InterfaceType",
    "ipv6-addresses.ipv6-address": "Ipv6Addresses.Ipv6Address",
    "mac-address": "MacAddress",
    "network-interface-id": "NetworkInterfaceId",
    "owner-id": "OwnerId",
    "private-ip-address": "PrivateIpAddress",
    "source-dest-check": "SourceDestCheck",
    "status": "Status",
    "subnet-id": "SubnetId",
    "vpc-id": "VpcId",
}


@lru_cache(maxsize=4096)
def pattern(value: str) -> re.Pattern[str]:
    """Return the regular expression that a filter value means."""
    parts = []
    characters = iter(value)
    for c in characters:
        if c == "\\":
            parts.append(re.escape(next(characters, "\\")))
        else:
            parts.append({"*": ".*", "?": "."}.get(c) or re.escape(c))
    return re.compile("".join(parts), re.DOTALL)


def select(
    documents: Sequence[Document], filters: Sequence[Mapping[str, Any]], names: Mapping[str, str], tags: str
) -> list[Document]:
    """Return what passes every filter. ``names``: where each filter looks, ``tags``: where the tags are."""
    if sum(len(item.get("Values", ())) for item in filters) > MAX_VALUES:
        raise Refusal("FilterLimitExceeded", f"The maximum number of filter values is {MAX_VALUES}.")
    tests = [_test(str(item.get("Name")), item.get("Values", ()), names, tags) for item in filters]
    return [document for document in documents if all(test(document) for test in tests)]


def page(
    documents: Sequence[Document], key: str, size: int | None, token: str | None, largest: int
) -> tuple[list[Document], str | None]:
    """Return one page in the order of ``key``, and the token of the next: the last key shown."""
    if size is not None and not 5 <= size <= largest:
        bound = "greater than 5" if size < 5 else f"less than {largest}"
        raise invalid_value(
            f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value {bound}."
        )
    rest = sorted(documents, key=lambda item: str(item[key]))
    if token:
        shown = _unpack(token)
        rest = [item for item in rest if str(item[key]) > shown]
    size = size or UNPAGED
    following = (
        base64.urlsafe_b64encode(str(rest[size - 1][key]).encode()).decode() if len(rest) > size else None
    )
    return rest[:size], following


def _unpack(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError):
        raise Refusal("InvalidPaginationToken", f"The token '{token}' is invalid.") from None


def _test(
    name: str, values: Sequence[str], names: Mapping[str, str], tags: str
) -> Callable[[Document], bool]:
    patterns = [pattern(value) for value in values]

    def any_of(results: Iterator[str]) -> bool:
        return any(item.fullmatch(text) for text in results for item in patterns)

    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return lambda document: any_of(t["Value"] for t in document[tags] if t["Key"] == key)
    if name in ("tag-key", "tag-value"):
        part = "Key" if name == "tag-key" else "Value"
        return lambda document: any_of(t[part] for t in document[tags])
    if name not in names:
        raise invalid_value(f"The filter '{name}' is invalid")
    path = names[name].split(".")
    return lambda document: any_of(_texts(document, path))


def _texts(value: Any, path: Sequence[str]) -> Iterator[str]:
    """Yield what is found at ``path``, through every list on the way, as the text EC2 compares."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item, path)
    elif path:
        if isinstance(value, Mapping) and value.get(path[0]) is not None:
            yield from _texts(value[path[0]], path[1:])
    else:
        yield str(value).lower() if isinstance(value, bool) else str(value)
