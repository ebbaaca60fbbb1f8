"""What instance metadata shows of a simulated instance, read from the cloud each time it is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.ec2.cloud import Cloud, card_and_device
from lab.ec2.transit import vpc_networks
from lab.instance import Credentials, InstanceView, InterfaceView


def look(cloud: Cloud, instance_id: str, role: str, credentials: Callable[[], Credentials]) -> InstanceView:
    """Return the instance with the interfaces that are attached to it now."""
    instance = cloud.instance(instance_id)
    nics = sorted(instance.nics.items())
    return InstanceView(
        instance_id=instance.id,
        account=instance.owner_id,
        region=cloud.region,
        zone=instance.placement.availability_zone or "",
        zone_id=str(getattr(nics[0][1].subnet, "availability_zone_id", "")) if nics else "",
        instance_type=instance.instance_type,
        image_id=instance.image_id,
        running=instance.state == "running",
        interfaces=tuple(_interface(number, eni) for number, eni in nics),
        role=role,
        credentials=credentials,
    )


def credentials(cloud: Cloud, instance_id: str, role: str) -> Credentials:
    """Return fresh credentials of the instance's role; the session is named after the instance, as on EC2."""
    assumed = cloud.assume(cloud.instance(instance_id).owner_id, role, instance_id)
    expires = assumed.expiration.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Credentials(assumed.access_key_id, assumed.secret_access_key, assumed.session_token, expires)


def _interface(number: int, eni: Any) -> InterfaceView:
    card, device = card_and_device(number)
    subnet = eni.subnet
    vpc = [str(net) for net in vpc_networks(subnet.ec2_backend, subnet.vpc_id)]
    return InterfaceView(
        mac=eni.mac_address,
        id=eni.id,
        device_number=device,
        network_card=card,
        owner=eni.owner_id,
        subnet=subnet.id,
        vpc=subnet.vpc_id,
        ipv4=tuple(a["PrivateIpAddress"] for a in eni.private_ip_addresses),
        ipv6=tuple(a for a in eni.ipv6_addresses if a),
        subnet_ipv4=subnet.cidr_block or "",
        subnet_ipv6=tuple(a["ipv6CidrBlock"] for a in subnet.ipv6_cidr_block_association_set),
        vpc_ipv4=tuple(c for c in vpc if ":" not in c),
        vpc_ipv6=tuple(c for c in vpc if ":" in c),
        groups=tuple(sorted(group.id for group in eni.group_set)),
    )
