"""DEL: end an attachment's claim. Never fails for AWS, network, namespace, configuration or record reasons.

An error from DEL would make the runtime skip the other plugins' clean-up (libcni stops at the first one), so
what cannot be done now is recorded and done later. Needs neither ``prevResult`` nor namespace nor EC2.

Another call may hold the attachment while it waits for AWS. Then DEL only marks the record
(``Claim.deleted_at``) and clears the pod without the lock. The mark ends the claim for good, whatever the
holder writes later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from ..model.claim import Claim
from ..model.errors import CniError, InvalidEnvironment, IoFailure
from ..model.recorded_config import RecordedConfig
from ..model.values import Attachment, RouteKey
from ..protocol.request import Request, ifname_faults, parse
from .release import attachment_lock, live_claims
from .world import World

LOCK_SECONDS = 4.5
"""How long to wait for an ADD of the same attachment: it stops once its last write is answered."""
CANCEL_SECONDS = 0.25
"""How often the mark is repeated, because that ADD may have recorded its claim in between."""


def delete(request: Request, world: World) -> None:
    """End the claim of the request's attachment; what is left to do is on disk afterwards."""
    attachment = request.attachment
    if faults := ifname_faults(attachment.ifname):
        world.log(f"DEL: {faults[0]}: no ADD can have used it, so there is nothing to do", "warning")
        return
    try:
        _delete(request, world)
    except CniError as e:
        world.log(f"DEL {attachment}: left for the next call: {e}", "warning")


def spooled(env: Mapping[str, str], stdin: bytes) -> Request:
    """Return the DEL in a file of the spool. Raises CniError for any other content."""
    request = parse(env, stdin)
    if request.verb != "DEL":
        raise InvalidEnvironment(f"{request.verb} does not go through the spool")
    return request


def is_ended(world: World, attachment: Attachment) -> bool:
    """Whether a DEL of ``attachment`` is done and on disk."""
    record = world.claims.get(attachment)
    done = record is None or (record.moved if not isinstance(record, Claim) else not record.live)
    return done and world.claims.is_persisted(attachment)


def _delete(request: Request, world: World) -> None:
    attachment = request.attachment
    try:
        with _cancelled(request, world) as mine:
            claim = world.claims.get(attachment)
            if claim is not None and not isinstance(claim, Claim):
                world.log(str(claim), "warning")
                claim = _from_request(request, world) if claim.moved else None
            if mine and claim is not None:
                end_claim(world, claim, request.netns, override=request.netns_override)
            elif claim is not None:  # the mark tells the holder, which gives the pod nothing more
                _clear_pod(world, claim, request.netns, override=request.netns_override)
    finally:
        world.wake_keeper()


@contextmanager
def _cancelled(request: Request, world: World) -> Iterator[bool]:
    """Lock the attachment once a running ADD of it has stopped; false: it has not stopped in time."""
    lock, until = attachment_lock(request.attachment), world.clock() + LOCK_SECONDS
    first = True
    while True:
        _cancel(request, world, again=first)
        first = False
        with world.claims.lock(lock, CANCEL_SECONDS) as mine:
            if mine or world.clock() >= until:
                yield mine
                return


def _cancel(request: Request, world: World, *, again: bool) -> None:
    """End the claim in the record of a running call: an ADD reads the record before each write.

    If the running ADD has not recorded its claim yet, an ended record is written in its place; the ADD finds
    it and stops. ``again``: also overwrite the mark of an earlier DEL.
    """
    if not world.claims.is_locked(attachment_lock(request.attachment)):
        return
    claim = world.claims.get(request.attachment)
    if claim is None:
        world.claims.put_if_absent(_empty_claim(request, world).release(0.0, world.now()))
    elif isinstance(claim, Claim) and (again or not claim.deleted_at):
        stays = _keys_to_keep(world, claim)
        _drop_from_older_claims(world, claim, stays)
        world.claims.update(request.attachment, lambda now: _with_routes_ended(world, now, stays))


def end_claim(world: World, claim: Claim, netns: str, *, override: bool = False) -> None:
    """End ``claim`` and clear the pod; the keeper or a later call releases its VPC routes. Raises CniError.

    A failed ADD is undone whatever ``onDelete`` says, because no answer said that its route exists.
    """
    stays = _keys_to_keep(world, claim)
    _drop_from_older_claims(world, claim, stays)
    claim = _with_routes_ended(world, claim, stays)
    if claim.routes or claim.lost_record is not None:
        try:
            world.claims.put(claim)
        except IoFailure as e:  # a full disk: what can be done now is done all the same
            world.log(str(e), "warning")
    _clear_pod(world, claim, netns, override=override)
    if not claim.routes and claim.lost_record is None:
        _erase(world, claim)


