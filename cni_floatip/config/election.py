"""What a network and a node say of elected claims: their keys, their defaults, what contradicts itself.

A network wants an election with ``"activate": "ready"`` and says how in ``election``. The node configuration
allows it with ``elections``, whose times are checked against each other here, because agents with wrong
ones take addresses from nodes that live.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..model.errors import InvalidConfig, PolicyRefused, UnsupportedField
from ..model.values import Address
from .strict_json import Complaint

RELEASED = False
"""Whether this release elects. While it does not, agent, direct mode, ``validate`` and chart say so."""

NOT_RELEASED = "elected claims are not in this release"

CALL_SECONDS = 1
"""How long a call to the Kubernetes API waits for its answer."""
PERIODS = 4
"""How many periods of renewal a Lease lasts at least, so that two lost renewals are no death."""
ABSENCE_SECONDS = 30
"""How long a rollout keeps a node without its agent: 5 to 30 s, for the new pod's image and start."""


@dataclass(frozen=True, slots=True)
class ElectionConf:
    """How a network wants its claims elected. ``group`` None: all elected interfaces of the pod."""

    group: str | None = None
    zones: tuple[str, ...] = ()
    failback_seconds: float = 0
    unready_seconds: float = 2

    def document(self) -> dict[str, Any]:
        """Return it as written in the configuration, with every default."""
        raw: dict[str, Any] = {
            "zones": list(self.zones),
            "failbackSeconds": self.failback_seconds,
            "unreadySeconds": self.unready_seconds,
        }
        return raw | ({"group": self.group} if self.group else {})

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> ElectionConf:
        """Return what a document of a valid shape says; a part that was refused is None."""
        raw = {key: value for key, value in document.items() if value is not None}
        return cls(
            group=raw.get("group"),
            zones=tuple(dict.fromkeys(zone for zone in raw.get("zones", ()) if zone is not None)),
            failback_seconds=raw.get("failbackSeconds", 0),
            unready_seconds=raw.get("unreadySeconds", 2),
        )


@dataclass(frozen=True, slots=True)
class Elections:
    """How the nodes elect. ``lease_seconds`` and ``veto_seconds`` are whole, as a Lease's duration is."""

    namespace: str = "floatip-elections"
    renew_seconds: float = 0.5
    lease_seconds: int = 2
    veto_seconds: int = 60
    on_cordon: bool = True
    pod_label: bool = False


def default_group(addresses: Iterable[Address]) -> str:
    """Return the group of a pod whose networks name none: its lowest floating address.

    IPv4 before IPv6, and IPv6 in full with ``-`` for ``:``, which no name in Kubernetes may have. Raises
    ValueError without an address.
    """
    lowest = min(addresses, key=lambda address: (address.version, int(address)))
    return lowest.exploded.replace(":", "-")


# -- refused in any release ---------------------------------------------------------------------------------


def contradictions(activate: str, own: Mapping[str, Any]) -> Iterator[Complaint]:
    """Yield what contradicts ``activate`` among our ``own`` keys of a network configuration."""
    if activate == "add" and "election" in own:
        text = 'has no effect without "activate": "ready"; write that too, or leave election out'
        yield Complaint(("election",), text)
    if activate == "ready" and own.get("watchAddresses"):
        text = (
            'with "activate": "ready" the agents choose the pod that has the address, with watchAddresses the'
            " pods do; leave one of the two out"
        )
        yield Complaint(("watchAddresses",), text)


def unfit_group(group: str | None) -> Iterator[Complaint]:
    """Yield the complaint about a group whose Lease no API server would take (RFC 1123, subdomain)."""
    if group and (wrong := re.search(r"\.[.-]|-\.", group)):
        text = (
            f'"{group}" has "{wrong[0]}" in it, and a Lease is named after it; put a letter or digit between'
        )
        yield Complaint(("election", "group"), text)


def unfit_times(elections: Elections, written: Collection[str]) -> Iterator[Complaint]:
    """Yield how the times contradict each other, at a key that was ``written`` if there is one."""
    renew, lease, veto = elections.renew_seconds, elections.lease_seconds, elections.veto_seconds
    least, spare = math.ceil(PERIODS * renew), lease - renew
    if lease < least:
        text = (
            f"leaseSeconds {lease} is less than {PERIODS} x renewSeconds {renew:g}, so lost renewals would"
            f" pass for a death; write leaseSeconds {least}, or a smaller renewSeconds"
        )
        key = "leaseSeconds" if "leaseSeconds" in written else "renewSeconds"
        yield Complaint(("elections", key), text)
    elif spare <= CALL_SECONDS:
        text = (
            f"leaseSeconds {lease} leaves a node {spare:g} s to reconnect to the API, which takes more than"
            f" the {CALL_SECONDS} s that a call waits for its answer; write 2"
        )
        yield Complaint(("elections", "leaseSeconds"), text)
    if veto <= lease:
        text = (
            f"vetoSeconds {veto} is not more than leaseSeconds {lease}, so a restart of the agent would move"
            f" the addresses of its node; write vetoSeconds {max(60, 2 * lease)}"
        )
        key = "vetoSeconds" if "vetoSeconds" in written else "leaseSeconds"
        yield Complaint(("elections", key), text)


# -- refused here -------------------------------------------------------------------------------------------


def objection(elections: Elections | None) -> str | None:
    """Return why a node with this policy elects nothing, else None. Direct mode has no ``elections``."""
    if not RELEASED:
        return f'{NOT_RELEASED}; write "add"'
    if elections is None:
        return (
            "nobody elects here: that takes a node agent, not direct mode, with elections in its node"
            ' configuration; write "add", or add elections there'
        )
    return None


def refuse_network(activate: str, elections: Elections | None) -> None:
    """Refuse an ADD that wants an election on a node that holds none.

    Raises UnsupportedField in a release without elections, else PolicyRefused.
    """
    if activate == "ready" and (why := objection(elections)):
        raise (PolicyRefused if RELEASED else UnsupportedField)(f'$.activate: "ready": {why}')


def refuse_policy(elections: Elections | None, path: str) -> None:
    """Raise InvalidConfig where the node configuration at ``path`` wants what this release has not."""
    if elections and not RELEASED:
        raise InvalidConfig(f"{path}: $.elections: {NOT_RELEASED}; leave the key out")
