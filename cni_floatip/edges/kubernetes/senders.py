"""Threads that send requests, each over one connection, so that one call can wait for two servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from ...model.errors import ApiError
from .account import ServiceAccount
from .connection import ApiAnswer, ApiConnection, ApiRequest, NoAnswer
from .servers import ApiAddress

MOST_IDLE = 4
"""Senders to one address that are kept for the next call."""

Outcome = ApiAnswer | NoAnswer | ApiError
"""What became of a sending; ``ApiError``: the credentials cannot be read."""


@dataclass(frozen=True, slots=True)
class Sending:
    """One request on its way to one server, until ``end`` (of ``time.monotonic``)."""

    request: ApiRequest
    address: ApiAddress
    end: float
    report: Callable[[ApiAddress, Outcome], None]


class _Sender:
    """A thread with a connection, and what it has to send; ``None`` ends it."""

    def __init__(self, address: ApiAddress) -> None:
        self.connection = ApiConnection(address)
        self.inbox: SimpleQueue[Sending | None] = SimpleQueue()
        self.end = 0.0
        """When what it sends is late."""


class Senders:
    """All senders of one client. Its lock is held for moments, never while anything is sent."""

    def __init__(self, account: ServiceAccount) -> None:
        self._account = account
        self._lock = threading.Lock()
        self._idle: dict[ApiAddress, list[_Sender]] = {}
        self._busy: set[_Sender] = set()
        self._is_closed = False

    def send(self, sending: Sending) -> None:
        """Send, and report the outcome later, from another thread."""
        self.cut_late()
        try:
            sender = self._borrow(sending)
        except RuntimeError as e:  # no more threads can be started
            sending.report(sending.address, NoAnswer(str(e)))
        else:
            sender.inbox.put(sending)

    def cut_late(self) -> None:
        """Cut what has not ended in time because its server sends bit by bit."""
        now = time.monotonic()
        with self._lock:
            late = [sender for sender in self._busy if sender.end < now]
        for sender in late:
            sender.connection.cut()

    def retain(self, addresses: set[ApiAddress]) -> None:
        """Close idle senders to all other addresses."""
        with self._lock:
            gone = [sender for address in self._idle.keys() - addresses for sender in self._idle.pop(address)]
        for sender in gone:
            sender.inbox.put(None)

    def close(self) -> None:
        """End all threads: what they send is cut."""
        with self._lock:
            self._is_closed = True
            busy = list(self._busy)
        self.retain(set())
        for sender in busy:
            sender.connection.cut()

    def _borrow(self, sending: Sending) -> _Sender:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the client is closed")
            idle = self._idle.get(sending.address)
            sender = idle.pop() if idle else None
            if sender is None:
                sender = _Sender(sending.address)
                threading.Thread(
                    target=self._run, args=[sender], name="kubernetes sender", daemon=True
                ).start()
            sender.end = sending.end
            self._busy.add(sender)
            return sender

    def _run(self, sender: _Sender) -> None:
        while (sending := sender.inbox.get()) is not None:
            outcome = self._exchange(sender.connection, sending)
            with self._lock:
                self._busy.discard(sender)
                idle = self._idle.setdefault(sending.address, [])
                is_kept = not self._is_closed and len(idle) < MOST_IDLE
                if is_kept:
                    idle.append(sender)
            sending.report(sending.address, outcome)
            if not is_kept:
                break
        sender.connection.close()

    def _exchange(self, connection: ApiConnection, sending: Sending) -> Outcome:
        try:
            credentials = self._account.credentials()
            answer = connection.exchange(sending.request, credentials, sending.end)
            if answer.status == 401 and (other := self._account.after_refusal(credentials)):
                answer = connection.exchange(sending.request, other, sending.end)
        except (NoAnswer, ApiError) as e:
            return e
        return answer
