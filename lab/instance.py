"""An instance as its metadata shows it. What it has not is not listed, and metadata answers 404."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a role gives for a while."""

    access_key: str
    secret_key: str
    token: str
    expires: str


@dataclass(frozen=True, slots=True)
class InterfaceView:
    """One attached network interface, as metadata shows it."""

    mac: str
    id: str
    device_number: int
    owner: str
    subnet: str
    vpc: str
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()
    subnet_ipv4: str = ""
    subnet_ipv6: tuple[str, ...] = ()
    vpc_ipv4: tuple[str, ...] = ()
    vpc_ipv6: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    network_card: int = 0

    def items(self) -> dict[str, str]:
        """Return the items below ``network/interfaces/macs/<mac>/``; what it has not, is not there."""
        several = {
            "local-ipv4s": self.ipv4,
            "ipv6s": self.ipv6,
            "subnet-ipv6-cidr-blocks": self.subnet_ipv6,
            "vpc-ipv4-cidr-block": self.vpc_ipv4[:1],
            "vpc-ipv4-cidr-blocks": self.vpc_ipv4,
            "vpc-ipv6-cidr-blocks": self.vpc_ipv6,
            "security-group-ids": self.groups,
            "subnet-ipv4-cidr-block": (self.subnet_ipv4,) if self.subnet_ipv4 else (),
        }
        return {
            "device-number": str(self.device_number),
            "interface-id": self.id,
            "mac": self.mac,
            "network-card": str(self.network_card),
            "owner-id": self.owner,
            "subnet-id": self.subnet,
            "vpc-id": self.vpc,
            **{name: "\n".join(values) for name, values in several.items() if values},
        }


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance, as metadata shows it. Interface 0 is the primary one."""

    instance_id: str
    account: str
    region: str
    zone: str
    interfaces: tuple[InterfaceView, ...]
    zone_id: str = ""
    instance_type: str = "m5.large"
    image_id: str = "ami-0123456789abcdef0"
    running: bool = True
    role: str = ""
    credentials: Callable[[], Credentials] | None = None

    def items(self) -> dict[str, str]:
        """Return every item below ``meta-data/`` but the credentials."""
        results = {
            "ami-id": self.image_id,
            "instance-id": self.instance_id,
            "instance-type": self.instance_type,
            "placement/availability-zone": self.zone,
            "placement/region": self.region,
        }
        results |= {"placement/availability-zone-id": self.zone_id} if self.zone_id else {}
        if self.interfaces:
            primary = self.interfaces[0]
            results |= {"mac": primary.mac}
            results |= {"local-ipv4": primary.ipv4[0]} if primary.ipv4 else {}
            results |= {"ipv6": primary.ipv6[0]} if primary.ipv6 else {}
        for interface in self.interfaces:
            place = f"network/interfaces/macs/{interface.mac}"
            results |= {f"{place}/{name}": value for name, value in interface.items().items()}
        return results

    def document(self) -> str:
        """Return the instance identity document."""
        nothing = (
            "billingProducts",
            "devpayProductCodes",
            "kernelId",
            "marketplaceProductCodes",
            "ramdiskId",
        )
        results = {
            "accountId": self.account,
            "architecture": "x86_64",
            "availabilityZone": self.zone,
            "imageId": self.image_id,
            "instanceId": self.instance_id,
            "instanceType": self.instance_type,
            "pendingTime": "2026-01-01T00:00:00Z",
            "privateIp": self.interfaces[0].ipv4[0] if self.interfaces and self.interfaces[0].ipv4 else None,
            "region": self.region,
            "version": "2017-09-30",
        }
        return json.dumps({**results, **dict.fromkeys(nothing)}, indent=2, sort_keys=True)
