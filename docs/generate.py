"""Write ``configuration.md`` from the schemas in ``cni_floatip/config/schemas``: ``python docs/generate.py``.

The schemas are what judges a configuration, so the reference cannot say something else. ``make docs`` runs
this; a test fails when the file differs from what this would write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from cni_floatip.config import election

HERE = Path(__file__).parent
SCHEMAS = HERE.parent / "cni_floatip" / "config" / "schemas"
OF_OTHERS = "Keys of the specification and of runtimes"

ELECTED = ("activate", "election", "elections")
"""Keys that a release without elections reads and refuses."""

HEAD = (
    "# Configuration reference\n\n"
    "For authors of networks and operators of nodes: every key of both configurations.\n\n"
    "`docs/generate.py` writes this page from the JSON schemas that judge every configuration"
    " (`cni_floatip/config/schemas/`).\n"
    "Do not edit it: change the schema and run `make docs`.\n\n"
    "The [network configuration](#network-configuration-of-floatip) asks, and the"
    " [node configuration](#node-configuration-of-floatip) decides.\n"
    "`floatipctl validate` checks both and names the place of every complaint.\n"
    "With `--node-config FILE` it says what the nodes would refuse of a network.\n"
    "Unknown keys are errors.\n"
    "[`netconf-examples/`](../netconf-examples/README.md) has an example for every case.\n"
)


def document() -> str:
    """Return the whole file."""
    parts = [HEAD]
    for name in ("netconf", "nodeconf"):
        schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        parts += [f"## {schema['title']}\n", f"{sentences(schema['description'])}\n"]
        parts += [_example(item) for item in schema["examples"]]
        ours = {key: item for key, item in schema["properties"].items() if "$comment" not in item}
        others = {key: item for key, item in schema["properties"].items() if "$comment" in item}
        required = schema.get("required", [])
        for key, entry in ours.items():
            parts += _key(key, entry, "###", required=key in required)
        if others:
            others |= {f"{key.strip('^').replace(chr(92), '')}...": item for key, item in _patterns(schema)}
            parts.append(f"### {OF_OTHERS}\n")
            parts.append(_table(("key", "from", "meaning"), [_of_others(*item) for item in others.items()]))
    return "\n".join(parts)


def sentences(text: str) -> str:
    """Return the paragraph with one sentence a line, but for those that end inside brackets."""
    ends = [
        match.start()
        for match in re.finditer(r"(?<=[.!?])(?<!\.\.\.) (?=[A-Z`\"\[*])", text)
        if not open_brackets(text[: match.start()])
    ]
    return "\n".join(text[begin:end].strip() for begin, end in pairwise([0, *ends, len(text)]))


def open_brackets(text: str) -> bool:
    """Whether ``text`` ends inside round brackets or back quotes."""
    return text.count("(") > text.count(")") or text.count("`") % 2 == 1


def _patterns(schema: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(schema.get("patternProperties", {}).items())


def _of_others(key: str, schema: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"`{key}`", schema["$comment"].removeprefix("of ").removeprefix("set by "), schema["description"]


def _key(path: str, schema: Mapping[str, Any], head: str, *, required: bool) -> Iterator[str]:
    """Yield the section of one key, and those of the keys inside it."""
    yield f"{head} `{path}`\n"
    yield f"{sentences(schema['description'])}\n"
    if path in ELECTED and not election.RELEASED:
        yield "Not in this release: `validate` knows the key, agents refuse it.\n"
    facts = [("type", _type(schema))]
    facts += [(name, text) for name, text in _limits(schema)]
    if "default" in schema:
        facts.append(("default", _code(schema["default"])))
    elif required:
        facts.append(("default", "none: the key is required"))
    if "examples" in schema:
        facts.append(("examples", ", ".join(_code(item) for item in schema["examples"])))
    yield _table(("", ""), [(name, text) for name, text in facts])
    inner = schema.get("properties") or {}
    for key, item in inner.items():
        yield from _key(f"{path}.{key}", item, "####", required=key in schema.get("required", []))
    items = schema.get("items", {})
    for key, item in items.get("properties", {}).items():
        yield from _key(f"{path}[].{key}", item, "####", required=key in items.get("required", []))


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(_code(item) for item in schema["enum"])
    kinds = schema.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    words = {"object": "object", "array": "list", "number": "number", "integer": "whole number"}
    result = " or ".join(words.get(kind, kind) for kind in kinds)
    of = schema.get("items", {}).get("title")
    return f"{result} of: {of.lower()}" if of else result


def _limits(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "minimum" in schema or "maximum" in schema:
        yield "range", f"{schema.get('minimum', '')} to {schema.get('maximum', '')}"
    owners = (
        (schema, "form"),
        (schema.get("items"), "form of each"),
        (schema.get("propertyNames"), "form of a key"),
        (schema.get("additionalProperties"), "form of a value"),
    )
    for owner, what in owners:
        if owner and "pattern" in owner:
            yield what, f"`{owner['pattern']}`".replace("|", "\\|")


def _code(value: Any) -> str:
    return f"`{json.dumps(value)}`".replace("|", "\\|")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _example(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2)}\n```\n"


if __name__ == "__main__":
    (HERE / "configuration.md").write_text(document())
