"""The VPC of the lab, built by the EC2 API's own calls: subnets, route tables, transit gateway, nodes.

Addresses follow one plan, so that a person can read a packet capture:

    10.10.1.0/24, 10.10.2.0/24      per AZ (a, b): the ENIs that floating IPs use      tables "a", "b"
    10.10.101.0/24, 10.10.102.0/24  per AZ: the nodes' eth0                            the main table
    10.10.9.0/24                    a client                                           table "client"
    10.10.200.0/24                  the transit gateway's attachment, a /28 per AZ     table "tgw"
    10.10.254.0/24                  pattern 2: /28 subnets that hold no ENI
    192.168.0.0/24                  pattern 1: outside the VPC, routed to it by the transit gateway
    10.99.0.0/16                    another VPC behind the transit gateway, with a client

IPv6 likewise: 2001:db8:10:N::/64 where IPv4 has 10.10.N.0, fd00:192:168::/64 for pattern 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from cni_floatip.model.values import Address, Network

VPC_CIDR, VPC_CIDR6 = IPv4Network("10.10.0.0/16"), IPv6Network("2001:db8:10::/56")
REMOTE_CIDR, REMOTE_CIDR6 = IPv4Network("10.99.0.0/16"), IPv6Network("2001:db8:99::/56")
FLOATING, FLOATING6 = IPv4Network("192.168.0.0/24"), IPv6Network("fd00:192:168::/64")
TAG = {"floatip": "lab"}
"""What every route table of the lab's VPC carries, besides ``Name``."""

NO_MANAGE = {"node.k8s.amazonaws.com/no_manage": "true"}
"""What the ENIs for floating IPs carry, so that VPC CNI leaves them alone."""

IFNAMES = ("eth0", "eth1", "ens7")
"""A node's ENIs by device number. The third is down and oddly named, as AL2023 leaves a hot-plugged one."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet with both families; the VPC router is its first host."""

    id: str
    name: str
    cidr: IPv4Network
    cidr6: IPv6Network

    @property
    def gateway(self) -> IPv4Address:
        return self.cidr[1]

    @property
    def gateway6(self) -> IPv6Address:
        return self.cidr6[1]

    def host(self, number: int) -> tuple[IPv4Address, IPv6Address]:
        return self.cidr[number], self.cidr6[number]


@dataclass(frozen=True, slots=True)
class Eni:
    """A network interface: what EC2 knows of it, and the name it has on its node."""

    id: str
    mac: str
    ifname: str
    device: int
    subnet: Subnet
    addresses: tuple[Address, ...]
    table: str

    @property
    def gateway(self) -> IPv4Address:
        return self.subnet.gateway

    def __str__(self) -> str:
        return f"{self.id} ({self.ifname})"


@dataclass(frozen=True, slots=True)
class Instance:
    """A worker node as EC2 has it. ``ec2`` is a client of the account that it belongs to."""

    id: str
    name: str
    az: str
    enis: tuple[Eni, ...]
    ec2: Any


