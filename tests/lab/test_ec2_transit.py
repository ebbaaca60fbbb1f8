"""The Transit Gateway of the simulated EC2: static routes, and where they send a packet.

Source: Amazon EC2 API Reference, CreateTransitGatewayRoute and following; "Quotas for your transit gateways".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from lab import vpcview
from lab.ec2 import SimulatedEC2
from lab.ec2.sample import Sample
from lab.ec2.transit import Hop


@pytest.fixture
def tgw(vpc: Sample, aws: Any) -> tuple[Any, Any]:
    """A Transit Gateway with the sample VPC attached through subnet a, and the id of its route table."""
    gateway = aws.create_transit_gateway()["TransitGateway"]
    attachment = aws.create_transit_gateway_vpc_attachment(
        TransitGatewayId=gateway["TransitGatewayId"], VpcId=vpc.vpc, SubnetIds=[vpc.subnets["a"]]
    )["TransitGatewayVpcAttachment"]["TransitGatewayAttachmentId"]
    table = gateway["Options"]["AssociationDefaultRouteTableId"]
    return table, attachment


def test_a_static_route_leads_to_the_attachments_subnets(
    ec2: SimulatedEC2, vpc: Sample, aws: Any, tgw: tuple[Any, Any]
) -> None:
    table, attachment = tgw
    assert ec2.transit(table, "192.168.0.2") is None
    made = aws.create_transit_gateway_route(
        TransitGatewayRouteTableId=table,
        DestinationCidrBlock="192.168.0.0/16",
        TransitGatewayAttachmentId=attachment,
    )["Route"]
    assert made["TransitGatewayAttachments"][0]["TransitGatewayAttachmentId"] == attachment
    assert ec2.transit(table, "192.168.0.2") == Hop(attachment, vpc.vpc, (vpc.subnets["a"],))


def test_the_vpcs_own_addresses_are_propagated(ec2: SimulatedEC2, vpc: Sample, tgw: tuple[Any, Any]) -> None:
    table, attachment = tgw
    hop = ec2.transit(table, "10.10.254.2")
    assert hop
    assert hop.attachment == attachment
    hop = ec2.transit(table, "fd10:0:0:fe::2")
    assert hop
    assert hop.attachment == attachment


def test_every_prefix_and_where_it_leads(
    ec2: SimulatedEC2, vpc: Sample, aws: Any, tgw: tuple[Any, Any]
) -> None:
    table, attachment = tgw
    aws.create_transit_gateway_route(
        TransitGatewayRouteTableId=table, DestinationCidrBlock="192.168.0.0/16", Blackhole=True
    )
    hop = Hop(attachment, vpc.vpc, (vpc.subnets["a"],))
    assert ec2.transit_routes(table) == {"10.10.0.0/16": hop, "fd10::/48": hop, "192.168.0.0/16": None}


def test_search_lists_the_attachment(aws: Any, tgw: tuple[Any, Any]) -> None:
    table, attachment = tgw
    where = {"TransitGatewayRouteTableId": table, "DestinationCidrBlock": "192.168.0.0/16"}
    aws.create_transit_gateway_route(**where, TransitGatewayAttachmentId=attachment)
    exact = [{"Name": "route-search.exact-match", "Values": ["192.168.0.0/16"]}]
    (route,) = aws.search_transit_gateway_routes(TransitGatewayRouteTableId=table, Filters=exact)["Routes"]
    assert (route["State"], route["Type"]) == ("active", "static")
    assert route["TransitGatewayAttachments"][0]["TransitGatewayAttachmentId"] == attachment


def test_replace_and_delete(
    ec2: SimulatedEC2, aws: Any, tgw: tuple[Any, Any], refused: Callable[..., Any]
) -> None:
    table, attachment = tgw
    where = {"TransitGatewayRouteTableId": table, "DestinationCidrBlock": "192.168.0.0/16"}
    with refused("InvalidRoute.NotFound"):
        aws.replace_transit_gateway_route(**where, TransitGatewayAttachmentId=attachment)
    with refused("InvalidRoute.NotFound"):
        aws.delete_transit_gateway_route(**where)
    aws.create_transit_gateway_route(**where, Blackhole=True)
    assert ec2.transit(table, "192.168.0.2") is None
    aws.replace_transit_gateway_route(**where, TransitGatewayAttachmentId=attachment)
    hop = ec2.transit(table, "192.168.0.2")
    assert hop
    assert hop.attachment == attachment
    aws.delete_transit_gateway_route(**where)
    assert ec2.transit(table, "192.168.0.2") is None


def test_what_ec2_refuses(aws: Any, tgw: tuple[Any, Any], refused: Callable[..., Any]) -> None:
    table, attachment = tgw
    where = {"TransitGatewayRouteTableId": table, "DestinationCidrBlock": "192.168.0.0/16"}
    with refused("InvalidTransitGatewayAttachmentID.NotFound"):
        aws.create_transit_gateway_route(**where, TransitGatewayAttachmentId="tgw-attach-00000000000000000")
    with refused("InvalidRouteTableID.NotFound"):
        aws.create_transit_gateway_route(
            TransitGatewayRouteTableId="tgw-rtb-00000000000000000",
            DestinationCidrBlock="192.168.0.0/16",
            TransitGatewayAttachmentId=attachment,
        )
    aws.create_transit_gateway_route(**where, TransitGatewayAttachmentId=attachment)
    with refused("RouteAlreadyExists"):
        aws.create_transit_gateway_route(**where, TransitGatewayAttachmentId=attachment)


def test_the_router_reads_while_a_route_is_written(
    ec2: SimulatedEC2, vpc: Sample, aws: Any, tgw: tuple[Any, Any]
) -> None:
    """The write comes in the middle of the read, and waits for its end."""
    table, attachment = tgw
    where = {"TransitGatewayRouteTableId": table, "TransitGatewayAttachmentId": attachment}
    aws.create_transit_gateway_route(**where, DestinationCidrBlock="192.168.0.0/24")

    class WrittenMeanwhile(dict[str, Any]):
        def __iter__(self) -> Iterator[Any]:
            for key in super().__iter__():
                writer = threading.Thread(
                    target=aws.create_transit_gateway_route,
                    kwargs={**where, "DestinationCidrBlock": "192.168.1.0/24"},
                )
                writer.start()
                writer.join(0.5)
                writers.append(writer)
                yield key

    writers: list[threading.Thread] = []
    held = ec2._cloud.backend(ec2.account).transit_gateways_route_tables[table]
    held.routes = WrittenMeanwhile(held.routes)
    view = vpcview.look(ec2, vpc.vpc, table)
    held.routes = dict(held.routes.items())
    for writer in writers:
        writer.join(10)
    assert ip_network("192.168.0.0/24") in view.transit
    assert "192.168.1.0/24" in ec2.transit_routes(table)
