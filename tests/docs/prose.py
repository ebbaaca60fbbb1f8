"""The prose of the documents and of the product's help, log and error texts, as tests read it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT, Page, code_out

WIDTH = 160
SENTENCE = re.compile(r"(?<!\.\.)(?<!\be\.g)(?<!\bi\.e)[.!?](?:\*\*|[)\"_])* +(?=[\[*(\"`]*[A-Z])")
ITEM = re.compile(r"\s*(?:[-*+]|\d+\.) ")

BANNED = {
    "a relative clause as subject": re.compile(
        r"(?:^|[.:;] )(?:who|whoever|what)"
        r" (?:(?:is|are|was|has|have|had|may|can|must|stands|comes|goes|asks|wants|it|they|a|an|the|that) )+"
        r"(?:[\w'/-]+ ){0,8}?(?:is|are|was|has|have|goes|stays|does|must|may|can)\b"
        r"(?!.*\?)",
        re.IGNORECASE,
    ),
    "a duty without an actor": re.compile(r"\b(?:is|are) to be (?!found\b|seen\b)\w+"),
    "a metaphor": re.compile(
        r"at one blow|as nobody expected|wanted to talk|to nobody\b|hears nobody|look(?:s|ed)? after(?:ed)?\b"
        r"|stands? behind this|stands? for yours|come round|nobody (?:on this node )?wants|all the same\b"
        r"|\bat work\b",
        re.IGNORECASE,
    ),
}


def paragraphs(page: Page) -> Iterator[tuple[int, str]]:
    """Yield the lines of prose with their numbers: no tables, quotes, headings, comments."""
    for number, line in page.prose:
        text = line.strip()
        if text and not text.startswith(("|", ">", "#", "<!--", "---")):
            yield number, line


def inner_ends(line: str) -> int:
    """Return how many sentences end before the end of the line, outside code, links and round brackets."""
    text = re.sub(r"\]\([^)]*\)", "]", code_out(line).replace("``", "`"))
    text = re.sub(r"^\s*\*\*[^*]+\*\*", "", ITEM.sub("", text, count=1))  # a bold lead-in
    while (bare := re.sub(r"\([^()]*\)", "", text)) != text:
        text = bare
    return len(SENTENCE.findall(text))


def faults(text: str) -> list[str]:
    """Return the names of the banned constructions in ``text``."""
    return [name for name, pattern in BANNED.items() if pattern.search(text)]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every string of one module that people read, with a hole for each value that is put into it.

    Docstrings and strings of less than four words (keys, names) are left out.
    """
    module = ast.parse(path.read_text())
    skip: set[int] = set()
    for node in ast.walk(module):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            skip |= {
                id(s.value) for s in body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)
            }
        if isinstance(node, ast.JoinedStr):
            skip |= {id(part) for part in ast.walk(node) if part is not node}
    for node in ast.walk(module):
        if id(node) in skip:
            continue
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(p.value) if isinstance(p, ast.Constant) else "..." for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if len(re.findall(r"[A-Za-z]{2,}", text)) >= 4:
            yield node.lineno, text


def product() -> Iterator[tuple[str, str]]:
    """Yield what the product says to people, with where that is."""
    for path in sorted((ROOT / "cni_floatip").rglob("*.py")):
        if "service_model" not in path.parts:
            name = path.relative_to(ROOT)
            yield from ((f"{name}:{number}", text) for number, text in texts(path))
