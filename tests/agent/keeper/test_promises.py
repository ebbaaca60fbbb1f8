"""Promises of the keeper and of calls: each test fails when its rule is taken away (``tests/mutants.py``)."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cni_floatip import operations
from cni_floatip.agent.claim_cache import ClaimCache
from cni_floatip.edges import host
from cni_floatip.edges.store import Store
from cni_floatip.model.claim import LATE_SECONDS, Claim
from cni_floatip.model.claim_state import State
from cni_floatip.model.errors import IoFailure, NotAsClaimed, TryAgain
from cni_floatip.model.values import RouteKey, RouteTarget
from cni_floatip.operations.delete import _cancelled
from cni_floatip.operations.release import attachment_lock
from cni_floatip.operations.world import Vpc
from cni_floatip.operations.write_routes import place_lock
from cni_floatip.protocol import request
from tests.support.cluster_with_pods import ClusterWithPods, in_order
from tests.support.simulated_cluster import FLOATING, SimulatedCluster, SimulatedNode
from tests.support.waiting import until

GRACE = 60
RTB_1 = RouteKey("rtb-1", FLOATING)


@pytest.fixture
def pod_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterWithPods:
    """A cluster of one node, "a", with one route table."""
    in_order(monkeypatch)
    return ClusterWithPods(tmp_path, "a")


def held(
    directory: Path, nodes: str = "a", tables: tuple[str, ...] = ("rtb-1",)
) -> tuple[SimulatedCluster, SimulatedNode]:
    cluster = SimulatedCluster(directory, nodes, tables)
    a = cluster.nodes["a"]
    a.add()
    cluster.pass_time(200)
    cluster.ec2.writes.clear()
    return cluster, a


class TestBetweenTheLookAndTheWrite:
    def test_a_new_owner_that_comes_keeps_its_route(self, tmp_path: Path) -> None:
        """The second judgement, with the place locked and its table read anew."""
        cluster = SimulatedCluster(tmp_path, "abc")
        a, b, _ = cluster.nodes.values()
        a.add()
        cluster.pass_time(100)
        b.add()
        cluster.pass_time(100)
        b.up = False
        cluster.ec2.alive -= set(b.enis)
        met = []

        def turn(action: str, place: RouteKey, account: str, deadline: float) -> None:
            """c's ADD, while a stands in line."""
            if action == "DeleteRoute" and cluster.leads().startswith("eni-b"):
                met.append(action)
                cluster.ec2.tables["rtb-1"][FLOATING] = RouteTarget("eni-c", is_eni=True)

        cluster.ec2.wait_turn = turn  # type: ignore[method-assign]
        cluster.ec2.writes.clear()
        cluster.pass_time(300)
        assert met
        assert cluster.ec2.writes == []
        assert cluster.leads() == "eni-c"

    def test_a_place_that_a_call_has_is_left_to_it(self, tmp_path: Path) -> None:
        cluster, a = held(tmp_path)
        del cluster.ec2.tables["rtb-1"][FLOATING]
        with a.claims.lock(place_lock(RTB_1), 0):
            cluster.pass_time(300)
            assert cluster.ec2.writes == []
        cluster.pass_time(130)
        assert cluster.leads() == "eni-a"

    def test_one_who_was_quicker_keeps_the_route(self, tmp_path: Path) -> None:
        """RouteAlreadyExists is answered by Replace in an ADD alone."""
        cluster, _ = held(tmp_path)
        del cluster.ec2.tables["rtb-1"][FLOATING]
        cluster.ec2.alive.add("eni-x")
        real = cluster.ec2.create

        def create(key: RouteKey, eni: str, account: str = "") -> None:
            cluster.ec2.tables["rtb-1"][FLOATING] = RouteTarget("eni-x", is_eni=True)
            real(key, eni, account)

        cluster.ec2.create = create  # type: ignore[method-assign]
        cluster.pass_time(300)
        assert cluster.leads() == "eni-x"

    def test_a_create_is_recorded_before_it_is_sent(self, tmp_path: Path) -> None:
        """The answer may never come, and the route land later: then somebody must know whose it is."""
        cluster, a = held(tmp_path)
        cluster.pass_time(LATE_SECONDS)
        del cluster.ec2.tables["rtb-1"][FLOATING]
        real, recorded = cluster.ec2.create, []

        def create(key: RouteKey, eni: str, account: str = "") -> None:
            on_disk = a.claims._store.all()[0]
            recorded.append([cluster.now() - claim.last_write_at for claim in on_disk])
            real(key, eni, account)

        cluster.ec2.create = create  # type: ignore[method-assign]
        cluster.pass_time(300)
        assert recorded == [[0.0]]


