"""Runs one call of a client: the same operations as in direct mode, in this agent's world.

Four things differ from ``plugin``: the call's namespace is a descriptor, the call ends with its client, EC2
is shared with all other calls, and DEL leaves to the keeper what needs EC2.
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
from ...protocol.answer import encode, error_document
from ...protocol.request import Request
from ...protocol.wire import Call
from ..observe.lines import MOST_PARTS
from ..observe.logs import Log
from ..observe.recorder import Recorder
from .cancellation import Cancellation
from .connection import Connection
from .netns_fd import CallNamespace

DEADLINES: Mapping[str, float] = {"DEL": 6, "CHECK": 30, "GC": 60, "STATUS": 2, "status": 5}
"""How long a call may take, for its client; an ADD's limit is in its configuration."""
SHORT = 2.0
"""For requests that are refused at once."""
KEPT_BACK = 5.0
"""How long before its deadline a call stops waiting for EC2, so that the answer still comes in time."""
READABLE = 1 << 16
"""How much is read of a call for which there is no room: enough to find the version to answer in."""


class CallVpc(Vpc, Protocol):
    """EC2 for one call, until the call ends."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class AgentServices:
    """What calls need besides the world of operations.

    ``view`` returns EC2 in a region for one call. While the call waits its turn, it asks the given callable
    whether to stop; it waits until a time of the world's clock at most. ``metadata`` returns instance
    metadata, until a deadline; the callable given to it raises once the call is over. ``ready`` says why an
    ADD would fail now, and ``broken`` which routes of pods that are here lead nowhere; None for none.
    ``status`` returns the document of ``floatipctl status``. ``spooled`` does an attachment's waiting DELs,
    and says if none is left.
    """

    view: Callable[[str, Request, Callable[[], str | None], float], CallVpc]
    metadata: Callable[[float, Callable[[], object]], Metadata]
    ready: Callable[[], str | None]
    broken: Callable[[], str | None]
    status: Callable[[], Mapping[str, Any]]
    spooled: Callable[[Attachment], bool]


class CallHandler:
    """Answers calls, many at a time."""

    def __init__(self, world: World, ways: AgentServices, recorder: Recorder, log: Log) -> None:
        self._world = world
        self._services = ways
        self._counts = recorder
        self._log = log

    def answer(self, call: Call, talk: Connection) -> tuple[int, bytes]:
        """Run one call; return exit status and the client's output. Raises nothing."""
        began = time.monotonic()
        version, log, error = SUPPORTED[-1], self._log.bind(verb=call.command), None
        document: Mapping[str, Any] | None = None
        question: Request | None = None
        try:
            if call.command in ("status", "VERSION"):
                talk.send_deadline(DEADLINES["status"])
                document = self._tell(call)
            else:
                question = request.parse(call.env, call.stdin)
                version, log = question.version, _bind(log, question)
                self._catch_up(question)
                talk.send_deadline(_deadline(question))
                document = self._run(question, call, talk, log)
        except Exception as e:  # noqa: BLE001 (the one place where every failure becomes an answer)
            talk.send_deadline(SHORT)  # sends nothing if a deadline was sent already
            error = e
            document = error_document(e, version, lambda e: log.failure("a bug in floatip", e))
        log = log.bind(**self._subject(question)) if question else log
        self._record(call.command, talk, error, time.monotonic() - began, log)
        return int(error is not None), encode(document)

    def refuse(self, call: Call) -> tuple[int, bytes]:
        """Answer a call for which there is no room."""
        version = SUPPORTED[-1]
        if len(call.stdin) <= READABLE:
            with contextlib.suppress(CniError, RecursionError):
                version = request.parse(call.env, call.stdin).version
        full = TryAgain("the node agent already runs as many calls as it can: try again")
        self._counts.call(call.command, str(full.code), 0.0)
        return 1, encode(full.document(version))

    def spooled(self, call: Call) -> bool:
        """Do a DEL that a client left in the spool. False: not on disk yet, to be done again.

        Raises CniError for a request that is no DEL, or cannot be understood.
        """
        question = operations.spooled(call.env, call.stdin)
        began, log = time.monotonic(), _bind(self._log.bind(verb="DEL", spooled=True), question)
        self._delete(question, replace(self._world, log=log), log)
        done = operations.is_ended(self._world, question.attachment)
        seconds = time.monotonic() - began
        sentence = "DEL from the spool: " + ("done" if done else "it cannot be recorded yet")
        log(sentence, "info" if done else "warning", seconds=seconds, **self._subject(question))
        return done

    # -- verbs ------------------------------------------------------------------------------------------

    def _tell(self, call: Call) -> Mapping[str, Any]:
        if call.command == "VERSION":
            return {"cniVersion": SUPPORTED[-1], "supportedVersions": list(SUPPORTED)}
        return self._services.status()

    def _catch_up(self, question: Request) -> None:
        """Do the spooled DELs of an ADD's own attachment, because later they would end its claim."""
        if question.verb == "ADD" and not self._services.spooled(question.attachment):
            raise TryAgain(f"a DEL of {question.attachment} is in the spool and cannot be recorded yet")

    def _run(self, question: Request, call: Call, talk: Connection, log: Log) -> Mapping[str, Any] | None:
        if question.verb == "STATUS":
            self._status()
            return None
        with contextlib.ExitStack() as ends:
            world = self._world_of(question, call, talk, log, ends)
            match question.verb:
                case "DEL":
                    self._delete(question, world, log)
                case "ADD":
                    return operations.add(question, world)
                case "CHECK":
                    operations.check(question, world)
                case _:
                    operations.gc(question, world)
        return None

    def _world_of(
        self, question: Request, call: Call, talk: Connection, log: Log, ends: contextlib.ExitStack
    ) -> World:
        """Return the world of one call, which ends with ``ends``."""
        stop: Callable[[], str | None] = _never
        seconds = _deadline(question)
        until = self._world.clock() + seconds - min(KEPT_BACK, seconds / 4)
        views: dict[str, CallVpc] = {}

        def vpc(region: str) -> Vpc:
            if region not in views:
                views[region] = self._services.view(region, question, stop, until)
                ends.callback(views[region].close)
            return views[region]

        world = replace(self._world, cancelled=stop, log=log, vpc=vpc)
        if question.verb == "GC" or (question.verb == "DEL" and talk.descriptor is None):
            return world  # enters a pod only where a claim's own path still leads to it
        handed = CallNamespace(question.netns, talk.descriptor, call.netns_errno, world.kernel, world.inode)
        world = replace(world, kernel=handed.kernel, inode=handed.inode)
        if question.verb in ("ADD", "CHECK"):
            # Without the call's own ``vpc``, which leads back here: such a cycle would outlive the call.
            stop = Cancellation(question, talk.cancelled, replace(world, vpc=self._world.vpc)).reason
        go_on = unless(stop)
        return replace(
            world,
            cancelled=stop,
            sleep=lambda seconds: pause(seconds, self._world.sleep, go_on),
            metadata=lambda deadline: self._services.metadata(deadline, go_on),
        )

    def _delete(self, question: Request, world: World, log: Log) -> None:
        """Complete a DEL in any case: an error is logged for the operator, not returned to the runtime."""
        try:
            operations.delete(question, world)
        except Exception as e:  # noqa: BLE001 (an error would stop the clean-up of the plugins before us)
            log.failure("DEL: left as it is", e)

    def _status(self) -> None:
        """Answer from memory: kubelet asks every five seconds."""
        if why := self._services.ready():
            broken = self._services.broken()
            raise LimitedConnectivity(f"{why} | {broken}") if broken else NotAvailable(why)

    def _subject(self, question: Request) -> dict[str, Any]:
        """Return the addresses of a call, for the log: from the claim, else from the request."""
        if question.verb not in ("ADD", "DEL", "CHECK"):
            return {}
        claim: object = None
        with contextlib.suppress(Exception):  # the call has ended all the same: only the log line is shorter
            claim = self._world.claims.get(question.attachment)
        if isinstance(claim, Claim) and claim.routes:
            subject = claim.subject()
            return {key: subject[key] for key in ("addresses", "tables", "eni")}
        return {"addresses": _configured_addresses(question.config)}

    def _record(self, verb: str, talk: Connection, error: Exception | None, seconds: float, log: Log) -> None:
        code = getattr(error, "code", 999) if error else 0
        outcome = "cancelled" if error and talk.cancelled() else str(code) if error else "ok"
        self._counts.call(verb, outcome, seconds)
        level: Literal["debug", "info", "warning"] = "info"
        if verb in ("STATUS", "VERSION", "status"):
            level = "debug"
        elif error:
            level = "warning"
        sentence = f"{verb}: {error or 'done'}"
        log(sentence, level, seconds=seconds, code=code, outcome=outcome)


def _deadline(question: Request) -> float:
    """Return how long the client is to wait for this call at most."""
    return timeout_of(question.config) if question.verb == "ADD" else DEADLINES[question.verb]


def _bind(log: Log, question: Request) -> Log:
    return log.bind(
        network=question.attachment.network,
        container=question.attachment.container,
        ifname=question.attachment.ifname,
        namespace=question.pod.namespace,
        pod=question.pod.name,
        uid=question.pod.uid,
    )


def _configured_addresses(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses of a ``prevResult`` that was not validated."""
    result = config.get("prevResult")
    ips = result.get("ips") if isinstance(result, dict) else None
    entries = ips[:MOST_PARTS] if isinstance(ips, list) else []
    results = (entry.get("address") for entry in entries if isinstance(entry, dict))
    return tuple(short(address) for address in results if isinstance(address, str))


def _never() -> str | None:
    return None
