"""Cancellable waiting, in short steps: every wait of a call goes through this module.

A waiting call keeps its pod's namespace alive, and with it the pod's address busy on the ENI. So every wait
(for a lock, the request rate of EC2, another call's read, metadata, the pause before another attempt) calls
``go_on`` at each step. ``go_on`` raises once the client, the pod or the attachment is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .errors import TryAgain

T = TypeVar("T")

STEP_SECONDS = 0.5
"""How often a wait calls ``go_on`` if nothing wakes it."""


@dataclass(frozen=True, slots=True)
class Later:
    """An attempt's answer that it is not its turn yet; try again in so many seconds."""

    seconds: float = STEP_SECONDS


def always() -> None:
    """A ``go_on`` that never raises: only the deadline ends the wait."""


def unless(cancelled: Callable[[], str | None]) -> Callable[[], None]:
    """Return a ``go_on`` that raises TryAgain once ``cancelled`` says why a call is over (else None)."""

    def go_on() -> None:
        if why := cancelled():
            raise TryAgain(f"stopped: {why}")

    return go_on


def wait_for(
    condition: threading.Condition,
    attempt: Callable[[], T | Later],
    left: Callable[[], float],
    go_on: Callable[[], object],
    wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
) -> T:
    """Call ``attempt``, with the condition's lock held, until it returns no Later; return its result.

    Calls ``go_on`` without the lock and raises what that raises. Raises TimeoutError when no time is ``left``
    (in seconds). With no time from the start there is one attempt.
    """
    while True:
        go_on()  # outside of the lock: it is somebody else's code
        with condition:
            result = attempt()
            if not isinstance(result, Later):
                return result
            if (seconds := left()) <= 0:
                raise TimeoutError
            wait(condition, min(result.seconds, seconds, STEP_SECONDS))


def pause(seconds: float, sleep: Callable[[float], object], go_on: Callable[[], object]) -> None:
    """Sleep in steps. Raises what ``go_on`` raises."""
    while True:
        go_on()
        if seconds <= 0:
            return
        sleep(min(seconds, STEP_SECONDS))
        seconds -= STEP_SECONDS
