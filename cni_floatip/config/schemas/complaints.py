"""Words jsonschema's errors about a document's shape. The only module that imports jsonschema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

from ...model.errors import short
from ..strict_json import MOST_COMPLAINTS, Complaint, Step, show

WORDS = {"object": "an object", "array": "a list", "string": "a string", "boolean": "true or false"} | {
    "integer": "a whole number",
    "number": "a number",
    "null": "null",
}


def complaints(schema: Mapping[str, Any], document: Any) -> list[Complaint]:
    """Return jsonschema's complaints about ``document``, with paths; at most one more than is shown."""
    results = (
        complaint
        for error in Draft202012Validator(schema).iter_errors(document)
        for complaint in _phrase(error, tuple(error.absolute_path))
    )
    return sorted(set(islice(results, MOST_COMPLAINTS + 1)), key=str)


def _phrase(error: ValidationError, path: tuple[Step, ...]) -> Iterator[Complaint]:
    value: Any = error.instance
    rule: Any = error.validator_value
    schema: Any = error.schema
    if error.parent is None and "propertyNames" in error.absolute_schema_path:
        path = (*path, value)
    match error.validator:
        case "additionalProperties":
            yield from _unknown(value, schema, path)
        case "required":
            missing = [key for key in rule if key not in value]
            yield from (Complaint((*path, key), _missing(schema["properties"][key])) for key in missing)
        case "type" if "enum" in schema:
            pass  # the complaint about enum says it all
        case "type":
            wanted = " or ".join(WORDS[name] for name in ([rule] if isinstance(rule, str) else rule))
            yield Complaint(path, f"{show(value)} is not {wanted}")
        case "enum":
            yield Complaint(path, f"{show(value)} is not {_either(rule)}")
        case "pattern":
            choices = re.fullmatch(r"\^\(([a-z|]+)\)\$", rule)
            wanted = _either([*choices[1].split("|"), []]) if choices else _such_as(schema, rule)
            yield Complaint(path, f"{show(value)} is not {wanted}")
        case "minItems" | "minProperties" | "minLength" if not value:
            options = f"; write one of {_list_keys(schema)}" if schema.get("maxProperties") == 1 else ""
            yield Complaint(path, f"{show(value)} is empty{options}")
        case "maxProperties":
            yield Complaint(path, f"has {short(_and(value))}; write exactly one of {_list_keys(schema)}")
        case "maxItems":
            yield Complaint(path, f"has {len(value)} entries; at most {rule}")
        case "maxLength":
            yield Complaint(path, f"has {len(value)} characters; at most {rule}")
        case "minimum":
            yield Complaint(path, f"{show(value)} is less than {rule}")
        case "maximum":
            yield Complaint(path, f"{show(value)} is more than {rule}")
        case _:
            yield Complaint(path, short(error.message))


def _unknown(
    value: Mapping[str, Any], schema: Mapping[str, Any], path: tuple[Step, ...]
) -> Iterator[Complaint]:
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    by_lower = {key.lower(): key for key in known}
    for key, item in value.items():
        if key in known or any(re.search(pattern, key) for pattern in patterns):
            continue
        near = get_close_matches(key.lower(), by_lower, n=1, cutoff=0.75)
        hint = f"; did you mean {by_lower[near[0]]}?" if near else ""
        yield Complaint((*path, key), f"unknown key {show(key)} with value {show(item)}{hint}", unknown=True)


def _missing(schema: Mapping[str, Any]) -> str:
    example = f", for example {show(schema['examples'][0])}" if "examples" in schema else ""
    return f"missing{example}"


def _such_as(schema: Mapping[str, Any], rule: str) -> str:
    title = str(schema.get("title", "")).lower().replace("arn", "ARN").replace("mtu", "MTU")
    if rule == "^/":
        return "an absolute path"
    return f"{'an' if title[0] in 'aeiou' else 'a'} {title}" + (
        f" such as {show(schema['examples'][0])}" if "examples" in schema else ""
    )


def _either(choices: Any) -> str:
    *others, last = [show(choice) if choice != [] else "a list of CIDRs" for choice in choices]
    return f"{', '.join(others)} or {last}" if others else last


def _list_keys(schema: Mapping[str, Any]) -> str:
    return ", ".join(schema["properties"])


def _and(keys: Any) -> str:
    *others, last = list(keys)
    return f"{', '.join(others)} and {last}"
