"""Reads YAML as Kubernetes does: several documents, no duplicate keys. The only module that imports yaml."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import yaml

from ..model.errors import DecodeFailure, short
from .strict_json import DEEPEST

MOST_NODES = 100_000
"""The most nodes of a document, counting each use of an alias: nine lines can stand for millions."""


class _Loader(yaml.SafeLoader):
    """YAML of a bounded size, as Kubernetes reads it.

    PyYAML silently lets the last of two equal keys win. It expands aliases and merge keys (``<<``) without
    limit, and reads 1:59 as a number to the base of 60. That is YAML 1.1, which Kubernetes does not read.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        try:
            if self._depth > DEEPEST:
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=mark)
            node = super().compose_node(parent, index)
        finally:
            self._depth -= 1
        if node is not None and not hasattr(node, "parts"):
            parts = 1 + sum(getattr(item, "parts", 1) for item in _inside(node))
            node.parts = parts  # type: ignore[attr-defined]
            self._composed += 1
            if max(parts, self._composed) > MOST_NODES:
                raise yaml.MarkedYAMLError(
                    problem=f"more than {MOST_NODES} parts, counting those that aliases repeat",
                    problem_mark=node.start_mark,
                )
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse merge keys, because a reader of YAML 1.2 takes ``<<`` for a key."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(
                    problem="<< merges nothing here; write the keys out", problem_mark=key.start_mark
                )

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        known = set()
        for key, _ in node.value:
            # Whether anything but a scalar can be a key is said below, with its place.
            name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            if name in known:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {short(name)} is there more than once", problem_mark=key.start_mark
                )
            known.add(name)
        return super().construct_mapping(node, deep=deep)


def _inside(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _number(read: type[int] | type[float], shape: re.Pattern[str]) -> Callable[[Any, Any], Any]:
    def number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
        text = loader.construct_scalar(node)
        if not shape.match(text):
            raise yaml.MarkedYAMLError(problem=f"{short(text)} is no number", problem_mark=node.start_mark)
        return read(text)

    return number


_NUMBERS: tuple[tuple[str, type[int] | type[float], re.Pattern[str]], ...] = (
    ("tag:yaml.org,2002:int", int, re.compile(r"[-+]?(?:0|[1-9][0-9]{0,4000})\Z")),
    (
        "tag:yaml.org,2002:float",
        float,
        re.compile(r"[-+]?(?:[0-9]{1,400}\.[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][-+]?[0-9]{1,9})?\Z"),
    ),
)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in {tag for tag, _, _ in _NUMBERS}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _read, _shape in _NUMBERS:
    _Loader.add_implicit_resolver(_tag, _shape, list("-+.0123456789"))
    _Loader.add_constructor(_tag, _number(_read, _shape))


def load_yaml(text: bytes) -> Iterator[Any]:
    """Yield the documents in ``text``."""
    try:
        yield from yaml.load_all(text.decode("utf-8-sig"), Loader=_Loader)
    except UnicodeDecodeError as e:
        raise DecodeFailure("the file: not UTF-8") from e
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark
        where = f"line {mark.line + 1} column {mark.column + 1}: " if mark else ""
        raise DecodeFailure(f"the file: {where}not YAML: {short(e.problem)}") from e
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise DecodeFailure(f"the file: not YAML: {short(e)}") from e
