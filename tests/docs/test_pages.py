"""What the documents say, held against what it speaks of: links, references, quotes, metrics, keys."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path

import pytest

import cni_floatip.agent.observe.metrics as metrics
from cni_floatip.model import errors
from cni_floatip.rules.reconcile import Outage
from tests.docs.pages import ROOT, Page, pages, parse, slug

PRODUCT = ROOT / "cni_floatip"
ELSEWHERE = re.compile(r"[a-z]+:")


@pytest.mark.parametrize("page", pages().values(), ids=str)
def test_links_lead_somewhere(page: Page) -> None:
    dead = [f"line {number}: {target}" for number, target in page.links if not resolves(page, target)]
    assert not dead, f"{page}: {dead}"


def resolves(page: Page, target: str) -> bool:
    if ELSEWHERE.match(target):
        return True
    name, _, anchor = target.partition("#")
    path = (ROOT / page.name).parent / name if name else ROOT / page.name
    if not path.exists():
        return False
    if not anchor:
        return True
    known = pages().get(str(path.resolve().relative_to(ROOT)))
    return known is not None and anchor in known.anchors


def test_a_dead_link_is_found() -> None:
    text = "# Here\n[a](#here) [b](#there) [c](../README.md#see-it) [d](gone.md) [e](doctor.md#no) `[f](g)`\n"
    page = parse("docs/x.md", text)
    assert [target for _, target in page.links if not resolves(pages()["docs/README.md"], target)] == [
        "#here",
        "#there",
        "gone.md",
        "doctor.md#no",
    ]
    assert page.anchors == {"here"}


def test_index_names_every_document() -> None:
    named = {target for _, target in pages()["docs/README.md"].links}
    assert {Path(name).name for name in pages() if name.startswith("docs/")} - {"README.md"} <= named


def without_a_kind(text: str) -> list[str]:
    """Return a changelog's entries that stand below no heading such as "Fixed" of their release."""
    results, kind = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            kind = ""
        elif line.startswith("### "):
            kind = line
        elif line.startswith("- ") and not kind:
            results.append(line)
    return results


def test_entries_of_the_changelog_stand_below_a_kind_of_change() -> None:
    assert without_a_kind((ROOT / "CHANGELOG.md").read_text()) == []
    assert without_a_kind("## [2]\n### Fixed\n- A.\n## [1]\n- B.\n\n### Added\n- C.\n") == ["- B."]


# -- configuration.md ---------------------------------------------------------------------------------------


def test_configuration_reference_is_what_the_schemas_say() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (ROOT / "docs" / "configuration.md").read_text() == generate.document(), "run make docs"


# -- what the code says -------------------------------------------------------------------------------------

HOLE = "\0"


@cache
def literals() -> tuple[str, ...]:
    """Every string in the product's code, with a hole for each value that is put into it."""
    results = set()
    for path in PRODUCT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (str(p.value) if isinstance(p, ast.Constant) else HOLE for p in node.values)
                results.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                results.add(node.value)
    return tuple(results)


def said(quote: str) -> bool:
    """Whether one string of the code has all of ``quote``, where ``...`` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in quote.split("..."))
    return any(re.search(pattern, literal, re.DOTALL) for literal in literals())


QUOTES = [
    (str(page), number, quote)
    for page in pages().values()
    if page.name.startswith("docs/")
    for number, quote in page.quotes
    if quote
]


def test_quotes_are_the_codes_own_words() -> None:
    unknown = [f"{page}:{number}: {quote}" for page, number, quote in QUOTES if not said(quote)]
    assert not unknown
    assert len(QUOTES) > 50
    assert not said("... is the primary ENI, which carries the nodes own traffic")
    assert all(len(quote.replace("...", "").strip(" :->(),")) > 8 for _, _, quote in QUOTES)


def test_every_error_code_has_cause_and_remedy() -> None:
    page = pages()["docs/troubleshooting.md"]
    codes = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
    rows = {
        int(n)
        for _, line in page.prose
        if line.startswith("| `")
        for n in re.findall(r"`(\d+)`", line.split("|")[1])
    }
    assert rows == codes


def test_reasons_of_the_sweep_are_the_codes_own_words() -> None:
    page = pages()["docs/troubleshooting.md"]
    begin = next(n for n, line in page.prose if line.startswith("| `kept` because"))
    after = (line for n, line in page.prose if n > begin + 1)
    rows = list(takewhile(lambda line: line.startswith("| `"), after))
    documented = [reason for line in rows for reason in re.findall(r"`([^`]+)`", line.split("|")[1])]
    code = list(_reasons_of_the_sweep())
    assert len(code) > 7
    for reason in documented:
        assert any(_says(reason, item) for item in code), f"no such reason: {reason}"
    for item in code:
        assert any(_says(reason, item) for reason in documented), f"not documented: {item}"


def _says(documented: str, reason: str) -> bool:
    parts = documented.replace("i-...", "...").split("...")
    return bool(re.search(".*".join(map(re.escape, parts)), reason))


def _reasons_of_the_sweep() -> Iterator[str]:
    """Every sentence with which the sweep keeps a route, with a hole for each value."""
    judges = {"_of_table", "_of_target", "recheck"}
    module = ast.parse((PRODUCT / "operations" / "sweep.py").read_text())
    for judge in (item for item in ast.walk(module) if isinstance(item, ast.FunctionDef)):
        for given in ast.walk(judge) if judge.name in judges else ():
            if isinstance(given, ast.Return) and given.value is not None:
                yield from (item for item in _sentences(given.value) if item)


def _sentences(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)
    elif isinstance(node, ast.Constant):
        yield node.value if isinstance(node.value, str) else ""
    else:
        for item in ast.iter_child_nodes(node):
            yield from _sentences(item)


def test_metrics_have_the_names_that_they_are_given() -> None:
    known = re.findall(r"floatip_\w+", metrics.Metrics("0").page().body.decode())
    named = {
        (str(page), name)
        for page in pages().values()
        for _, line in page.prose
        for name in re.findall(r"\bfloatip_[a-z0-9_]+\b", line)
        if not name.startswith("floatip_cni_plugin")
    }
    exported = set(known) | {name.removesuffix("_bucket") for name in known}
    missing = {(page, name) for page, name in named if name not in exported and page != "CHANGELOG.md"}
    assert not missing


def test_every_metric_of_ours_is_explained() -> None:
    page = pages()["docs/troubleshooting.md"]
    exported = re.findall(r"^# TYPE (floatip_\w+)", metrics.Metrics("0").page().body.decode(), re.MULTILINE)
    rows = " ".join(line.split("|")[1] for _, line in page.prose if line.startswith("| `floatip_"))
    assert len(exported) > 10
    assert {name for name in exported if f"`{name}`" not in rows} == set()


def test_every_event_of_the_log_is_explained() -> None:
    named = {
        keyword.value.value
        for path in (ROOT / "cni_floatip").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "event" and isinstance(keyword.value, ast.Constant) and keyword.value.value
    }
    table = (ROOT / "docs" / "security.md").read_text().partition("| `event` |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    explained = {name for row in rows for name in re.findall("`([^`]+)`", row)}
    assert explained == named | {outage.value for outage in Outage}


def test_anchor_names_are_githubs() -> None:
    assert slug("50 and 51: not available") == "50-and-51-not-available"
    assert slug("The agent warns of an ENI's guard") == "the-agent-warns-of-an-enis-guard"
    assert slug("`routeTables.ids`") == "routetablesids"
