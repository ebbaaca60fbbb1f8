"""Waiting for what is to happen, however busy the machine is: the only place where a test polls."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], *shown: object, seconds: float = 60.0) -> T:
    """Wait until ``condition`` returns something true, and return that.

    The test fails after ``seconds``, with the condition's source, what it returned last, and each of
    ``shown``; one that is callable is called then.
    """
    began = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(_complaint(condition, value, seconds, shown))
        time.sleep(min(0.1, 0.005 + waited / 20))
    return value


def throughout(condition: Callable[[], object], seconds: float, *shown: object) -> None:
    """Fail when ``condition`` returns something false during ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not (value := condition()):
            raise AssertionError(_complaint(condition, value, seconds, shown, "not throughout"))
        time.sleep(0.02)


def _complaint(
    condition: Callable[[], object],
    value: object,
    seconds: float,
    shown: tuple[object, ...],
    failed: str = "not within",
) -> str:
    lines = [f"{failed} {seconds:g} s: {_source(condition)}", f"it was {value!r}", *map(_text, shown)]
    return "\n".join(lines)


def _text(part: object) -> str:
    try:
        return str(part() if callable(part) else part)
    except Exception as e:  # noqa: BLE001 (what the wait was for is more to the point)
        return f"{part} cannot be shown: {e!r}"


def _source(condition: Callable[[], object]) -> str:
    """Return the text of a condition: the statement that a lambda stands in, or a function."""
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)
