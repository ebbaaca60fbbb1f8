"""ENIs and their links, and what stands between their packets and the VPC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ...edges.podnet import forwarding as forwarding_rules
from ...edges.podnet import host_link, hostuse
from ...model.errors import CniError, Ec2Error
from .. import host
from ..catalog import found
from ..facts import FloatingLink, Interface
from ..finding import Finding, fine, not_checked, not_read
from ..judge import firewall, interfaces
from ..probe import PRIMARY, Looks

NONE = not_checked("", "there is no ENI to judge")


def enis(looks: Looks) -> Iterable[Finding]:
    wrong = list(interfaces.unknown(looks.choices, looks.only))
    left_out = list(interfaces.left_out(looks.choices, looks.only))
    try:
        floating = _floating(looks)
    except Ec2Error as e:
        return [*wrong, not_read("", e), *left_out]
    lacking, in_use = looks.lacking, frozenset(claim.eni for claim in looks.claims_if_told)
    wrong += interfaces.enis(floating, looks.node.instance, len(left_out) + len(lacking))
    if lacking:
        wanted = looks.policy.allowed_interfaces
        wrong += interfaces.not_allowed(lacking, in_use, wanted, only=not floating and not left_out)
    ours = ", ".join(f"{eni.id} (device {eni.slot})" for eni in floating)
    never = [each for each in looks.choices if each.never and each.never != PRIMARY]
    theirs = "".join(f"; {each.eni}: {each.never}" for each in never)
    return [*(wrong or [fine("", f"left to us: {ours}{theirs}") if floating else NONE]), *left_out]


def links(looks: Looks) -> Iterable[Finding]:
    seen = looks.links
    if not seen:
        return [NONE]
    taken = host.taken_by_pods({link.mac for link in seen if not link.name})
    in_pods = {claim.eni for claim in looks.claims_if_told} | {each.eni for each in seen if each.mac in taken}
    said = ", ".join(f"{link} up, MTU {link.mtu}" for link in seen if link.name)
    wrong = [*interfaces.links(seen, frozenset(in_pods), looks.claims_if_told), *_used_by_host(seen)]
    return wrong or [fine("", said or "none on the host")]


def _used_by_host(seen: Sequence[FloatingLink]) -> Iterator[Finding]:
    for link in seen:
        try:
            use = hostuse.used_by_host(host_link(link.index)) if link.name else ""
        except CniError as e:
            yield not_checked(str(link), e.msg)
        else:
            if use:
                yield found("host-uses-eni", str(link), use, link=link.name)


def source_dest_check(looks: Looks) -> Iterable[Finding]:
    floating = _floating(looks)
    if not floating:
        return [NONE]
    in_use = frozenset(claim.eni for claim in looks.claims_if_told)
    wanted = looks.policy.source_dest_check
    said = "off" if not any(eni.checked for eni in floating) else "an ADD turns it off where it is on"
    return list(interfaces.source_dest_check(floating, wanted, in_use)) or [fine("", said)]


def security_groups(looks: Looks) -> Iterable[Finding]:
    floating = _floating(looks)
    if not floating:
        return [NONE]
    ids = sorted({group for eni in floating for group in eni.groups})
    try:
        groups = looks.audit.security_groups(ids)
        referring = looks.audit.referring(ids)
    except Ec2Error as e:
        return [not_read("security groups", e, "ec2:DescribeSecurityGroups")]
    said = f"{', '.join(ids)} name every allowed range, in and out"
    wrong = [
        *firewall.security_groups(floating, groups, looks.ranges),
        *firewall.references(referring, looks.ranges),
        *_not_shown("security groups", ids, [group.id for group in groups]),
    ]
    return wrong or [fine("", said)]


def network_acls(looks: Looks) -> Iterable[Finding]:
    floating = _floating(looks)
    if not floating:
        return [NONE]
    subnets = sorted({eni.subnet for eni in floating})
    try:
        acls = looks.audit.network_acls(subnets)
    except Ec2Error as e:
        return [not_read("network ACLs", e, "ec2:DescribeNetworkAcls")]
    said = f"no rule of {', '.join(acl.id for acl in acls)} denies a range, in or out (ports are not judged)"
    wrong = [
        *firewall.network_acls(floating, acls, looks.ranges),
        *_not_shown("network ACLs", subnets, [subnet for acl in acls for subnet in acl.subnets]),
    ]
    return wrong or [fine("", said)]


def _not_shown(what: str, asked: Sequence[str], shown: Sequence[str]) -> list[Finding]:
    """Return that EC2 keeps some to itself: in a shared VPC they are their owner's to see."""
    hidden = sorted(set(asked) - set(shown))
    said = f"EC2 does not show those of {', '.join(hidden)} to this account"
    return (
        [
            not_checked(
                what,
                said,
                f"let the owner of the VPC look: aws ec2 describe-{what.replace(' ', '-').lower()}",
            )
        ]
        if hidden
        else []
    )


def _floating(looks: Looks) -> Sequence[Interface]:
    ids = {eni.id for eni in looks.floating}
    return [eni for eni in looks.interfaces if eni.id in ids]


def rp_filter(looks: Looks) -> Iterable[Finding]:
    names = ["all", "default", *(link.name for link in looks.links if link.name)]
    values = {name: host.setting(f"ipv4/conf/{name}/rp_filter") for name in names}
    if not values["all"]:
        return [not_checked("", "cannot be read below /proc/sys/net", "run: sysctl -a | grep rp_filter")]
    return list(interfaces.rp_filter(looks.links, values)) or [fine("", "nowhere strict")]


def forwarding(looks: Looks) -> Iterable[Finding]:
    names = [link.name for link in looks.links if link.name]
    values = {(4, name): host.setting(f"ipv4/conf/{name}/forwarding") for name in names}
    if not all(values.values()):
        return [not_checked("", "cannot be read below /proc/sys/net", "run: sysctl -a | grep forwarding")]
    # Linux has one setting for IPv6 that counts; a kernel without IPv6 has none.
    values |= {(6, name): host.setting("ipv6/conf/all/forwarding") for name in names}
    try:
        stopped = {name: forwarding_rules.stopped(name) for name in names}
    except CniError as e:
        return [not_checked("", e.msg, "run: ip rule; ip -6 rule")]
    said = fine("", "nothing is forwarded from any ENI with floating IPs")
    return list(interfaces.forwarding(looks.links, values, stopped)) or [said]


def router_advertisements(looks: Looks) -> Iterable[Finding]:
    findings: list[Finding] = []
    for claim in looks.claims:
        try:
            hops = host.advertised_defaults(claim.netns, claim.ifname)
        except CniError as e:
            findings.append(not_checked(claim.pod, e.msg))
        else:
            findings += interfaces.router_advertisements(claim, hops)
    return findings or [fine("", "no pod took a default route from one on a floating interface")]
