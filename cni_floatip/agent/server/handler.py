"""One call of a client: the same operations as in direct mode, in this agent's world.

What differs from ``plugin`` is where a call comes from and goes to: its namespace is a descriptor, its end is
that of its client, EC2 is shared with all others, and DEL leaves to the keeper what needs EC2.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from ... import operations
from ...config.netconf import timeout_of
from ...model.claim import Claim
from ...model.errors import CniError, LimitedConnectivity, NotAvailable, TryAgain, short
from ...model.values import Attachment
from ...model.versions import SUPPORTED
from ...model.waiting import pause, unless
from ...operations.world import Metadata, Vpc, World
from ...protocol import request
from ...protocol.answer import encoded, error_document
from ...protocol.request import Request
from ...protocol.wire import Call
from ..observe.lines import MOST_PARTS
from ..observe.logs import Log
from ..observe.recorder import Counts
from .cancellation import Ends
from .connection import Talk
from .netns_fd import Handed

DEADLINES: Mapping[str, float] = {"DEL": 6, "CHECK": 30, "GC": 60, "STATUS": 2, "status": 5}
"""How long a call may take, for its client; that of an ADD is in its configuration."""
SHORT = 2.0
"""For what is refused at once."""
KEPT_BACK = 5.0
"""How long before its deadline a call waits for EC2 no more, so that the answer still comes in time."""
READABLE = 1 << 16
"""Of a call for which there is no room only so much is read, for the version to answer in."""


class View(Vpc, Protocol):
    """EC2 as one call sees it, until that ends."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Ways:
    """What calls need besides the world of operations.

    ``view`` is EC2 in a region for one call: what stops it is asked while it waits its turn, and it waits
    until a time of the world's clock at most. ``metadata`` is instance metadata, until a deadline; what it is
    given raises once the call is over. ``ready`` says why an ADD would fail now and ``broken`` which
    routes of pods that are here lead nowhere, None for none; ``status`` is the node's document for
    ``floatipctl status``; ``spooled`` does the DELs of an attachment that wait, and says if none is left.
    """

    view: Callable[[str, Request, Callable[[], str | None], float], View]
    metadata: Callable[[float, Callable[[], object]], Metadata]
    ready: Callable[[], str | None]
    broken: Callable[[], str | None]
    status: Callable[[], Mapping[str, Any]]
    spooled: Callable[[Attachment], bool]


