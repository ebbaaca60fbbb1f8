"""The Markdown files here as tests read them: headings, links, fenced blocks and what announces them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ELSEWHERE = {".git", ".venv", ".cache", ".pytest_cache", "build", "node_modules", ".hypothesis"}

KINDS = ("checkout", "lab", "cluster")
MARK = re.compile(r"<!-- commands: (\S+) -->")
FENCE = re.compile(r"(`{3,}|~{3,})(.*)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block. ``kind``: what the comment above it says of its commands, "" for nothing."""

    page: str
    line: int
    info: str
    text: str
    kind: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its shell lines, continued ones joined, without comments."""
        joined = self.text.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and line.lstrip()[0] != "#"]


@dataclass
class Page:
    """One file. ``prose`` is it without fenced blocks, one entry for each line with its number."""

    name: str
    prose: list[tuple[int, str]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def __str__(self) -> str:
        return self.name

    @property
    def anchors(self) -> set[str]:
        """What ``#...`` may name in it, as GitHub makes it of headings."""
        results: set[str] = set()
        for _, line in self.prose:
            if match := re.match(r"#{1,6} +(.*?) *#*$", line):
                anchor, number = slug(match[1]), 0
                while (name := f"{anchor}-{number}" if number else anchor) in results:
                    number += 1
                results.add(name)
        return results

    @property
    def links(self) -> list[tuple[int, str]]:
        return [(number, target) for number, line in self.prose for target in LINK.findall(code_out(line))]

    @property
    def quotes(self) -> list[tuple[int, str]]:
        """Lines that begin with ``>``: what the code is said to say."""
        return [(number, line[1:].strip()) for number, line in self.prose if line.startswith(">")]


def code_out(line: str) -> str:
    """The line without what stands in back quotes."""
    return re.sub(r"(`+).*?\1", "", line)


def slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def parse(name: str, text: str) -> Page:
    page = Page(name)
    fence, start, info, kind, last = "", 0, "", "", ""
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = FENCE.match(line.strip())
        if fence:
            if match and match[1].startswith(fence) and not match[2].strip():
                mark = MARK.fullmatch(kind)
                text_ = "\n".join(body) + "\n"
                page.blocks.append(Block(name, start, info, text_, mark[1] if mark else ""))
                fence, last = "", ""
            else:
                body.append(line)
        elif match:
            fence, info, start, body, kind = match[1], match[2].strip(), number, [], last
        else:
            page.prose.append((number, line))
            last = line.strip()
    if fence:
        raise ValueError(f"{name}:{start}: a fenced block has no end")
    return page


def _files() -> Iterator[Path]:
    for directory, below, files in os.walk(ROOT):
        below[:] = sorted(set(below) - ELSEWHERE)  # not entered: things come and go there
        yield from (Path(directory, name) for name in sorted(files) if name.endswith(".md"))


@cache
def pages() -> dict[str, Page]:
    """Every Markdown file of the checkout by its path."""
    names = {str(path.relative_to(ROOT)): path for path in _files()}
    return {name: parse(name, path.read_text()) for name, path in names.items()}


def told() -> list[Page]:
    """The pages whose commands people are to type: all but the history of releases."""
    return [page for name, page in pages().items() if Path(name).name != "CHANGELOG.md"]


def shell_blocks(kind: str = "") -> list[Block]:
    return [
        block
        for page in told()
        for block in page.blocks
        if block.info == "sh" and (not kind or block.kind == kind)
    ]
