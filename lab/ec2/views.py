"""What EC2 holds, as documents in the API's own shape, each with the accounts that may see it.

A view is taken whole and never changed: reads need no lock, and a stale read is an older view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.ec2.cloud import Cloud, card_and_device

Document = Mapping[str, Any]
Seen = tuple[frozenset[str], Document]


@dataclass(frozen=True, slots=True)
class RouteView:
    """One route: where it points, whether that is alive, how it came about."""

    target: str
    state: str
    origin: str

    def __str__(self) -> str:
        return self.target if self.state == "active" else f"{self.target} ({self.state})"


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the Describe calls of the plugin can show, at one moment."""

    route_tables: tuple[Seen, ...]
    subnets: tuple[Seen, ...]
    interfaces: tuple[Seen, ...]


def take(cloud: Cloud) -> View:
    """Write down what the cloud holds now."""
    backends = list(cloud.backends())
    return View(
        tuple(item for b in backends for item in _route_tables(cloud, b)),
        tuple(item for b in backends for item in _subnets(cloud, b)),
        tuple(item for b in backends for item in _interfaces(b)),
    )


def visible(observed: tuple[Seen, ...], account: str) -> list[Document]:
    """Return the documents that one account may see."""
    return [document for viewers, document in observed if account in viewers]


def routes(table: Any) -> dict[str, Any]:
    """Return a table's routes by destination; a static route hides a propagated one."""
    static = {destination(route): route for route in table.routes}
    return {**getattr(table, "propagated", {}), **static}


def destination(route: Any) -> str:
    """Return a route's destination as text."""
    return str(
        route.destination_cidr_block or route.destination_ipv6_cidr_block or route.destination_prefix_list_id
    )


def target(route: Any) -> str:
    """Return the id of what a route points at."""
    return str(
        route.network_interface_id
        or route.gateway_id
        or route.nat_gateway_id
        or route.transit_gateway_id
        or route.egress_only_internet_gateway_id
        or route.vpc_peering_connection_id
        or route.carrier_gateway_id
        or route.instance_id
    )


def route_view(route: Any) -> RouteView:
    """Return a route as the lab's own code looks at it."""
    return RouteView(target(route), route.state, route.origin)


def _tags(resource: Any) -> list[Document]:
    """Return a resource's tags. moto's ``get_tags`` compiles a pattern and tries it on every tag there is."""
    tags = resource.ec2_backend.tags.get(resource.id, {})
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _route(route: Any) -> Document:
    instance = route.target_instance
    return {
        "DestinationCidrBlock": route.destination_cidr_block,
        "DestinationIpv6CidrBlock": route.destination_ipv6_cidr_block,
        "DestinationPrefixListId": route.destination_prefix_list_id,
        "EgressOnlyInternetGatewayId": route.egress_only_internet_gateway_id,
        "GatewayId": route.gateway_id,
        "InstanceId": instance.id if instance else None,
        "InstanceOwnerId": instance.owner_id if instance else None,
        "NatGatewayId": route.nat_gateway_id,
        "TransitGatewayId": route.transit_gateway_id,
        "CarrierGatewayId": route.carrier_gateway_id,
        "NetworkInterfaceId": route.network_interface_id,
        "Origin": route.origin,
        "State": route.state,
        "VpcPeeringConnectionId": route.vpc_peering_connection_id,
    }


def _associations(table: Any) -> list[Document]:
    state = {"State": "associated"}
    results: list[Document] = []
    if table.main_association_id:
        main = {"Main": True, "RouteTableAssociationId": table.main_association_id}
        results.append({**main, "RouteTableId": table.id, "AssociationState": state})
    for association, what in table._associations.items():
        where = {"SubnetId" if what.startswith("subnet-") else "GatewayId": what}
        common = {"Main": False, "RouteTableAssociationId": association, "RouteTableId": table.id}
        results.append({**common, **where, "AssociationState": state})
    return results


