"""Direct mode has the data directory alone: who waits for whom, how long, and what is never lost by that."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_floatip import direct, operations
from cni_floatip.agent.spool import Spool
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.edges import spool
from cni_floatip.edges.store import write_whole
from cni_floatip.model import values as model
from cni_floatip.model.errors import TryAgain
from cni_floatip.operations.add import _time_limits
from cni_floatip.operations.plan import AddRequest
from cni_floatip.operations.world import World
from cni_floatip.protocol import request, wire
from lab.stopping import stop_process
from tests.support.two_nodes import ADDRESS, ANOTHER, TABLES, Attachment, Calling, Place, Scene, ours_in
from tests.support.waiting import throughout, until

pytestmark = pytest.mark.lab(nodes_per_az=1)


@pytest.fixture
def one(scene: Scene, place: Place) -> Attachment:
    """A pod's interface whose ADD has a minute."""
    return scene.attach(place, ADDRESS, timeout=60)


@pytest.fixture
def neighbour(scene: Scene, place: Place) -> Attachment:
    return scene.attach(place, ANOTHER, timeout=60)


def announced(key: Place) -> list[Path]:
    """Return the notes of ADDs that wait or run."""
    return sorted(key.spool.glob("*.add"))


def held_at(scene: Scene, attachment: Attachment, action: str) -> Calling:
    """Start an ADD and return once EC2 has what it asks for, and gives no answer until faults are cleared."""
    scene.lab.ec2.faults.hold(action, caller=attachment.place.node.name)
    adding = Calling(attachment)
    until(lambda: scene.lab.ec2.faults.held)
    return adding


def waiting(attachment: Attachment) -> Calling:
    """Start an ADD beside one that has the directory."""
    there = announced(attachment.place)
    adding = Calling(attachment)
    until(lambda: len(announced(attachment.place)) > len(there))
    return adding


def stopped(attachment: Attachment) -> tuple[Calling, int]:
    """Start an ADD beside one that has the directory, and stop its process; return that, too."""
    there = announced(attachment.place)  # of one that was killed
    adding = waiting(attachment)
    (note,) = set(announced(attachment.place)) - set(there)
    pid = int(note.name.split(".")[1])
    stop_process(pid)
    return adding, pid


# -- ADD, CHECK, GC, STATUS ----------------------------------------------------------------------------------


def test_the_second_add_waits_for_the_first(
    scene: Scene, place: Place, one: Attachment, neighbour: Attachment
) -> None:
    first = held_at(scene, one, "CreateRoute")
    second = waiting(neighbour)
    looks = len(scene.lab.ec2.journal.of(action="DescribeRouteTables", caller="a1"))
    throughout(second.is_alive, 0.5)
    assert len(scene.lab.ec2.journal.of(action="DescribeRouteTables", caller="a1")) == looks
    scene.lab.ec2.faults.clear()
    assert (first.answer().code, second.answer().code) == (0, 0)
    assert set(scene.routes(ADDRESS)) == set(scene.routes(ANOTHER)) == set(TABLES)
    assert len([claim for claim in place.claims() if claim.live]) == 2
    assert announced(place) == []


def test_its_waiting_ends_at_its_deadline(scene: Scene, place: Place, neighbour: Attachment) -> None:
    neighbour.timeout = 5
    with place.store.lock(0) as held:
        assert held
        answer = neighbour.add()
    assert answer.code == 11, str(answer)
    assert str(place.data) in answer.msg
    assert 5 <= answer.seconds < 10
    assert (place.claims(), announced(place), scene.routes(ANOTHER)) == ([], [], {})


