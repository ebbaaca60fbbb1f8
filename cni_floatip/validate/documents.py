"""Reads a file's documents in JSON or YAML, tells their kinds, and finds configurations in ConfigMaps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

from ..config import nodeconf
from ..config.strict_json import load_json
from ..model.errors import DecodeFailure, short

Kind = Literal["nad", "conflist", "plugin", "node"]

LARGEST = 4 << 20
"""Bytes of a file: an object in Kubernetes has at most 1.5 MiB, and a file may hold several."""

LONGEST_NAME = 253
"""Characters of a name in Kubernetes."""

_POLICY = frozenset({"allowedDestinations", "allowedRouteTables"})

Configured = Mapping[str, Any] | DecodeFailure
"""A node configuration, or why it cannot be read."""


def documents(text: bytes) -> Iterator[Any]:
    """Yield the documents in ``text``. Raises DecodeFailure."""
    if len(text) > LARGEST:
        raise DecodeFailure(
            f"the file: {len(text)} bytes; at most {LARGEST}, the largest that Kubernetes takes"
        )
    if text.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        yield load_json(text, "the file")
        return
    from ..config.yaml_files import load_yaml

    for document in load_yaml(text):
        try:
            as_json = json.dumps(document, default=str).encode()  # a date as a value is no matter
        except (TypeError, ValueError, RecursionError) as e:
            raise DecodeFailure(f"the file: YAML that JSON has no words for: {short(e)}") from e
        yield load_json(as_json, "the file")


def kind_of(document: Any) -> str | None:
    """Return what ``document`` is, None when nothing tells."""
    if not isinstance(document, dict):
        return None
    if isinstance(document.get("kind"), str) and "apiVersion" in document:
        kinds = {"NetworkAttachmentDefinition": "nad", "ConfigMap": "configmap"}
        kinds |= dict.fromkeys(("Deployment", "StatefulSet"), "workload")
        return kinds.get(document["kind"], "list" if isinstance(document.get("items"), list) else "other")
    if "plugins" in document:
        return "conflist"
    if "type" in document or "routeTables" in document:
        return "plugin"
    return "node" if any(key in nodeconf.FIELDS for key in document) else None


def label_of(document: Mapping[str, Any]) -> str:
    """Return what people call a Kubernetes object: its kind, namespace and name."""
    metadata = document.get("metadata")
    names = [metadata.get(key) for key in ("namespace", "name")] if isinstance(metadata, dict) else []
    shown = "/".join(
        name if len(name) <= LONGEST_NAME else short(name) for name in map(str, filter(None, names))
    )
    return f"{short(document.get('kind'))} {shown}".strip()


def node_confs(document: Any) -> Iterator[tuple[str, Configured]]:
    """Yield the node configurations in ``document``, each with its label, whatever else is there."""
    kind = kind_of(document)
    if kind == "list":
        for item in document["items"]:
            yield from node_confs(item)
    elif kind == "configmap":
        yield from configurations(document)
    elif isinstance(document, dict) and kind in ("node", None):  # of unknown keys only: its faults are told
        yield "", document


def configurations(document: Mapping[str, Any]) -> Iterator[tuple[str, Configured]]:
    """A ConfigMap is ours when one of its values says what is allowed; the other keys many programs have."""
    label, data = label_of(document), document.get("data")
    for key, text in data.items() if isinstance(data, dict) else ():
        try:
            result = load_json(str(text).encode(errors="surrogatepass"), f"data[{json.dumps(key)}]")
        except DecodeFailure as e:
            if any(f'"{ours}"' in str(text) for ours in _POLICY):
                yield label, e
            continue
        if kind_of(result) == "node" and not _POLICY.isdisjoint(result):
            yield f"{label} {key}", result


def networks(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a ConfigMap holds for a container runtime or Multus, each with its label."""
    label, data = label_of(document), document.get("data")
    for key, text in data.items() if isinstance(data, dict) else ():
        with suppress(DecodeFailure):
            result = load_json(str(text).encode(errors="surrogatepass"))
            if kind_of(result) in ("conflist", "plugin"):
                yield f"{label} {key}", result
