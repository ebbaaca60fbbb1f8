"""Words: names that only we understood stay away, a name means one thing, and docs/glossary.md has it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.core.shape import ROOT, modules

GLOSSARY = ROOT.parent / "docs" / "glossary.md"

BANNED = """
    Act Appearances Arrivals Asked Audit Counts Crew Ends Few Flights Followed Handed Joining Kept Life Line
    Looks Memory Mender NoCounts Once Patience Place Remembered Seen Seldom Sees Sight Sighting Site Stake
    Swept Taken Talk Target Told Turns Verdict Waiting Wanted Want Warm Watched Ways Wishes Working
    aboard barred deadly end_abandoned ended_by_restart has_pilot hurried judge_site landed obey_signals
    put_first said_no stakes_of steady told_of try_out unresolved work_off write_again
"""
"""Private metaphors, and words that meant several things; docs/glossary.md has what is in their place."""

PARTICIPLES = frozenset(("each", "found", "said", "told", "asked", "seen"))
"""Names of what somebody did to a thing, where the thing has a name of its own."""
MOST = {"cni_floatip": 0, "lab": 3, "bench": 0, "tests": 432}
"""How many of them are left. The numbers only fall: lower one when you can."""


def trees(folder: str) -> Iterator[tuple[Path, ast.Module]]:
    """Yield the files of a folder, parsed."""
    for path in sorted((ROOT.parent / folder).rglob("*.py")):
        yield path, parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each name in the code: variables, parameters, attributes, functions, classes, imports."""
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name", "asname"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield getattr(node, "lineno", 0), name


def test_banned_names_are_absent() -> None:
    banned = set(BANNED.split())
    there = [
        f"{module}:{line}: {name}"
        for module, path in modules().items()
        for line, name in names(parsed(path))
        if name in banned
    ]
    assert there == []


@pytest.mark.parametrize("folder", MOST)
def test_participles_as_names_only_fall(folder: str) -> None:
    count = sum(name in PARTICIPLES for _, tree in trees(folder) for _, name in names(tree))
    assert count <= MOST[folder]


@cache
def classes() -> list[tuple[str, ast.ClassDef]]:
    """Return the public classes of the package, each with its module."""
    return [
        (module, node)
        for module, path in modules().items()
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


def members(node: ast.ClassDef) -> set[str]:
    """Return what a class has: methods, fields, and what its methods set."""
    mine = {child.name for child in node.body if isinstance(child, ast.FunctionDef)}
    mine |= {
        child.target.id
        for child in node.body
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name)
    }
    return mine | {
        child.attr
        for child in ast.walk(node)
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store)
    }


def is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).startswith("Protocol") for base in node.bases)


def test_a_class_name_means_one_thing() -> None:
    """Twice in the package is only a protocol, with what implements it."""
    twice = {name for name, times in Counter(node.name for _, node in classes()).items() if times > 1}
    wrong = []
    for name in sorted(twice):
        mine = [(module, node) for module, node in classes() if node.name == name]
        protocols = [node for _, node in mine if is_protocol(node)]
        others = [node for _, node in mine if not is_protocol(node)]
        if len(protocols) != 1 or any(not members(protocols[0]) <= members(other) for other in others):
            wrong.append(f"{name}: {', '.join(module for module, _ in mine)}")
    assert wrong == []


def test_the_glossary_has_every_class_of_model_and_rules() -> None:
    terms = set(re.findall(r"`(\w+)`", GLOSSARY.read_text()))
    rooms = {node.name for module, node in classes() if module.split(".")[0] in ("model", "rules")}
    assert rooms - terms == set()


def test_the_glossary_has_no_class_that_there_is_not() -> None:
    rows = [line.split("|")[1] for line in GLOSSARY.read_text().splitlines() if line.startswith("| ")]
    terms = {term for row in rows for term in re.findall(r"`([A-Z][a-z]\w*)`", row)}
    assert terms - {node.name for _, node in classes()} == set()
