"""Cancels a call whose client has gone, whose pod is gone, or whose attachment a DEL has deleted.

A call may wait a minute for its turn at EC2, with a descriptor that keeps the pod's namespace alive. Every
such wait checks here again and again, so the check is cheap: it leaves the process a few times a second at
most.
"""

from __future__ import annotations

from collections.abc import Callable

from ...model.claim import Claim
from ...operations.world import World
from ...protocol.request import Request

PATH_SECONDS = 0.3
"""How often the namespace's path is checked."""


class Cancellation:
    """The reasons to end a call early.

    ``client`` says why the client waits no more; ``world`` is the call's own, whose ``inode`` knows its
    namespace. Only a DEL that is recorded after this object was made counts.
    """

    def __init__(self, request: Request, client: Callable[[], str | None], world: World) -> None:
        self._attachment = request.attachment
        self._netns = request.netns
        self._client = client
        self._world = world
        self._began = world.now()
        self._inode = world.inode(request.netns)
        self._looked = world.clock()
        self._gone = False

    def reason(self) -> str | None:
        """Say why the call is over, None while it is not."""
        return self._client() or self._why_deleted() or self._without_pod()

    def _why_deleted(self) -> str | None:
        record = self._world.claims.get(self._attachment)
        if isinstance(record, Claim) and record.deleted_at > self._began:
            return f"{self._attachment} was deleted meanwhile"
        return None

    def _without_pod(self) -> str | None:
        if self._inode and not self._gone and self._world.clock() - self._looked >= PATH_SECONDS:
            self._looked = self._world.clock()
            self._gone = self._world.inode(self._netns) != self._inode
        return f"the pod's namespace {self._netns} is gone" if self._gone else None
