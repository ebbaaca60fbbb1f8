"""Rows of the benches: each has a number of its own, and says what limits it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from bench import agent
from tests.docs.pages import ROOT


def rows() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted((ROOT / "bench").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Figure":
                yield f"{path.name}:{node.lineno}", node


def test_a_row_with_an_aim_says_what_limits_it() -> None:
    """It is told where the aim is missed, which depends on the machine."""
    silent = [
        where
        for where, call in rows()
        if not (len(call.args) > 3 and isinstance(call.args[3], ast.Constant) and call.args[3].value == "")
        if len(call.args) < 7 and "limit" not in {keyword.arg for keyword in call.keywords}
    ]
    assert len(list(rows())) > 10
    assert silent == []


def test_every_row_of_the_agent_is_measured_by_something() -> None:
    for row in agent.ROWS:
        assert len(list(agent.works(frozenset({row}), 1))) == 1, row
    assert len(list(agent.works(agent.ROWS, 1))) > 5
