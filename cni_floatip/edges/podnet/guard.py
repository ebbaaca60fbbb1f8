"""The metadata guard: filters on an ENI keep pods from instance metadata and from the ENI's host.

A pod with NET_ADMIN can remove its ``unreachable`` routes, one with NET_RAW writes frames past all routes.
The kernel sends the packets of an ENI's children (ipvlan, macvlan) to the VPC again as the ENI's own. So a
filter on the ENI's *egress* sees them, out of the pods' reach, and drops those for metadata.

A frame whose destination MAC is its source MAC does not leave: ipvlan (mode l2) hands it to the host as if
the ENI had received it, past every egress hook. From there it would reach each service of the node and, where
the host forwards, metadata through the primary ENI. A filter on the ENI's *ingress* drops each frame whose
source MAC is the ENI's own or a group address. The VPC delivers no such frames. Every ipvlan frame that the
host accepts is one: its source and destination MAC are equal, and the host accepts only its own MAC and group
addresses (broadcast).

There are two mechanisms, because either suffices and they do not fail together: ``nftables``, which not every
kernel has and ``nft flush ruleset`` removes, and ``clsact``, which EKS's kernels have, but which does not see
a frame that another's filter has let pass.

The egress filters look at the destination in the fixed IPv4 or IPv6 header, whatever options, extension
headers, fragment or transport follow, also behind a VLAN tag. Not covered: packets that a router would have
to unwrap or rewrite first (IP in IP, LLC/SNAP, source route options, NAT64), which EC2 does not do towards
metadata; packets between pods of the same ENI, which ipvlan delivers itself; and host-device, where the ENI
is in the pod: a pod with NET_ADMIN can remove the guard there, one with NET_RAW sends past it (AF_XDP).
Against that only the instance's own metadata options help.
"""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ...model.values import Link
from . import clsact, namespace, nftables
from .links import link_of, reported
from .rtnetlink import Refused, Rtnetlink


@dataclass(frozen=True, slots=True)
class Guarded:
    """A guarded link. ``changed``: something had to be done.

    ``behind``: the owner of a filter that comes first and may let frames pass before ours sees them.
    """

    changed: bool
    behind: str = ""


def ensure(link: Link, netns: str = "") -> Guarded:
    """Guard ``link`` of this process's namespace, or of the one at ``netns``. Idempotent.

    ``PodNetworkFailure`` where this kernel cannot, or the link is gone. Filters of others stay.
    """
    with _inside(netns) as kernel, reported(f"guard {link.name} against access to instance metadata"):
        link = link_of(kernel.get("link", index=link.index))
        try:
            _remove_stale_chains(kernel, netns)
            first, refusal = nftables.ensure(link, netns), None
        except Refused as refused:
            first, refusal = False, refused
        try:
            second = clsact.ensure(kernel, link)
        except Refused as refused:
            if refusal is None:
                return Guarded(first)
            raise Refused(refused.errno, f"{refused.text or refused}; nftables: {refusal}") from refused
    return Guarded(first or second.changed, second.behind if refusal else "")


def _remove_stale_chains(kernel: Rtnetlink, netns: str) -> None:
    """Remove the chains of links that are gone or renamed, because they would attach to another link."""
    for index, name in nftables.list_guarded(netns):
        try:
            if link_of(kernel.get("link", index=index)).name == name:
                continue
        except Refused as refused:
            if refused.errno != errno.ENODEV:
                raise
        nftables.remove(index, netns)


def present(link: Link, netns: str = "") -> bool:
    """Whether ``link`` is guarded by either mechanism. Changes nothing."""
    try:
        if nftables.present(link, netns):
            return True
    except Refused:
        pass  # this kernel has none
    with _inside(netns) as kernel, reported(f"read the filters of {link.name}"):
        return clsact.present(kernel, link)


def is_left(link: Link, netns: str = "") -> bool:
    """Whether any part of a guard is on ``link``, even one that another release left."""
    with _inside(netns) as kernel, reported(f"read the filters of {link.name}"):
        return link.index in _list_chained(netns) or clsact.is_left(kernel, link)


def remove(link: Link, netns: str = "") -> None:
    """Remove the guard of ``link`` and nothing else."""
    with _inside(netns) as kernel, reported(f"remove the guard of {link.name}"):
        clsact.remove(kernel, link)
        if link.index in _list_chained(netns):
            nftables.remove(link.index, netns)


def has_table(netns: str = "") -> bool:
    """Whether our table exists, even if empty."""
    try:
        return nftables.has_table(netns)
    except Refused:
        return False


def remove_table(netns: str = "") -> None:
    """Remove the table that the guards of all links share, with any guard that is left."""
    with reported("remove the nftables table netdev floatip"):
        nftables.remove_table(netns)


def _list_chained(netns: str) -> set[int]:
    try:
        return {index for index, _ in nftables.list_guarded(netns)}
    except Refused:  # this kernel has no nftables, so none of ours
        return set()


def _inside(netns: str) -> AbstractContextManager[Rtnetlink]:
    return namespace.enter(netns) if netns else namespace.own()
