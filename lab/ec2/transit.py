"""Transit Gateway routes, as far as the lab's network needs them: static ones and attached VPCs.

moto accepts what EC2 refuses here (a duplicate, an unknown attachment), answers 500 where EC2 answers an
error, and forgets to list the attachment in its answers ("TransitGatewayRoute", Amazon EC2 API Reference).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from lab.ec2.refusal import Refusal, invalid_value

Route = dict[str, Any]

parse_network = lru_cache(maxsize=4096)(ip_network)
parse_address = lru_cache(maxsize=4096)(ip_address)


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a Transit Gateway sends a packet: into a VPC, through the attachment's subnets."""

    attachment: str
    vpc: str
    subnets: tuple[str, ...]


def create(
    backend: Any,
    transit_gateway_route_table_id: str,
    destination_cidr_block: str,
    transit_gateway_attachment_id: str | None = None,
    blackhole: bool = False,
) -> Route:
    """Add a static route; a prefix has one at most ("Quotas for your transit gateways")."""
    routes = _table(backend, transit_gateway_route_table_id).routes
    cidr = _canonical(destination_cidr_block)
    if cidr in routes:
        raise Refusal("RouteAlreadyExists", f"The route identified by {cidr} already exists.")
    routes[cidr] = _route(backend, cidr, transit_gateway_attachment_id, blackhole)
    return dict(routes[cidr])


def replace(
    backend: Any, table: str, destination: str, attachment: str | None, blackhole: bool = False
) -> Route:
    """Point an existing static route elsewhere."""
    routes = _table(backend, table).routes
    cidr = _present(routes, destination, table)
    routes[cidr] = _route(backend, cidr, attachment, blackhole)
    return dict(routes[cidr])


def delete(backend: Any, transit_gateway_route_table_id: str, destination_cidr_block: str) -> Route:
    """Remove a static route."""
    routes = _table(backend, transit_gateway_route_table_id).routes
    cidr = _present(routes, destination_cidr_block, transit_gateway_route_table_id)
    return {**routes.pop(cidr), "state": "deleted"}


def routes(backend: Any, table: str) -> dict[str, Hop | None]:
    """Return where each prefix leads: static routes first, then the CIDRs of the attached VPCs."""
    attachments = backend.transit_gateway_attachments
    hops: dict[str, Hop | None] = {}
    for attachment in attachments.values():
        if attachment.resource_type == "vpc" and _propagates(backend, attachment, table):
            nets = vpc_networks(backend, attachment.vpc_id)
            hops |= {str(net): _hop(attachment) for net in nets}
    for cidr, route in _table(backend, table).routes.items():
        listed = route.get("transitGatewayAttachments") or [{}]
        hops[cidr] = _hop(attachments.get(listed[0].get("transitGatewayAttachmentId")))
    return hops


def look_up(backend: Any, table: str, address: str) -> Hop | None:
    """Say where a packet goes: by the longest prefix; nowhere if there is none, or a blackhole."""
    return longest_match(routes(backend, table), address)


def longest_match(hops: Mapping[str, Hop | None], address: str) -> Hop | None:
    """Return what the longest prefix with the address leads to."""
    where = parse_address(address)
    matching = [cidr for cidr in hops if where in parse_network(cidr)]
    return hops[max(matching, key=lambda cidr: parse_network(cidr).prefixlen)] if matching else None


def vpc_networks(backend: Any, vpc: str) -> list[Any]:
    """Return the CIDR blocks of a VPC, both families."""
    owner = backend.get_vpc(vpc)
    both = owner.get_cidr_block_association_set() + owner.get_cidr_block_association_set(ipv6=True)
    return [parse_network(item["cidr_block"], strict=False) for item in both]


def _hop(attachment: Any) -> Hop | None:
    """Return where an attachment leads; only VPCs lead anywhere in this lab."""
    if attachment is None or attachment.resource_type != "vpc":
        return None
    return Hop(attachment.id, attachment.vpc_id, tuple(attachment.subnet_ids))


def _propagates(backend: Any, attachment: Any, table: str) -> bool:
    """Say whether an attachment's VPC shows up in a route table: by request, or as it is the default one."""
    request = (p.transitGatewayAttachmentId for p in _table(backend, table).route_table_propagation)
    default = attachment.transit_gateway_route_table
    return attachment.id in request or (default is not None and default.id == table)


def _table(backend: Any, table: str) -> Any:
    if table not in backend.transit_gateways_route_tables:
        message = f"Transit Gateway Route Table {table} was deleted or does not exist."
        raise Refusal("InvalidRouteTableID.NotFound", message)
    return backend.transit_gateways_route_tables[table]


def _present(routes: dict[str, Route], destination: str, table: str) -> str:
    cidr = _canonical(destination)
    if cidr not in routes:
        raise Refusal(
            "InvalidRoute.NotFound", f"Route {cidr} not found in Transit Gateway Route Table {table}"
        )
    return cidr


def _route(backend: Any, cidr: str, attachment_id: str | None, blackhole: bool) -> Route:
    route: Route = {
        "destinationCidrBlock": cidr,
        "type": "static",
        "state": "blackhole" if blackhole else "active",
    }
    if blackhole:
        return route
    attachment = backend.transit_gateway_attachments.get(attachment_id)
    if attachment is None:
        message = f"Transit Gateway Attachment {attachment_id} was deleted or does not exist."
        raise Refusal("InvalidTransitGatewayAttachmentID.NotFound", message)
    listed = {
        "resourceId": attachment.resource_id,
        "resourceType": attachment.resource_type,
        "transitGatewayAttachmentId": attachment.id,
    }
    return {**route, "transitGatewayAttachments": [listed]}


def _canonical(cidr: str) -> str:
    try:
        return str(ip_network(cidr, strict=False))
    except ValueError:
        raise invalid_value(f"Value ({cidr}) for parameter destinationCidrBlock is invalid.") from None
