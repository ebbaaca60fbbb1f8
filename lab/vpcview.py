"""What the simulated EC2 holds, as values: all that a router needs to know of one VPC at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cni_floatip.model.values import Address, Network, RouteTarget
from lab.ec2 import SimulatedEC2
from lab.ec2.transit import longest_match, parse_address, parse_network, vpc_networks


@dataclass(frozen=True, slots=True)
class EniView:
    """An ENI as the router sees it. ``checked``: it may only send and receive as one of its own addresses."""

    id: str
    subnet: str
    addresses: tuple[Address, ...]
    checked: bool


@dataclass(frozen=True, slots=True)
class VpcView:
    """One VPC at one moment. ``transit``: destination -> the subnet that a transit gateway enters through."""

    tables: Mapping[str, Mapping[Network, RouteTarget]]
    subnets: Mapping[str, str]
    main: str
    enis: Mapping[str, EniView]
    transit: Mapping[Network, str | None]

    def without_routes(self) -> tuple[object, ...]:
        """Return all that is not a VPC route."""
        return self.enis, self.subnets, self.main, self.transit

    def table_of(self, subnet: str) -> str:
        """Return the table that serves the subnet: its own, or else the VPC's main one."""
        return self.subnets.get(subnet, self.main)

    def is_local(self, table: str, address: Address) -> bool:
        """Say whether ``table`` has nothing more specific for ``address`` than its ``local`` route."""
        held = self.tables[table]
        covering = [net for net in held if net.version == address.version and address in net]
        return bool(covering) and held[max(covering, key=lambda net: net.prefixlen)].id == "local"


def look(ec2: SimulatedEC2, vpc: str, transit_table: str) -> VpcView:
    """Read a VPC of the simulated EC2 as it is now, past all faults."""
    view = ec2._look(0.0)
    documents = [d for _, d in view.route_tables if d["VpcId"] == vpc]
    associations = [a for d in documents for a in d["Associations"]]
    return VpcView(
        tables={d["RouteTableId"]: _routes(d) for d in documents},
        subnets={a["SubnetId"]: a["RouteTableId"] for a in associations if "SubnetId" in a},
        main=next((str(a["RouteTableId"]) for a in associations if a["Main"]), ""),
        enis={d["NetworkInterfaceId"]: _eni(d) for _, d in view.interfaces if d["VpcId"] == vpc},
        transit=_transit(ec2, vpc, transit_table),
    )


def _routes(document: Mapping[str, Any]) -> dict[Network, RouteTarget]:
    targets = {}
    for route in document["Routes"]:
        cidr = route["DestinationCidrBlock"] or route["DestinationIpv6CidrBlock"]
        if cidr:
            eni = route["NetworkInterfaceId"]
            target = eni or route["GatewayId"] or route["TransitGatewayId"] or "another"
            targets[parse_network(cidr)] = RouteTarget(target, bool(eni), route["State"] == "active")
    return targets


def _eni(document: Mapping[str, Any]) -> EniView:
    v4 = [a["PrivateIpAddress"] for a in document["PrivateIpAddresses"]]
    v6 = [a["Ipv6Address"] for a in document["Ipv6Addresses"]]
    return EniView(
        document["NetworkInterfaceId"],
        document["SubnetId"],
        tuple(parse_address(a) for a in (*v4, *v6)),
        bool(document["SourceDestCheck"]),
    )


def _transit(ec2: SimulatedEC2, vpc: str, table: str) -> dict[Network, str | None]:
    """Return where the transit gateway enters the VPC, for every prefix that it knows."""
    with ec2._lock:  # another caller may be changing these routes
        backend = ec2._cloud.backend(ec2.account)
        static = [parse_network(cidr) for cidr in backend.transit_gateways_route_tables[table].routes]
        known = ec2.transit_routes(table)
        hops = {net: longest_match(known, str(net[0])) for net in (*static, *vpc_networks(backend, vpc))}
    return {
        net: hop.subnets[0] if hop else None for net, hop in hops.items() if hop is None or hop.vpc == vpc
    }
