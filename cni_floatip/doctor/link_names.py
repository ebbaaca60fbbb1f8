"""Finds the ENI of a link by the link's name, because a missing link, or one in a pod, has only a name."""

from __future__ import annotations

import re

from ..model.values import Eni

_BY_INDEX = re.compile(
    r"floatip(?:(?P<card>\d+)-)?(?P<device>\d+)|eth(?P<eth>\d+)"
    r"|device-number-(?P<number>\d+)(?:\.(?P<of_card>\d+))?"
)
"""Names by network card and device index: our node template's, older drivers', amazon-ec2-net-utils'."""


def named_by_index(name: str, eni: Eni) -> bool:
    """Whether a link's name says which device index on which network card it has."""
    match = _BY_INDEX.fullmatch(name)
    if match is None:
        return False
    device = match["device"] or match["eth"] or match["number"]
    return (int(match["card"] or match["of_card"] or 0), int(device)) == (eni.network_card, eni.device_number)


def is_primary(eni: Eni) -> bool:
    """Whether it is the one that an instance always has."""
    return (eni.network_card, eni.device_number) == (0, 0)
