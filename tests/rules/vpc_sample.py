"""A VPC with two subnets, an ENI in it, and network configurations: what the rules are tested with."""

from ipaddress import ip_interface, ip_network

from cni_floatip.config.netconf import NetConf
from cni_floatip.model.values import Eni, Interface, Subnet

ENI = Eni(
    id="eni-1",
    mac="02:00:00:00:00:01",
    device_number=1,
    vpc="vpc-1",
    subnet="subnet-a",
    subnet_cidrs=(ip_network("10.10.1.0/24"), ip_network("fd10:0:1::/64")),
    vpc_cidrs=(ip_network("10.10.0.0/16"), ip_network("fd10::/32")),
)
DUMMY = Subnet("subnet-dummy", "vpc-1", "1", (ip_network("10.10.254.0/28"), ip_network("fd10:0:fe::/64")))
NODES = Subnet("subnet-a", "vpc-1", "1", ENI.subnet_cidrs)
SUBNETS = (NODES, DUMMY)


def conf(**keys: object) -> NetConf:
    return NetConf.parse(
        {"cniVersion": "1.0.0", "name": "n", "type": "floatip", "routeTables": {"all": True}, **keys}
    )


def interfaces(*texts: str) -> list[Interface]:
    return [ip_interface(text) for text in texts]