class TestOneStaleRead:
    def test_of_tags_leaves_no_table(self, tmp_path: Path) -> None:
        cluster, _ = held(tmp_path, tables=("rtb-1", "rtb-2"))
        cluster.ec2.untagged.add("rtb-2")
        cluster.pass_time(66)
        cluster.ec2.untagged.clear()
        cluster.pass_time(300)
        assert cluster.ec2.writes == []

    def test_that_shows_one_table_not_ends_no_route(self, tmp_path: Path) -> None:
        cluster, a = held(tmp_path)
        pod = a.claims.all()[0][0].attachment
        cluster.ec2.tables["rtb-other"] = {}
        cluster.ec2.untagged.add("rtb-other")
        a.delete(pod)
        cluster.pass_time(GRACE - 5)
        hidden, reads = cluster.ec2.tables.pop("rtb-1"), cluster.ec2.reads
        cluster.pass_time(15)
        assert cluster.ec2.reads > reads
        assert a.state(pod) == "releasing"
        cluster.ec2.tables["rtb-1"] = hidden
        cluster.pass_time(130)
        assert (a.state(pod), cluster.leads()) == ("gone", "")

    def test_without_any_table_ends_no_claim(self, tmp_path: Path) -> None:
        cluster, a = held(tmp_path)
        pod = a.claims.all()[0][0].attachment
        a.delete(pod)
        tables, cluster.ec2.tables = cluster.ec2.tables, {}
        cluster.pass_time(600)
        assert a.state(pod) == "releasing"
        cluster.ec2.tables = tables
        cluster.pass_time(130)
        assert (a.state(pod), cluster.leads()) == ("gone", "")


def test_grace_counts_from_the_end_of_the_last_write(tmp_path: Path) -> None:
    cluster, a = held(tmp_path)
    pod = a.claims.all()[0][0].attachment
    a.claims.put(replace(a.claim(pod), last_write_at=cluster.now() + 40))
    a.delete(pod)
    cluster.pass_time(GRACE + 30)
    assert cluster.leads() == "eni-a"
    cluster.pass_time(60)
    assert cluster.leads() == ""


