"""What the agent says to its operator: one line for each thing, JSON or text, never a credential in it.

A line is ``time level msg`` and then fields. ``Log`` fits wherever a sentence is told (``World.log``); nobody
waits for a reader, and a standard error that is closed stops no work.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol

from ...model.errors import printable
from .redaction import redact

LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

LONGEST = 8192
"""Characters of one value: more is cut off, since a line has to stay one line for whoever collects it."""

LOOKED_AT = 65536
"""Characters of one value in which credentials are looked for; what comes after them is dropped unseen."""

MOST_PARTS = 64
"""Parts of a value that is a list; the claim has the rest."""

WAITING = 1 << 20
"""Bytes of lines that are kept while nobody reads: some thousands."""

DEBUG_ONLY = frozenset({"stdin", "config"})
"""Fields that hold whole documents of others, who may have put anything into them."""


class Stream(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object: ...


class Descriptor:
    """A file descriptor for whose reader nobody waits.

    A line is written at once where that does not block. Else it waits in bounded memory for a thread that
    writes it when somebody reads on. With no room there it is dropped, and counted.
    """

    def __init__(self, fd: int = 2, room: int = WAITING) -> None:
        self._fd = fd
        self._room = room
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._writer: threading.Thread | None = None
        self._changed = threading.Condition()

    def write(self, text: str) -> None:
        """Write ``text``, now or later. Raises OSError."""
        line = text.encode(errors="backslashreplace")
        with self._changed:
            rest = line if self._waiting else self._at_once(line)
            if rest is line and self._size + len(line) > self._room:
                self._lost += 1
            elif rest:
                self._waiting.append(rest)
                self._size += len(rest)
                self._changed.notify_all()
                if self._writer is None:
                    self._writer = threading.Thread(target=self._write_on, name="log", daemon=True)
                    self._writer.start()

    def lost(self) -> int:
        """Return how many lines were dropped since this was asked, 0 while there is no room to say so."""
        with self._changed:
            if self._waiting:
                return 0
            lost, self._lost = self._lost, 0
            return lost

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, for ``seconds`` at most; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _at_once(self, line: bytes) -> bytes:
        """Write as much as does not block; return the rest."""
        while line and self._poll.poll(0):
            line = line[os.write(self._fd, line[: select.PIPE_BUF]) :]
        return line

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                line = rest = self._waiting[0]
            with contextlib.suppress(OSError):  # nobody will ever read it
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            with self._changed:
                self._waiting.popleft()
                self._size -= len(line)
                self._changed.notify_all()


class Lines:
    """Makes lines of sentences and fields, and writes those of ``level`` and above."""

    def __init__(
        self,
        level: str = "info",
        format: str = "json",  # noqa: A002 (what the node configuration calls it)
        stream: Stream | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._least = LEVELS[level]
        self._render = {"json": _as_json, "text": _as_text}[format]
        self._stream = stream if stream is not None else Descriptor()
        self._now = now
        self._writing = threading.Lock()

    def write(self, level: str, sentence: str, fields: Mapping[str, object]) -> None:
        """Write one line. Never raises for a stream that is gone."""
        if LEVELS.get(level, LEVELS["error"]) < self._least:
            return
        hidden: frozenset[str] = frozenset() if level == "debug" else DEBUG_ONLY
        said = {
            name: _shown(value)
            for name, value in fields.items()
            if value is not None and value != "" and value != () and name not in hidden
        }
        line = self._render(_rfc3339(self._now()), level, _clean(sentence), said)
        with self._writing, contextlib.suppress(OSError, ValueError):  # ValueError: a file object, closed
            if isinstance(self._stream, Descriptor) and (lost := self._stream.lost()):
                told = f"{lost} lines of the log were dropped, because nobody read standard error"
                self._stream.write(
                    self._render(_rfc3339(self._now()), "warning", told, {"lost": lost}) + "\n"
                )
            self._stream.write(line + "\n")

    def flush(self, seconds: float) -> None:
        """Wait for what is not written yet, for ``seconds`` at most."""
        if isinstance(self._stream, Descriptor):
            self._stream.flush(seconds)


class Log:
    """Says sentences with the fields of its context, such as ``verb`` and ``container`` of one call."""

    def __init__(self, context: Mapping[str, object] | None = None, lines: Lines | None = None) -> None:
        self._context = dict(context or {})
        self._lines = lines if lines is not None else Lines()

    def __call__(self, sentence: str, level: str = "info", **fields: object) -> None:
        """Say ``sentence``. Fields that are None or empty are left out."""
        self._lines.write(level, sentence, self._context | fields)

    def flush(self, seconds: float = 1.0) -> None:
        """Wait for what is not written yet: before this process ends."""
        self._lines.flush(seconds)

    def bind(self, **context: object) -> Log:
        """Return a log that adds ``context`` to what it says."""
        return Log(self._context | context, self._lines)

    def failure(self, sentence: str, e: BaseException, **fields: object) -> None:
        """Say that ``e``, which nobody expected, happened: with its traceback, in one line."""
        self(f"{sentence}: {type(e).__name__}: {e}", "error", traceback=_traceback(e), **fields)


def configure(
    level: str = "info",
    format: str = "json",  # noqa: A002
    stream: Stream | None = None,
    now: Callable[[], float] = time.time,
) -> Log:
    """Return the agent's log, for ``logLevel`` and ``logFormat`` of the node configuration."""
    return Log({}, Lines(level, format, stream, now))


