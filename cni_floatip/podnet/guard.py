"""The metadata guard: nothing that leaves through an ENI is for instance metadata.

A pod with NET_ADMIN can remove its ``unreachable`` routes, one with NET_RAW writes frames past all routes.
What the children of an ENI (ipvlan, macvlan) send, the kernel sends again as the ENI's own: a filter on the
ENI's egress sees it, and is out of the pods' reach.

There are two, because what takes one away leaves the other, and either suffices: ``nftables``, which sees
frames first but which not every kernel has and ``nft flush ruleset`` removes, and ``clsact``, which EKS's
kernels have, but which is not asked about a frame that another's filter has let pass.

Both look at the destination in the fixed IPv4 or IPv6 header, whatever options, extension headers, fragment
or transport follow, also behind a VLAN tag. Not covered: what a router would have to unwrap or rewrite first
(IP in IP, LLC/SNAP, source route options, NAT64), which EC2 does not do towards metadata; and host-device,
where the ENI is in the pod: what a pod with NET_ADMIN removes there comes back at the next look, not sooner.
Against that only the instance's own metadata options help.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cni_floatip.model import Link
from cni_floatip.podnet import clsact, namespace, nftables
from cni_floatip.podnet.links import link_of, reported
from cni_floatip.podnet.rtnetlink import Refused, Rtnetlink


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
        kernel.get("link", index=link.index)
        try:
            _sweep(kernel, netns)
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


def _sweep(kernel: Rtnetlink, netns: str) -> None:
    """Remove the chains of links that have gone or changed their name: they would find another's."""
    for index, name in nftables.guarded(netns).items():
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


def remove(link: Link, netns: str = "") -> None:
    """Remove the guard of ``link`` and nothing else."""
    with _inside(netns) as kernel, reported(f"remove the guard of {link.name}"):
        clsact.remove(kernel, link)
        if link.index in _chains(netns):
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


def _chains(netns: str) -> Mapping[int, str]:
    try:
        return nftables.guarded(netns)
    except Refused:  # this kernel has no nftables, so none of ours
        return {}


def _inside(netns: str) -> AbstractContextManager[Rtnetlink]:
    return namespace.entered(netns) if netns else namespace.own()
