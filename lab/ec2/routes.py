"""CreateRoute, ReplaceRoute and DeleteRoute as EC2 judges them, on moto's route tables.

moto accepts nearly everything here. Each rule below names where AWS states it, or who saw it. Messages are
EC2's own where one is on record; the codes are what callers may rely on.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from lab.ec2 import views
from lab.ec2.cloud import SHARED, Cloud, LabRoute, make_route
from lab.ec2.refusal import Refusal, invalid_value
from lab.ec2.transit import vpc_networks

Network = IPv4Network | IPv6Network
Parameters = Mapping[str, Any]

DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
TARGETS = {
    "GatewayId": "gateway_id",
    "NatGatewayId": "nat_gateway_id",
    "EgressOnlyInternetGatewayId": "egress_only_igw_id",
    "TransitGatewayId": "transit_gateway_id",
    "VpcPeeringConnectionId": "vpc_peering_connection_id",
    "CarrierGatewayId": "carrier_gateway_id",
    "VpcEndpointId": "vpc_endpoint_id",
    "NetworkInterfaceId": "",
    "InstanceId": "",
}
INSIDE_TARGETS = ("NetworkInterfaceId", "InstanceId", "NatGatewayId", "VpcEndpointId")
RESERVED = (IPv4Network("169.254.168.0/22"), IPv6Network("fd00:ec2::/32"))


def create(cloud: Cloud, account: str, params: Parameters, quota: int) -> None:
    """Add a route, or refuse.

    A destination that has a static route already is RouteAlreadyExists, whatever its target ("Error codes",
    Amazon EC2 API Reference; moto overwrites if the target is an ENI). A propagated route does not count, the
    static one takes precedence (ansible/ansible#43415).
    """
    backend, table = writable(cloud, account, params)
    where = destination(params)
    _judge(cloud, table, where, params)
    if where in static(table):
        raise Refusal("RouteAlreadyExists", f"The route identified by {where} already exists.")
    _count(table, where, quota)
    route = _route(cloud, backend, table, where, params)
    table._routes[route.id] = route


def replace(cloud: Cloud, account: str, params: Parameters) -> None:
    """Point an existing static route elsewhere, or refuse.

    A missing route is InvalidParameterValue, not InvalidRoute.NotFound (getmoto/moto#6425, checked on AWS);
    a propagated one counts as missing (ansible/ansible#43415). The local route is refused, although AWS lets
    an operator retarget it: nothing in this lab may.
    """
    backend, table = writable(cloud, account, params)
    where = destination(params)
    present = static(table).get(where)
    if present is None:
        raise invalid_value(
            f"There is no route defined for '{where}' in the route table. Use CreateRoute instead."
        )
    if present.local:
        raise invalid_value(f"cannot replace local route {where} in route table {table.id}")
    _judge(cloud, table, where, params)
    table._routes[present.id] = _route(cloud, backend, table, where, params)


def delete(cloud: Cloud, account: str, params: Parameters) -> None:
    """Remove a static route; refuse the local one, and one that is missing (InvalidRoute.NotFound)."""
    _, table = writable(cloud, account, params)
    where = destination(params)
    present = static(table).get(where)
    if present is None:
        message = f"no route with destination-cidr-block {where} in route table {table.id}"
        raise Refusal("InvalidRoute.NotFound", message)
    if present.local:
        raise invalid_value(f"cannot remove local route {where} in route table {table.id}")
    del table._routes[present.id]


def propagate(cloud: Cloud, table_id: str, cidr: str, target: str) -> None:
    """Plant a route as a virtual private gateway, or to an ENI a VPC Route Server would; no API call can."""
    _, table = cloud.table(table_id)
    where = ip_network(cidr)
    route = make_route(table, *_families(where))
    route.propagated = True
    if target.startswith("eni-"):
        route.eni_backend, route.interface = cloud.interface(target)
    else:
        route.vpc_endpoint_id = target  # what LabRoute reports as GatewayId without a gateway object
        table.__dict__.setdefault("gateways", set()).add(target)
    table.__dict__.setdefault("propagated", {})[str(where)] = route


def writable(cloud: Cloud, account: str, params: Parameters) -> tuple[Any, Any]:
    """Return the table that a call names, if the caller may write it.

    A participant of a shared VPC sees its route tables and may not change them ("Share your VPC subnets with
    other accounts", Amazon VPC User Guide); to anybody else they do not exist.
    """
    table_id = params.get("RouteTableId")
    if not table_id:
        raise Refusal("MissingParameter", "The request must contain the parameter routeTableId")
    backend, table = cloud.table(str(table_id))
    if backend.account_id == account:
        return backend, table
    if account in cloud.viewers(table.vpc_id, backend.account_id):
        raise Refusal("UnauthorizedOperation", "You are not authorized to perform this operation.")
    raise Refusal("InvalidRouteTableID.NotFound", f"The routeTable ID '{table_id}' does not exist")


def guard(cloud: Cloud, account: str, action: str, params: Parameters) -> None:
    """Refuse what a participant of a shared VPC may not do to it by any other action."""
    if action.startswith(("Describe", "Get", "Search", "List")) or action == "CreateSecurityGroup":
        return
    if params.get("RouteTableId"):
        writable(cloud, account, params)
    if params.get("VpcId") in SHARED and params["VpcId"] not in cloud.backend(account).vpcs:
        raise Refusal("UnauthorizedOperation", "You are not authorized to perform this operation.")


def destination(params: Parameters) -> str:
    """Return the one destination of a call in canonical form.

    "100.68.0.18/18" is stored as "100.68.0.0/18" (CreateRoute, Amazon EC2 API Reference); moto: as typed.
    """
    given = [name for name in DESTINATIONS if params.get(name)]
    if len(given) > 1:
        raise Refusal(
            "InvalidParameterCombination", f"The parameters {' and '.join(given)} exclude each other."
        )
    if not given:
        message = "The request must contain the parameter destinationCidrBlock or destinationIpv6CidrBlock"
        raise Refusal("MissingParameter", message)
    (name,) = given
    text = str(params[name])
    if name == "DestinationPrefixListId":
        return text
    try:
        kind = IPv4Network if name == "DestinationCidrBlock" else IPv6Network
        return str(kind(text, strict=False))
    except ValueError:
        parameter = name[0].lower() + name[1:]
        message = f"Value ({text}) for parameter {parameter} is invalid. This is not a valid CIDR block."
        raise invalid_value(message) from None


def static(table: Any) -> dict[str, Any]:
    """Return a table's own routes, without the propagated ones, by destination."""
    return {views.destination(route): route for route in table.routes}


def _judge(cloud: Cloud, table: Any, where: str, params: Parameters) -> None:
    """Refuse a destination and target that no VPC takes ("Configure route tables", Amazon VPC User Guide)."""
    kind = _target(params)
    if where.startswith("pl-"):
        _prefix_list(cloud.backend(table.ec2_backend.account_id), where)
        return
    net = ip_network(where)
    if any(_inside(net, reserved) for reserved in RESERVED):
        raise invalid_value(f"Destination {where} is reserved for use by AWS services.")
    networks = vpc_networks(cloud.backend(table.ec2_backend.account_id), table.vpc_id)
    inside = any(_inside(net, network) for network in networks)
    if not inside and any(not item.startswith("subnet-") for item in table._associations.values()):
        raise invalid_value("You cannot add routes to any CIDR blocks outside of the ranges in your VPC.")
    if not inside:
        return
    if kind not in INSIDE_TARGETS:  # hashicorp/terraform#26018
        message = "Route target is not supported. This route only supports interface and instance targets."
        raise invalid_value(message)
    if net not in networks and net not in _subnet_networks(table):
        raise invalid_value(
            f"The destination CIDR block {where} is within the CIDR block of the VPC and does not match the "
            "entire CIDR block of a subnet."
        )


def _count(table: Any, where: str, quota: int) -> None:
    """Refuse a route above the quota; IPv4 and IPv6 count separately ("Amazon VPC quotas", Route tables)."""
    mine = [
        cidr for cidr, route in static(table).items() if not route.local and (":" in cidr) == (":" in where)
    ]
    if len(mine) >= quota:
        raise Refusal("RouteLimitExceeded", f"You've reached the limit on the number of routes ({quota}).")


def _route(cloud: Cloud, backend: Any, table: Any, where: str, params: Parameters) -> LabRoute:
    """Return the route that a call describes; it is not in the table yet."""
    kind = _target(params)
    if TARGETS[kind]:
        before = dict(table._routes)
        families = (None, None, where) if where.startswith("pl-") else (*_families(ip_network(where)), None)
        table._routes = {}  # moto has its own idea of what exists already
        try:
            made: LabRoute = backend.create_route(table.id, *families, **{TARGETS[kind]: params[kind]})
        finally:
            table._routes = before
        return made
    eni_backend, eni = _interface(cloud, kind, str(params[kind]))
    if eni.vpc_id != table.vpc_id:
        message = f"route table {table.id} and interface {eni.id} belong to different networks"
        raise invalid_value(message)
    if where.startswith("pl-"):  # shown; the lab's router does not look into lists
        prefixes = _prefix_list(backend, where)
        route = make_route(table, None, None, destination_prefix_list=prefixes, interface=eni)
    else:
        route = make_route(table, *_families(ip_network(where)), interface=eni)
    route.eni_backend = eni_backend
    return route


def _prefix_list(backend: Any, prefix_list: str) -> Any:
    """Return a prefix list ("Error codes", Amazon EC2 API Reference, InvalidPrefixListID.NotFound)."""
    result = backend.managed_prefix_lists.get(prefix_list)
    if result is None:
        message = f"The prefix list ID '{prefix_list}' does not exist"
        raise Refusal("InvalidPrefixListID.NotFound", message)
    return result


def _interface(cloud: Cloud, kind: str, target: str) -> tuple[Any, Any]:
    """Return the ENI a route is to point at. An instance will do only if it has exactly one (CreateRoute,
    InstanceId)."""
    if kind == "NetworkInterfaceId":
        return cloud.interface(target)
    nics = list(cloud.instance(target).nics.values())
    if len(nics) != 1:
        message = (
            f"There are multiple interfaces attached to instance '{target}'. Please specify an interface ID."
        )
        raise Refusal("InvalidInstanceID", message)
    return cloud.interface(nics[0].id)


def _target(params: Parameters) -> str:
    given = [name for name in TARGETS if params.get(name)]
    if len(given) > 1:
        raise Refusal(
            "InvalidParameterCombination", f"The parameters {' and '.join(given)} exclude each other."
        )
    if not given:
        raise Refusal("MissingParameter", "The request must contain exactly one target.")
    return given[0]


def _families(net: Network) -> tuple[str | None, str | None]:
    return (str(net), None) if net.version == 4 else (None, str(net))


def _inside(net: Network, outer: Network) -> bool:
    return net.version == outer.version and net.subnet_of(outer)  # type: ignore[arg-type]


def _subnet_networks(table: Any) -> set[Network]:
    """Return the CIDR blocks of the subnets of a table's VPC, both families."""
    networks: set[Network] = set()
    for zone in table.ec2_backend.subnets.values():
        for subnet in zone.values():
            if subnet.vpc_id == table.vpc_id:
                networks |= {ip_network(subnet.cidr_block, strict=False)} if subnet.cidr_block else set()
                networks |= {ip_network(a["ipv6CidrBlock"]) for a in subnet.ipv6_cidr_block_association_set}
    return networks
