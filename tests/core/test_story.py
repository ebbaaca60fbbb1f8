"""An ADD reads as a story, and lies few frames above EC2; no function is long, wide or tangled."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from cni_floatip.agent.server.handler import CallHandler
from cni_floatip.operations.add import add
from tests.agent.server import test_call_deadlines as deadlines
from tests.core.shape import ROOT, modules, parsed

PARAMETERS = 6
LINES = 60
STORY = 45
"""Lines of ``add``."""
FRAMES = 15
"""From the agent's handler of calls to the call into ``edges/ec2``, both counted."""


def functions() -> Iterator[tuple[str, ast.FunctionDef, bool]]:
    """Yield every function of the package, where it is, and whether it is a class's."""

    def inside(node: ast.AST, where: str) -> Iterator[tuple[str, ast.FunctionDef, bool]]:
        for child in ast.iter_child_nodes(node):
            name = f"{where}.{child.name}" if isinstance(child, ast.FunctionDef | ast.ClassDef) else where
            if isinstance(child, ast.FunctionDef):
                yield name, child, isinstance(node, ast.ClassDef)
            yield from inside(child, name)

    for module, path in modules().items():
        yield from inside(parsed(path.read_text()), module)


def parameters(function: ast.FunctionDef, *, of_class: bool) -> list[str]:
    """Return the names of what a function takes, without ``self``."""
    given = function.args
    names = [item.arg for item in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [item.arg for item in (given.vararg, given.kwarg) if item]
    return [name for name in names if not (of_class and name in ("self", "cls"))]


def test_no_function_takes_more_than_six_parameters() -> None:
    wide = [
        f"{name}: {len(taken)}"
        for name, function, of_class in functions()
        if len(taken := parameters(function, of_class=of_class)) > PARAMETERS
    ]
    assert wide == []


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name}: {lines}"
        for name, function, _ in functions()
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > LINES
    ]
    assert long == []


def test_no_function_is_tangled() -> None:
    """``make check`` runs ruff, which counts branches: over 20 is grade D."""
    lint = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "C901" in lint["select"]
    assert lint["mccabe"]["max-complexity"] <= 20
    assert not [path for path in modules().values() if "noqa: C901" in path.read_text()]


def test_that_nothing_is_wrong_is_none() -> None:
    """A callback that answers "" says nothing that a type can tell from a reason."""
    empty = [
        f"{module}:{node.lineno}"
        for module, path in modules().items()
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.Lambda) and isinstance(node.body, ast.Constant) and node.body.value == ""
    ]
    assert empty == []


def test_add_is_the_story_that_architecture_tells() -> None:
    source = inspect.getsource(add)
    assert len(source.splitlines()) <= STORY
    page = (ROOT.parent / "ARCHITECTURE.md").read_text()
    section = page.partition("## One ADD, followed through")[2].partition("\n## ")[0]
    sentences = re.findall(r"^(\d)\. \*\*(.+?)\*\*", section, re.MULTILINE)
    assert [number for number, _ in sentences] == [*"1234567"]
    assert re.findall(r"^ *# (\d)\. (.+)$", source, re.MULTILINE) == sentences


class Counted:
    """EC2 that notes how many frames lie between the agent's handler and each call."""

    def __init__(self, ec2: Any, depths: dict[str, int]) -> None:
        self._ec2 = ec2
        self._depths = depths

    def __getattr__(self, name: str) -> Callable[..., Any]:
        real = getattr(self._ec2, name)

        def counted(*args: Any, **keys: Any) -> Any:
            self._depths[name] = max(self._depths.get(name, 0), frames(sys._getframe(1)))
            return real(*args, **keys)

        return counted


def frames(frame: FrameType | None) -> int:
    """Return how many frames there are from the handler's to this one."""
    count = 1
    while frame and frame.f_code is not CallHandler.answer.__code__:
        frame, count = frame.f_back, count + 1
    assert frame, "not in a thread of the handler"
    return count


def no_thread(_: Callable[[], None]) -> None:
    raise RuntimeError("can't start new thread")


def test_few_frames_lie_between_the_handler_and_ec2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depths: dict[str, int] = {}
    monkeypatch.setattr(deadlines, "start_thread", no_thread)  # else a write begins in a stack of its own
    node = deadlines.Node(tmp_path)
    node.cluster.ec2.checks[node.node.enis[0]] = True
    monkeypatch.setattr(node.cluster, "ec2", Counted(node.cluster.ec2, depths))
    answers = [node.add(1, 5)[1], node.add(1, 5)[1]]  # the second finds the route, and replaces it
    assert not any("code" in answer for answer in answers), answers
    writes = {"wait_turn", "create", "replace", "disable_source_dest_check"}
    assert {"route_tables", "network_interface", *writes} <= depths.keys()
    assert {name: depth for name, depth in depths.items() if depth > FRAMES} == {}


def test_a_recorded_configuration_is_parsed_in_one_place() -> None:
    """What is parsed anew at each look is no noun but a dict that crosses rooms."""
    parsing = {module for module, path in modules().items() if "NetConf.parse(" in path.read_text()}
    assert parsing == {"operations.backlog", "operations.check", "operations.plan"}
