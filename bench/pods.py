"""Pods without a runtime: namespaces with an address on a veth, which has the ENI's MAC as ipvlan would.

The benches measure what runs in them, so no other plugin makes the interface.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from lab import netns

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod's namespace and the floating address on its interface."""

    netns: str
    address: str


def veth_pods(node: str, mac: str, pods: Mapping[str, tuple[int, str]]) -> None:
    """Make pods' namespaces (name -> a number for the link, and the floating address on ``net1``).

    ``net1`` has the ENI's MAC address, as ipvlan would; its other end is in the node's namespace.
    """
    netns.make(pods)
    netns.ip(
        node,
        itertools.chain.from_iterable(
            (
                f"link add p{number} type veth peer name net1 netns {name} address {mac}",
                f"link set p{number} up",
            )
            for name, (number, _) in pods.items()
        ),
    )
    for some in _pieces(list(pods.items()), 32):
        netns.ip_each({name: _pod_lines(floating) for name, (_, floating) in some})


def _pod_lines(floating: str) -> list[str]:
    return ["link set lo up", f"addr add {floating}/32 dev net1", "link set net1 up"]


def _pieces(items: list[T], size: int) -> Iterator[list[T]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
