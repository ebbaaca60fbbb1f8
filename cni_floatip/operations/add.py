"""ADD: point the VPC at this node for the pod's floating addresses, and give the pod its way out.

ADD refuses everything that can be refused, and records the claim on disk, before the first write. A later
failure is undone at once; what cannot be undone now stays recorded for DEL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ..model.claim import Claim
from ..model.claim_state import State
from ..model.errors import CniError, IoFailure, TryAgain, raise_any
from ..model.values import Attachment
from ..model.waiting import unless
from ..protocol.request import Request
from .locate import EniSite, VpcView, bring_up, evaluate_site, locate, read_vpc
from .plan import AddRequest, plan
from .pod_repair import clear_pod, configure_pod
from .release import attachment_lock, release
from .world import PodNet, World
from .write_routes import Attempt, Written, disable_source_check, write_routes

UNDO_SECONDS = 10.0
"""Reserved before an ADD's deadline: its last call takes up to five seconds, the undo takes the rest."""
DAD_SECONDS = 5.0
"""How long duplicate address detection may take (RFC 4862: about two seconds)."""


def add(request: Request, world: World, *, waited: float = 0.0) -> dict[str, Any]:
    """Claim the addresses that ``prevResult`` gave to the interface; return the result document.

    ``waited``: seconds of its time that have already passed. Raises CniError; then nothing is left but what
    the claim on disk says.
    """
    # 1. Read the request.
    call = AddRequest.read(request, world)
    deadline, until = _time_limits(call, world, waited)

    # 2. Open the pod and lock its attachment.
    with _locked_pod(call, world, deadline) as pod:
        before = record_before(request.attachment, world)

        def plan_at(site: EniSite) -> tuple[VpcView, Claim]:
            # 3. Locate the ENI and read the VPC around it.
            view = read_vpc(world, world.vpc(site.node.region), call.conf, call.prev, site, deadline)
            # 4. Plan the claim, or refuse everything that is impossible.
            return view, plan(call, world, pod, site, view, before)

        with closing(world.metadata(deadline)) as metadata:
            view, claim = evaluate_site(metadata, partial(locate, pod, metadata, call.conf), plan_at)
        answer = call.prev.with_routes(request.version, claim.pod_routes)
        bring_up(pod, world)
        attempt = Attempt(world, world.vpc(claim.region), call.conf, claim, deadline)

        # 5. Record the claim.
        _make_way(world, pod, claim, before)
        world.claims.put(claim)
        try:
            # 6. Configure the pod, then write the VPC routes.
            _skip_detection(pod, attempt)
            raise_any(configure_pod(pod, claim, before).values())
            results = world.run_all(partial(_write_routes, attempt, view), *_waits(pod, attempt))
            # 7. Record that the claim is held, and answer.
            held = _mark_held(attempt, results)
        except BaseException:  # also when the process is told to end: nobody else knows what was half done
            _roll_back(attempt, pod, until)
            raise
        if not held.settled:  # what an earlier ADD of this attachment claimed and this one does not
            _release_now(world, held)
            world.wake_keeper()
    return answer


def _time_limits(request: AddRequest, world: World, waited: float) -> tuple[float, float]:
    """Return the time after which no write begins, and the time after which no undo begins."""
    kept_back = min(UNDO_SECONDS, request.conf.timeout_seconds / 2)
    until = world.clock() + request.conf.timeout_seconds - waited - kept_back / 2
    return until - kept_back / 2, until


@contextmanager
def _locked_pod(call: AddRequest, world: World, deadline: float) -> Iterator[PodNet]:
    """Open the pod, with its attachment locked against other calls. Raises TryAgain where one is at work."""
    request, kernel = call.request, world.kernel()
    lock, seconds = attachment_lock(request.attachment), deadline - world.clock()
    with (
        kernel.open_pod(request.netns, request.attachment.ifname, override=request.netns_override) as pod,
        world.claims.lock(lock, seconds, unless(world.cancelled)) as mine,
    ):
        if not mine:
            raise TryAgain(f"another call for {request.attachment} is still running")
        yield pod


def record_before(attachment: Attachment, world: World) -> Claim | None:
    """Return what an earlier call recorded. Raises IoFailure for a record that must not be overwritten."""
    record = world.claims.get(attachment)
    if record is None or isinstance(record, Claim):
        return record
    if not record.moved:
        raise IoFailure(f"cannot record the claim of {attachment}: {record}")
    return None


