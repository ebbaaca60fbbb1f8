"""Calls to a real agent over its socket: their deeds in pod, VPC and claims; how they cancel each other."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from lab.node import Node
from lab.world import Lab
from tests.support.dialogue import Dialogue, ask, call
from tests.support.two_nodes import Attachment, Place, Scene, ours_in
from tests.support.waiting import until

pytestmark = pytest.mark.lab(azs=1, nodes_per_az=1, policy={"releaseGraceSeconds": 3})


ADDRESS = "192.168.0.2/32"


class Bench:
    """A pod with its interface, and calls for it."""

    def __init__(self, lab: Lab, address: str = ADDRESS) -> None:
        self.lab = lab
        self.node = lab.nodes["a1"]
        self.scene = Scene(lab)
        key = Place(lab, self.node, "direct")
        self.attachment: Attachment = self.scene.attach(key, address)
        self.store = Store(str(self.node.data_dir), sleep=time.sleep, clock=time.monotonic)

    @property
    def pod(self) -> Any:
        return self.attachment.pod

    def call(self, verb: str, **options: Any) -> tuple[int, dict[str, Any]]:
        options.setdefault("netns", self.pod.netns)
        config = options.pop("config", self.attachment.config())
        return call(self.node.agent.socket, verb, config, container=self.attachment.container, **options)

    def environment(self, verb: str) -> dict[str, str]:
        return {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": self.attachment.container,
            "CNI_IFNAME": "net1",
            "CNI_PATH": "/nowhere",
            "CNI_NETNS": self.pod.netns,
        }

    def claim(self) -> Claim | None:
        claims = [c for c in self.store.all()[0] if c.attachment.container == self.attachment.container]
        return claims[0] if claims else None

    def state(self) -> str:
        claim = self.claim()
        return str(claim.state) if claim else ""

    def routes(self) -> dict[str, str]:
        return self.scene.routes(self.attachment.address)

    def begin(self, verb: str) -> Dialogue:
        """Begin a call and return while it is at work."""
        dialogue = Dialogue(self.node.agent.socket)
        netns = os.open(self.pod.netns, os.O_RDONLY)
        dialogue.ask(self.environment(verb), json.dumps(self.attachment.config()).encode(), [netns])
        os.close(netns)
        dialogue.until_deadline()
        return dialogue


@pytest.fixture
def bench(lab: Lab, node_with_agent: Node) -> Iterator[Bench]:
    result = Bench(lab)
    yield result
    lab.ec2.faults.clear()
    result.call("DEL", netns="")
    until(lambda: not result.routes())
    result.node.remove_pod(result.pod)


def test_add_check_and_del(bench: Bench) -> None:
    code, result = bench.call("ADD")
    assert (code, bench.state()) == (0, "held"), result
    assert bench.routes() == {"a": "a1 eth1", "client": "a1 eth1"}
    assert result["ips"][0]["address"] == ADDRESS
    assert ours_in(bench.pod)
    assert bench.call("CHECK")[0] == 0
    assert bench.call("DEL") == (0, {})
    assert bench.state() == "releasing"
    assert bench.routes(), "while the pod moves, the next owner replaces the route"
    assert ours_in(bench.pod) == []
    until(lambda: bench.state() == "gone")
    assert bench.routes() == {}


def test_check_rests_on_nothing_that_is_remembered(bench: Bench) -> None:
    """The first ADD turns the check off, the second one reads that it is off."""
    assert [bench.call("ADD")[0] for _ in range(2)] == [0, 0]
    eni = bench.node.eni("eth1").id
    bench.lab.ec2.client().modify_network_interface_attribute(
        NetworkInterfaceId=eni, SourceDestCheck={"Value": True}
    )
    code, output = bench.call("CHECK")
    assert (code, f"source/dest check of {eni}" in output["msg"]) == (104, True), output


def test_a_client_that_goes_away_cancels_its_add(bench: Bench) -> None:
    bench.lab.ec2.faults.hold("DescribeRouteTables")
    with bench.begin("ADD"):
        until(lambda: bench.lab.ec2.faults.held)
    bench.lab.ec2.faults.clear()
    until(lambda: '"outcome": "cancelled"' in bench.node.agent.log)
    assert bench.state() in ("", "releasing", "gone")
    assert bench.routes() == {}
    assert ours_in(bench.pod) == []


def test_del_overtakes_an_add_of_the_same_attachment(bench: Bench) -> None:
    faults = bench.lab.ec2.faults
    faults.hold("CreateRoute")
    with bench.begin("ADD") as adding:
        until(lambda: faults.held)
        assert bench.call("DEL")[0] == 0
        assert faults.held, "it did not wait for the ADD"
        faults.clear()
        heard = adding.answer()
    assert heard.status == 1
    assert json.loads(heard.stdout)["code"] == 11
    assert "deleted" in json.loads(heard.stdout)["msg"]
    until(lambda: not bench.routes() and bench.state() in ("", "gone"))
    assert ours_in(bench.pod) == []


def test_calls_for_other_attachments_do_not_wait(bench: Bench) -> None:
    faults = bench.lab.ec2.faults
    faults.hold("CreateRoute")
    with bench.begin("ADD") as adding:
        until(lambda: faults.held)
        other = {**bench.environment("DEL"), "CNI_CONTAINERID": "another", "CNI_NETNS": ""}
        assert ask(bench.node.agent.socket, other, b'{"cniVersion": "1.0.0", "name": "n"}').status == 0
        assert faults.held, "it did not wait for the ADD"
        faults.clear()
        assert adding.answer().status == 0


NO_NETNS: dict[str, Callable[[Path], int]] = {
    "a file": lambda path: os.open(path / "file", os.O_RDONLY | os.O_CREAT),
    "a directory": lambda path: os.open(path, os.O_RDONLY),
    "a device": lambda path: os.open("/dev/null", os.O_RDONLY),
    "a pipe": lambda path: os.pipe()[0],
    "a socket": lambda path: os.eventfd(0),
    "another kind of namespace": lambda path: os.open("/proc/self/ns/mnt", os.O_RDONLY),
}


@pytest.mark.parametrize("what", NO_NETNS)
def test_a_descriptor_that_is_no_network_namespace_is_error_8(
    bench: Bench, tmp_path: Path, what: str
) -> None:
    descriptor = NO_NETNS[what](tmp_path)
    code, document = bench.call("ADD", netns=descriptor)
    os.close(descriptor)
    assert (code, bench.claim()) == (8, None)
    assert "/passed" in document["msg"]
    assert "/proc/self" not in json.dumps(document)


def test_the_node_s_own_namespace_is_error_8(bench: Bench) -> None:
    code, document = bench.call("ADD", netns=bench.node.netns)
    assert (code, bench.claim()) == (8, None)
    assert f"{bench.node.netns} is the host's own" in document["msg"]


def test_what_the_client_could_not_open_is_answered_as_a_missing_path_is(bench: Bench) -> None:
    for verb, number, text in (
        ("ADD", 2, "/run/netns/none does not exist: the pod is gone"),
        ("ADD", 13, "/run/netns/none cannot be opened"),
    ):
        env = {**bench.environment(verb), "CNI_NETNS": "/run/netns/none", "FIP_ERRNO": str(number)}
        heard = ask(bench.node.agent.socket, env, json.dumps(bench.attachment.config()).encode())
        document = json.loads(heard.stdout)
        assert (heard.status, document["code"]) == (1, 103)
        assert text in document["msg"]


@pytest.mark.usefixtures("node_with_agent")
def test_a_namespace_whose_path_vanishes_ends_its_add(lab: Lab) -> None:
    bench = Bench(lab, "192.168.0.7/32")
    lab.ec2.faults.hold("DescribeRouteTables")
    try:
        with bench.begin("ADD") as adding:
            until(lambda: lab.ec2.faults.held)  # by then the agent has seen the path
            bench.node.remove_pod(bench.pod)
            lab.ec2.faults.clear()
            heard = adding.answer()
    finally:
        lab.ec2.faults.clear()
    assert heard.status == 1
    assert bench.routes() == {}
    assert bench.call("DEL", netns="")[0] == 0


def test_an_add_that_fails_is_taken_back_at_once(bench: Bench) -> None:
    bench.lab.ec2.faults.error("CreateRoute", "UnauthorizedOperation")
    code, document = bench.call("ADD")
    assert (code, ours_in(bench.pod)) == (100, []), document
    assert bench.routes() == {}
    assert bench.state() in ("", "releasing", "gone")


def test_answers_to_nonsense_are_errors_of_cni_and_no_tracebacks(bench: Bench) -> None:
    socket = bench.node.agent.socket
    output = {
        4: ({**bench.environment("ADD"), "CNI_IFNAME": "../x"}, b"{}"),
        6: (bench.environment("ADD"), b"{"),
        7: (bench.environment("ADD"), b'{"cniVersion": "1.0.0", "name": ""}'),
        1: (bench.environment("CHECK"), b'{"cniVersion": "0.3.1", "name": "n"}'),
    }
    for code, (env, stdin) in output.items():
        heard = ask(socket, env, stdin)
        assert (heard.status, json.loads(heard.stdout)["code"]) == (1, code)
        assert heard.deadline is not None
        assert b"Traceback" not in heard.stdout
    assert json.loads(ask(socket, {"CNI_COMMAND": "FROB"}, b"{}").stdout)["code"] == 4
    deep = b'{"cniVersion": "1.0.0", "name": "n", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    assert json.loads(ask(socket, bench.environment("ADD"), deep).stdout)["code"] == 6
    assert ask(socket, bench.environment("DEL"), deep).status == 0, "the plugins before ours clean up"


def test_deadlines_are_the_verb_s_and_that_of_an_add_its_configuration_s(bench: Bench) -> None:
    def message(verb: str, **keys: object) -> float | None:
        config = {"cniVersion": "1.1.0", "name": "n", **keys}
        env = {**bench.environment(verb), "CNI_NETNS": ""} if verb != "ADD" else bench.environment(verb)
        return ask(bench.node.agent.socket, env, json.dumps(config).encode()).deadline

    assert {verb: message(verb) for verb in ("ADD", "DEL", "STATUS", "GC")} == {
        "ADD": 90.0,
        "DEL": 6.0,
        "STATUS": 2.0,
        "GC": 60.0,
    }
    assert [message("ADD", timeoutSeconds=output) for output in (30, 7.5, "30", True, 9999)] == [
        30,
        7.5,
        90,
        90,
        90,
    ]


def test_status_is_answered_without_ec2(bench: Bench) -> None:
    bench.node.agent.wait_ready()
    bench.lab.ec2.faults.cut(bench.node.name)
    try:
        config = {"cniVersion": "1.1.0", "name": "n"}
        assert call(bench.node.agent.socket, "STATUS", config) == (0, {})
    finally:
        bench.lab.ec2.faults.heal(bench.node.name)


def test_the_agent_tells_its_own_status(bench: Bench) -> None:
    assert bench.call("ADD")[0] == 0
    document = json.loads(ask(bench.node.agent.socket, {"FIP_COMMAND": "status"}).stdout)
    mine = [c for c in document["claims"] if c["containerId"] == bench.attachment.container]
    assert mine[0]["state"] == "held"
    assert document["agent"]["pid"] == bench.node.agent.pid


def test_every_call_is_one_line_of_the_log(bench: Bench) -> None:
    text = "K8S_POD_NAMESPACE=core-1;K8S_POD_NAME=upf-0;K8S_POD_UID=u-1"
    assert bench.call("ADD", CNI_ARGS=text)[0] == 0
    lines = [line for line in bench.node.agent.said() if line.get("container") == bench.attachment.container]
    line = next(line for line in lines if line["msg"] == "ADD: done")
    assert {key: line[key] for key in ("verb", "namespace", "pod", "uid", "ifname", "code", "outcome")} == {
        "verb": "ADD",
        "namespace": "core-1",
        "pod": "upf-0",
        "uid": "u-1",
        "ifname": "net1",
        "code": 0,
        "outcome": "ok",
    }
    assert line["seconds"] > 0


def test_many_adds_of_one_attachment_end_in_one_claim(bench: Bench) -> None:
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(bench.call("ADD")[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 8
    assert bench.state() == "held"
    assert bench.routes() == {"a": "a1 eth1", "client": "a1 eth1"}


def test_nothing_of_all_this_is_left_in_the_agent(bench: Bench) -> None:
    def held() -> tuple[int, int]:
        status = Path(f"/proc/{bench.node.agent.pid}/status").read_text()
        threads = int(status.split("Threads:")[1].split()[0])
        return len(list(Path(f"/proc/{bench.node.agent.pid}/fd").iterdir())), threads

    assert bench.call("ADD")[0] == 0
    assert bench.call("DEL")[0] == 0
    until(lambda: bench.state() == "gone")
    before = held()
    for _ in range(20):
        with bench.begin("CHECK"):
            pass
        assert bench.call("ADD", netns=bench.node.netns)[0] == 8
    until(lambda: held()[0] <= before[0] + 2 and held()[1] <= before[1] + 1)
