"""The metadata guard: through an ENI no pod reaches instance metadata, nor the host that the ENI is on.

A pod with NET_ADMIN can remove its ``unreachable`` routes, one with NET_RAW writes frames past all routes.
What the children of an ENI (ipvlan, macvlan) send to the VPC, the kernel sends again as the ENI's own: a
filter on the ENI's *egress* sees it, and is out of the pods' reach. It drops what is for metadata.

A frame whose destination MAC is its source MAC does not leave: ipvlan (mode l2) hands it to the host as if
the ENI had received it, past every egress hook. From there it would reach each service of the node and, where
the host forwards, metadata through the primary ENI. A filter on the ENI's *ingress* drops each frame whose
source MAC is the ENI's own or a group address. The VPC delivers none of these, and a frame that comes that
way and that the host takes in has one of them: as destination it has the same MAC, and the host takes in what
is for its own MAC or for a group (broadcast).

There are two mechanisms, because what takes one away leaves the other, and either suffices: ``nftables``,
which not every kernel has and ``nft flush ruleset`` removes, and ``clsact``, which EKS's kernels have, but
which is not asked about a frame that another's filter has let pass.

The egress filters look at the destination in the fixed IPv4 or IPv6 header, whatever options, extension
headers, fragment or transport follow, also behind a VLAN tag. Not covered: what a router would have to unwrap
or rewrite first (IP in IP, LLC/SNAP, source route options, NAT64), which EC2 does not do towards metadata;
what a pod sends to another pod of the same ENI, which ipvlan delivers itself; and host-device, where the ENI
is in the pod: one with NET_ADMIN can remove the guard there, one with NET_RAW sends past it (AF_XDP). Against
that only the instance's own metadata options help.
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
    """A link that is guarded. ``changed``: something had to be done.

    ``behind``: whose filter may let pass what ours then does not see.
    """

    changed: bool
    behind: str = ""


def ensure(link: Link, netns: str = "") -> Guarded:
    """Guard ``link`` of this process's namespace, or of the one at ``netns``. Twice is once.

    ``PodNetworkFailure`` where this kernel cannot, or the link is gone. What others have there stays.
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
    """Remove the chains of links that have gone or changed their name: they would find another's."""
    for index, name in nftables.list_guarded(netns):
        try:
            if link_of(kernel.get("link", index=index)).name == name:
                continue
        except Refused as refused:
            if refused.errno != errno.ENODEV:
                raise
        nftables.remove(index, netns)


def present(link: Link, netns: str = "") -> bool:
    """Whether ``link`` is guarded, in one way or the other. Changes nothing."""
    try:
        if nftables.present(link, netns):
            return True
    except Refused:
        pass  # this kernel has none
    with _inside(netns) as kernel, reported(f"read the filters of {link.name}"):
        return clsact.present(kernel, link)


def is_left(link: Link, netns: str = "") -> bool:
    """Whether anything of a guard is on ``link``, if only what another release left."""
    with _inside(netns) as kernel, reported(f"read the filters of {link.name}"):
        return link.index in _list_chained(netns) or clsact.is_left(kernel, link)


def remove(link: Link, netns: str = "") -> None:
    """Remove the guard of ``link`` and nothing else."""
    with _inside(netns) as kernel, reported(f"remove the guard of {link.name}"):
        clsact.remove(kernel, link)
        if link.index in _list_chained(netns):
            nftables.remove(link.index, netns)


def has_table(netns: str = "") -> bool:
    """Whether there is a table of ours, even an empty one."""
    try:
        return nftables.has_table(netns)
    except Refused:
        return False


def remove_table(netns: str = "") -> None:
    """Remove the table that the guards of all links had in common, with any that is left."""
    with reported("remove the nftables table netdev floatip"):
        nftables.remove_table(netns)


def _list_chained(netns: str) -> set[int]:
    try:
        return {index for index, _ in nftables.list_guarded(netns)}
    except Refused:  # this kernel has no nftables, so none of ours
        return set()


def _inside(netns: str) -> AbstractContextManager[Rtnetlink]:
    return namespace.enter(netns) if netns else namespace.own()
