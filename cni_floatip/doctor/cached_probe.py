"""Properties that are computed once: the first thread computes, and the others wait for the result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar, overload

T = TypeVar("T")


class ProbeResults:
    """The results or errors of reads so far, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: dict[str, Future[Any]] = {}

    def of(self, looks: Any, look: Callable[[Any], T]) -> T:
        """Return the result of this read; only the first caller reads."""
        with self._lock:
            first = look.__name__ not in self._futures
            future: Future[T] = self._futures.setdefault(look.__name__, Future())
        if first:
            try:
                future.set_result(look(looks))
            except Exception as e:  # noqa: BLE001 (raised again, for everybody who asks)
                future.set_exception(e)
        return future.result()

    def raised(self, error: Exception) -> set[str]:
        """Return the reads that raised exactly this."""
        with self._lock:
            done = {look: future for look, future in self._futures.items() if future.done()}
        return {look for look, future in done.items() if future.exception() is error}


class Remembers(Protocol):
    """An object with properties that are computed once."""

    @property
    def results(self) -> ProbeResults: ...


class cached_probe(Generic[T]):  # noqa: N801 (a decorator)
    """A property that the first thread computes once; other threads wait for it."""

    def __init__(self, look: Callable[[Any], T]) -> None:
        self._look = look
        self.__doc__ = look.__doc__

    @overload
    def __get__(self, looks: None, owner: type) -> cached_probe[T]: ...
    @overload
    def __get__(self, looks: Remembers, owner: type) -> T: ...
    def __get__(self, looks: Remembers | None, owner: type) -> cached_probe[T] | T:
        return self if looks is None else looks.results.of(looks, self._look)
