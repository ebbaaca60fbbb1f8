"""The agent's life: how it starts, what it finds, what it refuses, how it ends, however it is asked to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent import main
from cni_floatip.agent import supervisor as life_module
from cni_floatip.agent.observe.lines import LineWriter
from cni_floatip.agent.observe.logs import Log
from cni_floatip.agent.recovery import end_by_restart
from cni_floatip.agent.supervisor import Supervisor
from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, State
from cni_floatip.model.errors import TryAgain
from cni_floatip.model.values import RouteKey as Cell
from cni_floatip.protocol import wire
from lab.node import Node
from lab.stopping import stop_process
from lab.world import Lab
from tests.support.claims import a_claim
from tests.support.dialogue import Dialogue, ask, call
from tests.support.two_nodes import Attachment, Place, Scene, ours_in
from tests.support.waiting import throughout, until

pytestmark = pytest.mark.lab(azs=1, nodes_per_az=1, policy={"releaseGraceSeconds": 600})


FLOATIPCTL = Path(sys.executable).with_name("floatipctl")
NUMBERS = iter(range(10, 200))


@pytest.fixture
def bare(lab: Lab) -> Iterator[Node]:
    node = lab.nodes["a1"]
    yield node
    lab.ec2.faults.clear()
    node.agent.kill()
    node.agent.forked = True  # the first one was really started


@pytest.fixture
def attached(lab: Lab, bare: Node) -> Iterator[Attachment]:
    scene = Scene(lab)
    attachment = scene.attach(Place(lab, bare, "direct"), f"192.168.0.{next(NUMBERS)}/32")
    yield attachment
    bare.remove_pod(attachment.pod)


def begin(node: Node, pod: Attachment, verb: str, **keys: Any) -> Dialogue:
    """Begin a call and return while it is at work."""
    dialogue = Dialogue(node.agent.socket)
    netns = os.open(pod.pod.netns, os.O_RDONLY)
    dialogue.ask(environment(pod, verb), json.dumps(pod.config() | keys).encode(), [netns])
    os.close(netns)
    dialogue.until_deadline()
    return dialogue


def environment(pod: Attachment, verb: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": pod.container,
        "CNI_IFNAME": "net1",
        "CNI_PATH": "/nowhere",
        "CNI_NETNS": pod.pod.netns,
    }


def make(node: Node, pod: Attachment, verb: str) -> dict[str, Any]:
    """Make a call that succeeds; return its document."""
    code, document = call(node.agent.socket, verb, pod.config(), netns=pod.pod.netns, container=pod.container)
    assert code == 0, document
    return document


def add(node: Node, pod: Attachment) -> None:
    make(node, pod, "ADD")


def claims(node: Node) -> dict[str, Claim]:
    results = {}
    for path in (node.data_dir / "claims").glob("*.json"):
        claim = Claim.parse(json.loads(path.read_text()))
        results[claim.attachment.container] = claim
    return results


def endings(node: Node) -> int:
    """Return how often an agent of this node has said that it is ending."""
    return [line.get("msg") for line in node.agent.said()].count("ending: no new calls")


def spool(node: Node, pod: Attachment) -> Path:
    """Leave a DEL as a client does that finds no agent."""
    node.agent.spool.mkdir(exist_ok=True)
    path = node.agent.spool / "1.del"
    new = path.with_suffix(".new")
    new.write_bytes(wire.body_bytes(environment(pod, "DEL"), json.dumps(pod.config(prev=False)).encode()))
    new.replace(path)
    return path


# -- starting ---------------------------------------------------------------------------------------------


def test_it_says_when_it_is_ready(bare: Node) -> None:
    bare.start_agent()
    until(lambda: any(line["msg"] == "ready" for line in bare.agent.said()))
    bare.agent.wait_ready()
    assert (
        ask(
            bare.agent.socket,
            {"CNI_COMMAND": "STATUS", "CNI_PATH": "/"},
            b'{"cniVersion":"1.1.0","name":"n"}',
        ).status
        == 0
    )


def test_a_wrong_configuration_is_one_line_with_every_complaint(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"releaseGraceSeconds": "x", "socketPath": 7, "unknown": 1}')
    done = subprocess.run(
        [FLOATIPCTL, "agent", "--config", config], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"floatipctl: {config}: ")
    for path in ("$.releaseGraceSeconds", "$.socketPath", "$.unknown"):
        assert path in lines[0]


def test_an_agent_without_elections_refuses_a_configuration_with_them(tmp_path: Path) -> None:
    """It does not run as if they were off: two pods would take the address from each other."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"elections": {}, "dataDir": str(tmp_path / "data")}))
    done = subprocess.run(
        [FLOATIPCTL, "agent", "--config", config], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    text = "$.elections: elected claims are not in this release; leave the key out"
    assert done.stderr == f"floatipctl: {config}: {text}\n"
    assert not (tmp_path / "data").exists()


def test_no_configuration_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [FLOATIPCTL, "agent", "--config", tmp_path / "none"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "does not exist" in done.stderr


def test_who_finds_the_directory_taken_waits_and_then_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "OWN_SECONDS", 0.5)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"dataDir": str(tmp_path / "data")}))
    other = Store(str(tmp_path / "data"), sleep=time.sleep, clock=time.monotonic)
    began = time.monotonic()
    with other.lock(0), pytest.raises(TryAgain, match="data is in use by another node agent or"):
        main.run(str(config))
    assert time.monotonic() - began >= 0.5


