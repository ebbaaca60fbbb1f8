"""Ends duplicate address detection of addresses that the plugin before us left tentative (RFC 4862, 5.4).

``ip address change ... nodad`` sets the flag, and the address stays tentative. An address that is deleted and
added again with the flag can be used at once. Both requests travel in one datagram, so a process that is
killed loses no address (``Rtnetlink.renew``).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from ...model.values import Address
from .links import Parent
from .routes import AF_INET6
from .rtnetlink import Message, Refused, Rtnetlink

# linux/if_addr.h
_TEMPORARY, _NODAD, _DADFAILED, _HOMEADDRESS, _TENTATIVE = 0x01, 0x02, 0x08, 0x10, 0x40
_MANAGETEMPADDR, _NOPREFIXROUTE, _MCAUTOJOIN = 0x100, 0x200, 0x400
_STATE = _TEMPORARY | _DADFAILED | _TENTATIVE
_GIVEN = _HOMEADDRESS | _MANAGETEMPADDR | _NOPREFIXROUTE | _MCAUTOJOIN
"""The flags that whoever adds an address may choose; the kernel sets the others."""
_HEADER = ("family", "prefixlen", "scope", "index")
_KEY = ("IFA_ADDRESS", "IFA_LOCAL")  # the second where the first is a peer's
_OTHERS = ("IFA_RT_PRIORITY", "IFA_PROTO")
_PASSTHRU = "passthru"


def finds_nobody(message: Message, parent: Parent | None) -> bool:
    """Return whether no other host can have an address of this link, so that detection protects nothing.

    ipvlan itself refuses an address that a sibling has. A macvlan in mode passthru has no sibling, and an ENI
    in the pod has no child outside it. The VPC carries no multicast between ENIs. Of other kinds (vlan,
    bridge, macvlan in another mode) this is not known.
    """
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    if kind == "ipvlan":
        return True
    if kind == "macvlan":
        data = info.get_attr("IFLA_INFO_DATA")
        return bool(data and data.get_attr("IFLA_MACVLAN_MODE") == _PASSTHRU)
    beside = message.get_attr("IFLA_LINK_NETNSID") is None
    return parent is None or not (beside or parent.here)


def skip(kernel: Rtnetlink, index: int, addresses: Collection[Address]) -> None:
    """Make those of ``addresses`` on link ``index`` usable that are tentative and no duplicates.

    Raises ``Refused``, with the address in its text. Nothing else on the link is changed. No route has a
    tentative address as its preferred source, so none goes with the address that is deleted; the prefix's
    route comes back with it.
    """
    # Backwards, because the kernel lists the newest first, and the order decides between equal sources.
    for message in reversed(kernel.dump("address", index=index, family=AF_INET6)):
        address = ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
        if message["index"] == index and address in addresses and _flags(message) & _STATE == _TENTATIVE:
            _renew(kernel, message, address)


def _flags(message: Message) -> int:
    return int(message.get_attr("IFA_FLAGS") or message["flags"])  # the header has room for 8 bits


def _renew(kernel: Rtnetlink, message: Message, address: Address) -> None:
    fields = {name: message[name] for name in _HEADER}
    key = _present(message, _KEY)
    attrs = key + _present(message, _OTHERS) + _lifetimes(message)
    flags = _flags(message) & _GIVEN
    not_deleted, not_added = kernel.renew("address", key, [*attrs, ("IFA_FLAGS", flags | _NODAD)], **fields)
    if not_deleted and not not_added:  # somebody removed it a moment ago: it must not come back
        with suppress(Refused):
            kernel.delete("address", key, **fields)
    if not_deleted:
        raise Refused(not_deleted.errno, f"{address} was removed meanwhile")
    if not_added:  # a sibling took it, say
        why = not_added.text.rstrip(".") or str(not_added)
        try:
            kernel.create("address", [*attrs, ("IFA_FLAGS", flags)], **fields)
        except Refused:
            why = f"{why}; the interface is left without it"
        raise Refused(not_added.errno, f"{address} cannot be added again: {why}")


def _present(message: Message, names: Collection[str]) -> list[tuple[str, Any]]:
    return [(name, value) for name in names if (value := message.get_attr(name)) is not None]


def _lifetimes(message: Message) -> list[tuple[str, Any]]:
    times = message.get_attr("IFA_CACHEINFO")
    if not times:
        return []
    seconds = ((name, times[name]) for name in ("ifa_preferred", "ifa_valid"))
    return [("IFA_CACHEINFO", frozenset([*seconds, ("cstamp", 0), ("tstamp", 0)]))]
