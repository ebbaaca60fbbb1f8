"""What a client is told, with no node behind it: STATUS, mistakes of ours, no room; descriptors for paths."""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.claim_cache import ClaimCache
from cni_floatip.agent.observe.lines import LineWriter
from cni_floatip.agent.observe.logs import Log
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.agent.server.connection import Connection
from cni_floatip.agent.server.handler import AgentServices, CallHandler
from cni_floatip.agent.server.netns_fd import CallNamespace
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.edges import host
from cni_floatip.edges.store import Store
from cni_floatip.model.errors import CniError, InvalidNetns, PodNetworkFailure
from cni_floatip.operations.election import NoElections
from cni_floatip.operations.world import World, start_thread
from cni_floatip.protocol import wire
from tests.fakes.podnet import FakeLink, FakePod, FakePods

CONFIG = b'{"cniVersion": "1.0.0", "name": "n", "prevResult": {}}'


class Written:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


class Counted(NullRecorder):
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def call(self, verb: str, outcome: str, seconds: float) -> None:
        self.calls.append((verb, outcome))


class Agent:
    """Calls of an agent in this process."""

    def __init__(self, directory: Path, **edges: Any) -> None:
        self.said = Written()
        self.counts = Counted()
        self.ready = self.broken = ""
        self.waiting = False
        store = Store(str(directory), sleep=time.sleep, clock=time.monotonic)
        known: dict[str, Any] = {
            "policy": NodeConf(),
            "on_delete": "release",
            "claims": ClaimCache(store, time.time),
            "kernel": FakePods,
            "metadata": lambda deadline: None,
            "vpc": lambda region: None,
            "boot": lambda: "boot",
            "inode": host.inode,
            "namespaces": host,
            "clock": time.monotonic,
            "now": time.time,
            "sleep": time.sleep,
            "jitter": random.random,
            "log": lambda sentence: None,
            "cancelled": lambda: None,
            "wake_keeper": lambda: None,
            "election": NoElections(),
            "run_in_thread": start_thread,
        }
        ways = AgentServices(
            view=lambda *_: None,  # type: ignore[arg-type]
            metadata=lambda deadline, _: known["metadata"](deadline),
            ready=lambda: self.ready,
            broken=lambda: self.broken,
            status=lambda: {"claims": []},
            spooled=lambda _: not self.waiting,
        )
        log = Log({}, LineWriter("debug", "json", self.said))
        self.calls = CallHandler(World(**known | edges), ways, self.counts, log)

    def ask(self, verb: str, stdin: bytes = CONFIG, **env: str) -> tuple[int, dict[str, Any], float | None]:
        """Make a call; return code, document and the deadline that the client was told."""
        ours, theirs = socket.socketpair()
        env = {"CNI_COMMAND": verb, "CNI_CONTAINERID": "c", "CNI_IFNAME": "net1", "CNI_PATH": "/"} | env
        status, stdout = self.calls.answer(wire.Call(env, stdin), Connection(ours, 0.0, 0.0))
        ours.close()
        heard = wire.Answers()
        heard.feed(theirs.recv(65536))
        theirs.close()
        document = json.loads(stdout) if stdout else {}
        return (document["code"] if status else 0), document, heard.deadline


