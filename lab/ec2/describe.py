"""DescribeRouteTables, DescribeSubnets and DescribeNetworkInterfaces over a view: ids, filters, pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lab.ec2 import filters
from lab.ec2.refusal import Refusal
from lab.ec2.views import View, visible

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """How one kind of resource is asked for and listed."""

    view: Literal["route_tables", "subnets", "interfaces"]
    result: str
    id: str
    ids: str
    filters: Mapping[str, str]
    tags: str
    largest: int
    unknown: str
    noun: str
    pages_with_ids: bool = True


RESOURCES = {
    "DescribeRouteTables": Resource(
        "route_tables",
        "RouteTables",
        "RouteTableId",
        "RouteTableIds",
        filters.ROUTE_TABLES,
        "Tags",
        100,
        "InvalidRouteTableID.NotFound",
        "routeTable",
    ),
    "DescribeSubnets": Resource(
        "subnets",
        "Subnets",
        "SubnetId",
        "SubnetIds",
        filters.SUBNETS,
        "Tags",
        1000,
        "InvalidSubnetID.NotFound",
        "subnet",
    ),
    "DescribeNetworkInterfaces": Resource(
        "interfaces",
        "NetworkInterfaces",
        "NetworkInterfaceId",
        "NetworkInterfaceIds",
        filters.NETWORK_INTERFACES,
        "TagSet",
        1000,
        "InvalidNetworkInterfaceID.NotFound",
        "networkInterface",
        pages_with_ids=False,
    ),
}


def describe(action: str, view: View, account: str, params: Mapping[str, Any]) -> Document:
    """Return what ``account`` sees. A missing id is an error; as a filter value it finds nothing."""
    kind = RESOURCES[action]
    results = visible(getattr(view, kind.view), account)
    wanted = params.get(kind.ids) or []
    size = params.get("MaxResults")
    if wanted and size and not kind.pages_with_ids:  # DescribeNetworkInterfaces, MaxResults
        message = f"The parameter {kind.ids} cannot be used with the parameter maxResults"
        raise Refusal("InvalidParameterCombination", message)
    if wanted:
        known = {str(document[kind.id]) for document in results}
        missing = [item for item in wanted if item not in known]
        if missing:
            raise Refusal(kind.unknown, f"The {kind.noun} ID '{missing[0]}' does not exist")
        results = [document for document in results if document[kind.id] in wanted]
    results = filters.select(results, params.get("Filters") or [], kind.filters, kind.tags)
    shown, token = filters.page(results, kind.id, size, params.get("NextToken"), kind.largest)
    return {kind.result: shown, "NextToken": token}
