"""Direct mode: an agent's core in one process, for the length of one call. For development and ``cnitool``.

A call locks the data directory, as an agent does. Like an agent it first works off what earlier processes
left (killed ADDs, DELs in the spool). Then it does its own work, and last it releases, as the keeper would.
Of two calls at once one waits:

* An ADD or a CHECK waits as long as it may take.
* A GC does not wait, because its list of valid attachments grows old.
* A DEL leaves a file in the spool before it waits, and after eight seconds leaves the work to that file. The
  ADD that it is to end looks for such a file while it waits and before each write. A DEL may be done between
  two looks of a waiting ADD, so it also removes the note by which that ADD has announced itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from . import operations
from .agent import recovery
from .agent.claim_cache import ClaimCache
from .agent.observe.recorder import NullRecorder
from .agent.spool import Spool
from .config.netconf import timeout_of
from .config.nodeconf import NodeConf
from .edges import host, imds, podnet, spool
from .edges.ec2 import client
from .edges.host import clock
from .edges.store import Store, make_directory, write_whole
from .model.errors import CniError, IoFailure, TryAgain, raise_any
from .model.values import Attachment
from .model.waiting import always, pause, unless
from .operations import backlog
from .operations.add import record_before
from .operations.check import CHECK_SECONDS
from .operations.election import NoElections
from .operations.gc import GC_SECONDS
from .operations.world import Claims, Log, Vpc, World, start_thread
from .protocol import wire
from .protocol.request import Request

DEL_SECONDS = 8.0
"""How long a DEL waits for the data directory, and for the DELs of others; it is answered within ten."""
RELEASE_SECONDS = 4.5
"""When a DEL begins its last call to AWS, counted from its beginning. One takes five seconds at most."""
AFTER_ADD_SECONDS = 2.0
"""How long an ADD may release the backlog of others, if it has as much time left."""
LAST_CALL_SECONDS = 5.0
"""How long before its deadline an ADD begins no more calls to AWS."""
SPOOL_SECONDS = 5.0
"""How long the DELs of others keep a call from its own work."""


class AgentIsHere(TryAgain):
    """An agent holds the data directory's lock."""


@dataclass(frozen=True, slots=True)
class Core:
    """The state of a call that holds the data directory's lock."""

    world: World
    spool: Spool

    def catch_up(self, until: float, attachment: Attachment | None = None) -> None:
        """Work off the backlog of earlier calls until then, first DELs of ``attachment``. Raises CniError.

        The DELs of others take ``SPOOL_SECONDS`` at most.
        """
        recovery.end_unanswered(self.world)
        self.spool.prepare()
        if attachment and not self.spool.process_owner(attachment.container, attachment.ifname):
            record_before(attachment, self.world)  # a record that must not be written over stays so
            raise TryAgain(f"a DEL of {attachment} is in the spool and cannot be recorded yet")
        self.spool.process_all(min(until, clock() + SPOOL_SECONDS))