def take_over(log: Log) -> None:
    """Send through ``log`` what libraries warn of and what threads die of, in this whole process.

    Nothing of a library below a warning, whatever the level: botocore's debug lines hold signed requests.
    """

    def died(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            name = args.thread.name if args.thread else "?"
            log.failure(f"thread {name} has died", args.exc_value)

    def ended(_: type[BaseException], e: BaseException, __: TracebackType | None) -> None:
        log.failure("the agent has died", e)
        log.flush()

    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_FromLibraries(Seldom(log)))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    threading.excepthook = died
    sys.excepthook = ended


class _FromLibraries(logging.Handler):
    """The door through which the standard library's ``logging`` reaches our lines."""

    def __init__(self, log: Seldom) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a library's broken format string is not our end
            level = "error" if record.levelno >= logging.ERROR else "warning"
            self._log(record.getMessage(), level, logger=record.name)


class Seldom:
    """A log for whoever looks again and again: the same condition is said once in ``seconds``.

    When its time is over, whatever is said next tells first how often it was ``suppressed``, and when. What
    has a field ``event`` is no condition: it happened, and is said whatever was said before.
    """

    def __init__(
        self,
        log: Log,
        seconds: float = 300.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        most: int = 256,
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._clock = clock
        self._now = now
        self._most = most
        self._said: dict[tuple[str, str], _Repeated] = {}
        self._counting = threading.Lock()

    def __call__(self, sentence: str, level: str = "info", **fields: object) -> None:
        """Say ``sentence``, unless it is a condition and the same was said a moment ago."""
        if fields.get("event"):
            self._log(sentence, level, **fields)
            return
        key = (level, _PASSING.sub("~", sentence[:LONGEST]))
        now = self._clock()
        with self._counting:
            before = self._said.get(key)
            fresh = before is not None and now - before.at < self._seconds
            if before is not None and fresh:
                before.again(self._now())
            overdue = [self._said.pop(each) for each in self._overdue(now, key)]
            if not fresh:
                self._said.pop(key, None)
                self._said[key] = _Repeated(now, sentence, level, fields)
        for each in overdue:
            if each is not before and each.suppressed:
                self._log(each.sentence + each.summary, each.level, **each.fields, **each.times)
        if not fresh and before and before.suppressed:
            self._log(sentence + before.summary, level, **fields, **before.times)
        elif not fresh:
            self._log(sentence, level, **fields)

    def failure(self, sentence: str, e: BaseException, **fields: object) -> None:
        """Say that ``e``, which nobody expected, happened: with its traceback, once in a while."""
        self(f"{sentence}: {type(e).__name__}: {e}", "error", traceback=_traceback(e), **fields)

    def _overdue(self, now: float, key: tuple[str, str]) -> list[tuple[str, str]]:
        """Return what may be said again; and the oldest, when there is no room to remember ``key``."""
        room = self._most - (key not in self._said)
        oldest = list(self._said)[: max(0, len(self._said) - room)]
        return [each for each, told in self._said.items() if now - told.at >= self._seconds or each in oldest]


class _Repeated:
    def __init__(self, at: float, sentence: str, level: str, fields: Mapping[str, Any]) -> None:
        self.at = at
        self.sentence = sentence
        self.level = level
        self.fields = fields
        self.suppressed = 0
        self.first = self.last = 0.0

    def again(self, now: float) -> None:
        """Count that it was to be said once more."""
        self.first = self.first or now
        self.last = now
        self.suppressed += 1

    @property
    def times(self) -> Mapping[str, Any]:
        """What was not said, as fields."""
        return {
            "suppressed": self.suppressed,
            "first": _rfc3339(self.first),
            "last": _rfc3339(self.last),
        }

    @property
    def summary(self) -> str:
        """What was not said, as the end of its sentence."""
        count = f"{self.suppressed} time{'s' * (self.suppressed != 1)}"
        return f" ({count} meanwhile, first at {_rfc3339(self.first)}, last at {_rfc3339(self.last)})"


_PASSING = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[\w/+=-]{200,}")
"""What differs in AWS's answers to the same question: request ids, encoded reasons."""


def _traceback(e: BaseException) -> str:
    return "".join(traceback.format_exception(e))[-LONGEST:]


def _clean(text: str) -> str:
    most = len(text)
    if most > LOOKED_AT:  # between two words: half a credential has no form
        most = max(text.rfind(" ", LOOKED_AT - LONGEST, LOOKED_AT), LOOKED_AT - LONGEST)
    shown = redact(text[:most])
    whole = len(shown) <= LONGEST and most == len(text)
    return shown if whole else f"{shown[:LONGEST]}... ({len(text)} characters)"


def _shown(value: object) -> object:
    """Return ``value`` as a line can hold it: a number, a truth value, or text without credentials."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value[:MOST_PARTS]]
    if isinstance(value, float):
        return round(value, 3) if abs(value) < float("inf") else str(value)  # JSON has no infinity
    if isinstance(value, bytes):
        return _clean(value.decode(errors="backslashreplace"))
    return _clean(str(value))


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_json(when: str, level: str, sentence: str, fields: Mapping[str, object]) -> str:
    ours = {"time": when, "level": level, "msg": sentence}
    return json.dumps(ours | {name: value for name, value in fields.items() if name not in ours})


def _as_text(when: str, level: str, sentence: str, fields: Mapping[str, object]) -> str:
    said = "".join(f" {name}={_quoted(value)}" for name, value in fields.items())
    return f"{when} {level:<7} {printable(sentence)}{said}"


def _quoted(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    plain = text.isprintable() and not any(char in ' "=\\' for char in text)
    return text if plain else json.dumps(text, ensure_ascii=False) if text.isprintable() else json.dumps(text)
