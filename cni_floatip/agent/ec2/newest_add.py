"""Tracks the newest ADD for each route. A queued write is dropped once a newer ADD wants another ENI.

EC2's request rate is the account's. Where several ADDs of this node want the same route key through different
ENIs, only the newest is to win: a write of the others would cost a token and be overwritten at once. ADDs
that want the same ENI do not conflict.
"""

from __future__ import annotations

import threading

from ...model.claim import Claim
from ...model.claim_state import State
from ...model.values import Attachment, RouteKey


class NewestAdd:
    """The claims whose ADD is running, by route key. For many threads.

    ``on_claim`` is for ``ClaimCache.listen``.
    """

    def __init__(self) -> None:
        self._places: dict[Attachment, frozenset[RouteKey]] = {}
        self._claims: dict[RouteKey, dict[Attachment, Claim]] = {}
        self._lock = threading.Lock()

    def on_claim(self, attachment: Attachment, claim: Claim | None) -> None:
        """Take note of a claim (None: it is gone). The ADD of an elected one writes nothing."""
        routes = claim.routes if claim and not claim.elected else ()
        wanted = frozenset(route.key for route in routes if route.state is State.CLAIMING)
        with self._lock:
            for key in self._places.pop(attachment, frozenset()) - wanted:
                del self._claims[key][attachment]
                if not self._claims[key]:
                    del self._claims[key]
            if claim and wanted:
                self._places[attachment] = wanted
                for key in wanted:
                    self._claims.setdefault(key, {})[attachment] = claim

    def superseded_by(self, attachment: Attachment, key: RouteKey) -> str | None:
        """Return why an ADD's write of ``key`` is not wanted any more, None if it is.

        An address that a pod gave itself does not count as newer: its claim is as old as its pod's ADD.
        """
        with self._lock:
            here = self._claims.get(key, {})
            own = here.get(attachment)
            if own is None:
                return f"{attachment} was deleted meanwhile"
            for other, claim in here.items():
                if claim.created_at > own.created_at and claim.eni != own.eni:
                    return f"superseded by a newer ADD, of {other}"
        return None

    def __len__(self) -> int:
        return len(self._places)