@dataclass
class Vpc:
    """What was built, and the ids by which to find it again."""

    ec2: Any
    azs: Sequence[str]
    id: str = ""
    subnets: dict[str, Subnet] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    dummy_subnets: list[Subnet] = field(default_factory=list)
    tgw: str = ""
    tgw_table: str = ""
    remote: str = ""

    def build(self) -> None:
        """Make everything but nodes and clients."""
        self.id = self._vpc("lab", VPC_CIDR, VPC_CIDR6)
        self.tables["main"] = self._main_table()
        for number, az in enumerate(self.azs, 1):
            self._subnet(az, VPC_CIDR[number << 8], 24, number, az)
            self._subnet(f"{az}-nodes", VPC_CIDR[(100 + number) << 8], 24, 100 + number, az)
            self._subnet(f"tgw-{az}", VPC_CIDR[(200 << 8) + 16 * (number - 1)], 28, 200 + number, az)
            self._table(az, [az])
        self._subnet("client", VPC_CIDR[9 << 8], 24, 9, self.azs[0])
        self._table("client", ["client"])
        self._table("tgw", [f"tgw-{az}" for az in self.azs])
        for number in range(2):
            at = VPC_CIDR[(254 << 8) + 16 * number]
            self.dummy_subnets.append(self._subnet(f"dummy-{number + 1}", at, 28, 254 + number, self.azs[0]))
        self._transit_gateway()

    def _vpc(self, name: str, cidr: IPv4Network, cidr6: IPv6Network) -> str:
        made = self.ec2.create_vpc(CidrBlock=str(cidr), TagSpecifications=_tags("vpc", name))["Vpc"]["VpcId"]
        self.ec2.associate_vpc_cidr_block(VpcId=made, Ipv6CidrBlock=str(cidr6), Ipv6Pool="ipv6pool-ec2-lab")
        return str(made)

    def _main_table(self) -> str:
        result = self.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [self.id]}])[
            "RouteTables"
        ]
        table = str(result[0]["RouteTableId"])
        self.ec2.create_tags(Resources=[table], Tags=_tags("route-table", "main", TAG)[0]["Tags"])
        return table

    def _subnet(self, name: str, first: IPv4Address, length: int, number: int, az: str) -> Subnet:
        cidr = IPv4Network((first, length))
        cidr6 = IPv6Network((VPC_CIDR6[number << 64], 64))
        made = self.ec2.create_subnet(
            VpcId=self.id,
            CidrBlock=str(cidr),
            Ipv6CidrBlock=str(cidr6),
            AvailabilityZone=self.zone(az),
            TagSpecifications=_tags("subnet", name),
        )
        self.subnets[name] = Subnet(made["Subnet"]["SubnetId"], name, cidr, cidr6)
        return self.subnets[name]

    def zone(self, az: str) -> str:
        """Return the Availability Zone's full name."""
        return f"{self.ec2.meta.region_name}{az}"

    def _table(self, name: str, subnets: Sequence[str]) -> None:
        made = self.ec2.create_route_table(VpcId=self.id, TagSpecifications=_tags("route-table", name, TAG))
        self.tables[name] = made["RouteTable"]["RouteTableId"]
        for subnet in subnets:
            self.ec2.associate_route_table(RouteTableId=self.tables[name], SubnetId=self.subnets[subnet].id)

    def _transit_gateway(self) -> None:
        """Attach this VPC and another one; send the floating ranges here (pattern 1's only static routes)."""
        self.tgw = self.ec2.create_transit_gateway(Description="lab")["TransitGateway"]["TransitGatewayId"]
        here = self._attach(self.id, [self.subnets[f"tgw-{az}"].id for az in self.azs])
        self.remote = self._vpc("remote", REMOTE_CIDR, REMOTE_CIDR6)
        far = self.ec2.create_subnet(VpcId=self.remote, CidrBlock=str(IPv4Network((REMOTE_CIDR[0], 24))))
        self._attach(self.remote, [far["Subnet"]["SubnetId"]])
        result = self.ec2.describe_transit_gateway_route_tables(
            Filters=[{"Name": "transit-gateway-id", "Values": [self.tgw]}]
        )
        self.tgw_table = result["TransitGatewayRouteTables"][0]["TransitGatewayRouteTableId"]
        for network in (FLOATING, FLOATING6):
            self.ec2.create_transit_gateway_route(
                DestinationCidrBlock=str(network),
                TransitGatewayRouteTableId=self.tgw_table,
                TransitGatewayAttachmentId=here,
            )
        for name in ("main", *self.azs, "client"):
            self.route(self.tables[name], REMOTE_CIDR, TransitGatewayId=self.tgw)
            self.route(self.tables[name], REMOTE_CIDR6, TransitGatewayId=self.tgw)

    def _attach(self, vpc: str, subnets: Sequence[str]) -> str:
        made = self.ec2.create_transit_gateway_vpc_attachment(
            TransitGatewayId=self.tgw, VpcId=vpc, SubnetIds=list(subnets)
        )
        return str(made["TransitGatewayVpcAttachment"]["TransitGatewayAttachmentId"])

    def route(self, table: str, destination: Network, **target: str) -> None:
        """Create a route, as an administrator would by hand."""
        key = "DestinationCidrBlock" if destination.version == 4 else "DestinationIpv6CidrBlock"
        self.ec2.create_route(RouteTableId=table, **{key: str(destination)}, **target)

    def let_in(self, ranges: Iterable[str]) -> None:
        """Let these ranges into the ENIs: a rule that names a group as its source matches no floating IP."""
        filters = [{"Name": "vpc-id", "Values": [self.id]}, {"Name": "group-name", "Values": ["default"]}]
        (group,) = self.ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
        cidrs = list(ranges)
        permission = {
            "IpProtocol": "-1",
            "IpRanges": [{"CidrIp": cidr} for cidr in cidrs if ":" not in cidr],
            "Ipv6Ranges": [{"CidrIpv6": cidr} for cidr in cidrs if ":" in cidr],
        }
        self.ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[permission])

    def eni(
        self, subnet: Subnet, host: int, ifname: str, device: int, owner: str, ec2: Any | None = None
    ) -> Eni:
        """Create an ENI with one address of each family, by ``ec2`` where another account is to have it."""
        v4, v6 = subnet.host(host)
        made = (ec2 or self.ec2).create_network_interface(
            SubnetId=subnet.id,
            PrivateIpAddress=str(v4),
            Ipv6Addresses=[{"Ipv6Address": str(v6)}],
            TagSpecifications=_tags("network-interface", f"{owner}-{ifname}", NO_MANAGE if device else None),
        )["NetworkInterface"]
        served_by = {az: self.tables[az] for az in self.azs} | {"client": self.tables["client"]}
        table = served_by.get(subnet.name, self.tables["main"])
        return Eni(made["NetworkInterfaceId"], made["MacAddress"], ifname, device, subnet, (v4, v6), table)

    def instance(self, name: str, az: str, number: int, ec2: Any | None = None) -> Instance:
        """Launch a node with its ENIs, by ``ec2`` where another account is to have it."""
        ec2 = ec2 or self.ec2
        subnets = (self.subnets[f"{az}-nodes"], self.subnets[az], self.subnets[az])
        enis = tuple(
            self.eni(subnet, 10 * number + device, ifname, device, name, ec2)
            for device, (ifname, subnet) in enumerate(zip(IFNAMES, subnets, strict=True))
        )
        made = ec2.run_instances(
            ImageId="ami-12345678",
            InstanceType="m5.2xlarge",
            MinCount=1,
            MaxCount=1,
            NetworkInterfaces=[{"DeviceIndex": e.device, "NetworkInterfaceId": e.id} for e in enis],
            TagSpecifications=_tags("instance", name),
        )
        return Instance(made["Instances"][0]["InstanceId"], name, az, enis, ec2)


def _tags(resource: str, name: str, more: dict[str, str] | None = None) -> list[dict[str, Any]]:
    tags = [{"Key": key, "Value": value} for key, value in {"Name": name, **(more or {})}.items()]
    return [{"ResourceType": resource, "Tags": tags}]
