"""What comments refer to: nothing that the reader of the code does not have."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.docs.pages import ROOT, pages

OUR_OWN = re.compile(
    r"\bDESIGN\b|\bR\d+-\d+\b|\bdesign\.md"
    r"|PROTOCOL\.md|(?<![-\w.])facts/|\bAWS\.md|\bEKS\.md|\bCNI\.md|\bLAB\.md"
)
"""What no reader of the code has. A reason stands where it is needed, or a page of ``docs/`` is named."""
SECTION = re.compile(r"docs/([a-z-]+\.md)(?:, \"([^\"]+)\")?")


def sources() -> Iterator[tuple[str, str]]:
    """Every source file, but what tests documents, and this one."""
    for directory in ("cni_floatip", "lab", "bench", "tests", "install"):
        for path in sorted((ROOT / directory).rglob("*")):
            name = str(path.relative_to(ROOT))
            if name.startswith("tests/docs/") or name == "tests/core/test_comments.py":
                continue
            if path.suffix in (".py", ".sh", ".c", ".yaml", ".tpl"):
                yield name, path.read_text(errors="replace")


def test_pages_and_sections_that_comments_name_exist() -> None:
    wrong = [
        f"{name}: {match[0]}"
        for name, text in sources()
        for match in SECTION.finditer(text)
        if (page := pages().get(f"docs/{match[1]}")) is None
        or (match[2] and not any(line.lstrip("# ") == match[2] for _, line in page.prose if line[:1] == "#"))
    ]
    assert not wrong


def test_comments_refer_to_nothing_that_is_not_here() -> None:
    results = {f"{name}: {match[0]}" for name, text in sources() for match in OUR_OWN.finditer(text)}
    assert not results
