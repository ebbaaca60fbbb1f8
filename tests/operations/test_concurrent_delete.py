"""A DEL that comes while somebody else works on the claim, or while the disk is full: it is never lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.claim_cache import ClaimCache
from cni_floatip.agent.observe.lines import LineWriter
from cni_floatip.agent.observe.logs import Log
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.agent.server.handler import CallHandler
from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, Event, State
from cni_floatip.model.errors import CniError, Ec2Error, Ec2Fault, IoFailure
from cni_floatip.model.values import RouteKey as Cell
from cni_floatip.operations import add
from cni_floatip.operations.delete import delete
from cni_floatip.operations.release import attachment_lock, release
from cni_floatip.operations.sync_addresses import SyncResult, WatchRequest, sync_addresses
from cni_floatip.operations.world import World
from cni_floatip.protocol.wire import Call
from tests.fakes.podnet import FakeLink, FakePod, FakePods
from tests.support.watched_pods import Place

NETNS = "/run/netns/web"
VIP = "192.168.5.5"
FAST = 20
"""How much faster the clock of calls goes: what is waited for is over sooner."""


class Disk(Store):
    """A disk that can be full."""

    full = False

    def put(self, claim: Claim) -> None:
        if self.full:
            raise IoFailure("No space left on device")
        super().put(claim)


class Node(Place):
    """A node with one pod, whose interface was ADDed."""

    def __init__(self, directory: Path, **keys: Any) -> None:
        self.link = FakeLink("net1", addresses=["192.168.0.2/24"])
        self.pod = FakePod([self.link])
        super().__init__(directory, FakePods({NETNS: self.pod}), lambda _: 7)
        self.attachment = self.add(NETNS, "192.168.0.2/24", **keys)
        began = time.monotonic()
        self.clock = lambda: began + FAST * (time.monotonic() - began)

    def _memory(self) -> ClaimCache:
        self.disk = Disk(str(self.directory), sleep=time.sleep, clock=time.monotonic)
        return ClaimCache(self.disk, time.time)

    def delete(self, world: World | None = None, **keys: Any) -> None:
        delete(self.request("DEL", NETNS, "192.168.0.2/24", **keys), world or self.world)

    def look(self) -> SyncResult:
        request = WatchRequest(self.attachment, {}, lambda wanted: wanted, lambda _: False)
        return sync_addresses(request, self.world)

    @property
    def now(self) -> Claim:
        return self.claim(self.attachment)

    def holds(self) -> list[str]:
        return [r.key.table for r in self.now.routes if r.state.live]

    def on_disk(self) -> Claim:
        record = Disk(str(self.directory), sleep=time.sleep, clock=time.monotonic).get(self.attachment)
        assert isinstance(record, Claim)
        return record


@pytest.fixture
def holder(tmp_path: Path) -> Node:
    return Node(tmp_path)


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Do the block's work beside ``work``, and wait for that at its end."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(20)
        assert not thread.is_alive()


class Held:
    """A call of AWS's that takes as long as a test wants."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self, *args: Any, **keys: Any) -> Any:
        self.begun.set()
        self.over.wait(20)
        return self._call(*args, **keys)


def releasing(claim: Claim, table: str) -> Claim:
    routes = (route.drop() if route.key.table == table else route for route in claim.routes)
    return replace(claim, routes=tuple(routes))


def claiming(claim: Claim) -> Claim:
    """Return the claim as an ADD begins it."""
    routes = (ClaimedRoute.begin(route.key, route.account) for route in claim.routes)
    return replace(claim, routes=tuple(routes))


