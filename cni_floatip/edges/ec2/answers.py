"""Parses EC2's answers into route tables and subnets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_network
from typing import Any

from ...model.values import Network, RouteTable, RouteTarget, Subnet

PROPAGATED = frozenset({"EnableVgwRoutePropagation", "Advertisement"})
"""Origins (EC2 API reference, Route) that mean propagated: by a gateway; by a VPC Route Server, to an ENI."""
NO_TARGET = frozenset(
    {"DestinationCidrBlock", "DestinationIpv6CidrBlock", "InstanceOwnerId", "Origin", "State"}
)
"""Keys of a route other than its target (EC2 API reference, Route)."""


def table_of(raw: Mapping[str, Any], sets: Mapping[str, Mapping[Network, RouteTarget]]) -> RouteTable:
    """Return a route table. ``sets``: the routes that ``route_sets`` cut out of the answer, by mark."""
    associations = raw.get("Associations", [])
    return RouteTable(
        id=raw["RouteTableId"],
        vpc=raw["VpcId"],
        account=raw.get("OwnerId", ""),
        routes=_routes(raw.get("Routes", []), sets),
        tags={tag["Key"]: tag["Value"] for tag in raw.get("Tags", [])},
        subnets=frozenset(a["SubnetId"] for a in associations if "SubnetId" in a),
        main=any(a.get("Main") for a in associations),
        is_gateway_table=any("GatewayId" in a for a in associations),
    )


def _routes(
    raw: Sequence[Mapping[str, Any]], sets: Mapping[str, Mapping[Network, RouteTarget]]
) -> Mapping[Network, RouteTarget]:
    if len(raw) == 1 and (cut := sets.get(raw[0].get("DestinationCidrBlock", ""))) is not None:
        return cut
    return dict(routes_of(raw))


def routes_of(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Network, RouteTarget]]:
    for route in results:
        cidr = route.get("DestinationCidrBlock") or route.get("DestinationIpv6CidrBlock")
        if cidr:  # else a prefix list
            yield network_of(cidr), target_of(route)


def target_of(route: Mapping[str, Any]) -> RouteTarget:
    """Return where a route leads."""
    eni = route.get("NetworkInterfaceId")
    return RouteTarget(
        id=eni or _target(route),
        is_eni=eni is not None,
        active=route.get("State") != "blackhole",
        propagated=route.get("Origin") in PROPAGATED,
    )


def _target(route: Mapping[str, Any]) -> str:
    """Return the id of a route target other than a network interface; of an unknown kind with its key."""
    targets = {key: str(value) for key, value in route.items() if key not in NO_TARGET}
    known = (value for key, value in targets.items() if key.endswith("Id") or key == "CoreNetworkArn")
    others = (f"{key} {value}" for key, value in targets.items())
    return next(known, next(others, "an unknown target"))


@lru_cache(maxsize=8192)
def network_of(text: str) -> Network:
    """Read a route's destination; cached, because each look of the node agent reads the same thousands."""
    return ip_network(text)


def subnet_of(raw: Mapping[str, Any]) -> Subnet:
    v6 = [
        association["Ipv6CidrBlock"]
        for association in raw.get("Ipv6CidrBlockAssociationSet", [])
        if association.get("Ipv6CidrBlockState", {}).get("State") == "associated"
    ]
    v4 = [raw["CidrBlock"]] if raw.get("CidrBlock") else []
    return Subnet(
        raw["SubnetId"],
        raw["VpcId"],
        raw.get("OwnerId", ""),
        tuple(map(ip_network, [*v4, *v6])),
        raw.get("AvailabilityZoneId", ""),
    )
