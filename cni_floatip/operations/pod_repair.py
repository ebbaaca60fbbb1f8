"""Compares a pod's routes, rules and addresses with its claim, and repairs them.

CHECK and the keeper compare by the same rules. The keeper puts back our missing routes and rules, never over
somebody else's, and brings the ENI's link up as ADD does. A missing address or interface is only reported,
because it is the pod's or the runtime's to restore.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..model.claim import Claim
from ..model.claim_state import State
from ..model.errors import CniError, InvalidNetns, IoFailure
from ..model.values import Attachment, Interface, PodRoute, PodRule
from .evidence import is_here
from .locate import bring_up
from .release import attachment_lock
from .world import PodNet, World


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between a pod and its claim. ``wanted``: what ADD put there and can put back.

    An ``Interface`` is an address whose connected route is back, which ADD removes.
    """

    text: str
    wanted: PodRoute | PodRule | Interface | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class RepairResult:
    """The result of a look at a pod. ``busy``: a call for the attachment runs.

    ``claim_ended``: the claim has ended, or its pod's namespace is gone. ``index`` is the interface's.
    ``repaired`` says what was put back, ``lost`` what stays lost and why, ``lost_since`` since when something
    does (seconds since the epoch), ``raised`` which link of the node was brought up.
    """

    busy: bool = False
    claim_ended: bool = False
    index: int = 0
    repaired: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    lost_since: float = 0.0
    raised: str = ""


def configure_pod(pod: PodNet, claim: Claim, before: Claim | None = None) -> dict[PodRule, CniError]:
    """Add the pod's routes and rules; remove those of ``before`` that ``claim`` does not have.

    Raises CniError for a route. Returns the rules that cannot be there, and why.
    """
    former: list[PodRoute | PodRule] = [*before.pod_routes, *before.pod_rules] if before else []
    for given in former:
        if given not in claim.pod_routes and given not in claim.pod_rules:
            pod.remove(given)
    for route in claim.pod_routes:  # routes first: a rule makes them count
        pod.add(route)
    errors: dict[PodRule, CniError] = {}
    for rule in claim.pod_rules:
        try:
            pod.add(rule)
        except CniError as e:
            errors[rule] = e
    for address in claim.connected:
        pod.remove_connected(address.network)
    return errors


def clear_pod(pod: PodNet, claim: Claim) -> None:
    """Remove the claim's routes and rules from the pod."""
    for rule in claim.pod_rules:
        pod.remove(rule)
    for route in claim.pod_routes:
        pod.remove(route)
    for address in claim.connected:
        pod.restore_connected(address)


def differences(pod: PodNet, claim: Claim) -> Iterator[Difference]:
    """Return missing or changed routes, rules and addresses. Additions of others are no difference.

    An address that a pod with ``watchAddresses`` has removed is no difference either, because the pod may put
    it back. The kernel removes routes with the last address of a family; they return when an address does.
    """
    present = {address.interface.ip: address for address in pod.addresses()}
    for address in claim.addresses:
        if address.ip not in present:
            if not claim.watches:
                yield Difference(f"address {address.ip} is missing")
        elif present[address.ip].tentative or present[address.ip].duplicate:
            yield Difference(f"address {address.ip} cannot be used (tentative, or a duplicate)")
    followed = {interface.ip for interface in (*claim.addresses, *claim.watched)}
    versions = {ip.version for ip in present if ip in followed} if claim.watches else {4, 6}
    routes = pod.routes()
    for route in claim.pod_routes:
        if route not in routes and route.destination.version in versions:
            other = [r for r in routes if (r.destination, r.table) == (route.destination, route.table)]
            yield Difference(f"route {route} " + (f"is now {other[0]}" if other else "is missing"), route)
    rules = pod.rules()
    yield from (Difference(f"rule {rule} is missing", rule) for rule in claim.pod_rules if rule not in rules)
    back = pod.connected() if claim.connected else frozenset()
    for address in claim.connected:
        if address.network in back:
            text = f"connected route {address.network} is back: nothing of it is on the link"
            yield Difference(text, address)


def repair_pod(attachment: Attachment, world: World) -> RepairResult:
    """Compare a pod with its claim and put back what is lost. Raises no error that a pod can cause."""
    with world.claims.lock(attachment_lock(attachment), 0) as mine:
        if not mine:
            return RepairResult(busy=True)
        claim = world.claims.get(attachment)
        if not isinstance(claim, Claim) or not claim.has_pod or claim.state is State.CLAIMING:
            return RepairResult(claim_ended=True)
        if not is_here(claim, world):
            return RepairResult(claim_ended=True)
        try:
            with world.kernel().open_pod(claim.netns, attachment.ifname) as pod:
                if not is_here(claim, world):  # the path has come to lead elsewhere
                    return RepairResult(claim_ended=True)
                result = _compare_and_repair(pod, claim, world)
        except InvalidNetns:  # the host's own, which only CNI_NETNS_OVERRIDE lets be a pod's
            return RepairResult(claim_ended=True)
        except CniError as e:
            if not is_here(claim, world):
                return RepairResult(claim_ended=True)
            result = RepairResult(lost=(e.msg,))
        return result if result.claim_ended else replace(result, lost_since=_date_loss(claim, world, result))


def _date_loss(claim: Claim, world: World, result: RepairResult) -> float:
    """Record since when the pod lacks something (0: it lacks nothing), for the next agent; return that."""
    since = (claim.pod_lost_since or world.now()) if result.lost else 0.0
    if since != claim.pod_lost_since:
        with contextlib.suppress(IoFailure):  # a full disk: the next look tries again
            world.claims.update(claim.attachment, lambda now: replace(now, pod_lost_since=since))
    return since


def _compare_and_repair(pod: PodNet, claim: Claim, world: World) -> RepairResult:
    raised, lost = "", []
    parent = pod.parent()
    if parent and parent.here and not parent.link.up:
        try:
            bring_up(pod, world)
            raised = parent.link.name
        except CniError as e:
            lost.append(e.msg)
    elif parent and parent.here and not parent.link.carrier:
        lost.append(f"{parent.link.name}, on which the interface is, has no carrier")
    results = list(differences(pod, claim))
    repaired, why = _put_back(pod, results)
    now = world.claims.get(claim.attachment)
    if repaired and not (isinstance(now, Claim) and now.has_pod):
        _take_back(pod, repaired)  # a DEL came, which waits for nobody: it may have cleared the pod before
        return RepairResult(claim_ended=True)
    lost += [why.get(difference, str(difference)) for difference in results if difference not in repaired]
    return RepairResult(
        index=pod.link.index, repaired=tuple(map(str, repaired)), lost=tuple(lost), raised=raised
    )


def _put_back(pod: PodNet, results: Sequence[Difference]) -> tuple[list[Difference], dict[Difference, str]]:
    """Put back what is possible, routes before the rules that use them; return that, and the failures."""
    repaired: list[Difference] = []
    why: dict[Difference, str] = {}
    for difference in results:
        try:
            if isinstance(difference.wanted, (PodRoute, PodRule)):
                pod.add(difference.wanted)
            elif difference.wanted is not None:
                pod.remove_connected(difference.wanted.network)
            else:
                continue
        except CniError as e:
            why[difference] = f"{difference}: {e.msg}"
        else:
            repaired.append(difference)
    return repaired, why


def _take_back(pod: PodNet, repaired: Sequence[Difference]) -> None:
    for difference in reversed(repaired):
        if isinstance(difference.wanted, (PodRoute, PodRule)):
            pod.remove(difference.wanted)
        elif difference.wanted is not None:
            pod.restore_connected(difference.wanted)
