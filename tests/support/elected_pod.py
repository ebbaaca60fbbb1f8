"""A node with one pod of an elected group, in memory: its interface, and the calls of its runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cni_floatip.model.claim import Claim
from cni_floatip.model.values import Attachment, RouteKey
from cni_floatip.operations import add, check, delete, gc
from cni_floatip.operations.take import Routes, record_role
from tests.fakes.podnet import FakeLink, FakePod, FakePods
from tests.support.watched_pods import ENI_MAC, Place

NETNS, OTHER = "/run/netns/web", "/run/netns/other"
VIP = "192.168.0.2/32"
INODES = {NETNS: 1, OTHER: 2}


class ElectedPod:
    """The pod, its node (``place``) and its other pod, which is plain. ``keys`` go into the configuration."""

    def __init__(self, directory: Path, addresses: tuple[str, ...] = (VIP,), **keys: Any) -> None:
        self.addresses = addresses
        self.at = 1000.0
        self.link = FakeLink("net1", ENI_MAC, addresses=list(addresses))
        self.pod = FakePod([self.link])
        other = FakePod([FakeLink("net1", ENI_MAC, addresses=[VIP])])
        kernel = FakePods({NETNS: self.pod, OTHER: other})
        self.place = Place(directory, kernel, lambda path: INODES.get(path, 0), elections={})
        self.keys = {"watchAddresses": None, "activate": "ready", **keys}

    def request(self, verb: str, **keys: Any) -> Any:
        return self.place.request(verb, NETNS, *self.addresses, **self.keys | keys)

    def add(self, **keys: Any) -> Attachment:
        request = self.request("ADD", **keys)
        add(request, self.place.world)
        attachment: Attachment = request.attachment
        return attachment

    def add_plain(self) -> Attachment:
        """Add the other pod, which has the same address without an election."""
        return self.place.add(OTHER, VIP, container="plain", watchAddresses=None)

    def check(self) -> None:
        check(self.request("CHECK"), self.place.world)

    def delete(self) -> None:
        delete(self.request("DEL"), self.place.world)

    def gc(self) -> None:
        gc(self.request("GC", **{"cni.dev/attachments": []}), self.place.world)

    @property
    def world(self) -> Any:
        return self.place.world

    @property
    def attachment(self) -> Attachment:
        attachment: Attachment = self.request("DEL").attachment
        return attachment

    @property
    def claim(self) -> Claim:
        return self.place.claim(self.attachment)

    @property
    def states(self) -> Mapping[str, str]:
        return self.place.states(self.attachment)

    @property
    def routes(self) -> Routes:
        """What its election would have written."""
        keys = tuple(route.key for route in self.claim.routes)
        return Routes([self.attachment], keys, self.place.ec2)

    def key(self, table: str = "rtb-a") -> RouteKey:
        return next(route.key for route in self.claim.routes if route.key.table == table)

    def elect(self) -> None:
        """Let it be elected: nothing is written yet."""
        assert record_role(self.world, [self.attachment], active=True)
        self.place.election.holders = {self.claim.pod.uid}
