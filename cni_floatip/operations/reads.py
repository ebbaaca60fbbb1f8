"""Repeats a read of EC2 until a deadline. Errors name what was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from ..model.errors import Ec2Error
from .world import Vpc, World
from .write_routes import retry

T = TypeVar("T")


def read(world: World, deadline: float, what: str, call: Callable[[], T]) -> T:
    """Return what ``call`` reads. Raises CniError, which names ``what``, when it cannot be read in time."""
    try:
        return retry(world, deadline, call)
    except Ec2Error as e:
        raise e.to_cni_error(f"cannot read the {what}") from e


def owner_account(vpc: Vpc, roles: Mapping[str, str], subnet: str) -> str:
    """Return the account whose role is used for the VPC's route tables; "" for our own identity.

    A shared VPC belongs to the account that owns the subnet of the ENI. Without ``roles`` nothing is read,
    because then there is no other identity. Raises Ec2Error.
    """
    if not roles:
        return ""
    subnets = vpc.subnets({"subnet-id": [subnet]})
    return subnets[0].account if subnets and subnets[0].account in roles else ""