def test_an_agent_follows_one_that_is_ending(bare: Node, lab: Lab) -> None:
    bare.start_agent()
    stop_process(bare.agent.pid)
    second = threading.Thread(
        target=lambda: started.append(bare.run([str(FLOATIPCTL), "agent"], timeout=120))
    )
    started: list[subprocess.CompletedProcess[str]] = []
    lock = bare.data_dir / "lock"
    before = lock.stat().st_ctime_ns
    second.start()
    until(lambda: lock.stat().st_ctime_ns > before)  # who tries for the lock sets its mode
    bare.agent.kill()
    until(bare.agent.accepts)
    document = json.loads(ask(bare.agent.socket, {"FIP_COMMAND": "status"}).stdout)
    os.kill(document["agent"]["pid"], signal.SIGTERM)
    second.join(120)
    assert started[0].returncode == 0, started[0].stderr


def test_direct_mode_refuses_while_the_agent_lives(bare: Node, attached: Attachment) -> None:
    attached.place.policy(dataDir=str(bare.data_dir))
    bare.start_agent()
    answer = attached.add()
    assert answer.code == 11
    assert "a node agent has" in answer.msg


# -- what it finds ----------------------------------------------------------------------------------------


def route(state: State, number: int = 1) -> ClaimedRoute:
    return ClaimedRoute(Cell(f"rtb-{number}", ip_network("192.168.0.2/32")), state)


def claim(*routes: ClaimedRoute, boot: str = "now") -> Claim:
    return a_claim(*routes, boot=boot)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (claim(route(State.HELD)), claim(route(State.HELD))),
        (claim(route(State.SUPERSEDED)), claim(route(State.SUPERSEDED))),
        (claim(route(State.CLAIMING)), claim(route(State.RELEASING))),
        (
            claim(route(State.HELD), route(State.CLAIMING, 2)),
            claim(route(State.HELD), route(State.RELEASING, 2)),
        ),
        (
            claim(route(State.HELD), boot="before"),
            claim(replace(route(State.RELEASING), not_before=60.0), boot="before"),
        ),
        (claim(route(State.GONE), boot="before"), claim(route(State.GONE), boot="before")),
        (claim(route(State.RELEASING), boot="before"), claim(route(State.RELEASING), boot="before")),
    ],
    ids=[
        "held",
        "superseded",
        "an ADD that answered nobody",
        "a further address that was on its way",
        "before the boot",
        "gone before the boot",
        "releasing before the boot",
    ],
)
def test_what_a_restart_makes_of_a_claim(before: Claim, after: Claim) -> None:
    ended = end_by_restart(before, "now", 60.0)
    assert replace(ended, deleted_at=0.0) == after
    assert bool(ended.deleted_at) == (before.live and before.boot == "before")


def test_an_add_that_died_with_the_agent_is_taken_back(bare: Node, attached: Attachment, lab: Lab) -> None:
    bare.start_agent()
    lab.ec2.faults.latency(1.5, "CreateRoute")
    with begin(bare, attached, "ADD"):
        until(lambda: attached.container in claims(bare))
        bare.agent.kill()
    lab.ec2.faults.clear()
    assert claims(bare)[attached.container].state is State.CLAIMING
    bare.start_agent()
    assert claims(bare)[attached.container].state in (State.RELEASING, State.GONE)
    scene = Scene(lab)
    until(
        lambda: claims(bare)[attached.container].state is State.GONE and not scene.routes(attached.address),
        seconds=30,
    )


def test_a_restart_leaves_a_running_pod_alone(bare: Node, attached: Attachment, lab: Lab) -> None:
    bare.start_agent()
    add(bare, attached)
    bare.agent.kill()
    routes, ours = Scene(lab).routes(attached.address), ours_in(attached.pod)
    bare.start_agent()
    assert claims(bare)[attached.container].state is State.HELD
    assert (Scene(lab).routes(attached.address), ours_in(attached.pod)) == (routes, ours)
    make(bare, attached, "CHECK")


def test_a_spooled_del_is_done_before_the_socket_accepts(bare: Node, attached: Attachment) -> None:
    bare.start_agent()
    add(bare, attached)
    bare.agent.kill()
    path = spool(bare, attached)
    bare.start_agent()
    assert not path.exists()
    assert claims(bare)[attached.container].state is State.RELEASING
    assert ours_in(attached.pod) == []


def test_a_del_spooled_while_it_runs_is_done_and_goes_before_an_add(bare: Node, attached: Attachment) -> None:
    bare.start_agent()
    add(bare, attached)
    path = spool(bare, attached)
    until(lambda: not path.exists())
    assert claims(bare)[attached.container].state is State.RELEASING
    add(bare, attached)
    path = spool(bare, attached)
    add(bare, attached)
    assert not path.exists()
    assert claims(bare)[attached.container].state is State.HELD


