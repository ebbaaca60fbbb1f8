"""An ADD that EC2 keeps waiting answers before the deadline that its client was told."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.ec2.request_queue import ApiAction
from cni_floatip.agent.ec2.shared import Caller, SharedEc2
from cni_floatip.agent.observe.lines import LineWriter
from cni_floatip.agent.observe.logs import Log
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.agent.server.connection import Connection
from cni_floatip.agent.server.handler import AgentServices, CallHandler
from cni_floatip.operations.world import start_thread
from cni_floatip.protocol import wire
from tests.support.cluster_with_pods import ClusterWithPods
from tests.support.simulated_cluster import POLICY, REGION


class Written:
    def write(self, text: str) -> None:
        pass


class Node:
    """A node whose calls come over a socket, and whose account's request rate can be used up."""

    def __init__(self, directory: Path) -> None:
        self.cluster = ClusterWithPods(directory / "claims", "a")
        self.node = self.cluster.nodes["a"]
        self.directory = directory
        self.warm = SharedEc2(POLICY, NullRecorder(), time.monotonic, connect=lambda _: self.cluster.ec2)
        ways = AgentServices(
            view=lambda region, _, stop, until: self.warm.for_call(
                region, Caller(cancelled=stop, until=until)
            ),
            metadata=lambda deadline, _: self.node.metadata(deadline),
            ready=lambda: None,
            broken=lambda: None,
            status=dict,
            spooled=lambda _: True,
        )
        world = replace(
            self.node.world,
            clock=time.monotonic,
            sleep=time.sleep,
            now=time.time,
            jitter=random.random,
            wake_keeper=lambda: None,
            run_in_thread=start_thread,
        )
        self.calls = CallHandler(world, ways, NullRecorder(), Log({}, LineWriter("debug", "json", Written())))

    def use_up(self, action: str, seconds: float) -> None:
        """Let the next turn of ``action`` come after so long."""
        line = ApiAction("", REGION, action)
        for _ in range(1000):
            if self.warm.queue._line(line).bucket.due(time.monotonic()) > seconds:
                return
            self.warm.queue.spend(line, self.warm.queue.acquire_at_once(line))
        raise AssertionError

    def add(self, number: int, seconds: float) -> tuple[float | None, dict[str, Any], float]:
        """Return the deadline that was named, the answer, and how long that took."""
        attachment = self.node.pod(ip_network(f"192.168.0.{number}/32"))
        env, config = self.node.calls[attachment]
        file = self.directory / str(number)
        file.touch()
        ours, theirs = socket.socketpair()
        talk = Connection(ours, 0.0, 0.0)
        talk.descriptor = os.open(file, os.O_RDONLY)
        pods = self.node.pods.pods
        pods[f"/proc/self/fd/{talk.descriptor}"] = pods[env["CNI_NETNS"]]
        stdin = json.dumps({**json.loads(config), "timeoutSeconds": seconds}).encode()
        began = time.monotonic()
        _, stdout = self.calls.answer(wire.Call({**env, "CNI_COMMAND": "ADD"}, stdin), talk)
        took = time.monotonic() - began
        talk.close()
        heard = wire.Answers()
        heard.feed(theirs.recv(65536))
        theirs.close()
        return heard.deadline, json.loads(stdout), took


@pytest.fixture
def busy_node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_an_add_that_is_not_kept_waiting_succeeds(busy_node: Node) -> None:
    deadline, answer, _ = busy_node.add(1, 5)
    assert (deadline, "code" in answer) == (5, False), answer


@pytest.mark.parametrize("action", ["DescribeRouteTables", "CreateRoute"])
def test_adds_whose_turn_does_not_come_say_so_in_time(busy_node: Node, action: str) -> None:
    busy_node.use_up(action, 8)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda number: busy_node.add(number, 5), range(1, 4)))
    for deadline, answer, took in answers:
        assert deadline == 5
        assert (answer["code"], "request rate" in answer["msg"]) == (11, True), answer
        assert took < 5
