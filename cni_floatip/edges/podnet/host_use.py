"""Detects whether the host itself uses an ENI: with an address on it, and a default route through it.

A network manager gives both to a hot-plugged ENI. The metadata guard then stops the host, too.
"""

from __future__ import annotations

from ...model.values import MAIN_TABLE, Link
from . import namespace, routes, tables
from .links import reported

_UNIVERSE = 0  # linux/rtnetlink.h, rt_scope_t


def used_by_host(link: Link) -> str:
    """Return the addresses and default routes by which the host uses its link; "" if it does not."""
    with namespace.own() as kernel, reported(f"read the addresses and routes of {link.name}"):
        addresses = [
            f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}"
            for message in kernel.dump("address")
            if message["index"] == link.index and message["scope"] == _UNIVERSE
        ]
        defaults = [
            f"default via {route.gateway or 'nothing'} metric {route.metric}"
            for message in tables.read_routes(kernel, table=MAIN_TABLE)
            for route in routes.other_routes(message, {link.index: link.name})
            if not route.destination.prefixlen and route.ifname == link.name
        ]
    return f"the host uses {link.name}: {', '.join(addresses + defaults)}" if addresses and defaults else ""
