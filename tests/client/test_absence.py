"""The agent is away, hangs or dies: what the runtime reads, when, and that a DEL succeeds in any case."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from cni_floatip.protocol import wire
from tests.client.conftest import Node
from tests.client.scripted_agent import ScriptedAgent, dies, hangs, raw, replies, says

CODES = {"ADD": 11, "CHECK": 11, "GC": 11, "STATUS": 50}
VERBS = (*CODES, "DEL")
RESULT = b'{"cniVersion": "1.0.0", "ips": []}\n'
GREETING = wire.greeting()
D = wire.deadline_frame(0.2)

FAULTS = {
    "hung before its first frame": hangs(),
    "hung after its greeting": hangs(GREETING),
    "hung in the middle of a frame": hangs(GREETING + D[:3]),
    "hung after it took the call": hangs(GREETING + D),
    "dead at once": dies(),
    "dead after its greeting": dies(GREETING),
    "dead after it took the call": dies(GREETING + D),
    "dead in the middle of its answer": dies(GREETING + D + wire.reply_frame(0, RESULT)[:-3]),
    "of another protocol": raw(wire.hello(9, 8) + D + wire.reply_frame(0, RESULT)),
    "not our protocol, it says": says(wire.refusal("the client speaks protocol 1: install both")),
    "a web server": raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "a frame without end": says(b"R\xff\xff\xff\xff"),
    "an answer without status": says(D, b"R\0\0\0\0"),
    "a deadline that is none": says(b"D\0\0\0\3nan", wire.reply_frame(0, RESULT)),
    "a deadline of letters": says(b"D\0\0\0\3abc", wire.reply_frame(0, RESULT)),
}


def judge(node: Any, verb: Any, answer: Any) -> None:
    if verb == "DEL":
        assert (answer.status, answer.stdout) == (0, b""), answer
        assert "floatip: " in answer.stderr
        assert len(node.spooled()) == 1
    else:
        assert (answer.status, answer.document["code"]) == (1, CODES[verb]), answer
        assert answer.document["cniVersion"] == "1.0.0"
        assert node.spooled() == []
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_without_an_agent_the_runtime_is_told(node: Node, verb: Any) -> None:
    answer = node.call(verb)
    judge(node, verb, answer)
    assert str(node.socket) in (answer.stderr if verb == "DEL" else answer.msg)


@pytest.mark.parametrize("verb", VERBS)
def test_a_socket_that_nobody_listens_to(node: Node, verb: Any) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(node.socket))
    judge(node, verb, node.call(verb))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_agent_that_is(node: Node, agent: Callable[..., ScriptedAgent], fault: Any, verb: Any) -> None:
    agent(FAULTS[fault])
    answer = node.call(verb)
    judge(node, verb, answer)
    assert answer.seconds < 10


@pytest.mark.parametrize("fault", ["of another protocol", "not our protocol, it says"])
def test_another_protocol_is_said_to_be_that(
    node: Node, agent: Callable[..., ScriptedAgent], fault: str
) -> None:
    agent(FAULTS[fault])
    assert "protocol 1" in node.call("ADD").msg


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_an_agent_that_comes_back_is_asked_again(
    node: Node, agent: Callable[..., ScriptedAgent], verb: str
) -> None:
    node.set(CONNECT_SECONDS={verb: 10})
    late = threading.Timer(1, lambda: agent(dies(), dies(GREETING), dies(GREETING + D), replies(RESULT)))
    late.start()
    answer = node.call(verb)
    late.join()
    assert (answer.status, answer.stdout) == (0, RESULT)


def test_patience_begins_anew_when_an_agent_dies_that_had_taken_the_call(
    node: Node, agent: Callable[..., ScriptedAgent]
) -> None:
    node.set(CONNECT_SECONDS={"ADD": 3})

    def works_and_dies(heard: Any, connection: Any) -> None:
        connection.sendall(GREETING + wire.deadline_frame(30))
        time.sleep(3.5)

    agent(works_and_dies, replies(RESULT))
    assert node.call("ADD").stdout == RESULT


def test_a_call_that_kills_every_agent_is_given_up(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    running = agent(dies(GREETING + D))
    judge(node, "ADD", node.call("ADD"))
    assert running.connections == 3


@pytest.mark.parametrize("verb", ["DEL", "GC", "STATUS"])
def test_no_second_request_where_nothing_is_gained(
    node: Node, agent: Callable[..., ScriptedAgent], verb: str
) -> None:
    running = agent(dies(GREETING + D), replies())
    judge(node, verb, node.call(verb))
    assert running.connections == 1


def test_an_agent_that_names_its_deadline_is_waited_for(
    node: Node, agent: Callable[..., ScriptedAgent]
) -> None:
    def slow(heard: Any, connection: Any) -> None:
        connection.sendall(GREETING + wire.deadline_frame(5))
        time.sleep(2)
        connection.sendall(wire.reply_frame(0, RESULT))

    agent(slow)  # 2 s: twice the patience for a first frame
    assert node.call("ADD").stdout == RESULT


def test_a_deadline_does_not_keep_a_del(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    agent(hangs(GREETING + wire.deadline_frame(1000)))
    answer = node.call("DEL")
    judge(node, "DEL", answer)
    assert answer.seconds < 8


def test_an_agent_with_a_full_queue_is_waited_for(node: Node) -> None:
    """Connecting fails at once there (EAGAIN), which is not absence: also a DEL waits its 2 s."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(node.socket))
    listener.listen(0)
    first = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    first.connect(str(node.socket))
    node.set(CONNECT_SECONDS={"DEL": 1})
    with listener, first:
        answer = node.call("DEL")
    judge(node, "DEL", answer)
    assert answer.seconds > 0.9


@pytest.mark.parametrize("verb", ["add", "FROB", 'a"\\\n'])
def test_without_an_agent_an_unknown_command_is_known_to_be_one(node: Node, verb: str) -> None:
    answer = node.call(verb)
    assert (answer.status, answer.document["code"]) == (1, 4)
    assert repr(verb) in answer.msg
