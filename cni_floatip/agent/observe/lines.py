"""Formats log lines, as JSON or text: a sentence and its fields, bounded, and never with a credential."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from ...model.errors import printable
from .redaction import redact
from .standard_error import DescriptorStream, Stream

LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

LONGEST = 8192
"""Characters of one value: the rest is cut off, because a collector must get one line as one line."""

LOOKED_AT = 65536
"""Characters of one value in which credentials are looked for; the rest is dropped unseen."""

MOST_PARTS = 64
"""Parts of a value that is a list; the claim has the rest."""

DEBUG_ONLY = frozenset({"stdin", "config"})
"""Fields that hold whole documents of others, who may have put anything into them."""


class LineWriter:
    """Formats sentences with their fields, and writes those of ``level`` and above."""

    def __init__(
        self,
        level: str = "info",
        format: str = "json",  # noqa: A002 (what the node configuration calls it)
        stream: Stream | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._least = LEVELS[level]
        self._render = {"json": _as_json, "text": _as_text}[format]
        self._stream = stream if stream is not None else DescriptorStream()
        self._now = now
        self._writing = threading.Lock()

    def write(self, level: str, sentence: str, fields: Mapping[str, object]) -> None:
        """Write one line. Never raises for a stream that is gone."""
        if LEVELS.get(level, LEVELS["error"]) < self._least:
            return
        hidden: frozenset[str] = frozenset() if level == "debug" else DEBUG_ONLY
        raw = {
            name: _bounded(value)
            for name, value in fields.items()
            if value is not None and value != "" and value != () and name not in hidden
        }
        line = self._render(rfc3339(self._now()), level, _clean(sentence), raw)
        with self._writing, contextlib.suppress(OSError, ValueError):  # ValueError: a file object, closed
            if isinstance(self._stream, DescriptorStream) and (lost := self._stream.lost()):
                message = f"{lost} lines of the log were dropped, because nobody read standard error"
                self._stream.write(
                    self._render(rfc3339(self._now()), "warning", message, {"lost": lost}) + "\n"
                )
            self._stream.write(line + "\n")

    def flush(self, seconds: float) -> None:
        """Wait for unwritten lines, for ``seconds`` at most."""
        if isinstance(self._stream, DescriptorStream):
            self._stream.flush(seconds)


def traceback_of(e: BaseException) -> str:
    return "".join(traceback.format_exception(e))[-LONGEST:]


def _clean(text: str) -> str:
    most = len(text)
    if most > LOOKED_AT:  # cut between two words, because half a credential matches no pattern
        most = max(text.rfind(" ", LOOKED_AT - LONGEST, LOOKED_AT), LOOKED_AT - LONGEST)
    shown = redact(text[:most])
    whole = len(shown) <= LONGEST and most == len(text)
    return shown if whole else f"{shown[:LONGEST]}... ({len(text)} characters)"


def _bounded(value: object) -> object:
    """Return ``value`` as a line can hold it: a number, a truth value, or text without credentials."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value[:MOST_PARTS]]
    if isinstance(value, float):
        return round(value, 3) if abs(value) < float("inf") else str(value)  # JSON has no infinity
    if isinstance(value, bytes):
        return _clean(value.decode(errors="backslashreplace"))
    return _clean(str(value))


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_json(when: str, level: str, sentence: str, fields: Mapping[str, object]) -> str:
    ours = {"time": when, "level": level, "msg": sentence}
    return json.dumps(ours | {name: value for name, value in fields.items() if name not in ours})


def _as_text(when: str, level: str, sentence: str, fields: Mapping[str, object]) -> str:
    text = "".join(f" {name}={_quote(value)}" for name, value in fields.items())
    return f"{when} {level:<7} {printable(sentence)}{text}"


def _quote(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    plain = text.isprintable() and not any(char in ' "=\\' for char in text)
    return text if plain else json.dumps(text, ensure_ascii=False) if text.isprintable() else json.dumps(text)
