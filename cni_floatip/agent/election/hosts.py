"""Probes the hosts of other nodes: whether a kernel answers at the kubelet's port."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...edges.kubernetes.resources import NODES
from ...election.events import ProbeHost
from ...election.node import HostProbed
from ...model.errors import ApiError
from .api_calls import Api
from .driver import CallAnswer
from .objects import NodeView, node_of

FRESH_SECONDS = 120.0
"""How long a node's address is good for; idle probes come each minute, so in suspicion it is there."""
MOST = 1000


@dataclass(frozen=True, slots=True)
class _Known:
    node: NodeView
    at: float


class Hosts:
    """For many threads. A probe takes ``seconds`` at most; ``rest`` follows one that could not be made."""

    def __init__(
        self,
        api: Api,
        clock: Callable[[], float],
        seconds: float,
        rest: float,
        on_error: Callable[[ApiError], object],
        answers: Callable[[str, int, float], bool | None],
    ) -> None:
        self._api = api
        self._clock = clock
        self._seconds = seconds
        self._rest = rest
        self._on_error = on_error
        self._answers = answers
        self._known: dict[str, _Known] = {}

    def probe(self, wish: ProbeHost) -> CallAnswer:
        """Probe a host. Nothing is learnt of one whose address is not known."""
        node = self._node(wish.node)
        if node is None or not node.host:
            return CallAnswer(rest=self._rest)
        began = self._clock()
        answered = self._answers(node.host, node.port, self._seconds)
        if answered is None:
            return CallAnswer(rest=self._rest)
        return CallAnswer(node=HostProbed(self._clock(), began, wish.node, answered))

    def _node(self, name: str) -> NodeView | None:
        known = self._known.get(name)
        if known and self._clock() - known.at < FRESH_SECONDS:
            return known.node
        try:
            node = node_of(self._api.get(NODES, name))
        except ApiError as e:
            self._on_error(e)
            return known.node if known else None
        if node:
            while len(self._known) >= MOST:
                self._known.pop(next(iter(self._known)), None)
            self._known[name] = _Known(node, self._clock())
        return node
