"""Checks ENIs and their links, and the filters between their packets and the VPC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ...edges.podnet import forwarding as forwarding_rules
from ...edges.podnet import host_link, host_use
from ...model.errors import CniError, Ec2Error
from .. import host
from ..catalog import make_finding
from ..facts import Ec2Interface, FloatingLink
from ..finding import Finding, fine, not_checked, not_read
from ..judge import firewall, interfaces
from ..probe import PRIMARY, Probe

NONE = not_checked("", "there is no ENI to judge")


def enis(probe: Probe) -> Iterable[Finding]:
    wrong = list(interfaces.unknown(probe.choices, probe.only))
    left_out = list(interfaces.left_out(probe.choices, probe.only))
    try:
        floating = _floating(probe)
    except Ec2Error as e:
        return [*wrong, not_read("", e), *left_out]
    lacking, in_use = probe.lacking, frozenset(claim.eni for claim in probe.claims_if_told)
    wrong += interfaces.enis(floating, probe.node.instance, len(left_out) + len(lacking))
    if lacking:
        wanted = probe.policy.allowed_interfaces
        wrong += interfaces.not_allowed(lacking, in_use, wanted, only=not floating and not left_out)
    ours = ", ".join(f"{eni.id} (device {eni.slot})" for eni in floating)
    never = [choice for choice in probe.choices if choice.never and choice.never != PRIMARY]
    theirs = "".join(f"; {choice.eni}: {choice.never}" for choice in never)
    return [*(wrong or [fine("", f"left to us: {ours}{theirs}") if floating else NONE]), *left_out]


def links(probe: Probe) -> Iterable[Finding]:
    observed = probe.links
    if not observed:
        return [NONE]
    taken = host.macs_in_pods({link.mac for link in observed if not link.name})
    in_pods = {claim.eni for claim in probe.claims_if_told} | {
        link.eni for link in observed if link.mac in taken
    }
    text = ", ".join(f"{link} up, MTU {link.mtu}" for link in observed if link.name)
    wrong = [*interfaces.links(observed, frozenset(in_pods), probe.claims_if_told), *_used_by_host(observed)]
    return wrong or [fine("", text or "none on the host")]


def _used_by_host(observed: Sequence[FloatingLink]) -> Iterator[Finding]:
    for link in observed:
        try:
            use = host_use.used_by_host(host_link(link.index)) if link.name else ""
        except CniError as e:
            yield not_checked(str(link), e.msg)
        else:
            if use:
                yield make_finding("host-uses-eni", str(link), use, link=link.name)


def source_dest_check(probe: Probe) -> Iterable[Finding]:
    floating = _floating(probe)
    if not floating:
        return [NONE]
    in_use = frozenset(claim.eni for claim in probe.claims_if_told)
    wanted = probe.policy.source_dest_check
    text = "off" if not any(eni.checked for eni in floating) else "an ADD turns it off where it is on"
    return list(interfaces.source_dest_check(floating, wanted, in_use)) or [fine("", text)]


def security_groups(probe: Probe) -> Iterable[Finding]:
    floating = _floating(probe)
    if not floating:
        return [NONE]
    ids = sorted({group for eni in floating for group in eni.groups})
    try:
        groups = probe.audit.security_groups(ids)
        referring = probe.audit.referring(ids)
    except Ec2Error as e:
        return [not_read("security groups", e, "ec2:DescribeSecurityGroups")]
    text = f"{', '.join(ids)} name every allowed range, in and out"
    wrong = [
        *firewall.security_groups(floating, groups, probe.ranges),
        *firewall.references(referring, probe.ranges),
        *_not_shown("security groups", ids, [group.id for group in groups]),
    ]
    return wrong or [fine("", text)]


def network_acls(probe: Probe) -> Iterable[Finding]:
    floating = _floating(probe)
    if not floating:
        return [NONE]
    subnets = sorted({eni.subnet for eni in floating})
    try:
        acls = probe.audit.network_acls(subnets)
    except Ec2Error as e:
        return [not_read("network ACLs", e, "ec2:DescribeNetworkAcls")]
    text = f"no rule of {', '.join(acl.id for acl in acls)} denies a range, in or out (ports are not judged)"
    wrong = [
        *firewall.network_acls(floating, acls, probe.ranges),
        *_not_shown("network ACLs", subnets, [subnet for acl in acls for subnet in acl.subnets]),
    ]
    return wrong or [fine("", text)]


def _not_shown(what: str, request: Sequence[str], shown: Sequence[str]) -> list[Finding]:
    """Return that EC2 keeps some to itself: in a shared VPC they are their owner's to see."""
    hidden = sorted(set(request) - set(shown))
    text = f"EC2 does not show those of {', '.join(hidden)} to this account"
    return (
        [
            not_checked(
                what,
                text,
                f"let the owner of the VPC look: aws ec2 describe-{what.replace(' ', '-').lower()}",
            )
        ]
        if hidden
        else []
    )


def _floating(probe: Probe) -> Sequence[Ec2Interface]:
    ids = {eni.id for eni in probe.floating}
    return [eni for eni in probe.interfaces if eni.id in ids]


def rp_filter(probe: Probe) -> Iterable[Finding]:
    names = ["all", "default", *(link.name for link in probe.links if link.name)]
    values = {name: host.setting(f"ipv4/conf/{name}/rp_filter") for name in names}
    if not values["all"]:
        return [not_checked("", "cannot be read below /proc/sys/net", "run: sysctl -a | grep rp_filter")]
    return list(interfaces.rp_filter(probe.links, values)) or [fine("", "nowhere strict")]


def forwarding(probe: Probe) -> Iterable[Finding]:
    names = [link.name for link in probe.links if link.name]
    values = {(4, name): host.setting(f"ipv4/conf/{name}/forwarding") for name in names}
    if not all(values.values()):
        return [not_checked("", "cannot be read below /proc/sys/net", "run: sysctl -a | grep forwarding")]
    # Linux has one setting for IPv6 that counts; a kernel without IPv6 has none.
    values |= {(6, name): host.setting("ipv6/conf/all/forwarding") for name in names}
    try:
        stopped = {name: forwarding_rules.stopped(name) for name in names}
    except CniError as e:
        return [not_checked("", e.msg, "run: ip rule; ip -6 rule")]
    finding = fine("", "nothing is forwarded from any ENI with floating IPs")
    return list(interfaces.forwarding(probe.links, values, stopped)) or [finding]


def router_advertisements(probe: Probe) -> Iterable[Finding]:
    findings: list[Finding] = []
    for claim in probe.claims:
        try:
            hops = host.advertised_defaults(claim.netns, claim.ifname)
        except CniError as e:
            findings.append(not_checked(claim.pod, e.msg))
        else:
            findings += interfaces.router_advertisements(claim, hops)
    return findings or [fine("", "no pod took a default route from one on a floating interface")]
