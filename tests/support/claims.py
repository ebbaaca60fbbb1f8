"""Claims for tests: whole ones, of which a test says only what it is about."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, State
from cni_floatip.model.values import Attachment, PodIdentity, RouteKey


def a_route(
    state: State = State.HELD, table: str = "rtb-1", destination: str = "192.168.0.2/32", **fields: Any
) -> ClaimedRoute:
    return ClaimedRoute(RouteKey(table, ip_network(destination)), state, **fields)


def a_claim(*routes: ClaimedRoute, container: str = "c1", **fields: Any) -> Claim:
    """Return a claim of ``routes`` by one interface of a pod; any field of ``Claim`` may be another."""
    defaults = {
        "attachment": Attachment("net", container, "net1"),
        "eni": "eni-1",
        "region": "eu-central-1",
        "netns": "/run/netns/pod",
        "netns_inode": 1,
        "boot": "boot-1",
        "pod": PodIdentity(),
        "on_delete": "release",
        "routes": routes,
    }
    return Claim(**{**defaults, **fields})