def add(request: Request, policy: NodeConf, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Run one ADD; return the result document. Raises CniError."""
    began, seconds = clock(), timeout_of(request.config)
    _store(policy).make()
    with _announced(request.attachment, policy.spool_dir) as stop:
        go_on = unless(stop)
        with locked(policy, environ, seconds, go_on) as here:
            go_on()
            here.catch_up(began + seconds, request.attachment)
            world = replace(
                here.world, cancelled=stop, sleep=lambda seconds: pause(seconds, time.sleep, go_on)
            )
            answer = operations.add(request, world, waited=clock() - began)
            until = min(clock() + AFTER_ADD_SECONDS, began + seconds - LAST_CALL_SECONDS)
            backlog.process_backlog(here.world, until, besides=request.attachment)
            return answer


def check(request: Request, policy: NodeConf, environ: Mapping[str, str]) -> None:
    """Run one CHECK. Raises CniError."""
    began = clock()
    with locked(policy, environ, CHECK_SECONDS) as here:
        here.catch_up(began + CHECK_SECONDS)
        operations.check(request, here.world, waited=clock() - began)


def gc(request: Request, policy: NodeConf, environ: Mapping[str, str]) -> None:
    """Run one GC; a route of its network that could not be released is an error too. Raises CniError."""
    until = clock() + GC_SECONDS
    with locked(policy, environ, 0.0) as here:
        here.catch_up(until)
        errors: list[CniError] = []
        try:
            operations.gc(request, here.world)
        except CniError as e:
            errors.append(e)
        left = backlog.process_backlog(here.world, until)
        raise_any([*errors, *(e for whose, e in left.items() if whose.network == request.attachment.network)])


def delete(request: Request, policy: NodeConf, environ: Mapping[str, str], stdin: bytes) -> None:
    """Run one DEL, or leave it to the next call or agent. Raises no CniError."""
    if not _store(policy).exists():
        return  # nothing was ever claimed here
    began, attachment = clock(), request.attachment
    is_left = _leave(request, policy.spool_dir, environ, stdin)
    try:
        with locked(policy, environ, began + DEL_SECONDS - clock()) as here:
            if not is_left:
                recovery.end_unanswered(here.world)  # else a killed ADD releases a route that the DEL keeps
                operations.delete(request, here.world)
            with contextlib.suppress(CniError):  # it has been told
                here.catch_up(began + DEL_SECONDS, attachment)
            if clock() >= began + RELEASE_SECONDS:
                return
            backlog.work_off_one(here.world, attachment, began + RELEASE_SECONDS)
            backlog.process_backlog(here.world, began + RELEASE_SECONDS, besides=attachment)
    except CniError as e:
        what = "left for the next call" if is_left else "lost, and floatipctl gc ends what it was to end"
        tell(f"DEL {attachment}: {what}: {e}")


def status(policy: NodeConf, environ: Mapping[str, str]) -> None:
    """Return if an ADD could succeed. Waits for no call, and creates nothing. Raises NotAvailable."""
    results, store = [], _store(policy)
    try:
        store.check_usable()
        if store.is_locked_by_agent():
            results.append("a node agent has the data directory: direct mode is not for this node")
    except IoFailure as e:
        results.append(e.msg)
    operations.status(lambda seconds: _metadata(environ, clock() + seconds), environ, results)


@contextlib.contextmanager
def locked(
    policy: NodeConf,
    environ: Mapping[str, str],
    seconds: float,
    go_on: Callable[[], object] = always,
    *,
    on_delete: Literal["release", "keep"] = "keep",
    log: Log | None = None,
) -> Iterator[Core]:
    """Lock the data directory, after so many seconds at most.

    Raises AgentIsHere at once, TryAgain when the time is over, and what ``go_on`` raises meanwhile.
    """
    store = _store(policy)

    def wait() -> None:
        _refuse_agent(store)
        go_on()

    with store.lock(seconds, wait) as mine:
        if not mine:
            wait()
            raise TryAgain(f"another call has {policy.data_dir}, and has not ended in {seconds:.0f} s")
        core = assemble(policy, environ, ClaimCache(store, time.time), on_delete=on_delete, log=log)
        try:
            yield core
        finally:
            if why := core.world.claims.flush():
                core.world.log(why, "warning")


def read_only(
    policy: NodeConf,
    environ: Mapping[str, str],
    *,
    on_delete: Literal["release", "keep"] = "keep",
    log: Log | None = None,
) -> Core:
    """Return the core over the claims as they are on disk now, for a process that only reads.

    Takes no lock, waits for no call, and creates nothing. Raises AgentIsHere.
    """
    store = Store(policy.data_dir, sleep=time.sleep, clock=clock, reads_only=True)
    _refuse_agent(store)
    return assemble(policy, environ, ClaimCache(store, time.time), on_delete=on_delete, log=log)


def _refuse_agent(store: Store) -> None:
    if store.is_locked_by_agent():
        raise AgentIsHere(f"a node agent has {store}: direct mode is not for this node")


def assemble(
    policy: NodeConf,
    environ: Mapping[str, str],
    claims: Claims,
    *,
    on_delete: Literal["release", "keep"] = "keep",
    log: Log | None = None,
) -> Core:
    """Return the core over ``claims``; only a process that has the data directory ``locked`` writes with it.

    Routes are kept by default, because no keeper repairs a route that a late delete hits.
    """
    world = _world(policy, environ, claims, on_delete, log or tell)

    def deliver(call: wire.Call) -> bool:
        request = operations.spooled(call.env, call.stdin)
        operations.delete(request, world)
        return operations.is_ended(world, request.attachment)

    return Core(world, Spool(policy.spool_dir, deliver, NullRecorder(), world.log, _tell_mistake, clock))


def _world(
    policy: NodeConf,
    environ: Mapping[str, str],
    claims: Claims,
    on_delete: Literal["release", "keep"],
    log: Log,
) -> World:
    """Return the world of a call in this process. No grace and no election outlast a call."""
    region = environ.get("AWS_REGION", "")
    clients: dict[str, Vpc] = {}
    boot = host.boot()

    def vpc(where: str) -> Vpc:
        where = region or where
        if where not in clients:
            clients[where] = client.Vpc(where, policy.roles)
        return clients[where]

    return World(
        policy=replace(policy, release_grace_seconds=0, elections=None),
        on_delete=on_delete,
        claims=claims,
        kernel=lambda: podnet,
        metadata=lambda deadline: _metadata(environ, deadline),
        vpc=vpc,
        boot=lambda: boot,
        inode=host.inode,
        namespaces=host,
        clock=clock,
        now=recovery.monotonic_wall_clock(time.time, clock),
        sleep=time.sleep,
        jitter=random.random,
        log=log,
        cancelled=lambda: None,
        wake_keeper=lambda: None,  # what is left is released before the call ends
        election=NoElections(),
        run_in_thread=start_thread,
    )


def _store(policy: NodeConf) -> Store:
    return Store(policy.data_dir, sleep=time.sleep, clock=clock)


def _metadata(environ: Mapping[str, str], deadline: float) -> imds.Metadata:
    endpoint = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "")
    return imds.Metadata(deadline, endpoint=endpoint, clock=clock)


# -- how calls for one attachment see each other ------------------------------------------------------------


@contextlib.contextmanager
def _announced(attachment: Attachment, directory: str) -> Iterator[Callable[[], str | None]]:
    """Announce an ADD to the DELs of its attachment; yield what says that one has come (else None)."""
    others = set(spool.snapshot(directory))  # DELs that were left before this ADD began do not end it
    deleted = f"{attachment} was deleted meanwhile"
    note = Path(directory, f"{_key(attachment)}.{os.getpid()}{spool.NOTE}")
    try:
        make_directory(note.parent)
        note.touch(mode=0o600)
    except OSError as e:
        raise IoFailure(f"cannot use the spool directory {directory}: {e.strerror}") from e

    def stop() -> str | None:
        if not note.exists():
            return deleted
        for file in spool.snapshot(directory) - others:
            owner = spool.owner_of(Path(directory, file[0]))
            if owner == (attachment.container, attachment.ifname):
                return deleted
            if owner:  # not read again, because a waiting ADD looks fifty times a second
                others.add(file)
        return None

    try:
        yield stop
    finally:
        note.unlink(missing_ok=True)


def _leave(request: Request, directory: str, environ: Mapping[str, str], stdin: bytes) -> bool:
    """End the ADDs of a DEL's attachment, then leave the DEL in the spool; return whether it is there.

    In this order, because once the file is there another call may do the DEL, and the ADD would go on.
    """
    attachment = request.attachment
    path = Path(directory, spool.name_of(attachment.container, attachment.ifname, stdin))
    env = {name: value for name, value in environ.items() if name.startswith("CNI_")}
    body = wire.body_bytes(env, stdin)
    try:
        make_directory(path.parent)
        for note in path.parent.glob(f"{_key(attachment)}.*{spool.NOTE}"):
            note.unlink(missing_ok=True)
        if len(body) > wire.MOST_BODY:  # nobody would read it
            raise OSError(0, f"it has more than {wire.MOST_BODY} bytes")
        write_whole(path, body)
    except OSError as e:
        tell(f"DEL {attachment}: it cannot be kept in {directory}: {e.strerror}")
        return False
    return True


def _key(attachment: Attachment) -> str:
    return spool.name_of(attachment.container, attachment.ifname, b"").removesuffix(spool.SUFFIX)


def tell(sentence: str, *_: object, **__: object) -> None:
    """Write a line for the operator. A closed standard error is no failure."""
    with contextlib.suppress(OSError):
        os.write(2, f"floatip: {sentence}\n".encode(errors="replace"))


def _tell_mistake(sentence: str, e: Exception) -> None:
    tell(f"{sentence}: {''.join(traceback.format_exception(e))}")
