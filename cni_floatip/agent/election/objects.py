"""Pods and nodes as Kubernetes describes them. What is written there is foreign: anything may be missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from ...election.fitness import PodStatus

ZONE = "topology.kubernetes.io/zone"
KUBELET_PORT = 10250
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod as the API has it. ``ran``: its containers run or ran, so the runtime has made all its ADDs."""

    namespace: str
    name: str
    ran: bool
    status: PodStatus

    @property
    def uid(self) -> str:
        """Return its uid."""
        return self.status.uid


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as the API has it. ``host``: its address, "" where it has none; ``port``: of its kubelet."""

    name: str
    uid: str
    zone: str = ""
    cordoned: bool = False
    host: str = ""
    port: int = KUBELET_PORT


def pod_of(document: Mapping[str, Any]) -> PodView | None:
    """Return the pod, None for what is none."""
    meta, spec, status = (_object(document, key) for key in ("metadata", "spec", "status"))
    uid, name = _text(meta, "uid"), _text(meta, "name")
    if not uid or not name:
        return None
    phase = _text(status, "phase")
    conditions = _objects(status, "conditions")
    ready = any(_text(it, "type") == "Ready" and _text(it, "status") == "True" for it in conditions)
    started = sorted(
        _seconds(_text(running, "startedAt"))
        for container in _objects(status, "containerStatuses")
        if (running := _object(_object(container, "state"), "running"))
    )
    return PodView(
        _text(meta, "namespace"),
        name,
        phase == "Running" or phase in ENDED,
        PodStatus(
            uid=uid,
            ready=ready,
            terminating=bool(_text(meta, "deletionTimestamp")) or phase in ENDED,
            started=tuple(started),
            created=_seconds(_text(meta, "creationTimestamp")),
            priority=_whole(spec, "priority"),
        ),
    )


def node_of(document: Mapping[str, Any]) -> NodeView | None:
    """Return the node, None for what is none."""
    meta, spec, status = (_object(document, key) for key in ("metadata", "spec", "status"))
    uid, name = _text(meta, "uid"), _text(meta, "name")
    if not uid or not name:
        return None
    kubelet = _object(_object(status, "daemonEndpoints"), "kubeletEndpoint")
    port = _whole(kubelet, "Port")
    return NodeView(
        name,
        uid,
        _text(_object(meta, "labels"), ZONE),
        spec.get("unschedulable") is True,
        next(_addresses(status), ""),
        port if 0 < port < 65536 else KUBELET_PORT,
    )


def _addresses(status: Mapping[str, Any]) -> Iterator[str]:
    for entry in _objects(status, "addresses"):
        text = _text(entry, "address")
        if _text(entry, "type") == "InternalIP" and _is_address(text):
            yield text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _object(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _objects(record: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = record.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _whole(record: Mapping[str, Any], key: str) -> int:
    value = record.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _seconds(text: str) -> int:
    """Return a time (RFC 3339) in whole seconds since the epoch, 0 for what is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return 0