def _with_routes_ended(world: World, claim: Claim, stays: Collection[RouteKey]) -> Claim:
    routes = tuple(route for route in claim.routes if route.key not in stays or not route.state.live)
    return replace(claim, routes=routes).release(_release_time(world, claim), world.now())


def _keys_to_keep(world: World, claim: Claim) -> set[RouteKey]:
    """Return the routes that ``onDelete: keep`` leaves: a pod had them, and no other claim moves them."""
    if claim.on_delete != "keep":
        return set()
    heirs = live_claims(world, besides=claim.attachment)
    return {
        route.key
        for route in claim.routes
        if route.state.settled and not any(heir.wants(route.key) and heir.eni != claim.eni for heir in heirs)
    }


def _erase(world: World, claim: Claim) -> None:
    try:
        world.claims.delete(claim.attachment)
    except IoFailure:  # then the record says at least that the claim has ended
        world.claims.put(claim)
        raise


def _release_time(world: World, claim: Claim) -> float:
    """Return when the routes of a claim that ends now may be released, in seconds since the epoch.

    The grace begins at the later of DEL and the end of our last write.
    """
    return max(world.now(), claim.last_write_at) + world.policy.release_grace_seconds


def _drop_from_older_claims(world: World, claim: Claim, keys: Collection[RouteKey]) -> None:
    """Drop ``keys`` from older, ended claims of this node.

    Otherwise they would delete the routes that ``onDelete: keep`` leaves.
    """
    if not keys:
        return
    for other in world.claims.all()[0]:
        if other.eni != claim.eni or other.attachment == claim.attachment:
            continue
        if all(route.state.live or route.key not in keys for route in other.routes):
            continue  # not even locked: a DEL of it would take us for its ADD, and cancel that
        with world.claims.lock(attachment_lock(other.attachment), 0) as free:
            now = world.claims.get(other.attachment)
            if not free or not isinstance(now, Claim):
                continue  # its own call is at work
            routes = tuple(route for route in now.routes if route.state.live or route.key not in keys)
            if routes == now.routes:
                continue
            try:
                if routes:
                    world.claims.put(replace(now, routes=routes))
                else:
                    world.claims.delete(now.attachment)
            except IoFailure as e:  # the DEL itself is yet to be recorded
                world.log(f"{now.attachment}: {e}", "warning")


def _clear_pod(world: World, claim: Claim, netns: str, *, override: bool) -> None:
    """Remove our routes and rules from the pod, if its namespace exists and is still the pod's."""
    netns = netns or claim.netns  # a runtime need not say where it was
    inode = world.inode(netns)
    if not inode or inode != claim.netns_inode:
        return  # gone, or /proc/PID/ns/net of another process by now
    kernel = world.kernel()
    try:
        try:
            with kernel.open_pod(netns, claim.attachment.ifname, override=override) as pod:
                lost = claim.lost_record is not None  # then our mark says which tables are ours
                for table in {route.table for route in pod.routes()} if lost else {claim.table}:
                    pod.remove_all(table)
                for address in claim.connected:
                    pod.restore_connected(address)
        except CniError:  # the interface is gone: an ipvlan link leaves its rules behind
            kernel.clear_pod(netns, claim.table, claim.pod_routes, claim.pod_rules, override=override)
    except CniError as e:
        world.log(f"{claim.attachment}: cannot clear the pod: {e}", "warning")


def _from_request(request: Request, world: World) -> Claim | None:
    """Make a claim to release from DEL's request, in place of an unreadable record."""
    raw = request.config.get("onDelete")
    on_delete: Literal["release", "keep"] = raw if raw in ("release", "keep") else world.on_delete
    if on_delete == "keep" or not request.config.get("prevResult"):
        return None
    return replace(
        _empty_claim(request, world), on_delete=on_delete, lost_record=RecordedConfig(dict(request.config))
    )


def _empty_claim(request: Request, world: World) -> Claim:
    """Return a record that claims nothing."""
    elected = RecordedConfig(request.config).elected
    return Claim(
        attachment=request.attachment,
        eni="",
        region="",
        netns=request.netns,
        netns_inode=world.inode(request.netns),
        boot=world.boot(),
        pod=request.pod,
        on_delete=world.on_delete,
        routes=(),
        created_at=world.now(),
        last_write_at=world.now(),
        group="" if elected else None,
    )
