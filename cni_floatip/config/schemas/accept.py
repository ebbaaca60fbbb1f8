"""Does a document have the shape that a JSON schema describes? Yes or no, quickly.

Knows the keywords that our two schemas use and no others; what it answers is what jsonschema answers
(``tests/config/test_schemas.py`` compares the two).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

ANNOTATIONS = frozenset({"$schema", "$id", "$comment", "title", "description", "default", "examples"})


def accepts(schema: Mapping[str, Any], value: Any) -> bool:
    """Return whether ``value`` satisfies ``schema``. A keyword that is not known here is a KeyError."""
    return all(
        KEYWORDS[keyword](rule, value, schema)
        for keyword, rule in schema.items()
        if keyword not in ANNOTATIONS
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _number,
    "integer": lambda value: _number(value) and (isinstance(value, int) or value.is_integer()),
}


def _type(names: Any, value: Any, _: Any) -> bool:
    return any(TYPES[name](value) for name in ([names] if isinstance(names, str) else names))


def _enum(choices: Any, value: Any, _: Any) -> bool:
    return any(type(value) is type(choice) and value == choice for choice in choices)  # 1 is not true


def _properties(rules: Any, value: Any, _: Any) -> bool:
    return not isinstance(value, dict) or all(
        accepts(rules[key], item) for key, item in value.items() if key in rules
    )


def _pattern_properties(rules: Any, value: Any, _: Any) -> bool:
    return not isinstance(value, dict) or all(
        accepts(rule, item)
        for pattern, rule in rules.items()
        for key, item in value.items()
        if re.search(pattern, key)
    )


def _additional_properties(rule: Any, value: Any, schema: Any) -> bool:
    if not isinstance(value, dict):
        return True
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    others = [
        item
        for key, item in value.items()
        if key not in known and not any(re.search(pattern, key) for pattern in patterns)
    ]
    return not others if rule is False else all(accepts(rule, item) for item in others)


def _items(rule: Any, value: Any, _: Any) -> bool:
    return not isinstance(value, list) or all(accepts(rule, item) for item in value)


KEYWORDS: dict[str, Callable[[Any, Any, Any], bool]] = {
    "type": _type,
    "enum": _enum,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "items": _items,
    "propertyNames": lambda rule, value, _: (
        not isinstance(value, dict) or all(accepts(rule, k) for k in value)
    ),
    "required": lambda keys, value, _: not isinstance(value, dict) or all(key in value for key in keys),
    "minProperties": lambda least, value, _: not isinstance(value, dict) or len(value) >= least,
    "maxProperties": lambda most, value, _: not isinstance(value, dict) or len(value) <= most,
    "minItems": lambda least, value, _: not isinstance(value, list) or len(value) >= least,
    "maxItems": lambda most, value, _: not isinstance(value, list) or len(value) <= most,
    "minLength": lambda least, value, _: not isinstance(value, str) or len(value) >= least,
    "maxLength": lambda most, value, _: not isinstance(value, str) or len(value) <= most,
    "pattern": lambda pattern, value, _: not isinstance(value, str) or re.search(pattern, value) is not None,
    "minimum": lambda least, value, _: not _number(value) or value >= least,
    "maximum": lambda most, value, _: not _number(value) or value <= most,
}
