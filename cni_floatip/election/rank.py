"""Who of the fit members takes first: the register's order (level, zone, newest pod, name)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..model.values import Network
from .fitness import Level
from .lease import Entry, Offer, Reason


def zone_index(zone: str, zones: Sequence[str]) -> int:
    """Return how far down the preferred zones ``zone`` stands; one that is not listed stands last."""
    return zones.index(zone) if zone in zones else len(zones)


def order(entry: Entry, zones: Sequence[str], destinations: Sequence[Network]) -> tuple[Any, ...]:
    """Return the key by which fit members are sorted, best first.

    A member whose destinations are not the group's comes after all whose are.
    """
    unequal = bool(destinations) and entry.destinations != tuple(destinations)
    zone = zone_index(entry.zone, zones)
    return unequal, entry.level, zone, -entry.created, entry.pod, entry.node, entry.uid


def rank(me: Entry, others: Sequence[Entry], key: Callable[[Entry], tuple[Any, ...]]) -> int:
    """Return how many fit ``others`` stand before ``me``; each rank waits longer before it takes."""
    return sum(other.fit and other.uid != me.uid and key(other) < key(me) for other in others)


def may_take(entry: Entry, offer: Offer, zones: Sequence[str]) -> bool:
    """Return whether a fit member may take what is offered: a soft offer excludes most.

    Who takes a soft offer must stand better than the active, or the group would move for nothing, and back.
    """
    match offer.reason:
        case Reason.LEVEL:
            return entry.level < offer.level
        case Reason.ZONE:
            return entry.level == Level.NONE and zone_index(entry.zone, zones) == 0
        case Reason.MOVE:
            return entry.node == offer.node if offer.node else entry.level == Level.NONE
        case _:
            return True
