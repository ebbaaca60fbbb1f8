"""One call, sent to one API server, and to another one when no answer comes: the first answer counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from ...model.errors import ApiError, ApiFault
from . import answers
from .connection import ApiAnswer, ApiRequest, NoAnswer
from .senders import Outcome, Senders, Sending
from .servers import ApiAddress, ApiServers


class Preference:
    """In which order one client calls the addresses: who failed last comes last."""

    def __init__(self, servers: ApiServers) -> None:
        self._servers = servers
        self._lock = threading.Lock()
        self._failed: dict[ApiAddress, float] = {}
        self._is_doubted = False

    def order(self, *, worst_first: bool = False) -> list[ApiAddress]:
        """Return the addresses to call, in order. One endpoint counts twice: there are two connections to it.

        The service's address comes last as long as an endpoint has not failed, because the service also leads
        to API servers that have died. ``worst_first``: to learn whether the one that failed last is back.
        """
        service = self._servers.service
        endpoints = list(self._servers.endpoints) or [service]
        with self._lock:
            failed = dict(self._failed)
        endpoints.sort(key=lambda address: failed.get(address, 0.0))
        if worst_first:
            endpoints.reverse()
        pairs = endpoints * 2 if len(endpoints) == 1 else endpoints
        if service in endpoints:
            return pairs
        if worst_first or not all(address in failed for address in endpoints):
            return [*pairs, service]
        return sorted([*pairs, service], key=lambda address: failed.get(address, 0.0))

    def is_service(self, address: ApiAddress) -> bool:
        return address == self._servers.service

    def failed(self, address: ApiAddress) -> None:
        """Note that an address gave no answer, or one that another server may not give, or was too slow."""
        with self._lock:
            self._failed[address] = time.monotonic()

    def answered(self, address: ApiAddress) -> None:
        with self._lock:
            self._failed.pop(address, None)
            self._is_doubted |= self.is_service(address) and bool(self._servers.endpoints)

    def doubt(self) -> None:
        """Note that the addresses that are known may be wrong."""
        with self._lock:
            self._is_doubted = True

    def is_doubted(self) -> bool:
        """Return whether somebody doubts the addresses, once."""
        with self._lock:
            was, self._is_doubted = self._is_doubted, False
        return was


class HedgedCall:
    """``run`` it once. What it has sent may be under way when it returns: an answer to that is dropped."""

    def __init__(
        self, request: ApiRequest, senders: Senders, preference: Preference, *, worst_first: bool = False
    ) -> None:
        self._request = request
        self._senders = senders
        self._preference = preference
        self._waiting = preference.order(worst_first=worst_first)
        self._outcomes: SimpleQueue[tuple[ApiAddress, Outcome]] = SimpleQueue()
        self._under_way: list[ApiAddress] = []
        self._failures: list[tuple[ApiAddress, NoAnswer | ApiAnswer]] = []

    def run(self, hedge: float, whole: float) -> ApiAnswer:
        """Return the first answer that is final. Raises ``ApiError`` after ``whole`` seconds at the latest.

        A sending that fails is replaced at once. Silence is hedged once, after ``hedge`` seconds: a cluster
        that is slow gets two requests of each call, and never more.
        """
        end = time.monotonic() + whole
        hedge_at = self._send(end) + hedge
        while self._under_way:
            outcome = self._wait(min(hedge_at, end))
            if outcome is None:
                if time.monotonic() >= end:
                    break
                self._send(end)
                hedge_at = end
                continue
            address, result = outcome
            self._under_way.remove(address)
            if isinstance(result, ApiError):
                raise result
            if isinstance(result, ApiAnswer) and answers.is_final(result):
                self._preference.answered(address)
                for slow in self._under_way:
                    self._preference.failed(slow)
                return result
            self._preference.failed(address)
            self._failures.append((address, result))
            self._send(end)
        raise self._error(whole)

    def _send(self, end: float) -> float:
        """Send to the next address, if there is one; return the time."""
        if self._waiting and not (self._preference.is_service(self._waiting[0]) and self._is_answered()):
            address = self._waiting.pop(0)
            self._under_way.append(address)
            self._senders.send(Sending(self._request, address, end, self._report))
        return time.monotonic()

    def _is_answered(self) -> bool:
        return any(isinstance(result, ApiAnswer) for _, result in self._failures)

    def _report(self, address: ApiAddress, outcome: Outcome) -> None:
        self._outcomes.put((address, outcome))

    def _wait(self, until: float) -> tuple[ApiAddress, Outcome] | None:
        try:
            return self._outcomes.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            return None

    def _error(self, whole: float) -> ApiError:
        """Return what the caller must reckon with: a request without an answer may still be carried out."""
        for address in self._under_way:
            self._preference.failed(address)
        action = self._request.action
        silent = [f"{address}: no answer within {whole:g} s" for address in self._under_way]
        silent += [
            f"{address}: {result}" for address, result in self._failures if isinstance(result, NoAnswer)
        ]
        errors = [
            error
            for _, result in self._failures
            if isinstance(result, ApiAnswer) and (error := answers.error(result, action))
        ]
        if silent:
            self._preference.doubt()
            texts: Sequence[str] = [*silent, *(f"{error.status} {error.message}" for error in errors)]
            return ApiError(ApiFault.UNANSWERED, action, "; ".join(dict.fromkeys(texts)))
        return next((error for error in errors if error.fault is ApiFault.SERVER), errors[0])
