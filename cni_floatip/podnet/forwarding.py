"""Forwarding, off on an ENI that carries floating IPs: its packets are for pods, or for nobody.

A packet that still arrives for a pod that has gone would be forwarded by the host, out of its primary ENI
and back into the VPC. The pods behind the ENI are not concerned: what is theirs they take before the host
looks at it. What everybody forwards (a write to ``net.ipv4.ip_forward`` or ``conf.all``) turns it on again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from cni_floatip.errors import PodNetworkFailure
from cni_floatip.model import Link
from cni_floatip.podnet import namespace
from cni_floatip.podnet.attributes import packed
from cni_floatip.podnet.links import reported

ROOTS = (Path("/proc/sys/net"), Path("/host/proc/sys/net"))
"""Where settings are written. The first is read-only in a container that is not privileged; the second is
there if the pod mounts the host's ``/proc/sys/net``. Both are about the network namespace of who writes."""

_AF_INET, _IFLA_INET_CONF, _FORWARDING = 2, 1, 1  # linux/if_link.h, linux/ip.h


def stop_forwarding(link: Link, roots: Sequence[Path] = ()) -> bool:
    """Turn IPv4 and IPv6 forwarding off on a link of this process's namespace; say whether it was on.

    ``PodNetworkFailure`` if it stays on for one of them; the other is off then.
    """
    roots = roots or ROOTS
    changed = False
    v4, v6, accept_ra = (
        f"{where}/conf/{link.name}/{what}"
        for where, what in (("ipv4", "forwarding"), ("ipv6", "forwarding"), ("ipv6", "accept_ra"))
    )
    if _is_on(roots, v4):
        _stop_ipv4(link)
        changed = True
    if _is_on(roots, v6):
        # Who does not forward listens to router advertisements: without this the node would get a second
        # default route through the ENI.
        for setting in (accept_ra, v6):
            _write_zero(roots, setting, link)
        changed = True
    return changed


def _is_on(roots: Sequence[Path], setting: str) -> bool:
    try:
        return (roots[0] / setting).read_text().strip() != "0"
    except FileNotFoundError:
        return False  # no such address family, or the link is gone and forwards nothing


def _stop_ipv4(link: Link) -> None:
    """By netlink, which CAP_NET_ADMIN suffices for. IPv6 has no message for it."""
    off = packed(_FORWARDING, struct.pack("I", 0))
    settings = packed(_AF_INET, packed(_IFLA_INET_CONF, off))
    with namespace.own() as kernel, reported(f"turn IPv4 forwarding off on {link.name}"):
        kernel.change("link settings", [("IFLA_AF_SPEC", settings)], index=link.index)


def _write_zero(roots: Sequence[Path], setting: str, link: Link) -> None:
    refusals = []
    for root in roots:
        try:
            (root / setting).write_text("0\n")
        except OSError as error:
            refusals.append(str(error))
        else:
            return
    name = setting.replace(link.name, "*").replace("/", ".").replace("*", link.name)
    raise PodNetworkFailure(
        f"the host goes on forwarding IPv6 from {link.name}: net.{name}=0 cannot be set from here;"
        f" set it on the node, or mount the host's /proc/sys/net at {roots[-1]}",
        "; ".join(refusals),
    )
