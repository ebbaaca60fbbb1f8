"""Cuts botocore's service descriptions down to our calls. Used when botocore is upgraded, and by a test."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "ec2": (
        "CreateRoute",
        "ReplaceRoute",
        "DeleteRoute",
        "DescribeRouteTables",
        "DescribeSubnets",
        "DescribeNetworkInterfaces",
        "ModifyNetworkInterfaceAttribute",
    ),
    "sts": ("AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity"),
}

DOCTOR = (
    *OPERATIONS["ec2"],
    "DescribeNetworkAcls",
    "DescribeSecurityGroups",
    "DescribeTransitGatewayVpcAttachments",
)
"""Further reads of ``floatipctl doctor``, in a model of their own that the agent never loads."""


def documents() -> dict[str, Any]:
    """Return the documents by path below this package, from the installed botocore."""
    from botocore.loaders import Loader  # the one place beside ``client`` that looks into botocore

    loader = Loader()
    raw: dict[str, Any] = {"endpoints.json": _endpoints(loader.load_data("endpoints"))}
    for service, operations in OPERATIONS.items():
        version = loader.determine_latest_version(service, "service-2")
        model = loader.load_service_model(service, "service-2", version)
        rules = loader.load_service_model(service, "endpoint-rule-set-1", version)
        raw[f"{service}/{version}/service-2.json"] = _trim(model, operations)
        if service == "ec2":
            raw[f"doctor/{service}/{version}/service-2.json"] = _trim(model, DOCTOR)
        raw[f"{service}/{version}/endpoint-rule-set-1.json"] = _without_prose(rules)
    return raw


def write(raw: Mapping[str, Any]) -> None:
    """Write ``documents()`` to their files."""
    for name, document in raw.items():
        path = Path(__file__).parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, separators=(",", ":")) + "\n")


def _trim(model: Mapping[str, Any], operations: Iterable[str]) -> dict[str, Any]:
    kept = {name: model["operations"][name] for name in operations}
    shapes: dict[str, Any] = {}
    todo = [
        reference["shape"]
        for operation in kept.values()
        for reference in (operation.get("input"), operation.get("output"), *operation.get("errors", ()))
        if reference
    ]
    while todo:
        name = todo.pop()
        if name in shapes:
            continue
        shape = shapes[name] = model["shapes"][name]
        todo += [member["shape"] for member in shape.get("members", {}).values()]
        todo += [shape[part]["shape"] for part in ("member", "key", "value") if part in shape]
    return {
        "version": model["version"],
        "metadata": dict(model["metadata"]),
        "operations": _without_prose(kept),
        "shapes": _without_prose(dict(sorted(shapes.items()))),
    }


def _endpoints(raw: Mapping[str, Any]) -> dict[str, Any]:
    partitions = [
        partition | {"services": {n: s for n, s in partition["services"].items() if n in OPERATIONS}}
        for partition in raw["partitions"]
    ]
    return dict(raw) | {"partitions": partitions}


def _without_prose(value: Any) -> Any:
    """Leave out documentation; only strings, because a member may have that name."""
    if isinstance(value, Mapping):
        return {
            key: _without_prose(inner)
            for key, inner in value.items()
            if not (key == "documentation" and isinstance(inner, str))
        }
    return [_without_prose(inner) for inner in value] if isinstance(value, list) else value
