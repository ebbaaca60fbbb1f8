"""A strict JSON reader whose complaints name the JSON path.

Refuses duplicate keys, NaN and numbers out of range, because another reader of the same text would see
another document.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..model.errors import CniError, DecodeFailure, InvalidConfig, UnsupportedField, short

Step = str | int
BOM = b"\xef\xbb\xbf"
MOST_COMPLAINTS = 50
"""The most complaints in one error; a document with more is none of ours."""
DEEPEST = 100
"""The most levels of a document; ours have at most six, and Python's recursion ends at a thousand."""
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.?)*(?:"|\Z)|[][{}]', re.DOTALL)
"""A string, to its end or that of the text, or what opens or closes an object or a list."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """One fault of a document, with its path. ``unknown``: the fault is an unknown key."""

    path: tuple[Step, ...]
    text: str
    unknown: bool = False

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.text}"


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark about one place of a document. ``warning``: it works, but otherwise than it looks."""

    path: tuple[Step, ...]
    text: str
    warning: bool = False


def path_text(path: Sequence[Step]) -> str:
    """Return the JSON path: ``$.podRoutes.to[0]``."""
    return "$" + "".join(_step(step) for step in path)


def _step(step: Step) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", step) else f"[{show(step)}]"


def show(value: Any) -> str:
    """Return ``value`` as JSON on one line, truncated if it is long."""
    return short(json.dumps(value))


def refusal(complaints: Sequence[Complaint]) -> CniError:
    """Return one error with all ``complaints``; code 2 when one is about an unknown key."""
    kind = UnsupportedField if any(complaint.unknown for complaint in complaints) else InvalidConfig
    texts = [str(complaint) for complaint in complaints[:MOST_COMPLAINTS]]
    if len(complaints) > MOST_COMPLAINTS:
        texts.append("and more")
    return kind(" | ".join(texts))


def control_characters(value: Any, path: tuple[Step, ...]) -> Iterator[Complaint]:
    """Complain about every string in ``value`` that could not be shown in a log line."""
    if isinstance(value, str) and CONTROL.search(value):
        yield Complaint(path, f"{show(value)} contains a control character")
    for step, item in _children(value):
        yield from control_characters(item, (*path, step))


def load_json(text: bytes, what: str = "document", *, cut: bool = False) -> Any:
    """Return the JSON in ``text`` (UTF-8; a byte order mark is accepted). Raises DecodeFailure.

    ``cut``: a value that is nested too deeply becomes null, without a fault.
    """
    rejects: list[object] = []

    def reject(raw: Any) -> Any:
        rejects.append(raw)
        return raw

    def pairs(items: list[tuple[str, Any]]) -> Any:
        raw = dict(items)
        return raw if len(raw) == len(items) else reject(_Pairs(items))

    def number(literal: str) -> Any:
        raw = float(literal)
        return raw if math.isfinite(raw) else reject(_NoNumber(literal))

    try:
        document = json.loads(
            text.removeprefix(BOM).decode(),
            object_pairs_hook=pairs,
            parse_float=number,
            parse_constant=lambda literal: reject(_NoNumber(literal)),
        )
    except UnicodeDecodeError as e:
        raise DecodeFailure(f"{what}: {_position(text.removeprefix(BOM), e.start)}: not UTF-8") from e
    except json.JSONDecodeError as e:
        raise DecodeFailure(f"{what}: line {e.lineno} column {e.colno}: not JSON: {e.msg}") from e
    except RecursionError as e:
        if cut:
            return load_json(_truncate(text), what)
        raise DecodeFailure(f"{what}: nested too deeply") from e
    except ValueError as e:  # a whole number of more than 4300 digits
        raise DecodeFailure(f"{what}: a number is too long") from e
    if _depth_exceeds(document, DEEPEST):
        if cut:
            return load_json(_truncate(text), what)
        raise DecodeFailure(f"{what}: nested too deeply")
    if rejects:
        faults = " | ".join(map(str, islice(_rejections(document, ()), MOST_COMPLAINTS)))
        raise DecodeFailure(f"{what}: {faults}")
    return document


def load_object(text: bytes, what: str = "document") -> dict[str, Any]:
    """Return the JSON object in ``text``. Raises DecodeFailure for any other JSON too."""
    raw = load_json(text, what)
    if not isinstance(raw, dict):
        raise DecodeFailure(f"{what}: expected a JSON object, found {show(raw)}")
    return raw


def _truncate(text: bytes) -> bytes:
    """Return JSON with null for each object or list that is nested too deeply."""
    kept, depth, end = [], 0, 0
    for match in _STRUCTURE.finditer(text):
        if match[0] in (b"[", b"{"):
            depth += 1
            if depth == DEEPEST + 1:
                kept.append(text[end : match.start()])
        elif match[0] in (b"]", b"}"):
            if depth == DEEPEST + 1:
                kept.append(b"null")
                end = match.end()
            depth -= 1
    return b"".join(kept) + (text[end:] if depth <= DEEPEST else b"")


class _Pairs(list[tuple[str, Any]]):
    """Placeholder for an object with a duplicate key, so that its path can be found."""


class _NoNumber(str):
    """Placeholder for NaN, Infinity and 1e999."""

    __slots__ = ()


def _rejections(value: Any, path: tuple[Step, ...]) -> Iterator[Complaint]:
    if isinstance(value, _NoNumber):
        yield Complaint(path, f"{short(value)} is not a JSON number")
    known: set[Step] = set()
    for step, item in _children(value):
        if step in known:
            yield Complaint((*path, step), "the key is there more than once")
        known.add(step)
        yield from _rejections(item, (*path, step))


def _depth_exceeds(document: Any, most: int) -> bool:
    level = [document]
    for _ in range(most + 1):
        level = [item for entry in level for _, item in _children(entry) if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[tuple[Step, Any]]:
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, _Pairs):
        return value
    return enumerate(value) if isinstance(value, list) else ()


def _position(text: bytes, offset: int) -> str:
    before = text[:offset]
    return f"line {before.count(10) + 1} column {offset - before.rfind(10)}"
