"""Rules that stood twice, under different names, and drifted: each has one definition now."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import cache

import pytest

from tests.core.shape import modules, parsed


@cache
def functions() -> Sequence[tuple[str, ast.FunctionDef]]:
    """Return every function of the product, each with its name (``module.function``)."""
    return [
        (f"{module}.{node.name}", node)
        for module, path in modules().items()
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]


def calls(what: str) -> set[str]:
    """Return the functions that call ``what``, a pattern of what stands before the parenthesis."""
    return {
        where
        for where, node in functions()
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and re.fullmatch(what, ast.unparse(call.func))
    }


ONCE = {
    "owner_account": {"operations.reads.owner_account"},
    "_?printable": {"model.errors.printable"},
    "evidence_among": {"operations.evidence.evidence_among"},
    "_?is_here": {"operations.evidence.is_here"},
    "_?alone": set(),
    "_?unpack|_?attributes": {"edges.podnet.attributes.unpack"},
    "_?make(_directory)?": {"edges.store.make_directory"},
    "write_whole": {"edges.store.write_whole", "client.write_whole"},
    "_?sync(_directory)?": {"edges.store.sync_directory"},
}
"""Names of functions, and where they are; the client imports nothing, so it has a copy."""


@pytest.mark.parametrize("name", ONCE)
def test_it_is_defined_once(name: str) -> None:
    defined = {
        where
        for where, node in functions()
        if re.fullmatch(name, where.rpartition(".")[2])
        if not _is_method(node)
    }
    assert defined == ONCE[name]


def _is_method(node: ast.FunctionDef) -> bool:
    return bool(node.args.args) and node.args.args[0].arg == "self"


def test_a_read_is_repeated_and_named_in_one_place() -> None:
    named = {
        where
        for where, node in functions()
        for inner in ast.walk(node)
        if isinstance(inner, ast.JoinedStr) and ast.unparse(inner).startswith("f'cannot read the {")
    }
    assert named == calls("retry") & named == {"operations.reads.read"}


def test_one_rule_says_who_owns_the_route_tables() -> None:
    """Whatever reads the account of a subnet decides that."""
    owners = {
        where
        for where, node in functions()
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute) and re.search(r"subnets?(\[0\])?\.account$", ast.unparse(inner))
    }
    assert owners == {"operations.reads.owner_account"}


def test_one_rule_makes_text_printable() -> None:
    escaping = {
        where
        for where, node in functions()
        for inner in ast.walk(node)
        if isinstance(inner, ast.GeneratorExp | ast.ListComp) and "isprintable" in ast.unparse(inner)
    }
    assert escaping == {"model.errors.printable"}


def test_one_module_writes_files_whole() -> None:
    """A file is on the disk before its name is: whoever syncs either does so by ``edges.store``."""
    synced = {where for where in calls(r"(os|posix)\.fsync") if not where.startswith("client.")}
    assert synced == {"edges.store.write_new", "edges.store.sync_directory"}


def test_the_gauge_of_claims_has_one_writer() -> None:
    assert calls(r"(self\._)?(metrics|counts|recorder)\.claims") == {"agent.report.show"}
