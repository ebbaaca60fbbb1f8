"""The rooms of the product, and who may import whom: the one list that tests, Makefile and ARCHITECTURE take.

A room is a folder of ``cni_floatip`` (of ``agent`` and ``edges`` each part), or a module at the top. A module
may import its own room and what ``ALLOWED`` gives. Tables are ordered: what stands higher knows nothing of
what stands lower.

    python -m tests.core.shape           the core's folders, for coverage
    python -m tests.core.shape table     the table of ARCHITECTURE.md
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import cni_floatip

ROOT = Path(cni_floatip.__file__).parent

CORE = {
    "model": (),
    "config": ("model",),
    "rules": ("model", "config"),
    "election": ("model", "config"),
    "protocol": ("model", "config"),
    "operations": ("model", "config", "rules", "protocol"),
    "validate": ("model", "config", "rules"),
}
"""What decides and does nothing: values, decisions, and the operations on a world that is given to them."""

_EDGES = ("agent_socket", "ec2", "host", "imds", "kubernetes", "podnet", "spool", "store")
EDGES = dict.fromkeys((f"edges.{name}" for name in _EDGES), ("model", "protocol"))
"""What does: each is the door of one thing outside, and none knows another."""

_CORE = tuple(CORE)
_BELOW = (*CORE, *EDGES)
_PART = (*_CORE, "agent.observe")

ALLOWED: Mapping[str, tuple[str, ...]] = {
    **CORE,
    **EDGES,
    "installer": ("model", "config", "edges.store"),
    "doctor": _BELOW,
    "agent.observe": (*_CORE, "edges.spool", "edges.store"),
    "agent.ec2": (*_PART, "edges.ec2"),
    "agent.keeper": _PART,
    "agent.server": _PART,
    "agent.election": (*_PART, "edges.kubernetes"),
    "agent.watch": (*_PART, "edges.podnet", "edges.store"),
    "agent": (
        *_BELOW,
        "agent.observe",
        "agent.ec2",
        "agent.election",
        "agent.keeper",
        "agent.server",
        "agent.watch",
        "installer",
    ),
    "direct": (*_BELOW, "agent", "agent.observe"),
    "plugin": (*_CORE, "direct"),
    "commands": (*_BELOW, "direct", "installer", "doctor", "agent"),
    "cli": ("model", "commands"),
    "client": (),
    "__init__": (),
}

DOORS = {
    "pyroute2": {"edges.podnet"},
    "botocore": {"edges.ec2"},
    "boto3": set(),
    "urllib3": {"edges.kubernetes"},
    "jsonschema": {"config"},
    "yaml": {"config"},
    "prometheus_client": {"agent.observe"},
}
"""The rooms that may load each library."""


def room(module: str) -> str:
    """Return the room of a module, which is named from below ``cni_floatip`` ("agent.keeper.loop")."""
    parts = module.split(".")
    part = ".".join(parts[:2])
    return part if part in ALLOWED or (len(parts) > 2 and parts[0] in ("agent", "edges")) else parts[0]


@cache
def modules(root: Path = ROOT) -> Mapping[str, Path]:
    """Return every module below ``root``, a package by its folder's name."""
    paths = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        paths[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return paths


@cache
def parsed(text: str) -> ast.Module:
    """Return a text as Python reads it, once for all tests of a worker: the package takes half a second."""
    return ast.parse(text)


def imports(path: Path, root: Path = ROOT) -> frozenset[str]:
    """Return what a file imports, ours as ``cni_floatip.X.Y``."""
    return _imported(path.read_text(), path.relative_to(root).parent.parts)


@cache
def _imported(text: str, folder: tuple[str, ...]) -> frozenset[str]:
    """Return what a text in a folder imports; a copy of the package is the same text in the same folder."""
    return frozenset(_imports(text, folder))


def _imports(text: str, folder: tuple[str, ...]) -> Iterator[str]:
    package = ["cni_floatip", *folder]
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def ours(names: frozenset[str], root: Path = ROOT) -> set[str]:
    """Return which modules of ours are among ``names``, from below ``cni_floatip``."""
    return {name.removeprefix("cni_floatip.") for name in names} & modules(root).keys()


def breaches(root: Path = ROOT) -> list[str]:
    """Return what breaks the rule, a sentence each."""
    results = []
    for module, path in modules(root).items():
        own = room(module)
        if module == "edges":  # the folder itself, which holds nothing
            continue
        if own not in ALLOWED:
            results.append(f"{module} is in no room that tests/core/shape.py knows")
            continue
        used = ours(imports(path, root), root) - {"agent", "edges"}  # folders on the way, which hold nothing
        wrong = set(map(room, used)) - {own, *ALLOWED[own]}
        results += [f"{module} imports {other}" for other in sorted(wrong)]
    return results


def table() -> str:
    """Return the rule as a table in Markdown."""
    rows = [f"| `{name}` | {_described(others)} |" for name, others in ALLOWED.items() if name != "__init__"]
    return "\n".join(["| room | may import |", "| --- | --- |", *rows])


def _described(others: tuple[str, ...]) -> str:
    """Return a list of rooms in words: those of the core, and all edges, have one."""
    groups = {"the core": tuple(CORE), "all edges": tuple(EDGES)}
    whole = [name for name, members in groups.items() if set(members) <= set(others)]
    covered = {member for name in whole for member in groups[name]}
    return ", ".join([*whole, *(f"`{other}`" for other in others if other not in covered)]) or "nothing"


if __name__ == "__main__":
    print(table() if "table" in sys.argv else ",".join(f"cni_floatip/{name}/*" for name in CORE))  # noqa: T201