def _make_way(world: World, pod: PodNet, claim: Claim, before: Claim | None) -> None:
    """Allow the record to be overwritten: no DEL has come, and it has no route left through another ENI."""
    if record_before(claim.attachment, world) != before:  # a DEL has left its mark, and answered without us
        if before:
            clear_pod(pod, before)
        raise TryAgain(f"stopped: {claim.attachment} was deleted meanwhile")
    if before and before.eni and before.eni != claim.eni:
        _leave_former(world, before)


def _skip_detection(pod: PodNet, attempt: Attempt) -> None:
    """Make IPv6 addresses usable at once that the plugin before us left tentative, unless the network waits.

    Before routes and rules, because the connected route that ADD removes comes back with the address.
    """
    if not attempt.conf.duplicate_address_detection:
        pod.skip_detection(address.ip for address in attempt.claim.addresses)


def _write_routes(attempt: Attempt, view: VpcView) -> Written:
    """Write every VPC route of the claim. Raises CniError with all that failed.

    An elected claim's routes are written when its pod is elected.
    """
    if view.checks_source:
        disable_source_check(attempt)
    if attempt.claim.elected:
        return Written()
    reads = view.route_reads(view.wants)
    claiming = (route.key for route in attempt.claim.routes if route.state is State.CLAIMING)
    written = write_routes(attempt, {key: reads[key] for key in claiming})
    raise_any(written.failed.values())
    return written


def _waits(pod: PodNet, attempt: Attempt) -> Iterator[Callable[[], None]]:
    """Yield the wait until every floating address can be used, because a tentative one does not answer."""
    world, addresses = attempt.world, attempt.claim.addresses
    if any(address.version == 6 for address in addresses):  # IPv4 has no such detection
        until = min(attempt.deadline, world.clock() + DAD_SECONDS)
        ips = [address.ip for address in addresses]
        yield partial(pod.wait_addresses, ips, until, world.sleep, world.clock)


def _mark_held(attempt: Attempt, results: Sequence[Written | CniError | None]) -> Claim:
    """Record success, unless a write has failed or a DEL has come at the last moment."""
    raise_any(results)
    world, claim = attempt.world, attempt.claim
    replace(attempt, deadline=math.inf).go_on()
    if claim.elected:
        return _record_success(world, replace(claim.admit(), last_write_at=world.now()))
    vanished = {key for result in results if isinstance(result, Written) for key in result.vanished}
    claim = replace(claim, routes=tuple(r for r in claim.routes if r.key not in vanished))
    wanted = [route.key for route in claim.routes if route.state is State.CLAIMING]
    if not wanted:
        raise TryAgain("every selected route table is gone since it was selected")
    return _record_success(world, claim.hold(wanted, world.now()))


def _record_success(world: World, claim: Claim) -> Claim:
    world.claims.put(claim)
    now = world.claims.get(claim.attachment)
    if not isinstance(now, Claim) or now.deleted_at:
        raise TryAgain(f"stopped: {claim.attachment} was deleted meanwhile")
    return claim


def _leave_former(world: World, before: Claim) -> None:
    """Release this attachment's routes through another ENI, if no DEL came between. Raises TryAgain.

    A record holds one ENI, so it is not overwritten while the old routes may exist.
    """
    ended = before.drop().end_grace()
    world.claims.put(ended)
    _release_now(world, ended)
    left = world.claims.get(before.attachment)
    if isinstance(left, Claim) and left.state is not State.GONE:
        raise TryAgain(f"the routes of {before.attachment} through {before.eni} are not released yet")


def _release_now(world: World, claim: Claim) -> None:
    """Release what can be released at once; the rest is for the next call."""
    try:
        release(world, world.vpc(claim.region), claim, world.clock() + UNDO_SECONDS / 2)
    except CniError as e:
        world.log(f"{claim.attachment}: left for the next call: {e}", "warning")


def _roll_back(attempt: Attempt, pod: PodNet, until: float) -> None:
    """Undo a failed ADD. The record of it goes to disk first; DEL releases what is left."""
    world, claim = attempt.world, attempt.claim
    ended = replace(claim.give_up(), last_write_at=world.now())
    steps: Mapping[str, Callable[[], object]] = {
        "record the failed ADD": lambda: world.claims.put(ended),
        "clear the pod": lambda: clear_pod(pod, ended),
        "take the VPC routes back": lambda: release(world, attempt.vpc, ended, until),
    }
    for what, step in steps.items():
        try:
            step()
        except CniError as e:
            world.log(f"{claim.attachment}: cannot {what} now: {e}", "warning")
