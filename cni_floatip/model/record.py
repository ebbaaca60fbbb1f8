"""Reads the values of a record with their types. Raises ValueError that names the value with a wrong type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import short

LAST_TIME = 1e11
"""No clock shows more seconds since the epoch: beyond the year 5000 there is no date to write."""


class Record:
    """An object of a claim's file."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        if not isinstance(fields, dict):
            raise ValueError(f"{short(repr(fields))} is no object")
        self.fields = fields

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text."""
        text = self._typed(key, default, str)
        if "\0" in text:
            raise ValueError(f"{key}: {short(repr(text))} holds a null character")
        return str(text)

    def one_of(self, key: str, choices: tuple[str, ...]) -> Any:
        """Return a text that is one of ``choices``."""
        if (text := self.text(key)) not in choices:
            raise ValueError(f"{key}: {short(repr(text))} is none of {', '.join(choices)}")
        return text

    def texts(self, key: str, default: Iterable[str] | None = None) -> list[str]:
        """Return a list of texts."""
        return [Record({key: text}).text(key) for text in self._typed(key, default, list, tuple)]

    def whole(self, key: str, most: int = 2**32 - 1) -> int:
        """Return a whole number from 0 to ``most``."""
        number = self._typed(key, None, int)
        if not 0 <= number <= most:
            raise ValueError(f"{key}: {number} is not from 0 to {most}")
        return int(number)

    def time(self, key: str, default: float | None = None) -> float:
        """Return a time in seconds since the epoch."""
        seconds = self._typed(key, default, int, float)
        if not 0 <= seconds <= LAST_TIME:
            raise ValueError(f"{key}: {seconds} is no time in seconds since the epoch")
        return float(seconds)

    def truth(self, key: str) -> bool:
        """Return a boolean; a missing one is false."""
        value = self.fields.get(key, False)
        if not isinstance(value, bool):
            raise ValueError(f"{key}: {short(repr(value))} is neither true nor false")
        return value

    def object(self, key: str) -> Record:
        """Return an object."""
        return Record(self.fields[key])

    def objects(self, key: str) -> list[Record]:
        """Return a list of objects."""
        return [Record(fields) for fields in self._typed(key, None, list)]

    def is_null(self, key: str) -> bool:
        """Return whether the value is missing or null."""
        return self.fields.get(key) is None

    def _typed(self, key: str, default: Any, *types: type) -> Any:
        value = self.fields[key] if default is None else self.fields.get(key, default)
        if not isinstance(value, types) or isinstance(value, bool):
            raise ValueError(f"{key}: {short(repr(value))} has an unexpected type")
        return value
