"""Puts the programs beside the templates into them, where CloudFormation wants them: ``python embed.py``.

In a template a program is the text below a line that ends in ``| # file: NAME``, without the lines that are
comments and the second of two blank lines, because CloudFormation takes 51,200 bytes. The files are what is
read, tested and changed; a test fails when a template differs.
"""

import re
from pathlib import Path

HERE = Path(__file__).parent
TEMPLATES = sorted(HERE.glob("*.yaml"))
BLOCK = re.compile(r"^( *)(.*\| # file: (\S+))\n((?:\1 +.*\n|\n)*)", re.MULTILINE)


COMMENT = re.compile(r"^ *#(?!!).*\n", re.MULTILINE)


def program(name: str) -> str:
    """Return a file as it stands in a template."""
    return re.sub("\n{3,}", "\n\n", COMMENT.sub("", (HERE / name).read_text()))


def embedded(template: str) -> str:
    """Return the template with the text below every such line replaced by its file."""
    return BLOCK.sub(_block, template)


def _block(match: re.Match[str]) -> str:
    indent, key, name, old = match.groups()
    text = program(name)
    if "${" in text:
        raise SystemExit(f"{name}: Fn::Sub would take ${{...}} for its own")
    # A list item's text lies deeper than its key, which stands two places right of the dash.
    deep = indent + ("    " if key.startswith("- ") else "  ")
    lines = [f"{deep}{line}" if line else "" for line in text.splitlines()]
    blank = "\n" * (len(old) - len(old.rstrip("\n")) - 1)  # between this and what follows
    return "\n".join([f"{indent}{key}", *lines, ""]) + blank


if __name__ == "__main__":
    for each in TEMPLATES:
        each.write_text(embedded(each.read_text()))