def test_what_it_has_waited_is_of_its_time(
    place: Place, neighbour: Attachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def add(question: request.Request, world: World, *, waited: float) -> dict[str, Any]:
        still = replace(world, clock=lambda: 0.0)
        limits.extend(_time_limits(AddRequest.read(question, world), still, waited))
        return {}

    monkeypatch.setattr(operations, "add", add)
    question, policy = parsed(neighbour, "ADD")
    with place.store.lock(0):
        adding = threading.Thread(target=direct.add, args=(question, policy, os.environ), daemon=True)
        adding.start()
        throughout(adding.is_alive, 1)
    adding.join(60)
    writes, undoes = limits
    assert writes < 60 - 10 - 1
    assert undoes < 60 - 5 - 1


def test_the_dels_of_others_take_no_more_than_its_time(
    place: Place, neighbour: Attachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def work_off(_: Spool, until: float) -> None:
        limits.append(until)

    monkeypatch.setattr(Spool, "process_all", work_off)
    monkeypatch.setattr(direct, "SPOOL_SECONDS", 1000.0)
    monkeypatch.setattr(operations, "add", lambda *_, **__: {})
    question, policy = parsed(neighbour, "ADD")
    direct.add(question, policy, os.environ)
    assert limits[0] - time.monotonic() < neighbour.timeout


def test_an_add_goes_on_when_the_one_that_it_waits_for_is_killed(
    scene: Scene, place: Place, one: Attachment, neighbour: Attachment
) -> None:
    scene.lab.ec2.faults.hang("DescribeRouteTables", 3, caller="a1")
    first = Calling(one, doom=("after", "ec2.create", 1))
    until(place.store.is_locked)
    second = waiting(neighbour)
    assert first.answer().code == -signal.SIGKILL
    assert second.answer().code == 0
    assert scene.routes(ADDRESS) == {}, "the next call ends what a killed one had begun"
    assert place.alive() == [f"{neighbour.container} held"]


def test_what_a_killed_add_had_begun_takes_no_route_that_a_del_lets_stay(
    scene: Scene, place: Place, one: Attachment
) -> None:
    one.on_delete = "keep"
    assert one.add().code == 0
    again = one.again()
    assert again.add("after", "ec2.replace", 1).code == -signal.SIGKILL
    assert one.delete().code == 0
    assert set(scene.routes(ADDRESS)) == set(TABLES)
    assert place.alive() == []


def test_also_when_that_del_cannot_be_left(scene: Scene, place: Place, one: Attachment) -> None:
    one.on_delete = "keep"
    assert one.add().code == 0
    assert one.again().add("after", "ec2.replace", 1).code == -signal.SIGKILL
    (place.data / "file").touch()
    place.policy(spoolDir=str(place.data / "file"))
    answer = one.delete()
    assert answer.code == 0
    assert "cannot be kept" in answer.stderr
    assert place.alive() == []
    assert set(scene.routes(ADDRESS)) == set(TABLES)


def test_check_waits_too_and_does_not_wait_for_ever(
    scene: Scene, place: Place, one: Attachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one.add().code == 0
    with place.store.lock(0):
        checking = Calling(one, "CHECK")
        throughout(checking.is_alive, 0.5)
        monkeypatch.setattr(direct, "CHECK_SECONDS", 0.3)
        question, policy = parsed(one, "CHECK")
        with pytest.raises(TryAgain, match=str(place.data)):
            direct.check(question, policy, os.environ)
    assert checking.answer().code == 0


def parsed(one: Attachment, verb: str) -> tuple[request.Request, NodeConf]:
    """Return a call and its policy as direct mode reads them."""
    env = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": one.container,
        "CNI_NETNS": one.pod.netns,
        "CNI_IFNAME": one.ifname,
        "CNI_PATH": "/nowhere",
    }
    question = request.parse(env, json.dumps(one.config()).encode())
    return question, NodeConf.load(str(one.place.config))


def test_gc_waits_for_nobody_because_its_list_grows_old(place: Place, one: Attachment) -> None:
    """The call that it would wait for may claim for a pod that the list does not name yet."""
    one.keys = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
    with place.store.lock(0):
        answer = one.call("GC")
    assert answer.code == 11, str(answer)
    assert answer.seconds < 5
    assert one.call("GC").code == 0


def test_status_is_well_while_a_call_is_at_work(place: Place, one: Attachment) -> None:
    one.keys = {"cniVersion": "1.1.0"}
    with place.store.lock(0):
        answer = one.call("STATUS")
    assert "data directory" not in answer.msg
    with place.store.lock(0, as_agent=True):
        answer = one.call("STATUS")
    assert answer.code == 50
    assert "a node agent has the data directory" in answer.msg


# -- DEL -----------------------------------------------------------------------------------------------------


def test_a_del_that_does_not_get_the_directory_succeeds_and_the_next_call_does_it(
    scene: Scene, place: Place, one: Attachment, neighbour: Attachment
) -> None:
    one.on_delete = "release"
    assert one.add().code == 0
    with place.store.lock(0):
        answer = one.delete()
        assert answer.code == 0
        assert direct.DEL_SECONDS <= answer.seconds < 10
        assert len(place.spooled()) == 1
        assert "left for the next call" in answer.stderr
    assert scene.routes(ADDRESS), "nobody has done it yet"
    scene.lab.ec2.faults.hold("DescribeRouteTables", caller="a1")
    adding = Calling(neighbour)
    until(lambda: scene.lab.ec2.faults.held)
    claim = one.claim()
    assert claim
    assert claim.deleted_at, "it comes before the work of the call"
    assert place.spooled() == []
    scene.lab.ec2.faults.clear()
    assert adding.answer().code == 0
    assert scene.routes(ADDRESS) == {}
    assert ours_in(one.pod) == []
    assert place.alive() == [f"{neighbour.container} held"]


def test_a_del_that_is_killed_after_it_was_left_is_done_by_the_next_call(
    scene: Scene, place: Place, one: Attachment, neighbour: Attachment
) -> None:
    one.on_delete = "release"
    assert one.add().code == 0
    assert one.delete("after", "disk.replace", 1).code == -signal.SIGKILL
    assert len(place.spooled()) == 1
    assert neighbour.add().code == 0
    assert (scene.routes(ADDRESS), place.spooled()) == ({}, [])
    assert place.alive() == [f"{neighbour.container} held"]


def test_a_del_that_was_left_does_not_end_the_add_that_comes_after_it(
    scene: Scene, place: Place, one: Attachment
) -> None:
    assert one.add().code == 0
    assert one.delete("after", "disk.replace", 1).code == -signal.SIGKILL
    answer = one.add()
    assert answer.code == 0, str(answer)
    assert place.spooled() == []
    assert one.check().code == 0
    claim = one.claim()
    assert claim
    assert claim.live
    assert one.delete().code == 0


def test_a_del_ends_the_add_of_its_attachment_that_waits(
    scene: Scene, place: Place, one: Attachment, neighbour: Attachment
) -> None:
    first = held_at(scene, one, "CreateRoute")
    second = waiting(neighbour)
    deleting = Calling(neighbour, "DEL")
    answer = second.answer()
    assert answer.code == 11, str(answer)
    assert "was deleted meanwhile" in answer.msg
    assert first.is_alive(), "it need not wait until it has the directory"
    scene.lab.ec2.faults.clear()
    assert (first.answer().code, deleting.answer().code) == (0, 0)
    assert scene.routes(ANOTHER) == {}
    assert place.spooled() == []


def test_an_add_reads_a_del_of_another_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(name: str, container: str) -> None:
        env = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": container, "CNI_IFNAME": "net1"}
        write_whole(tmp_path / name, wire.body_bytes(env, b"{}"))

    read: list[str] = []

    def owner_of(path: Path) -> spool.Owner | None:
        read.append(path.name)
        return owner(path)

    owner = spool.owner_of
    monkeypatch.setattr(spool, "owner_of", owner_of)
    leave("1.del", "another")
    leave("2.del", "c1")
    with direct._announced(model.Attachment("vip", "c1", "net1"), str(tmp_path)) as stop:
        assert (stop(), read) == (None, []), "what was there before does not concern it"
        leave("3.del", "another")
        assert (stop(), stop(), read) == (None, None, ["3.del"])
        leave("2.del", "c1")
        assert stop() == "vip/c1/net1 was deleted meanwhile", "the runtime has repeated its DEL"
        assert read == ["3.del", "2.del"]


def test_also_when_it_was_done_between_two_looks_of_the_add(
    scene: Scene, place: Place, neighbour: Attachment
) -> None:
    with place.store.lock(0):
        adding, pid = stopped(neighbour)
    try:
        assert neighbour.delete().code == 0
        assert place.spooled() == []
    finally:
        os.kill(pid, signal.SIGCONT)
    answer = adding.answer()
    assert answer.code == 11, str(answer)
    assert "was deleted meanwhile" in answer.msg
    assert (scene.routes(ANOTHER), place.alive()) == ({}, [])


def test_also_when_another_call_does_it_before_its_own_process_comes_further(
    scene: Scene, place: Place, one: Attachment, neighbour: Attachment
) -> None:
    with place.store.lock(0):
        adding, pid = stopped(neighbour)
        try:
            assert neighbour.delete("after", "disk.replace", 1).code == -signal.SIGKILL
        except BaseException:
            os.kill(pid, signal.SIGCONT)
            raise
    try:
        assert one.add().code == 0
        assert place.spooled() == []
    finally:
        os.kill(pid, signal.SIGCONT)
    answer = adding.answer()
    assert answer.code == 11, str(answer)
    assert scene.routes(ANOTHER) == {}


def test_also_when_the_del_cannot_be_left(scene: Scene, place: Place, neighbour: Attachment) -> None:
    with place.store.lock(0):
        adding = waiting(neighbour)
        deleting = Calling(neighbour, "DEL", doom=("full",))
        answer = adding.answer()
    assert answer.code == 11, str(answer)
    deleted = deleting.answer()
    assert deleted.code == 0
    assert "cannot be kept" in deleted.stderr
    assert (scene.routes(ANOTHER), place.alive()) == ({}, [])


def test_a_del_that_is_lost_says_so(place: Place, one: Attachment) -> None:
    """It cannot be kept, and does not get the directory: its runtime is not told, but the operator is."""
    assert one.add().code == 0
    with place.store.lock(0):
        answer = one.delete("full")
    assert answer.code == 0
    assert "left for the next call" not in answer.stderr
    assert "floatipctl gc" in answer.stderr
    assert one.delete().code == 0


def test_a_del_too_large_to_be_kept_is_done_all_the_same(scene: Scene, place: Place, one: Attachment) -> None:
    assert one.add().code == 0
    one.keys = {"comment": "x" * wire.MOST_BODY}
    answer = one.delete()
    assert answer.code == 0
    assert "cannot be kept" in answer.stderr
    assert (scene.routes(ADDRESS), place.alive(), place.spooled()) == ({}, [], [])


def test_what_leaving_it_takes_is_of_a_dels_time(
    place: Place, one: Attachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds are all that a DEL has, and a slow disk takes some of them."""
    assert one.add().code == 0

    late = 0.0

    def slow(path: Path, content: bytes) -> None:
        nonlocal late
        late = 2.5
        write_whole(path, content)

    monkeypatch.setattr(direct, "clock", lambda: time.monotonic() + late)
    monkeypatch.setattr(direct, "write_whole", slow)
    question, policy = parsed(one, "DEL")
    with place.store.lock(0):
        began = time.monotonic()
        direct.delete(question, policy, os.environ, json.dumps(one.config()).encode())
        took = time.monotonic() - began + late
    assert direct.DEL_SECONDS <= took < 10
    place.forget()


def test_a_del_that_cannot_be_left_is_done_all_the_same(scene: Scene, place: Place, one: Attachment) -> None:
    assert one.add().code == 0
    (place.data / "file").touch()
    place.policy(spoolDir=str(place.data / "file"))
    answer = one.delete()
    assert answer.code == 0
    assert "cannot be kept" in answer.stderr
    assert ours_in(one.pod) == []
    assert place.alive() == []


# -- an agent, and clocks ------------------------------------------------------------------------------------


def test_beside_an_agent_a_call_is_refused_at_once_and_a_del_is_left_to_it(
    scene: Scene, place: Place, one: Attachment, neighbour: Attachment
) -> None:
    one.on_delete = "release"
    assert one.add().code == 0
    node = place.node
    node.write_config({**scene.lab.node_config(), "dataDir": str(place.data), "spoolDir": str(place.spool)})
    assert one.delete("after", "disk.replace", 1).code == -signal.SIGKILL
    try:
        node.start_agent()
        claim = one.claim()
        assert claim
        assert claim.deleted_at, "the agent does what was left before it answers"
        assert place.spooled() == []
        answer = neighbour.add()
        assert answer.code == 11
        assert f"a node agent has {place.data}: direct mode is not for this node" in answer.msg
        assert answer.seconds < 5
        assert neighbour.delete().code == 0
        until(lambda: place.spooled() == [])
    finally:
        node.stop_agent()
    assert scene.routes(ADDRESS) == {}


def test_records_of_a_clock_that_went_ahead(scene: Scene, place: Place, one: Attachment) -> None:
    one.on_delete = "release"
    assert one.add().code == 0
    claim = one.claim()
    assert claim
    ahead = time.time() + 86400
    place.store.put(replace(claim, created_at=ahead, last_write_at=ahead))
    assert one.add().code == 0
    assert one.delete().code == 0
    assert (scene.routes(ADDRESS), place.alive()) == ({}, [])
    assert one.add().code == 0
    assert place.alive() == [f"{one.container} held"]
    assert one.delete().code == 0