# -- ending -----------------------------------------------------------------------------------------------


def test_sigterm_finishes_what_runs_and_releases_with_no_more_grace(
    bare: Node, attached: Attachment, lab: Lab
) -> None:
    scene = Scene(lab)
    other = scene.attach(attached.place, f"192.168.0.{next(NUMBERS)}/32")
    bare.start_agent()
    add(bare, other)
    make(bare, other, "DEL")
    assert scene.routes(other.address), "its grace is ten minutes"
    lab.ec2.faults.hold("DescribeRouteTables")
    before = endings(bare)
    with begin(bare, attached, "ADD") as adding:
        until(lambda: lab.ec2.faults.held)
        os.kill(bare.agent.pid, signal.SIGTERM)
        until(lambda: endings(bare) > before)
        lab.ec2.faults.clear()
        heard = adding.answer()
    assert heard.status == 0, heard.stdout
    until(lambda: not bare.agent.is_running, seconds=28)
    assert list(bare.agent.said())[-1]["msg"] == "ended"
    assert scene.routes(attached.address) == {"a": "a1 eth1", "client": "a1 eth1"}
    assert scene.routes(other.address) == {}
    assert not bare.agent.socket.exists()
    assert claims(bare)[attached.container].state is State.HELD
    bare.remove_pod(other.pod)


def test_a_second_sigterm_ends_it_sooner(bare: Node, attached: Attachment, lab: Lab) -> None:
    bare.start_agent()
    lab.ec2.faults.hold("DescribeRouteTables")
    before = endings(bare)
    with begin(bare, attached, "ADD") as adding:
        until(lambda: lab.ec2.faults.held)
        os.kill(bare.agent.pid, signal.SIGINT)
        until(lambda: endings(bare) > before)
        assert bare.agent.stop(60) == 0
        assert lab.ec2.faults.held, "it waited for no answer"
        heard = adding.answer()
    assert heard.status in (1, None)


def test_what_cannot_be_released_as_it_ends_stays_on_disk(bare: Node, attached: Attachment, lab: Lab) -> None:
    bare.start_agent()
    add(bare, attached)
    lab.ec2.faults.cut(bare.name)
    try:
        assert make(bare, attached, "DEL") == {}
        os.kill(bare.agent.pid, signal.SIGTERM)
        throughout(lambda: bare.agent.is_running, 1)  # it tries as long as it may
        assert bare.agent.stop(10) == 0
    finally:
        lab.ec2.faults.heal(bare.name)
    assert claims(bare)[attached.container].state is State.RELEASING


class Written:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def dies(_: threading.Event) -> None:
    raise OSError("out of luck")


@pytest.mark.parametrize("body", [dies, lambda stop: None], ids=["an exception", "a return"])
def test_a_thread_that_ends_by_itself_ends_the_agent(body: Any) -> None:
    written = Written()
    life = Supervisor(Log({}, LineWriter("info", "json", written)))
    life.start("socket", body, again=False)
    assert life.ending.wait(10)
    life.wait()
    assert life.failed
    line = json.loads(written.text)
    assert line["level"] == "error"
    assert "thread socket " in line["msg"]
    assert ("traceback" in line) is (body is dies)


def test_a_thread_that_failed_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent lives on, says what happened, and is not ready until the thread runs again."""
    monkeypatch.setattr(life_module, "FIRST_SECONDS", 0.05)
    written = Written()
    life = Supervisor(Log({}, LineWriter("info", "json", written)))
    problems, began, runs = [], threading.Event(), iter(range(10))

    def body(stop: threading.Event) -> None:
        problems.append(life.problem())
        if next(runs) < 3:
            raise OSError("out of luck")
        began.set()
        stop.wait(10)

    thread = life.start("keeper", body)
    assert began.wait(10)
    assert not life.ending.is_set()
    assert problems == [None] * 4
    lines = [json.loads(line) for line in written.text.splitlines()]
    assert [line["msg"] for line in lines] == [
        f"thread keeper failed and restarts in {pause} s: OSError: out of luck" for pause in (0, 0, 0)
    ]
    assert all("in body" in line["traceback"] for line in lines)
    life.ending.set()
    thread.join(10)
    assert not life.failed


def test_the_agent_is_not_ready_while_a_failed_thread_rests() -> None:
    life = Supervisor(Log({}, LineWriter("info", "json", Written())))
    thread = life.start("keeper", dies)
    until(lambda: bool(life.problem()))
    assert life.problem() == "thread keeper has failed: OSError: out of luck"
    life.ending.set()
    thread.join(10)


def test_a_thread_that_ends_because_it_was_told_to_is_no_failure() -> None:
    life = Supervisor(Log({}, LineWriter("info", "json", Written())))
    thread = life.start("keeper", lambda stop: stop.wait(10))
    life.ending.set()
    thread.join(10)
    assert not life.failed
