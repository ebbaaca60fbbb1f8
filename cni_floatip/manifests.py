"""YAML as Kubernetes takes it: several documents, no key twice. The only module that imports yaml."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import yaml

from .errors import DecodeFailure


class _Loader(yaml.SafeLoader):
    """PyYAML lets the last of two equal keys win; whoever wrote the first would never know."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            # Whether anything but a scalar can be a key is said below, with its place.
            name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {name} is there more than once", problem_mark=key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def load_yaml(text: bytes) -> Iterator[Any]:
    """Yield the documents in ``text``."""
    try:
        yield from yaml.load_all(text.decode("utf-8-sig"), Loader=_Loader)
    except UnicodeDecodeError as e:
        raise DecodeFailure("the file: not UTF-8") from e
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark
        where = f"line {mark.line + 1} column {mark.column + 1}: " if mark else ""
        raise DecodeFailure(f"the file: {where}not YAML: {e.problem}") from e
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise DecodeFailure(f"the file: not YAML: {e}") from e
