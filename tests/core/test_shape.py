"""The shape of the product: who may import whom, which library has which door, which files are generated."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import cni_floatip
from cni_floatip.edges.ec2.service_model import generate

ROOT = Path(cni_floatip.__file__).parent
CORE = {
    "cidr",
    "claims",
    "decide",
    "documents",
    "errors",
    "model",
    "netconf",
    "nodeconf",
    "request",
    "result",
}
CORE |= {"podplan", "schemas", "versions", "wire", "world", "ec2writes", "operations", "keeping"}
CORE |= {"waiting", "chain", "foreign", "ipam", "kinds", "neighbours", "networks", "policing", "validate"}
ENTRIES = {"agent", "doctor", "cli", "commands", "direct", "plugin", "client", "installer", "uninstall"}
EDGES = {"podnet", "vpc", "sdk", "imds", "store"}
NOUNS = {"claims", "errors", "model"}
BESIDE = {"vpc": {"sdk"}, "sdk": {"__version__"}}
OWNERS = {
    "pyroute2": {"podnet"},
    "botocore": {"vpc", "sdk", "ec2model"},
    "boto3": set(),
    "jsonschema": {"schemas"},
    "yaml": {"manifests"},
    "prometheus_client": {"agent"},
}


def imports(path: Path) -> set[str]:
    """Return what a file imports, ours as ``cni_floatip.X``."""
    found = set()
    package = ["cni_floatip", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module} | {
                f"{node.module}.{a.name}" for a in node.names if node.module == "cni_floatip"
            }
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {".".join([*base, name]) for name in names}
    return found


@cache
def modules() -> dict[str, set[str]]:
    """Return what each module imports, a package's as one."""
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).with_suffix("").parts[0]
        found.setdefault(name, set()).update(imports(path))
    return found


def ours(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("cni_floatip.")}


@pytest.mark.parametrize("edge", sorted(EDGES))
def test_edges_import_only_nouns_and_errors(edge):
    assert ours(modules()[edge]) - {edge} <= NOUNS | BESIDE.get(edge, set())


@pytest.mark.parametrize("module", sorted(CORE))
def test_core_imports_no_edge_and_no_entry(module):
    assert not ours(modules()[module]) & (EDGES | ENTRIES)


def test_every_module_is_one_or_the_other():
    known = CORE | EDGES | ENTRIES
    assert known <= modules().keys(), "a module that is not there"


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_each_library_has_one_door(library):
    users = {name for name, found in modules().items() if any(n.split(".")[0] == library for n in found)}
    assert users <= OWNERS[library]


def test_metrics_are_the_door_inside_the_agent():
    users = {path.name for path in (ROOT / "agent").glob("*.py") if "prometheus_client" in imports(path)}
    assert users == {"metrics.py"}


def told() -> Iterator[tuple[str, ast.Call]]:
    """Every sentence that is told through ``World.log``, with where that is."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("world.log", "self._world.log"):
                yield f"{path.name}:{node.lineno}: {ast.unparse(node)}", node


def test_what_is_told_is_an_event_or_a_warning():
    """What happened has a name and passes no filter. What has none is a condition, so it is what is wrong."""
    sentences = list(told())
    assert len(sentences) > 40
    nameless = [
        where
        for where, node in sentences
        if len(node.args) < 2 and not {"event", "level"} & {keyword.arg for keyword in node.keywords}
    ]
    assert nameless == []


def test_generated_service_models_fit_the_installed_botocore():
    for name, document in generate.documents().items():
        written = json.loads((Path(generate.__file__).parent / name).read_text())
        assert written == json.loads(json.dumps(document)), (
            f"{name}: run python -m cni_floatip.edges.ec2.service_model"
        )


def test_every_operation_that_the_edge_calls_is_in_the_model():
    source = ast.parse((ROOT / "edges/ec2/client.py").read_text())
    called = {
        node.value
        for node in ast.walk(source)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "_" in node.value
        if node.value.split("_")[0] in ("describe", "create", "replace", "delete", "modify")
    }
    named = {"".join(word.capitalize() for word in each.split("_")) for each in called}
    assert named == set(generate.OPERATIONS["ec2"])


def test_every_operation_that_the_doctor_calls_is_in_its_own_model():
    called = {
        node.value
        for path in (ROOT / "doctor").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch("(describe|create|replace|delete|modify)(_[a-z]+)+", node.value)
    }
    named = {"".join(word.capitalize() for word in each.split("_")) for each in called}
    assert named == set(generate.DOCTOR)


def test_the_agents_model_does_not_grow_by_the_doctors(monkeypatch):
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
    "module", ["plugin", "request", "operations", "decide", "netconf", "nodeconf", "store"]
)
def test_import_loads_no_library(module):
    code = f"import sys, cni_floatip.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {
        "pyroute2",
        "boto3",
        "botocore",
        "jsonschema",
        "yaml",
        "asyncio",
        "prometheus_client",
    }