class TestEvidence:
    def test_of_another_mount_is_none(self, tmp_path: Path) -> None:
        cluster, a = held(tmp_path)
        hidden = a.claims.all()[0][0].attachment
        a.add(FLOATING.supernet(8))
        a.claims.put(replace(a.claim(hidden), netns="/elsewhere/netns/x"))
        cluster.pass_time(600)
        assert a.state(hidden) == "held"

    @pytest.fixture
    def namespace(self) -> Iterator[int]:
        """Return the id of a process in a network namespace of its own."""
        command = ["unshare", "--net", "sh", "-c", "echo up; exec sleep 60"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"up\n"
            yield process.pid
            process.kill()

    def test_is_not_hidden_by_a_name_that_leads_nowhere(self, tmp_path: Path, namespace: int) -> None:
        for number in range(50):  # whatever the order of the directory is
            (tmp_path / f"dangling{number}").symlink_to("/nowhere/at/all")
        assert not host.holds_namespace(str(tmp_path))
        (tmp_path / "live").symlink_to(f"/proc/{namespace}/ns/net")
        assert host.holds_namespace(str(tmp_path))


class TestATableThatWasLeft:
    @pytest.fixture
    def cluster_with_pods(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterWithPods:
        in_order(monkeypatch)
        return ClusterWithPods(tmp_path, "a", ("rtb-1", "rtb-2"))

    @pytest.mark.parametrize("after", [200, 7200], ids=["gone", "forgotten"])
    def test_is_nothing_to_check(self, cluster_with_pods: ClusterWithPods, after: int) -> None:
        a = cluster_with_pods.nodes["a"]
        destination = cluster_with_pods.destination(2)
        pod = a.add_pod(destination)
        assert pod
        cluster_with_pods.pass_time(60)
        cluster_with_pods.ec2.untagged.add("rtb-2")
        cluster_with_pods.pass_time(after)
        question = a.request_of("CHECK", pod)
        operations.check(question, a.world)
        states = [route.state for route in a.claim(pod).routes]
        assert states == ([State.HELD, State.GONE] if after == 200 else [State.HELD])
        del cluster_with_pods.ec2.tables["rtb-1"][destination]
        with pytest.raises(NotAsClaimed, match=r"rtb-1 .* is missing"):
            operations.check(question, a.world)

    def test_an_add_through_another_eni_waits_until_the_old_routes_are_released(
        self, cluster_with_pods: ClusterWithPods
    ) -> None:
        a = cluster_with_pods.nodes["a"]
        destination = cluster_with_pods.destination(2)
        pod = a.add_pod(destination, eni=0)
        cluster_with_pods.pass_time(200)
        assert pod
        env, config = a.calls[pod]
        document = json.loads(config)
        document["routeTables"] = {"ids": ["rtb-1"]}
        document["prevResult"]["interfaces"][0]["mac"] = a.mac(1)
        a.pods.pods[env["CNI_NETNS"]].links[0].mac = a.mac(1)
        again = request.parse({**env, "CNI_COMMAND": "ADD"}, json.dumps(document).encode())
        cluster_with_pods.ec2.refused.add("delete")
        with pytest.raises(TryAgain, match="through eni-a are not released yet"):
            operations.add(again, a.world)
        cluster_with_pods.ec2.refused.clear()
        operations.add(again, a.world)
        assert [cluster_with_pods.leads(table, destination) for table in ("rtb-1", "rtb-2")] == ["eni-a2", ""]


def test_del_of_one_that_keeps_its_route_is_recorded_though_older_records_cannot_be(
    pod_cluster: ClusterWithPods, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, a = pod_cluster, pod_cluster.nodes["a"]
    destination = cluster.destination(2)
    old = a.add_pod(destination)
    assert old
    cluster.pass_time(100)
    a.end_pod(old)
    pod = a.pod(destination)
    env, config = a.calls[pod]
    a.calls[pod] = env, json.dumps({**json.loads(config), "onDelete": "keep"}).encode()
    a.call("ADD", pod)
    cluster.pass_time(100)

    def full(*_: object) -> None:
        raise IoFailure("Read-only file system")

    store = vars(a.claims)["_inner"]._store
    monkeypatch.setattr(store, "put", full)
    monkeypatch.setattr(store, "erase", full)
    a.call("DEL", pod)
    assert not a.claim(pod).live


def test_a_client_that_goes_after_the_last_write_leaves_nothing(
    pod_cluster: ClusterWithPods, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, a = pod_cluster, pod_cluster.nodes["a"]
    destination = cluster.destination(2)
    pod = a.pod(destination)
    gone: list[str] = []
    real = cluster.ec2.create

    def create(key: RouteKey, eni: str, account: str = "") -> None:
        real(key, eni, account)
        gone.append("the client has gone")

    monkeypatch.setattr(cluster.ec2, "create", create)
    world = replace(a.world, cancelled=lambda: next(iter(gone), None))
    with pytest.raises(TryAgain, match="the client has gone"):
        operations.add(a.request_of("ADD", pod), world)
    assert gone
    assert cluster.leads(destination=destination) == ""
    assert not a.claim(pod).live


def test_an_add_has_its_client_of_ec2_before_it_records(pod_cluster: ClusterWithPods) -> None:
    """What fails between the record and the writes would leave a claim that nothing undoes."""
    cluster, a = pod_cluster, pod_cluster.nodes["a"]
    pod = a.pod(cluster.destination(2))

    def vpc(region: str) -> Vpc:
        if a.world.claims.get(pod) is not None:
            raise TryAgain("no client can be made any more")
        return a.world.vpc(region)

    operations.add(a.request_of("ADD", pod), replace(a.world, vpc=vpc))
    assert a.claim(pod).state is State.HELD


def test_an_add_that_records_late_is_told_again_of_its_del(
    pod_cluster: ClusterWithPods, tmp_path: Path
) -> None:
    """It has read the DEL's mark as what was there before it, so that its own record counts as new."""
    cluster, a = pod_cluster, pod_cluster.nodes["a"]
    pod = a.add_pod(cluster.destination(2))
    assert pod
    claim = a.claim(pod)
    claims = ClaimCache(Store(str(tmp_path / "alone"), sleep=time.sleep, clock=time.monotonic), time.time)
    claims.put(claim)

    def deleted() -> float:
        record = claims.get(pod)
        return record.deleted_at if isinstance(record, Claim) else 0.0

    question = a.request_of("DEL", pod)

    def delete() -> None:
        with _cancelled(question, replace(a.world, claims=claims)):
            pass

    with claims.lock(attachment_lock(pod), 0) as running:
        assert running
        thread = threading.Thread(target=delete)
        thread.start()
        until(deleted)
        claims.put(replace(claim, created_at=deleted()))
        until(deleted)
    thread.join(20)
    assert not thread.is_alive()
