"""EC2's answers as our nouns: route tables and subnets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_network
from typing import Any

from ...model.values import Network, RouteTable, Subnet, Target

PROPAGATED = frozenset({"EnableVgwRoutePropagation", "Advertisement"})
"""Origins (EC2 API reference, Route) that mean propagated: by a gateway; by a VPC Route Server, to an ENI."""
NO_TARGET = frozenset(
    {"DestinationCidrBlock", "DestinationIpv6CidrBlock", "InstanceOwnerId", "Origin", "State"}
)
"""What EC2 says of a route beside its target (EC2 API reference, Route)."""


def table_of(found: Mapping[str, Any]) -> RouteTable:
    associations = found.get("Associations", [])
    return RouteTable(
        id=found["RouteTableId"],
        vpc=found["VpcId"],
        account=found.get("OwnerId", ""),
        routes=dict(routes_of(found.get("Routes", []))),
        tags={tag["Key"]: tag["Value"] for tag in found.get("Tags", [])},
        subnets=frozenset(a["SubnetId"] for a in associations if "SubnetId" in a),
        main=any(a.get("Main") for a in associations),
        is_gateway_table=any("GatewayId" in a for a in associations),
    )


def routes_of(found: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Network, Target]]:
    for route in found:
        cidr = route.get("DestinationCidrBlock") or route.get("DestinationIpv6CidrBlock")
        if not cidr:
            continue  # a prefix list
        eni = route.get("NetworkInterfaceId")
        yield (
            _network(cidr),
            Target(
                id=eni or _target(route),
                is_eni=eni is not None,
                active=route.get("State") != "blackhole",
                propagated=route.get("Origin") in PROPAGATED,
            ),
        )


def _target(route: Mapping[str, Any]) -> str:
    """Return the id of what a route leads to that is no network interface; of a new kind with its key."""
    targets = {key: str(value) for key, value in route.items() if key not in NO_TARGET}
    known = (value for key, value in targets.items() if key.endswith("Id") or key == "CoreNetworkArn")
    others = (f"{key} {value}" for key, value in targets.items())
    return next(known, next(others, "an unknown target"))


@lru_cache(maxsize=8192)
def _network(text: str) -> Network:
    """Read a route's destination: a look of the node agent reads the same thousands each time."""
    return ip_network(text)


def subnet_of(found: Mapping[str, Any]) -> Subnet:
    v6 = [
        association["Ipv6CidrBlock"]
        for association in found.get("Ipv6CidrBlockAssociationSet", [])
        if association.get("Ipv6CidrBlockState", {}).get("State") == "associated"
    ]
    v4 = [found["CidrBlock"]] if found.get("CidrBlock") else []
    return Subnet(
        found["SubnetId"],
        found["VpcId"],
        found.get("OwnerId", ""),
        tuple(map(ip_network, [*v4, *v6])),
        found.get("AvailabilityZoneId", ""),
    )