class TestWhoeverHoldsTheClaim:
    """A keeper's release, a watch's take and an ADD hold the attachment while AWS answers."""

    def test_a_release_of_one_table_leaves_the_mark_of_a_del(self, holder: Node) -> None:
        holder.claims.put(releasing(holder.now, "rtb-b"))
        holder.ec2.delete = slow = Held(holder.ec2.delete)  # type: ignore[method-assign]

        def keeper() -> None:
            with holder.claims.lock(attachment_lock(holder.attachment), 0):
                release(
                    holder.world,
                    holder.ec2,
                    holder.now,
                    holder.clock() + 1000,
                )

        with meanwhile(keeper):
            slow.begun.wait(20)
            holder.delete()
            marked = holder.now
            slow.over.set()
        assert marked.deleted_at
        states = {r.key.table: r.state for r in holder.now.routes}
        assert states == {"rtb-a": State.RELEASING, "rtb-b": State.GONE}
        assert [r.not_before for r in holder.now.routes if r.key.table == "rtb-a"] > [time.time() + 30]

    def test_the_watch_takes_nothing_for_a_pod_that_was_deleted(self, holder: Node) -> None:
        holder.link.addresses.append(f"{VIP}/24")
        holder.ec2.route_tables = slow = Held(holder.ec2.route_tables)  # type: ignore[method-assign]
        with meanwhile(holder.look):
            slow.begun.wait(20)
            holder.delete()
            slow.over.set()
        assert holder.holds() == []
        assert not holder.now.watches
        assert holder.ec2.leads(f"{VIP}/32") == ["-", "-"]
        assert (holder.pod.our_rules, holder.pod.ours) == ([], {})

    def test_what_the_watch_was_writing_is_released_with_the_rest(self, holder: Node) -> None:
        holder.link.addresses.append(f"{VIP}/24")
        holder.ec2.create = slow = Held(holder.ec2.create)  # type: ignore[method-assign]
        with meanwhile(holder.look):
            slow.begun.wait(20)
            holder.delete()
            slow.over.set()
        assert holder.holds() == []
        assert {str(r.key) for r in holder.now.routes if r.key.destination == ip_network(f"{VIP}/32")}
        assert (holder.pod.our_rules, holder.pod.ours) == ([], {})

    def test_a_del_without_the_lock_clears_the_pod_itself(self, holder: Node) -> None:
        assert holder.pod.our_rules
        with holder.claims.lock(attachment_lock(holder.attachment), 0):
            holder.delete()
        assert (holder.pod.our_rules, holder.pod.ours) == ([], {})

    def test_keep_leaves_the_routes_of_a_pod_whose_claim_is_held(self, tmp_path: Path) -> None:
        node = Node(tmp_path, onDelete="keep")
        old = node.now
        with node.claims.lock(attachment_lock(node.attachment), 0):
            node.delete()
            node.claims.put(old)  # by whoever holds it
        assert node.now.routes == ()
        assert node.ec2.leads("192.168.0.2/32") == ["eni-here", "eni-here"]

    def test_a_pod_that_has_no_address_now_is_not_stood_by_for_any_more(self, holder: Node) -> None:
        holder.link.addresses.clear()
        holder.look()
        assert holder.now.awaits_address
        with holder.claims.lock(attachment_lock(holder.attachment), 0):
            holder.delete()
        assert not holder.now.watches

    def test_an_add_that_was_judged_before_the_del_ends(self, holder: Node) -> None:
        holder.delete()
        old = claiming(replace(holder.now, created_at=holder.now.created_at - 5, deleted_at=0.0))
        holder.claims.put(old)
        assert holder.holds() == []

    def test_an_add_after_the_del_is_new(self, holder: Node) -> None:
        holder.delete()
        holder.add(NETNS, "192.168.0.2/24")
        assert holder.holds() == ["rtb-a", "rtb-b"]
        assert not holder.now.deleted_at
        holder.claims.put(holder.now.observe({holder.now.routes[0].key: Event.SEEN_ELSEWHERE}))
        assert holder.holds() == ["rtb-a", "rtb-b"]

    def test_an_add_that_is_deleted_as_it_ends_says_so(self, holder: Node) -> None:
        holder.delete()
        put = holder.claims.put

        def del_comes_first(claim: Claim) -> None:
            if claim.state is State.HELD:
                holder.claims.update(claim.attachment, lambda now: now.release(0.0, time.time()))
            put(claim)

        holder.claims.put = del_comes_first  # type: ignore[method-assign]
        with pytest.raises(CniError, match="deleted meanwhile"):
            add(holder.request("ADD", NETNS, "192.168.0.2/24"), holder.world)
        assert holder.holds() == []


