"""The lab's own side door, for other processes: faults, journal, truth and reset over the same sockets.

``POST /_lab/faults {"method": "lose_answer", "args": {"action": "CreateRoute"}}``, ``GET /_lab/journal``,
``GET /_lab/truth/<route table>``, ``GET /_lab/instance/<id>``, ``POST /_lab/credentials/<instance id>``,
``POST /_lab/reset``. No fault applies to it.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from lab.ec2.refusal import Refusal
from lab.webserver import Answer, Request

if TYPE_CHECKING:
    from lab.ec2.simulated import SimulatedEC2

METHODS = (
    "clear",
    "clock",
    "cut",
    "error",
    "hang",
    "heal",
    "latency",
    "lose_answer",
    "lose_request",
    "route_quota",
    "stale_reads",
    "throttle",
)


class Control:
    """Answers requests below ``/_lab/``."""

    def __init__(self, ec2: SimulatedEC2) -> None:
        self._ec2 = ec2

    def handle(self, request: Request) -> Answer:
        """Answer one request with JSON."""
        try:
            return _json(200, self._answer(request))
        except Refusal as e:
            return _json(404, {"error": str(e)})
        except (ValueError, TypeError, KeyError) as e:
            return _json(400, {"error": f"{type(e).__name__}: {e}"})

    def _answer(self, request: Request) -> Any:
        what = request.path.removeprefix("/_lab/").split("/")
        match request.method, what:
            case "POST", ["faults"]:
                wanted = json.loads(request.body)
                if wanted["method"] not in METHODS:
                    raise ValueError(f"no such fault: {wanted['method']}; there are {', '.join(METHODS)}")
                getattr(self._ec2.faults, wanted["method"])(**wanted.get("args", {}))
                return {"ok": True}
            case "POST", ["reset"]:
                self._ec2.reset()
                return {"ok": True}
            case "GET", ["journal"]:
                return [dataclasses.asdict(call) for call in self._ec2.journal]
            case "GET", ["truth", table]:
                truth = self._ec2.truth(table)
                return {cidr: dataclasses.asdict(route) for cidr, route in truth.items()}
            case "GET", ["instance", instance]:
                view = dataclasses.replace(self._ec2.instance(instance), credentials=None)
                return dataclasses.asdict(view)
            case "POST", ["credentials", instance]:
                give = self._ec2.instance(instance).credentials
                return dataclasses.asdict(give()) if give else None
            case _:
                raise Refusal("NotFound", f"no such place: {request.method} {request.path}")


def _json(status: int, document: Any) -> Answer:
    return Answer(status, json.dumps(document, default=str).encode(), content_type="application/json")