class Calls:
    """Answers calls, many at a time."""

    def __init__(self, world: World, ways: Ways, counts: Counts, log: Log) -> None:
        self._world = world
        self._ways = ways
        self._counts = counts
        self._log = log

    def answer(self, call: Call, talk: Talk) -> tuple[int, bytes]:
        """Run one call; return exit status and what the client prints. Raises nothing."""
        began = time.monotonic()
        version, log, error = SUPPORTED[-1], self._log.bind(verb=call.command), None
        document: Mapping[str, Any] | None = None
        asked: Request | None = None
        try:
            if call.command in ("status", "VERSION"):
                talk.works(DEADLINES["status"])
                document = self._tell(call)
            else:
                asked = request.parse(call.env, call.stdin)
                version, log = asked.version, _bound(log, asked)
                self._catch_up(asked)
                talk.works(_deadline(asked))
                document = self._run(asked, call, talk, log)
        except Exception as e:  # noqa: BLE001 (the one place where every failure becomes an answer)
            talk.works(SHORT)  # nothing, when a deadline was told already
            error = e
            document = error_document(e, version, lambda e: log.failure("a bug in floatip", e))
        log = log.bind(**self._subject(asked)) if asked else log
        self._record(call.command, talk, error, time.monotonic() - began, log)
        return int(error is not None), encoded(document)

    def refuse(self, call: Call) -> tuple[int, bytes]:
        """Answer a call for which there is no room."""
        version = SUPPORTED[-1]
        if len(call.stdin) <= READABLE:
            with contextlib.suppress(CniError, RecursionError):
                version = request.parse(call.env, call.stdin).version
        full = TryAgain("the node agent already runs as many calls as it can: try again")
        self._counts.call(call.command, str(full.code), 0.0)
        return 1, encoded(full.document(version))

    def spooled(self, call: Call) -> bool:
        """Do a DEL that a client left in the spool. False: not on disk yet, to be done again.

        Raises CniError for what is no DEL, or none that can be understood.
        """
        asked = operations.spooled(call.env, call.stdin)
        began, log = time.monotonic(), _bound(self._log.bind(verb="DEL", spooled=True), asked)
        self._delete(asked, replace(self._world, log=log), log)
        done = operations.is_ended(self._world, asked.attachment)
        seconds = time.monotonic() - began
        told = "DEL from the spool: " + ("done" if done else "it cannot be recorded yet")
        log(told, "info" if done else "warning", seconds=seconds, **self._subject(asked))
        return done

    # -- verbs ------------------------------------------------------------------------------------------

    def _tell(self, call: Call) -> Mapping[str, Any]:
        if call.command == "VERSION":
            return {"cniVersion": SUPPORTED[-1], "supportedVersions": list(SUPPORTED)}
        return self._ways.status()

    def _catch_up(self, asked: Request) -> None:
        """Do the DELs of an ADD's own attachment that are in the spool: later they would end its claim."""
        if asked.verb == "ADD" and not self._ways.spooled(asked.attachment):
            raise TryAgain(f"a DEL of {asked.attachment} is in the spool and cannot be recorded yet")

    def _run(self, asked: Request, call: Call, talk: Talk, log: Log) -> Mapping[str, Any] | None:
        if asked.verb == "STATUS":
            self._status()
            return None
        with contextlib.ExitStack() as ends:
            world = self._world_of(asked, call, talk, log, ends)
            match asked.verb:
                case "DEL":
                    self._delete(asked, world, log)
                case "ADD":
                    return operations.add(asked, world)
                case "CHECK":
                    operations.check(asked, world)
                case _:
                    operations.gc(asked, world)
        return None

    def _world_of(
        self, asked: Request, call: Call, talk: Talk, log: Log, ends: contextlib.ExitStack
    ) -> World:
        """Return the world of one call, which ends with ``ends``."""
        stop: Callable[[], str | None] = _never
        seconds = _deadline(asked)
        until = self._world.clock() + seconds - min(KEPT_BACK, seconds / 4)
        views: dict[str, View] = {}

        def vpc(region: str) -> Vpc:
            if region not in views:
                views[region] = self._ways.view(region, asked, stop, until)
                ends.callback(views[region].close)
            return views[region]

        world = replace(self._world, stop=stop, log=log, vpc=vpc)
        if asked.verb == "GC" or (asked.verb == "DEL" and talk.descriptor is None):
            return world  # looks into a pod only where a claim's own path still leads to it
        handed = Handed(asked.netns, talk.descriptor, call.netns_errno, world.kernel, world.inode)
        world = replace(world, kernel=handed.kernel, inode=handed.inode)
        if asked.verb in ("ADD", "CHECK"):
            stop = Ends(asked, talk.stop, world).why
        go_on = unless(stop)
        return replace(
            world,
            stop=stop,
            sleep=lambda seconds: pause(seconds, self._world.sleep, go_on),
            metadata=lambda deadline: self._ways.metadata(deadline, go_on),
        )

    def _delete(self, asked: Request, world: World, log: Log) -> None:
        """DEL always completes: what goes wrong is for the operator to read, not for the runtime."""
        try:
            operations.delete(asked, world)
        except Exception as e:  # noqa: BLE001 (an error would stop the clean-up of the plugins before us)
            log.failure("DEL: left as it is", e)

    def _status(self) -> None:
        """Answer from memory: kubelet asks every five seconds."""
        if why := self._ways.ready():
            broken = self._ways.broken()
            raise LimitedConnectivity(f"{why} | {broken}") if broken else NotAvailable(why)

    def _subject(self, asked: Request) -> dict[str, Any]:
        """Return which addresses a call is about, for the log: as recorded, else as it was told."""
        if asked.verb not in ("ADD", "DEL", "CHECK"):
            return {}
        claim: object = None
        with contextlib.suppress(Exception):  # the call has ended as it has: only the line is shorter
            claim = self._world.claims.get(asked.attachment)
        if isinstance(claim, Claim) and claim.routes:
            subject = claim.subject()
            return {key: subject[key] for key in ("addresses", "tables", "eni")}
        return {"addresses": _told_addresses(asked.config)}

    def _record(self, verb: str, talk: Talk, error: Exception | None, seconds: float, log: Log) -> None:
        code = getattr(error, "code", 999) if error else 0
        outcome = "cancelled" if error and talk.stop() else str(code) if error else "ok"
        self._counts.call(verb, outcome, seconds)
        level: Literal["debug", "info", "warning"] = "info"
        if verb in ("STATUS", "VERSION", "status"):
            level = "debug"
        elif error:
            level = "warning"
        told = f"{verb}: {error or 'done'}"
        log(told, level, seconds=seconds, code=code, outcome=outcome)


def _deadline(asked: Request) -> float:
    """Return how long the client is to wait for this call at most."""
    return timeout_of(asked.config) if asked.verb == "ADD" else DEADLINES[asked.verb]


def _bound(log: Log, asked: Request) -> Log:
    return log.bind(
        network=asked.attachment.network,
        container=asked.attachment.container,
        ifname=asked.attachment.ifname,
        namespace=asked.pod.namespace,
        pod=asked.pod.name,
        uid=asked.pod.uid,
    )


def _told_addresses(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses in a ``prevResult`` that nobody has judged."""
    result = config.get("prevResult")
    ips = result.get("ips") if isinstance(result, dict) else None
    entries = ips[:MOST_PARTS] if isinstance(ips, list) else []
    found = (entry.get("address") for entry in entries if isinstance(entry, dict))
    return tuple(short(address) for address in found if isinstance(address, str))


def _never() -> str | None:
    return None
