"""The agent's log for its operator: a line for each event, and now and then one for a lasting condition.

``lines`` formats a sentence and its fields. ``Log`` can be used as ``World.log``. No caller waits for a
reader, and a closed standard error stops no work.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from .lines import LONGEST, LineWriter, rfc3339, traceback_of
from .standard_error import Stream


class Log:
    """Logs sentences with the fields of its context, such as ``verb`` and ``container`` of one call."""

    def __init__(self, context: Mapping[str, object] | None = None, lines: LineWriter | None = None) -> None:
        self._context = dict(context or {})
        self._lines = lines if lines is not None else LineWriter()

    def __call__(self, sentence: str, level: str = "info", **fields: object) -> None:
        """Log ``sentence``. Fields that are None or empty are left out."""
        self._lines.write(level, sentence, self._context | fields)

    def flush(self, seconds: float = 1.0) -> None:
        """Wait for unwritten lines, before this process ends."""
        self._lines.flush(seconds)

    def bind(self, **context: object) -> Log:
        """Return a log that adds ``context`` to each line."""
        return Log(self._context | context, self._lines)

    def failure(self, sentence: str, e: BaseException, **fields: object) -> None:
        """Log the unexpected error ``e``: with its traceback, in one line."""
        self(f"{sentence}: {type(e).__name__}: {e}", "error", traceback=traceback_of(e), **fields)


def configure(
    level: str = "info",
    format: str = "json",  # noqa: A002
    stream: Stream | None = None,
    now: Callable[[], float] = time.time,
) -> Log:
    """Return the agent's log, for ``logLevel`` and ``logFormat`` of the node configuration."""
    return Log({}, LineWriter(level, format, stream, now))


def take_over(log: Log) -> None:
    """Send libraries' warnings and the errors that end threads through ``log``, in this whole process.

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
    root.addHandler(_FromLibraries(DedupLog(log)))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    threading.excepthook = died
    sys.excepthook = ended


class _FromLibraries(logging.Handler):
    """The handler that passes records of the standard library's ``logging`` to our lines."""

    def __init__(self, log: DedupLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a library's broken format string must not end us
            level = "error" if record.levelno >= logging.ERROR else "warning"
            self._log(record.getMessage(), level, logger=record.name)


class DedupLog:
    """A log for loops: it logs the same condition once in ``seconds``.

    After that time the next line of any kind first tells how often the condition was ``suppressed``, and
    when. A sentence with a field ``event`` is an event and no condition: it is always logged.
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
        self._folded: dict[tuple[str, str], _Repeated] = {}
        self._counting = threading.Lock()

    def __call__(self, sentence: str, level: str = "info", **fields: object) -> None:
        """Log ``sentence``, unless it is a condition that was logged a moment ago."""
        if fields.get("event"):
            self._log(sentence, level, **fields)
            return
        key = (level, _PASSING.sub("~", sentence[:LONGEST]))
        now = self._clock()
        with self._counting:
            before = self._folded.get(key)
            fresh = before is not None and now - before.at < self._seconds
            if before is not None and fresh:
                before.again(self._now())
            overdue = [self._folded.pop(item) for item in self._overdue(now, key)]
            if not fresh:
                self._folded.pop(key, None)
                self._folded[key] = _Repeated(now, sentence, level, fields)
        for repeated in overdue:
            if repeated is not before and repeated.suppressed:
                self._log(
                    repeated.sentence + repeated.summary, repeated.level, **repeated.fields, **repeated.times
                )
        if not fresh and before and before.suppressed:
            self._log(sentence + before.summary, level, **fields, **before.times)
        elif not fresh:
            self._log(sentence, level, **fields)

    def failure(self, sentence: str, e: BaseException, **fields: object) -> None:
        """Log the unexpected error ``e`` with its traceback, once in a while."""
        self(f"{sentence}: {type(e).__name__}: {e}", "error", traceback=traceback_of(e), **fields)

    def _overdue(self, now: float, key: tuple[str, str]) -> list[tuple[str, str]]:
        """Return conditions that may be logged again; and the oldest, if ``key`` would find no room."""
        room = self._most - (key not in self._folded)
        oldest = list(self._folded)[: max(0, len(self._folded) - room)]
        return [
            item
            for item, repeated in self._folded.items()
            if now - repeated.at >= self._seconds or item in oldest
        ]


class _Repeated:
    def __init__(self, at: float, sentence: str, level: str, fields: Mapping[str, Any]) -> None:
        self.at = at
        self.sentence = sentence
        self.level = level
        self.fields = fields
        self.suppressed = 0
        self.first = self.last = 0.0

    def again(self, now: float) -> None:
        """Count one more suppressed line."""
        self.first = self.first or now
        self.last = now
        self.suppressed += 1

    @property
    def times(self) -> Mapping[str, Any]:
        """The suppressed lines, as fields."""
        return {
            "suppressed": self.suppressed,
            "first": rfc3339(self.first),
            "last": rfc3339(self.last),
        }

    @property
    def summary(self) -> str:
        """The suppressed lines, as the end of their sentence."""
        count = f"{self.suppressed} time{'s' * (self.suppressed != 1)}"
        return f" ({count} meanwhile, first at {rfc3339(self.first)}, last at {rfc3339(self.last)})"


_PASSING = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[\w/+=-]{200,}")
"""The parts of AWS's answers that differ for the same question: request ids, encoded reasons."""
