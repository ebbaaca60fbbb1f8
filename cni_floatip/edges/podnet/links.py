"""Reads links and their parents from the kernel, and brings an ENI's link up."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from ...model.errors import PodNetworkFailure
from ...model.values import Link
from . import namespace
from .rtnetlink import Message, Refused, Rtnetlink

POLL_SECONDS = 0.02

_IFF_UP = 0x1
_IPVLAN_MODES: Mapping[int, Literal["l2", "l3", "l3s"]] = MappingProxyType({0: "l2", 1: "l3", 2: "l3s"})

_REASONS: Mapping[int, str] = MappingProxyType(
    {
        errno.EPERM: "not permitted: CAP_NET_ADMIN is needed",
        errno.ENODEV: "the interface is gone",
        errno.ENETDOWN: "the interface is down",
        errno.ETIMEDOUT: "the kernel did not answer in time",
        errno.EBADF: "the kernel did not answer an earlier question in time",
        errno.EAFNOSUPPORT: "this kernel has no IPv6",
        errno.EOPNOTSUPP: "this kernel has no IPv6",
    }
)


HostLink = Callable[[int, Callable[[], Link]], Link]
"""Returns a link of this process's namespace by its index; the callable asks the kernel for it."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The link below the pod's interface. ``here``: it lives in the namespace this process runs in."""

    link: Link
    here: bool


@contextmanager
def reported(doing: str) -> Iterator[None]:
    """Turn the kernel's refusal into a ``PodNetworkFailure`` that names the failed step."""
    try:
        yield
    except Refused as refused:
        reason = refused.text.rstrip(".") or _REASONS.get(refused.errno) or os.strerror(refused.errno)
        raise PodNetworkFailure(f"{doing}: {reason}", str(refused)) from refused


def link_of(message: Message) -> Link:
    """Read a link; ``mac`` in lower case with colons, empty where there is none."""
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") or "") if info else ""
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        mac=(message.get_attr("IFLA_ADDRESS") or "").lower(),
        kind=kind,
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(message.get_attr("IFLA_CARRIER")),
        ipvlan_mode=ipvlan_mode(info) if kind == "ipvlan" else "",
    )


def ipvlan_mode(info: Any) -> Literal["", "l2", "l3", "l3s"]:
    """Read the mode from an ipvlan link's IFLA_LINKINFO (linux/if_link.h, ``enum ipvlan_mode``).

    An unknown mode is ``""``: not l2.
    """
    data = info.get_attr("IFLA_INFO_DATA")
    mode = data.get_attr("IFLA_IPVLAN_MODE") if data else None
    return _IPVLAN_MODES.get(mode, "")  # type: ignore[arg-type]  # a mode that is missing is not l2 either


def ask_always(_: int, ask: Callable[[], Link]) -> Link:
    """A ``HostLink`` that remembers nothing."""
    return ask()


def parent_of(kernel: Rtnetlink, message: Message, host_link: HostLink = ask_always) -> Parent | None:
    """Resolve IFLA_LINK in the namespace that IFLA_LINK_NETNSID names; None if the link has no parent.

    Without IFLA_LINK_NETNSID the parent lives beside its child.
    """
    index = message.get_attr("IFLA_LINK")
    nsid = message.get_attr("IFLA_LINK_NETNSID")
    if not index or (nsid is None and index == message["index"]):
        return None
    with namespace.own_descriptor() as own:
        our_id = kernel.get("nsid", [("NETNSA_FD", own)]).get_attr("NETNSA_NSID")
    # The kernel's IFLA_TARGET_NETNSID under its older name. A name that pyroute2 does not know is left out in
    # silence, and the answer is then some link of the pod.
    elsewhere = [] if nsid is None else [("IFLA_IF_NETNSID", nsid)]
    here = nsid is not None and nsid == our_id

    def ask() -> Link:
        return link_of(kernel.get("link", elsewhere, index=index))

    try:
        return Parent(host_link(index, ask) if here else ask(), here)
    except Refused as refused:
        if refused.errno == errno.ENODEV:
            return None
        raise


def host_link(index: int) -> Link:
    """Return a link of the namespace this process runs in; ``PodNetworkFailure`` if there is none."""
    with namespace.own() as kernel, reported(f"link {index} of the host"):
        return link_of(kernel.get("link", index=index))


def link_names(index: int) -> tuple[str, ...]:
    """Return every name of a link of this process's namespace: the first, then the second ones (altname)."""
    with namespace.own() as kernel, reported(f"names of link {index}"):
        message = kernel.get("link", index=index)
    others = message.get_attr("IFLA_PROP_LIST")
    seconds = others.get_attrs("IFLA_ALT_IFNAME") if others else ()
    return (message.get_attr("IFLA_IFNAME"), *seconds)


def link_by_mac(mac: str) -> Link | None:
    """Return the link with this MAC in the namespace this process runs in.

    Children (vlan, ipvlan, macvlan in mode passthru, bridge) may share it: a link that has no parent beside
    it comes first, then the lower index.
    """
    with namespace.own() as kernel, reported(f"look for the link with MAC {mac}"):
        results = [
            (_is_child(message), link.index, link)
            for message in kernel.dump("link")
            if (link := link_of(message)).mac == mac.lower()
        ]
    return min(results, key=lambda item: item[:2])[2] if results else None


def set_up(
    link: Link,
    deadline: float,
    sleep: Callable[[float], object],
    clock: Callable[[], float] = time.monotonic,
) -> Link:
    """Bring up a link of this process's namespace, wait for its carrier, return it as it then is.

    ``deadline`` is a time of ``clock``, in seconds. ``sleep`` may return true to say that waiting is over
    (``threading.Event.wait`` fits). ``PodNetworkFailure`` if there is no carrier by then. A hot-plugged ENI
    on AL2023 is down, and an interface on a parent that is down takes addresses and routes and carries
    nothing.
    """
    if link.up and link.carrier:
        return link
    with namespace.own() as kernel, reported(f"bring up {link.name}"):
        kernel.change("link", index=link.index, flags=_IFF_UP, change=_IFF_UP)
        while True:
            now = link_of(kernel.get("link", index=link.index))
            if now.up and now.carrier:
                return now
            if clock() >= deadline or sleep(POLL_SECONDS):
                raise PodNetworkFailure(f"{link.name} ({link.mac}) has no carrier after it was brought up")


def _is_child(message: Message) -> bool:
    """Whether the link's parent lives beside it (a veth's peer elsewhere is no parent)."""
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else ""
    beside = message.get_attr("IFLA_LINK") and message.get_attr("IFLA_LINK_NETNSID") is None
    return bool(kind == "bridge" or (beside and kind != "veth"))
