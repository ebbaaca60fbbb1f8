"""Doing things side by side: also where no further thread is to be had."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from cni_floatip.model.errors import TryAgain
from cni_floatip.operations.world import World, start_thread


def fail(error: Exception) -> None:
    raise error


def a_world(threads: int) -> Any:
    """Return what ``run_all`` needs of a world in which only so many threads can be had."""
    left = [threads]

    def spawn(work: Callable[[], None]) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start_thread(work)

    return SimpleNamespace(run_in_thread=spawn)


def slowly(done: list[int], number: int) -> int:
    time.sleep(0.02)
    done.append(number)
    return number


@pytest.mark.parametrize("threads", [0, 2, 100])
def test_with_however_few_threads_everything_is_done_when_it_returns(threads: int) -> None:
    done: list[int] = []
    results = World.run_all(a_world(threads), *(partial(slowly, done, number) for number in range(10)))
    assert results == list(range(10))
    assert sorted(done) == list(range(10))


def test_nothing_is_begun_after_it_has_returned() -> None:
    late: list[Callable[[], None]] = []
    done: list[int] = []
    World.run_all(SimpleNamespace(run_in_thread=late.append), *(partial(slowly, done, n) for n in range(3)))  # type: ignore[arg-type]
    for work in late:
        work()
    assert done == [0, 1, 2]


def test_errors_are_returned_in_order_and_mistakes_raised() -> None:
    errors: list[Callable[[], object]] = [partial(fail, TryAgain(str(number))) for number in range(3)]
    results = World.run_all(a_world(1), lambda: "first", *errors)
    assert [getattr(result, "msg", result) for result in results] == ["first", "0", "1", "2"]
    with pytest.raises(ZeroDivisionError):
        World.run_all(a_world(1), *errors, lambda: 1 // 0)
