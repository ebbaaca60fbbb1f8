"""Makes the core's values relative to now, so that a search comes back to the same state.

The explorer's clock stands at ``NOW``. When time passes, every *instant* inside a value moves into the past
instead, and what is older than the horizon stays there, because no rule looks further back. Which fields are
instants, versions and generations the core says by the alias in their annotation; fields are rewritten by
the class's annotations, through nested dataclasses and tuples.

Values are interned: a state of the search holds numbers, and what the core does with a value is computed
once (``Memo``). The core is pure, so that changes nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, Generic, TypeVar

NOW = 1024.0
"""A power of two: ticks are exact, and so are sums of them."""

T = TypeVar("T", bound=Hashable)
Change = Callable[[Any], Any]


MADE_OF = {"Standing": ("Uid", "WallTime")}
"""Aliases of the core that are made of others."""


@cache
def _annotated(kind: type, alias: str) -> frozenset[str]:
    """Return the fields of a dataclass whose annotation names ``alias``."""
    named = set()
    for item in fields(kind):
        text = item.type if isinstance(item.type, str) else getattr(item.type, "__name__", str(item.type))
        names = {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}
        if alias in names or any(alias in MADE_OF.get(name, ()) for name in names):
            named.add(item.name)
    return frozenset(named)


def rewrite(value: Any, alias: str, change: Change) -> Any:
    """Return ``value`` with ``change`` applied to whatever its dataclasses annotate as ``alias``."""
    if is_dataclass(value) and not isinstance(value, type):
        named = _annotated(type(value), alias)
        changes = {}
        for item in fields(value):
            old = getattr(value, item.name)
            new = _apply(old, change) if item.name in named else rewrite(old, alias, change)
            if new is not old:
                changes[item.name] = new
        return replace(value, **changes) if changes else value
    if isinstance(value, tuple):
        parts = [rewrite(part, alias, change) for part in value]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, frozenset):
        return frozenset(rewrite(part, alias, change) for part in value)
    return value


def _apply(value: Any, change: Change) -> Any:
    """Change every leaf of an annotated field; a tuple of pairs may hold other leaves than the alias."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, tuple):
        return tuple(_apply(part, change) for part in value)
    new = change(value)
    return value if new == value else new


def past(seconds: float, horizon: float) -> Change:
    """Return the change of an instant when time passes: into the past, at most ``horizon`` deep."""
    floor = NOW - horizon

    def moved(instant: Any) -> Any:
        if not isinstance(instant, float) or instant in (float("inf"), float("-inf")):
            return instant
        return max(instant - seconds, floor)

    return moved


class Interned(Generic[T]):
    """Numbers for values: equal values have one number."""

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}
        self._values: list[T] = []

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, number: int) -> T:
        return self._values[number]

    def number(self, value: T) -> int:
        """Return the number of a value, a new one where it is new."""
        number = self._numbers.setdefault(value, len(self._values))
        if number == len(self._values):
            self._values.append(value)
        return number