class TestAFullDisk:
    def test_a_del_counts_and_is_written_when_there_is_room(self, holder: Node) -> None:
        holder.disk.full = True
        holder.delete()
        assert holder.holds() == []
        assert "changes of 1 claims are not on disk yet" in str(holder.claims.flush())
        assert not holder.claims.is_persisted(holder.attachment)
        assert holder.on_disk().live
        holder.disk.full = False
        assert holder.claims.flush() is None
        assert holder.claims.is_persisted(holder.attachment)
        assert holder.on_disk() == holder.now

    def test_what_a_look_showed_counts_and_ends_no_claim(self, holder: Node) -> None:
        holder.disk.full = True
        shown = tuple(route.see("igw-1", "not an ENI") for route in holder.now.routes)
        holder.claims.put(replace(holder.now, routes=shown))
        assert [route.target for route in holder.now.routes] == ["igw-1", "igw-1"]
        assert holder.claims.flush() == "changes of 1 claims are not on disk yet: No space left on device"
        holder.disk.full = False
        assert holder.claims.flush() is None
        assert holder.on_disk() == holder.now

    def test_what_is_put_later_is_written_by_that(self, holder: Node) -> None:
        holder.disk.full = True
        holder.delete()
        holder.disk.full = False
        holder.claims.put(holder.now.finish([route.key for route in holder.now.routes]))
        assert holder.claims.is_persisted(holder.attachment)
        assert holder.claims.flush() is None
        assert holder.on_disk().state is State.GONE

    def test_nothing_new_is_claimed(self, holder: Node) -> None:
        holder.disk.full = True
        before = holder.now
        with pytest.raises(IoFailure):
            holder.claims.put(claiming(before))
        more = ClaimedRoute.begin_superseded(Cell("rtb-c", ip_network("192.168.9.9/32")), "1" * 12)
        with pytest.raises(IoFailure):
            holder.claims.put(replace(before, routes=(*before.routes, more)))
        assert holder.now == before

    def test_an_add_that_fails_leaves_nothing_under_way(self, holder: Node) -> None:
        create = holder.ec2.create

        def last(*args: Any, **keys: Any) -> None:
            create(*args, **keys)
            holder.disk.full = True
            raise Ec2Error(Ec2Fault.DENIED, "CreateRoute", "UnauthorizedOperation", "as the test says")

        holder.ec2.create = last  # type: ignore[method-assign]
        holder.link.addresses.append("192.168.0.9/24")
        with pytest.raises(CniError):
            holder.add(NETNS, "192.168.0.9/24", container="c2")
        states = [claim.state for claim in holder.claims.all()[0]]
        assert states == [State.HELD, State.GONE]

    def test_an_address_that_could_not_be_settled_is_not_under_way(self, holder: Node) -> None:
        holder.link.addresses.append(f"{VIP}/24")
        create = holder.ec2.create

        def filling(*args: Any, **keys: Any) -> None:
            create(*args, **keys)
            holder.disk.full = True

        holder.ec2.create = filling  # type: ignore[method-assign]
        with pytest.raises(IoFailure):
            holder.look()
        assert holder.now.state is State.RELEASING
        assert holder.holds() == ["rtb-a", "rtb-b"]

    def test_a_del_from_the_spool_stays_there_until_it_is_written(self, holder: Node) -> None:
        log = Log({}, LineWriter("error", "json", Nowhere()))
        calls = CallHandler(holder.world, None, NullRecorder(), log)  # type: ignore[arg-type]
        env = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "net1", "CNI_PATH": "/x"}
        call = Call(env, b'{"cniVersion": "1.0.0", "name": "floating"}')
        holder.disk.full = True
        assert not calls.spooled(call)
        holder.disk.full = False
        holder.claims.flush()
        assert calls.spooled(call)


class Nowhere:
    def write(self, text: str) -> None:
        """Keep nothing."""
