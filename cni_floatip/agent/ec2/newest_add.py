"""Whose ADD wants which route most lately: a write that waits in line for nobody is not sent.

EC2's request rate is the account's. Where several ADDs of this node want the same place through different
ENIs, only the newest is to win, and what the others would write costs a turn and is overwritten at once. The
same ENI is the same wish: there nobody is in another's way.
"""

from __future__ import annotations

import threading

from ...model.claim import Claim
from ...model.claim_state import State
from ...model.values import Attachment, Place


class Wishes:
    """The claims whose ADD is under way, by place. ``learn`` is for ``Memory.listen``. For many threads."""

    def __init__(self) -> None:
        self._places: dict[Attachment, frozenset[Place]] = {}
        self._claims: dict[Place, dict[Attachment, Claim]] = {}
        self._lock = threading.Lock()

    def learn(self, attachment: Attachment, claim: Claim | None) -> None:
        """Take note of a claim (None: it is gone)."""
        routes = claim.routes if claim else ()
        wanted = frozenset(route.place for route in routes if route.state is State.CLAIMING)
        with self._lock:
            for place in self._places.pop(attachment, frozenset()) - wanted:
                del self._claims[place][attachment]
                if not self._claims[place]:
                    del self._claims[place]
            if claim and wanted:
                self._places[attachment] = wanted
                for place in wanted:
                    self._claims.setdefault(place, {})[attachment] = claim

    def dropped(self, attachment: Attachment, place: Place) -> str | None:
        """Say why an ADD is not to write what it wanted at ``place``, None if it is.

        An address that a pod gave itself does not count as newer: its claim is as old as its pod's ADD.
        """
        with self._lock:
            here = self._claims.get(place, {})
            own = here.get(attachment)
            if own is None:
                return f"{attachment} was deleted meanwhile"
            for other, claim in here.items():
                if claim.created > own.created and claim.eni != own.eni:
                    return f"superseded by a newer ADD, of {other}"
        return None

    def __len__(self) -> int:
        return len(self._places)
