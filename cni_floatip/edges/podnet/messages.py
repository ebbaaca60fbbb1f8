"""Messages that pyroute2 lacks, or has for eBPF only. Attributes here are bytes that the caller packs."""

from __future__ import annotations

from pyroute2.netlink import nlmsg


class TrafficControl(nlmsg):  # type: ignore[misc]  # pyroute2 has no types
    """A qdisc or a filter (linux/rtnetlink.h, ``struct tcmsg``), of whatever kind."""

    fields = (
        ("family", "B"),
        ("pad1", "B"),
        ("pad2", "H"),
        ("index", "i"),
        ("handle", "I"),
        ("parent", "I"),
        ("info", "I"),
    )
    nla_map = ((1, "TCA_KIND", "asciiz"), (2, "TCA_OPTIONS", "cdata"), (11, "TCA_CHAIN", "uint32"))
