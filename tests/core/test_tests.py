"""The shape of the tests: where fixtures are defined, what skips, what sleeps, what a failed wait shows."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.waiting import throughout, until

TESTS = Path(__file__).parents[1]
SLEEPS = 27
"""Lower this with each sleep that goes: a test waits for what it needs (``tests.support.waiting``)."""


@cache
def trees() -> dict[str, ast.Module]:
    """Return every file that has a fixture or sleeps, parsed."""
    texts = {str(path.relative_to(TESTS)): path.read_text() for path in sorted(TESTS.rglob("*.py"))}
    named = ("pytest.fixture", "time.sleep")  # to parse them all takes three seconds
    return {file: ast.parse(text) for file, text in texts.items() if any(name in text for name in named)}


def fixtures(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(
            ast.unparse(decorator).startswith("pytest.fixture") for decorator in node.decorator_list
        ):
            yield node.name


def sleeps(tree: ast.Module) -> int:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return sum(
        isinstance(called, ast.Attribute) and called.attr == "sleep" and ast.unparse(called) == "time.sleep"
        for called in calls
    )


def test_a_fixture_name_means_at_most_two_things() -> None:
    defined = Counter(name for tree in trees().values() for name in fixtures(tree))
    assert {name: times for name, times in defined.items() if times > 2} == {}


def test_sleeps_only_fall() -> None:
    slept = {file: number for file, tree in trees().items() if (number := sleeps(tree))}
    assert sum(slept.values()) == SLEEPS, slept


def test_one_place_skips() -> None:
    """It fails the test instead in CI, so that nothing goes untested unseen."""
    skipping = re.compile(r"pytest\.(skip|importorskip|xfail)\(|mark\.(skip|skipif|xfail)\b")
    texts = {str(path.relative_to(TESTS)): path.read_text() for path in TESTS.rglob("*.py")}
    assert {file for file, text in texts.items() if skipping.search(text)} == {"conftest.py"}


def test_every_folder_is_a_package() -> None:
    """So that two files may have one name."""
    folders = {path.parent for path in TESTS.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_a_wait_that_fails_shows_what_was_awaited() -> None:
    answers: list[str] = []
    with pytest.raises(
        AssertionError, match=r"not within 0 s: until\(lambda: answers, .*\nit was \[\]\nthe log"
    ):
        until(lambda: answers, "the log", lambda: 1 // 0, seconds=0)
    with pytest.raises(AssertionError, match=r"not throughout 1 s: .*\nit was \[\]"):
        throughout(lambda: answers, 1)
