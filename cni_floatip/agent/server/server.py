"""The agent's socket server: admits only root, reads requests, and notices clients that hang up.

One thread serves all sockets: it accepts, checks that the peer is root, reads requests as they come in
pieces, and notices a client that has gone away. Each call then has a thread of its own, in which ``answer``
runs. No client can leak anything: neither a connection nor a descriptor nor a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...protocol import wire
from ..observe.logs import Log
from .connection import Connection
from .listener import listen, peer

READ_SECONDS = 5.0
"""A client that stays silent so long in the middle of its request is dropped."""
REQUEST_SECONDS = 30.0
"""How long a whole request may take to arrive: a client may have a tenth of a processor."""
CALLS = 512
"""How many calls run concurrently; a DEL is always admitted."""
TALKING = 512
"""How many clients may be sending a request. One more, and the one that was silent longest is dropped."""
HELD_BYTES = 64 << 20
"""How many bytes of unfinished requests are held in all."""
SELDOM_SECONDS = 60.0
"""A kind of client fault is a warning once in this time; further ones are logged at debug."""
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class RunningCall:
    """A call that has a thread."""

    talk: Connection
    name: str


class Responder(Protocol):
    """Runs calls; see ``handler``. Both methods return exit status and the client's output.

    ``answer`` runs a call, and sends its deadline (``Connection.send_deadline``). ``refuse`` quickly answers
    a call for which there is no room; never a DEL, because its client keeps it in the spool.
    """

    def answer(self, call: wire.Call, talk: Connection) -> tuple[int, bytes]: ...
    def refuse(self, call: wire.Call) -> tuple[int, bytes]: ...


class Server:
    """Listens at ``path`` from its construction on; ``run`` is the thread that serves the sockets.

    ``woken`` is called when a call is to stop, because the call may be waiting for something.
    """

    def __init__(
        self,
        path: str,
        answers: Responder,
        log: Log,
        *,
        woken: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        calls: int = CALLS,
    ) -> None:
        self._answers = answers
        self._log = log
        self._woken = woken
        self._clock = clock
        self._most = calls
        self._complained: dict[str, float] = {}
        self._connections: dict[int, Connection] = {}
        self._working: dict[int, RunningCall] = {}
        self._changed = threading.Condition()
        self._open = True
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._path = Path(path)
        self._listener = listen(self._path)
        self._inode = os.stat(path).st_ino  # noqa: PTH116
        self._poll = select.epoll()
        self._poll.register(self._wake, select.EPOLLIN)
        self._poll.register(self._listener.fileno(), select.EPOLLIN)

    # -- from other threads -----------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more calls. A client that comes now waits for the next agent."""
        self._open = False
        os.eventfd_write(self._wake, 1)

    def stop_calls(self, why: str) -> None:
        """Tell every call to stop writing."""
        with self._changed:
            for call in self._working.values():
                call.talk.stop_reason = call.talk.stop_reason or why
        self._woken()

    def wait(self, seconds: float) -> list[str]:
        """Wait until no call is running, or for ``seconds``; return the names of the running ones."""
        with self._changed:
            self._changed.wait_for(lambda: not self._working, seconds)
            return [call.name for call in self._working.values()]

    # -- the thread that serves the sockets ---------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Serve clients until ``close``, then watch the running calls until ``stop`` is set."""
        try:
            while self._open:
                self._heard(self._patience())
            self._close_listener()
            while not stop.is_set():
                self._heard(0.1)
        finally:
            self._close_listener()

    def _heard(self, seconds: float) -> None:
        try:
            self._hear(seconds)
        except Exception as e:  # noqa: BLE001 (one odd client must not end all calls)
            self._log.failure("reading from the clients failed", e)
            time.sleep(0.1)

    def _hear(self, seconds: float) -> None:
        """Read what has come; accept last, because a new connection may get a number that was just closed."""
        door = self._listener.fileno()
        events = self._poll.poll(seconds)
        for number, _ in events:
            if number == self._wake:
                os.eventfd_read(self._wake)
            elif talk := self._connections.get(number):
                self._listen_to(talk)
            elif number != door:
                self._gone(number)
        if any(number == door for number, _ in events):
            self._accept()
        now = self._clock()
        for talk in list(self._connections.values()):
            if now - talk.last_read > READ_SECONDS or now - talk.began > REQUEST_SECONDS:
                self._drop(talk, "the client sent only part of a request in time")

    def _patience(self) -> float:
        """Return how long to wait before the next check of time limits."""
        return 1.0 if self._connections else 60.0

    def _accept(self) -> None:
        for _ in range(64):  # then serve the connected clients
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno in _FULL:
                    self._complain("full", f"cannot accept a connection: {e.strerror}")
                    time.sleep(0.05)  # descriptors are freed as calls end
                return
            uid = peer(sock)
            if uid != 0:
                sock.close()
                self._complain("peer", f"rejected a connection from uid {uid}: only root may connect")
                continue
            sock.setblocking(False)
            now = self._clock()
            self._connections[sock.fileno()] = Connection(sock, now, now)
            self._poll.register(sock.fileno(), select.EPOLLIN)
            if len(self._connections) > TALKING:
                silent = min(self._connections.values(), key=lambda connection: connection.last_read)
                self._drop(silent, "too many unfinished requests")

    def _gone(self, number: int) -> None:
        """Tell the running call that its client has hung up."""
        with self._changed:
            if call := self._working.get(number):
                call.talk.stop_reason = call.talk.stop_reason or "the client is gone"
                self._poll.unregister(number)  # reported once
        self._woken()

    def _listen_to(self, talk: Connection) -> None:
        """Read from a client; once its request is complete, its call begins."""
        try:
            data = talk.receive()
            if not data:
                self._drop(talk, "the client went away in the middle of its request")
                return
            talk.last_read = self._clock()
            talk.held += len(data)
            talk.incoming.feed(data)
        except BlockingIOError:
            return
        except wire.Malformed as e:
            talk.sock.setblocking(False)
            with contextlib.suppress(OSError):
                talk.sock.send(wire.greeting() + wire.refusal(str(e)))
            self._drop(talk, str(e))
            return
        except OSError as e:
            self._drop(talk, str(e))
            return
        if talk.incoming.call:
            self._begin(talk, talk.incoming.call)
        elif sum(connection.held for connection in self._connections.values()) > HELD_BYTES:
            self._drop(talk, "too many bytes in unfinished requests")

    # -- calls --------------------------------------------------------------------------------------------

    def _begin(self, talk: Connection, call: wire.Call) -> None:
        number = talk.sock.fileno()
        del self._connections[number]
        container, ifname = call.env.get("CNI_CONTAINERID", ""), call.env.get("CNI_IFNAME", "")
        name = " ".join((call.command, container[:12], ifname))
        with self._changed:
            room = len(self._working) < self._most or call.command == "DEL"
            if room:
                self._working[number] = RunningCall(talk, name)
                self._poll.modify(number, 0)  # epoll_ctl(2) reports a hang-up all the same
        thread = threading.Thread(target=self._work, args=(talk, call), name=name.strip(), daemon=True)
        try:
            if room:
                thread.start()
                return
            self._complain("busy", f"{self._most} calls are running: rejected {name}")
        except RuntimeError as e:  # no thread can be started
            self._complain("busy", f"no room for {name}: {e}")
        if call.command == "DEL":  # an error would stop the clean-up of the plugins before us
            answer = wire.refusal("it already runs as many calls as it can")
        else:
            answer = wire.deadline_frame(1) + wire.reply_frame(*self._answers.refuse(call))
        talk.sock.setblocking(False)
        with contextlib.suppress(OSError):  # a small answer: it fits
            talk.sock.send(wire.greeting() + answer)
        self._end(talk)

    def _work(self, talk: Connection, call: wire.Call) -> None:
        try:
            status, stdout = self._answers.answer(call, talk)
            talk.send(wire.reply_frame(status, stdout))
        finally:
            self._end(talk)

    def _end(self, talk: Connection) -> None:
        """Forget a connection. Called once for each, in the thread that has it."""
        number = talk.sock.fileno()
        with self._changed:
            self._connections.pop(number, None)
            self._working.pop(number, None)
            with contextlib.suppress(OSError):  # it hung up, and that was reported
                self._poll.unregister(number)
            talk.close()
            self._changed.notify_all()

    def _drop(self, talk: Connection, why: str) -> None:
        self._end(talk)
        if talk.held:  # else the peer only checked that we are here
            self._complain("garbage", f"a connection is closed: {why}")

    def _complain(self, kind: str, sentence: str) -> None:
        now = self._clock()
        quiet = kind in self._complained and now - self._complained[kind] < SELDOM_SECONDS
        if not quiet:
            self._complained[kind] = now
        self._log(sentence, level="debug" if quiet else "warning")

    def _close_listener(self) -> None:
        if self._listener.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:  # noqa: PTH116
                self._path.unlink()
        self._poll.unregister(self._listener.fileno())
        self._listener.close()
        for talk in list(self._connections.values()):
            self._end(talk)