def _route_tables(cloud: Cloud, backend: Any) -> Iterator[Seen]:
    for table in backend.route_tables.values():
        associations = _associations(table)
        document = {
            "Associations": associations,
            "PropagatingVgws": [{"GatewayId": g} for g in sorted(getattr(table, "gateways", ()))],
            "RouteTableId": table.id,
            "Routes": [_route(route) for route in routes(table).values()],
            "Tags": _tags(table),
            "VpcId": table.vpc_id,
            "OwnerId": backend.account_id,
        }
        # A participant sees the tables of the subnets that are shared with it, so no edge tables ("Share your
        # VPC subnets with other accounts", Amazon VPC User Guide).
        subnet_table = any(association["Main"] or "SubnetId" in association for association in associations)
        viewers = cloud.viewers(table.vpc_id, backend.account_id)
        yield viewers if subnet_table else frozenset({backend.account_id}), document


def _subnets(cloud: Cloud, backend: Any) -> Iterator[Seen]:
    for zone in backend.subnets.values():
        for subnet in zone.values():
            v6 = [
                {
                    "AssociationId": item["associationId"],
                    "Ipv6CidrBlock": item["ipv6CidrBlock"],
                    "Ipv6CidrBlockState": {"State": "associated"},
                }
                for item in subnet.ipv6_cidr_block_association_set
            ]
            document = {
                "AssignIpv6AddressOnCreation": bool(subnet.assign_ipv6_address_on_creation),
                "AvailabilityZone": subnet.availability_zone,
                "AvailabilityZoneId": subnet.availability_zone_id,
                "AvailableIpAddressCount": subnet.available_ip_address_count,
                "CidrBlock": subnet.cidr_block,
                "DefaultForAz": bool(subnet.default_for_az),
                "Ipv6CidrBlockAssociationSet": v6,
                "Ipv6Native": bool(subnet.ipv6_native),
                "MapPublicIpOnLaunch": bool(subnet.map_public_ip_on_launch),
                "OwnerId": backend.account_id,
                "State": subnet.state,
                "SubnetArn": subnet.arn,
                "SubnetId": subnet.id,
                "Tags": _tags(subnet),
                "VpcId": subnet.vpc_id,
            }
            yield cloud.viewers(subnet.vpc_id, backend.account_id), document


def _interfaces(backend: Any) -> Iterator[Seen]:
    for eni in backend.enis.values():
        instance = eni.instance
        card, device = card_and_device(eni.device_index or 0)
        attachment = instance and {
            "AttachTime": eni.attach_time.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "AttachmentId": eni.attachment_id,
            "DeleteOnTermination": bool(eni.delete_on_termination),
            "DeviceIndex": device,
            "NetworkCardIndex": card,
            "InstanceId": instance.id,
            "InstanceOwnerId": instance.owner_id,
            "Status": "attached",
        }
        document = {
            "Attachment": attachment,
            "AvailabilityZone": eni.availability_zone,
            "Description": eni.description,
            "Groups": [{"GroupId": g.id, "GroupName": g.name} for g in eni.group_set],
            "InterfaceType": eni.interface_type,
            "Ipv6Addresses": [{"Ipv6Address": a} for a in eni.ipv6_addresses if a],
            "MacAddress": eni.mac_address,
            "NetworkInterfaceId": eni.id,
            "OwnerId": backend.account_id,
            "PrivateIpAddress": eni.private_ip_address,
            "PrivateIpAddresses": [
                {"Primary": bool(a.get("Primary")), "PrivateIpAddress": a["PrivateIpAddress"]}
                for a in eni.private_ip_addresses
            ],
            "RequesterManaged": False,
            "SourceDestCheck": eni.source_dest_check,
            "Status": eni.status,
            "SubnetId": eni.subnet.id,
            "TagSet": _tags(eni),
            "VpcId": eni.vpc_id,
        }
        # The owner of a shared VPC sees the participants' interfaces as well ("Responsibilities and
        # permissions for owners and participants", Amazon VPC User Guide).
        yield frozenset({backend.account_id, eni.subnet.ec2_backend.account_id}), document
