"""Loads the two JSON schemas and validates the shape of a document.

The schemas are the only description of the shapes; jsonschema validates by them (``complaints``).
"""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..strict_json import MOST_COMPLAINTS, Complaint, Step
from .complaints import complaints

Name = Literal["netconf", "nodeconf"]


@cache
def load(name: Name) -> dict[str, Any]:
    """Return the schema that ships as ``NAME.schema.json``."""
    raw: dict[str, Any] = json.loads(Path(__file__).with_name(f"{name}.schema.json").read_bytes())
    return raw


def examine(name: Name, document: Any) -> tuple[list[Complaint], Any]:
    """Return every complaint about the shape, and the document with ``None`` in place of refused parts.

    So the sound parts can still be examined, and all complaints reported at once. A document with more
    complaints than are shown has no sound part.
    """
    results = complaints(load(name), document)
    if not results:
        return [], document
    if len(results) > MOST_COMPLAINTS:
        return results, None
    sound = deepcopy(document)
    for complaint in results:
        sound = _without(sound, complaint.path)
    return results, sound


def _without(document: Any, path: tuple[Step, ...]) -> Any:
    """Put ``None`` at ``path``."""
    if not path:
        return None
    inside = document
    for step in path[:-1]:
        if inside is None:
            return document
        inside = inside.get(step) if isinstance(inside, dict) else inside[step]
    if isinstance(inside, dict | list):
        inside[path[-1]] = None  # type: ignore[index,call-overload,unused-ignore]
    return document
