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
from dataclasses import fields, replace
from functools import cache
from operator import is_
from typing import Any, Generic, TypeVar

NOW = 1024.0
"""A power of two: ticks are exact, and so are sums of them."""

T = TypeVar("T", bound=Hashable)
Change = Callable[[Any], Any]


SHARED = "surroundings"
"""The field of a member that is rewritten once for all of an agent's members."""
ALIASES = frozenset(("Instant", "WallTime", "Generation", "Version", "Uid"))
MADE_OF = {"Standing": ("Uid", "WallTime")}
"""Aliases of the core that are made of others."""


LEAVES = frozenset(
    ("str", "int", "float", "bool", "None", "tuple", "Network", "Timing", "RouteKey", "Reason")
)
"""Names in annotations behind which no alias is."""


@cache
def _fields(kind: type[Any], alias: str) -> tuple[tuple[str, bool], ...]:
    """Return the fields of a dataclass in which ``alias`` may be, and whether they name it themselves."""
    named = []
    for item in fields(kind):
        if item.name == SHARED:
            continue
        text = item.type if isinstance(item.type, str) else getattr(item.type, "__name__", str(item.type))
        names = {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}
        own = alias in names or any(alias in MADE_OF.get(name, ()) for name in names)
        if own or names - LEAVES - ALIASES - MADE_OF.keys():
            named.append((item.name, own))
    return tuple(named)


def rewrite(value: Any, alias: str, change: Change) -> Any:
    """Return ``value`` with ``change`` applied to whatever its dataclasses annotate as ``alias``."""
    kind: Any = type(value)
    if hasattr(kind, "__dataclass_fields__"):
        changes = {}
        for name, own in _fields(kind, alias):
            old = getattr(value, name)
            if old is None:
                continue
            new = _apply(old, change) if own else rewrite(old, alias, change)
            if new is not old:
                changes[name] = new
        return replace(value, **changes) if changes else value
    if kind is tuple and value:
        parts = [rewrite(part, alias, change) for part in value]
        return value if all(map(is_, parts, value)) else tuple(parts)
    return value


def _apply(value: Any, change: Change) -> Any:
    """Change every leaf of an annotated field; a tuple of pairs may hold other leaves than the alias."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, tuple):
        parts = [_apply(part, change) for part in value]
        return value if all(map(is_, parts, value)) else tuple(parts)
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
