"""A small VPC to try things on: two zones, two instances with a second ENI each, tables, dummy subnets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.ec2.simulated import SimulatedEC2

IMAGE = "ami-0123456789abcdef0"  # any will do


@dataclass(frozen=True, slots=True)
class Sample:
    """The ids, by zone letter."""

    vpc: str
    main_table: str
    edge_table: str
    subnets: Mapping[str, str]
    tables: Mapping[str, str]
    instances: Mapping[str, str]
    enis: Mapping[str, str]
    internet_gateway: str

    def __str__(self) -> str:
        lines = [f"vpc {self.vpc}  main table {self.main_table}  edge table {self.edge_table}"]
        for zone, subnet in self.subnets.items():
            ids = f"{self.tables[zone]}  {self.instances[zone]}  {self.enis[zone]}"
            lines.append(f"zone {zone}: {subnet}  {ids}")
        return "\n".join(lines)


_built: dict[tuple[str, str, int], tuple[Sample, bytes]] = {}


def fresh(ec2: SimulatedEC2) -> Sample:
    """Reset EC2 and build the sample in it; from the second time on from what was saved of the first."""
    key = (ec2.region, ec2.account, ec2.seed)
    if key in _built:
        sample, saved = _built[key]
        ec2.load(saved)
    else:
        ec2.reset()
        sample = build(ec2)
        _built[key] = sample, ec2.save()
    return sample


def build(ec2: SimulatedEC2) -> Sample:
    """Make 10.10.0.0/16: 10.10.1.0/24 in zone a, .2.0/24 in b, .254.0/28 empty; in fd10::/48 likewise."""
    aws = ec2.client()
    vpc = aws.create_vpc(CidrBlock="10.10.0.0/16")["Vpc"]["VpcId"]
    aws.associate_vpc_cidr_block(VpcId=vpc, Ipv6CidrBlock="fd10::/48", Ipv6Pool="lab")
    of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    main = aws.describe_route_tables(Filters=of_vpc)["RouteTables"][0]["RouteTableId"]
    gateway = aws.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    aws.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    edge = _table(aws, vpc, "edge")
    aws.associate_route_table(RouteTableId=edge, GatewayId=gateway)
    subnets, tables, instances, enis = {}, {}, {}, {}
    for n, zone in enumerate("ab", 1):
        where = f"{ec2.region}{zone}"
        subnets[zone] = _subnet(aws, vpc, where, f"10.10.{n}.0/24", f"fd10:0:0:{n}::/64")
        tables[zone] = _table(aws, vpc, zone)
        aws.associate_route_table(RouteTableId=tables[zone], SubnetId=subnets[zone])
        instances[zone], enis[zone] = _instance(aws, subnets[zone], n)
    _subnet(aws, vpc, f"{ec2.region}a", "10.10.254.0/28", "fd10:0:0:fe::/64")
    return Sample(vpc, main, edge, subnets, tables, instances, enis, gateway)


def _subnet(aws: Any, vpc: str, zone: str, v4: str, v6: str) -> str:
    made = aws.create_subnet(VpcId=vpc, AvailabilityZone=zone, CidrBlock=v4, Ipv6CidrBlock=v6)
    return str(made["Subnet"]["SubnetId"])


def _table(aws: Any, vpc: str, name: str) -> str:
    tags = [{"Key": "Name", "Value": name}, {"Key": "floatip", "Value": "yes"}]
    specification = [{"ResourceType": "route-table", "Tags": tags}]
    made = aws.create_route_table(VpcId=vpc, TagSpecifications=specification)
    return str(made["RouteTable"]["RouteTableId"])


def _instance(aws: Any, subnet: str, n: int) -> tuple[str, str]:
    """Run an instance with ENIs .10 and .20 of its subnet; return it and the second ENI."""
    started = aws.run_instances(
        ImageId=IMAGE, MinCount=1, MaxCount=1, SubnetId=subnet, PrivateIpAddress=f"10.10.{n}.10"
    )
    instance = str(started["Instances"][0]["InstanceId"])
    v6 = [{"Ipv6Address": f"fd10:0:0:{n}::20"}]
    made = aws.create_network_interface(SubnetId=subnet, PrivateIpAddress=f"10.10.{n}.20", Ipv6Addresses=v6)
    eni = str(made["NetworkInterface"]["NetworkInterfaceId"])
    aws.attach_network_interface(NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=1)
    return instance, eni