@pytest.fixture
def handler(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def test_an_add_fails_while_a_del_of_its_own_is_left_in_the_spool(handler: Agent) -> None:
    handler.waiting = True
    code, document, _ = handler.ask("ADD", CNI_NETNS="/run/netns/x")
    assert (code, "is in the spool" in document["msg"]) == (11, True), document


@pytest.mark.parametrize(
    ("ready", "broken", "code", "said"),
    [
        ("", "", 0, ""),
        ("", "rtb-1 10.0.0.0/8 leads to nothing", 0, ""),
        ("no credentials", "", 50, "no credentials"),
        ("no credentials", "rtb-1 192.168.0.2/32 leads to eni-9", 51, "rtb-1 192.168.0.2/32 leads to eni-9"),
    ],
    ids=["ready", "ready, one route is broken", "not ready", "not ready, and a pod cannot be reached"],
)
def test_status_code_for_each_trouble(handler: Agent, ready: str, broken: str, code: int, said: str) -> None:
    handler.ready, handler.broken = ready, broken
    result, document, deadline = handler.ask("STATUS", b'{"cniVersion": "1.1.0", "name": "n"}')
    assert (result, deadline) == (code, 2.0)
    assert said in document.get("msg", "")
    assert handler.counts.calls == [("STATUS", str(code) if code else "ok")]


def test_version_is_answered_too(handler: Agent) -> None:
    assert handler.ask("VERSION", b"")[1]["supportedVersions"]


def test_a_mistake_of_ours_is_code_999_for_the_runtime_and_a_traceback_in_the_log(tmp_path: Path) -> None:
    agent = Agent(tmp_path, claims=None)
    config = b'{"cniVersion": "1.1.0", "name": "n", "cni.dev/valid-attachments": []}'
    code, document, deadline = agent.ask("GC", config)
    assert (code, deadline) == (999, 60.0)
    assert "Traceback" not in json.dumps(document)
    assert "Traceback" in agent.said.text
    assert agent.counts.calls == [("GC", "999")]


def test_del_succeeds_whatever_breaks(tmp_path: Path) -> None:
    agent = Agent(tmp_path, claims=None)
    assert agent.ask("DEL")[:2] == (0, {})
    assert "Traceback" in agent.said.text
    assert agent.counts.calls == [("DEL", "ok")]


def test_no_room_is_answered_in_the_caller_s_version(handler: Agent) -> None:
    env = {"CNI_COMMAND": "STATUS", "CNI_PATH": "/"}
    status, stdout = handler.calls.refuse(wire.Call(env, b'{"cniVersion": "1.1.0", "name": "n"}'))
    document = json.loads(stdout)
    assert (status, document["code"], document["cniVersion"]) == (1, 11, "1.1.0")
    assert json.loads(handler.calls.refuse(wire.Call(env, b"[" * 70_000))[1])["code"] == 11
    assert json.loads(handler.calls.refuse(wire.Call(env, b"[" * 60_000))[1])["code"] == 11


def test_a_spooled_call_must_be_a_del(handler: Agent) -> None:
    env = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c", "CNI_IFNAME": "net1", "CNI_PATH": "/"}
    assert handler.calls.spooled(wire.Call(env, CONFIG))
    for wrong in (
        wire.Call({**env, "CNI_COMMAND": "GC"}, b'{"cniVersion": "1.1.0", "name": "n"}'),
        wire.Call(env, b"{"),
    ):
        with pytest.raises(CniError):
            handler.calls.spooled(wrong)


# -- namespaces by descriptor -----------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Stands for a namespace: a file has an identity, too."""
    result = tmp_path / "netns"
    result.touch()
    return result


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def handed(
    netns: str, descriptor: int | None, number: int = 0, pods: FakePods | None = None
) -> CallNamespace:
    return CallNamespace(netns, descriptor, number, lambda: pods or FakePods({}), host.inode)


def test_a_path_that_is_to_be_seen_is_watched_for_its_end(path: Path, descriptor: int) -> None:
    call = handed(str(path), descriptor)
    inode = path.stat().st_ino
    assert call.inode(str(path)) == inode
    path.unlink()
    assert call.inode(str(path)) == 0


def test_a_path_that_is_not_to_be_seen_is_its_descriptor(path: Path, descriptor: int) -> None:
    call = handed("/run/netns/of-the-client", descriptor)
    path.unlink()
    assert call.inode("/run/netns/of-the-client") == os.fstat(descriptor).st_ino


def test_a_path_that_leads_elsewhere_here_is_its_descriptor(
    path: Path, descriptor: int, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.touch()
    assert handed(str(other), descriptor).inode(str(other)) == path.stat().st_ino


def test_other_paths_are_themselves(path: Path, descriptor: int) -> None:
    call = handed("/run/netns/of-the-client", descriptor)
    assert call.inode(str(path)) == path.stat().st_ino
    assert call.inode("/none") == 0


def test_what_is_entered_is_the_descriptor_and_what_is_said_is_the_path(descriptor: int) -> None:
    inside = f"/proc/self/fd/{descriptor}"
    pods = FakePods({inside: FakePod([FakeLink("net1")])})
    call = handed("/run/netns/web", descriptor, pods=pods)
    with call.open_pod("/run/netns/web", "net1") as pod:
        assert pod.link.name == "net1"
    with (
        pytest.raises(PodNetworkFailure, match=r"net9.*/run/netns/web") as failure,
        call.open_pod("/run/netns/web", "net9"),
    ):
        pass
    assert inside not in str(failure.value)
    call.clear_pod("/run/netns/web", 100)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "does not exist"),
        (errno.ENOENT, "does not exist"),
        (errno.ENOTDIR, "does not exist"),
        (errno.EACCES, "cannot be opened"),
    ],
)
def test_with_no_descriptor_it_is_as_with_a_path_that_cannot_be_opened(number: int, said: str) -> None:
    call = handed("/run/netns/web", None, number)
    assert call.inode("/run/netns/web") == 0
    refused = pytest.raises(PodNetworkFailure, match=f"/run/netns/web {said}")
    with refused, call.open_pod("/run/netns/web", "net1"):
        pass


def test_a_pipe_is_not_opened_again(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        refused = pytest.raises(InvalidNetns, match="/run/netns/web is not a network namespace")
        with refused, handed("/run/netns/web", reading).open_pod("/run/netns/web", "net1"):
            pass
    finally:
        os.close(reading)
        os.close(writing)
