"""Judges ENIs and their links: who manages them, whether they are up, how kernel and EC2 filter packets."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from ...config.netconf import tags_match
from ..catalog import make_finding
from ..facts import Choice, ClaimedPod, Ec2Interface, FloatingLink
from ..finding import Finding, list_names, not_checked

MTU = 9001


def unknown(choices: Sequence[Choice], only: Sequence[str]) -> Iterator[Finding]:
    """Judge the names that were given: a mistyped one must not look as if all were well."""
    for name in only:
        having = [choice for choice in choices if name in choice.names]
        if not having:
            yield make_finding("interface-unknown", name, "no ENI of this node has this name")
        elif all(choice.never for choice in having):
            yield make_finding("interface-unknown", name, f"is {having[0].eni}: {having[0].never}")


def left_out(choices: Sequence[Choice], only: Sequence[str]) -> Iterator[Finding]:
    """Say which ENIs no check is about because others were named."""
    for choice in choices:
        if not choice.never and not choice.is_judged(only):
            yield not_checked(choice.eni, f"device {choice.slot} is not among those that --interface names")


def not_allowed(
    lacking: Sequence[Ec2Interface], in_use: Collection[str], wanted: Mapping[str, str], *, only: bool
) -> Iterator[Finding]:
    """Judge the ENIs that policy does not allow: those in use, and all where there are ``only`` such."""
    tags = " ".join(f"Key={key},Value={'...' if value == '*' else value}" for key, value in wanted.items())
    for eni in lacking:
        if eni.id in in_use or only:
            missing = [key for key, value in wanted.items() if not tags_match({key: value}, eni.tags)]
            used = "has live claims and" if eni.id in in_use else f"device {eni.slot}"
            what = f"{used} does not have the tags of allowedInterfaces: {', '.join(missing)}"
            yield make_finding("eni-not-allowed", eni.id, what, eni=eni.id, tags=tags)


def enis(floating: Sequence[Ec2Interface], instance: str, others: int = 0) -> Iterator[Finding]:
    """Judge what there is for floating IPs, and who else wants it.

    ``others``: how many were left out, because others were named or policy does not allow them.
    """
    if not floating and not others:
        what = "every ENI is the primary one, VPC CNI's or EFA-only"
        yield make_finding("no-floating-eni", instance, what, instance=instance)
    for eni in floating:
        if not eni.is_unmanaged:
            taken = ", and VPC CNI's own tag: it has taken it" if eni.is_taken else ""
            what = f"device {eni.slot} has no tag node.k8s.amazonaws.com/no_manage=true{taken}"
            yield make_finding("eni-managed", eni.id, what, eni=eni.id)


def links(
    observed: Sequence[FloatingLink], in_pods: frozenset[str] = frozenset(), claims: Sequence[ClaimedPod] = ()
) -> Iterator[Finding]:
    """Judge the links. ``in_pods``: ENIs whose link a pod has taken (host-device)."""
    for link in observed:
        pods = list_names(sorted({claim.pod for claim in claims if claim.eni == link.eni}))
        if not link.name:
            if link.eni not in in_pods:
                yield make_finding("link-missing", link.eni, f"no link with MAC {link.mac}", eni=link.eni)
            continue
        names = {"link": link.name, "eni": link.eni, "slot": link.slot}
        behind = f": {pods} cannot be reached" if pods else ""
        if not link.up:
            yield make_finding(
                "link-down-in-use" if pods else "link-down", str(link), f"is down{behind}", **names
            )
        elif not link.carrier:
            yield make_finding("no-carrier", str(link), f"is up and has no carrier{behind}", **names)
        if link.mtu < MTU:
            yield make_finding("mtu-small", str(link), f"MTU {link.mtu}", **names)
        if not link.by_index:
            yield make_finding("link-name", str(link), f"is device {link.slot}", **names)


def source_dest_check(
    floating: Sequence[Ec2Interface], wanted: str, in_use: frozenset[str]
) -> Iterator[Finding]:
    """Judge the check: policy "disable" turns it off when a pod comes, not before."""
    for eni in floating:
        if eni.checked and (eni.id in in_use or wanted != "disable"):
            used = "and has live claims" if eni.id in in_use else f'and policy says "{wanted}"'
            yield make_finding("check-on", eni.id, f"is on, {used}", eni=eni.id)


def rp_filter(observed: Sequence[FloatingLink], values: Mapping[str, str]) -> Iterator[Finding]:
    """Judge reverse path filtering: the kernel takes the larger of a link's value and that of "all"."""
    names = [link.name for link in observed if link.name]
    for name in (*names, "default"):
        value = max((values.get("all", ""), values.get(name, "")), key=lambda item: int(item or 0))
        if value == "1":
            what = f"net.ipv4.conf.{name}.rp_filter is 1 (all: {values.get('all')})"
            yield make_finding("rp-filter-strict", name, what, link=name)


def forwarding(
    observed: Sequence[FloatingLink],
    values: Mapping[tuple[int, str], str],
    stopped: Mapping[str, Collection[int]],
) -> Iterator[Finding]:
    """Judge forwarding from links in use: ``values`` by family and link, ``stopped``: by rules of ours."""
    for link in observed:
        for family in (4, 6):
            forwards = values.get((family, link.name), "") not in ("", "0")
            if link.in_use and forwards and family not in stopped.get(link.name, ()):
                what = f"the host forwards IPv{family}, and no rule of ours stops it for {link.name}"
                yield make_finding("forwarding-on", str(link), what, link=link.name, family=f"-{family}")


def router_advertisements(claim: ClaimedPod, hops: Sequence[str]) -> Iterator[Finding]:
    """Judge the default routes that a pod took through its floating interface."""
    for hop in hops:
        what = f"{claim.ifname} has a default route via {hop}"
        yield make_finding("ra-default-route", claim.pod, what, pod=claim.pod, ifname=claim.ifname)
