"""The one way to wait: in short steps, and no longer than somebody wants what is waited for.

A call that waits keeps its pod's namespace alive, and with it the pod's address busy on the ENI. So whatever
a call may wait for (a lock, its turn at EC2, another call's read, metadata, the pause before another attempt)
is waited for here, and ``go_on`` is asked at each step. It raises once the client, the pod or the attachment
has gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .errors import TryAgain

T = TypeVar("T")

STEP_SECONDS = 0.5
"""How often somebody who waits asks whether to go on, if nobody wakes it."""


@dataclass(frozen=True, slots=True)
class Later:
    """An attempt has found that there is nothing yet; the next one makes sense in so many seconds."""

    seconds: float = STEP_SECONDS


def always() -> None:
    """Go on: nobody ends this wait but its deadline."""


def unless(cancelled: Callable[[], str | None]) -> Callable[[], None]:
    """Return what raises TryAgain once ``cancelled`` says why a call is over (None: it is not)."""

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
    """Return what ``attempt``, called with the condition's lock held, returns in place of Later.

    Raises what ``go_on`` raises, which is called without the lock, and TimeoutError when no time is ``left``
    (in seconds). With none from the start there is one attempt.
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
    """Sleep for so long, in steps. Raises what ``go_on`` raises."""
    while True:
        go_on()
        if seconds <= 0:
            return
        sleep(min(seconds, STEP_SECONDS))
        seconds -= STEP_SECONDS
