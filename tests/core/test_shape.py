"""The shape of the product: who may import whom, which library has which door, which files are generated."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.observe.lines import LEVELS
from cni_floatip.edges.ec2.service_model import generate
from tests.core import shape
from tests.core.shape import ALLOWED, CORE, DOORS, ROOT, breaches, imports, modules, parsed, room

REPOSITORY = ROOT.parent


def test_every_module_has_a_room_and_imports_what_the_room_may() -> None:
    assert breaches() == []
    assert {room(module) for module in modules()} - {"edges"} == set(ALLOWED), "a room that is not there"


@pytest.mark.parametrize(
    ("file", "text", "breach"),
    [
        ("rogue.py", "from .edges import store\n", "rogue is in no room that tests/core/shape.py knows"),
        ("operations/rogue.py", "from ..edges.ec2 import client\n", "operations.rogue imports edges.ec2"),
        ("edges/imds.py", "from .store import Store\n", "edges.imds imports edges.store"),
        ("agent/watch/rogue.py", "from ..keeper import loop\n", "agent.watch.rogue imports agent.keeper"),
        ("agent/keeper/rogue.py", "from .. import guard\n", "agent.keeper.rogue imports agent"),
        ("model/rogue.py", "def late():\n    from ..config import netconf\n", "model.rogue imports config"),
        ("agent/observe/rogue.py", "from ... import plugin\n", "agent.observe.rogue imports plugin"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, file: str, text: str, breach: str) -> None:
    copy = tmp_path / "cni_floatip"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__", "*.json"))
    (copy / file).write_text(text)
    assert breach in breaches(copy)


def test_the_top_has_few_modules() -> None:
    top = {path.stem for path in ROOT.glob("*.py")}
    assert top == {"__init__", "cli", "client", "direct", "plugin"}


def test_what_is_lower_knows_nothing_of_what_is_higher() -> None:
    order = list(ALLOWED)
    for own, others in ALLOWED.items():
        assert all(order.index(other) < order.index(own) for other in others), own


def test_imports_inside_are_relative() -> None:
    absolute = [
        f"{module}: {node.module}"
        for module, path in modules().items()
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.ImportFrom) and not node.level and node.module
        if module != "client" and node.module.startswith("cni_floatip")
    ]
    assert absolute == []


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_library_has_one_door(library: Any) -> None:
    users = {
        room(module)
        for module, path in modules().items()
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == DOORS[library]


def test_coverage_and_architecture_take_the_same_list() -> None:
    assert "-m tests.core.shape" in (REPOSITORY / "Makefile").read_text()
    page = (REPOSITORY / "ARCHITECTURE.md").read_text()
    assert shape.table() in page, "python -m tests.core.shape table"
    assert list(CORE) == list(ALLOWED)[: len(CORE)]


def told() -> Iterator[tuple[str, ast.Call]]:
    """Every sentence that is told through ``World.log``, or a ``log`` made of it, with where that is."""
    for module, path in modules().items():
        own = {room(module), module}
        if not own & {"operations", "agent.keeper", "agent.watch", "agent.guard", "agent.observe.outages"}:
            continue  # direct mode has standard error, and calls and the agent's life have a log of their own
        for node in ast.walk(parsed(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "log":
                yield f"{module}:{node.lineno}: {ast.unparse(node)}", node


def test_what_is_told_is_an_event_or_a_warning() -> None:
    """An event has a name and is never folded. A line without one is a condition, so it names its level."""
    sentences = list(told())
    assert len(sentences) > 40
    nameless = [
        where
        for where, node in sentences
        if not {"event", "level"} & {keyword.arg for keyword in node.keywords}
        if not any(isinstance(arg, ast.Constant) and arg.value in LEVELS for arg in node.args)
    ]
    assert nameless == []


def test_generated_service_models_fit_the_installed_botocore() -> None:
    for name, document in generate.documents().items():
        written = json.loads((Path(generate.__file__).parent / name).read_text())
        assert written == json.loads(json.dumps(document)), f"{name}: run python -m {generate.__package__}"


def test_every_operation_that_the_edge_calls_is_in_the_model() -> None:
    source = ast.parse((ROOT / "edges/ec2/client.py").read_text())
    called = {
        node.value
        for node in ast.walk(source)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "_" in node.value
        if node.value.split("_")[0] in ("describe", "create", "replace", "delete", "modify")
    }
    named = {"".join(word.capitalize() for word in item.split("_")) for item in called}
    assert named == set(generate.OPERATIONS["ec2"])


def test_every_operation_that_the_doctor_calls_is_in_its_own_model() -> None:
    called = {
        node.value
        for path in (ROOT / "doctor").glob("*.py")
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch("(describe|create|replace|delete|modify)(_[a-z]+)+", node.value)
    }
    named = {"".join(word.capitalize() for word in item.split("_")) for item in called}
    assert named == set(generate.DOCTOR)


def test_the_agents_model_does_not_grow_by_the_doctors(monkeypatch: pytest.MonkeyPatch) -> None:
    from cni_floatip.doctor.ec2_reads import MODELS
    from cni_floatip.edges.ec2.sessions import Sdk

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")  # there is no client without credentials
    agents, doctors = (
        Sdk({}, models=models).client("eu-central-1", "", lambda send: send()) for models in ((), [MODELS])
    )
    assert set(agents.meta.service_model.operation_names) == set(generate.OPERATIONS["ec2"])
    assert set(doctors.meta.service_model.operation_names) == set(generate.DOCTOR)


@pytest.mark.parametrize(
    "module",
    [
        "protocol.request",
        "operations",
        "rules.destinations",
        "config.netconf",
        "config.nodeconf",
        "edges.store",
    ],
)
def test_import_loads_no_library(module: str) -> None:
    code = f"import sys, cni_floatip.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pyroute2", "boto3", "botocore", "yaml", "asyncio", "prometheus_client"}
