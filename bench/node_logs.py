"""Reads from a node's logs when a pod's sandbox, its containers and floatip's ADD began and ended.

Their times are of the wall clock; ``monotonic`` turns them into those of ``time.monotonic``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from bench.timeline import Span
from lab.errors import LabError

TIME = re.compile(r'^time="([^"]{20,40})"')
SANDBOX = re.compile(r'Uid:([0-9a-f-]{36}),[^}]{0,300}\} returns sandbox id \\"([0-9a-f]{64})\\"')
CONTAINER = re.compile(
    r'within sandbox \\"([0-9a-f]{64})\\" for &ContainerMetadata\{Name:([^,]{1,63}),[^}]{0,100}\}'
    r' returns container id \\"([0-9a-f]{64})\\"'
)
STARTED = re.compile(r'StartContainer for \\"([0-9a-f]{64})\\" returns successfully')


@dataclass(slots=True)
class Boot:
    """When a pod's sandbox was ready, and when each of its containers ran, by name; wall clock."""

    sandbox: float | None = None
    containers: dict[str, float] = field(default_factory=dict)

    def began(self, container: str) -> float:
        """Return when a container ran, by ``time.monotonic``. Raises ``LabError`` if the log has no such."""
        if container not in self.containers:
            raise LabError(f"containerd's log has no start of the container {container!r}")
        return monotonic(self.containers[container])


def wall(stamp: str) -> float:
    """Return an RFC 3339 time in seconds since the epoch."""
    whole, _, rest = stamp.partition(".")
    digits = re.match(r"\d*", rest)
    fraction = f"0.{digits[0]}" if digits and digits[0] else "0"
    return datetime.fromisoformat(f"{whole.rstrip('Z')}+00:00").timestamp() + float(fraction)


def monotonic(at: float) -> float:
    """Return a time of the wall clock as one of ``time.monotonic``, by how they differ now."""
    return at - time.time() + time.monotonic()


def boot(containerd: str, uid: str) -> Boot:
    """Return what containerd's log says of a pod; of several sandboxes the last one counts."""
    result = Boot()
    sandbox = ""
    names: dict[str, str] = {}
    for line in containerd.splitlines():
        at = TIME.match(line)
        if at is None:
            continue
        if (made := SANDBOX.search(line)) and made[1] == uid:
            sandbox, names, result = made[2], {}, Boot(wall(at[1]))
        elif (created := CONTAINER.search(line)) and created[1] == sandbox:
            names[created[3]] = created[2]
        elif (started := STARTED.search(line)) and started[1] in names:
            result.containers.setdefault(names[started[1]], wall(at[1]))
    return result


def add(agent: str, uid: str) -> Span:
    """Return the pod's last ADD, by ``time.monotonic``. Raises ``LabError`` if the agent's log has none.

    ``agent``: the log as the container runtime keeps it. An ADD that failed does not count.
    """
    result = None
    for line in agent.splitlines():
        stamp, _, rest = line.partition(" ")
        document = _document(rest.split(" ", 2)[-1])
        if document.get("verb") == "ADD" and document.get("uid") == uid and document.get("outcome") == "ok":
            end = monotonic(wall(stamp))
            result = Span(end - float(str(document["seconds"])), end)
    if result is None:
        raise LabError(f"the agent's log has no ADD of the pod {uid}")
    return result


def agent_log(log: Path) -> str:
    """Return what every container of the chart's agents has written, below a node's ``/var/log``."""
    return "\n".join(_texts(log.glob("pods/kube-system_cni-floatip*/agent/*.log")))


def _texts(paths: Iterable[Path]) -> Iterable[str]:
    return (path.read_text(errors="replace") for path in sorted(paths))


def _document(text: str) -> dict[str, object]:
    try:
        raw = json.loads(text)
    except ValueError:
        return {}
    return raw if isinstance(raw, dict) else {}
