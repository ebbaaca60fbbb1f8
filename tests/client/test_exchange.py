"""What the agent gets from the client, and what the runtime gets from the agent."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_floatip import __version__
from cni_floatip.config.strict_json import load_json
from cni_floatip.protocol import wire
from tests.client.conftest import Node
from tests.client.scripted_agent import CONFIG, ScriptedAgent, dripping, replies, says

RESULT = '{"cniVersion": "1.0.0", "dns": {"domain": "grün"}}\n'.encode()
ERROR = b'{"cniVersion": "1.0.0", "code": 7, "msg": "no"}\n'


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL", "GC", "STATUS", "FROB", "add"])
def test_every_call_is_the_agents_to_judge(
    node: Node, agent: Callable[..., ScriptedAgent], verb: str
) -> None:
    running = agent(replies())
    answer = node.call(verb)
    assert (answer.status, answer.stdout, answer.stderr) == (0, b"", "")
    assert running.heard[0].call.command == verb
    assert load_json(running.heard[0].call.stdin) == CONFIG


def test_the_answer_is_printed_as_it_is(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    agent(replies(RESULT))
    assert node.call("ADD").stdout == RESULT


def test_an_error_is_printed_and_its_status_taken(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    agent(replies(ERROR, status=1))
    answer = node.call("DEL")
    assert (answer.status, answer.stdout) == (1, ERROR)


def test_an_answer_in_pieces_of_one_byte(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    agent(dripping(RESULT))
    assert node.call("ADD").stdout == RESULT


def test_a_large_configuration_and_a_large_answer(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    large = json.dumps({"cniVersion": "1.0.0", "x": "y" * 2_000_000}).encode()
    running = agent(replies(large))
    assert node.call("ADD", large).stdout == large
    assert running.heard[0].call.stdin == large


def test_frames_of_a_newer_agent_are_passed_over(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    agent(says(b"Z\0\0\0\2hi", wire.deadline_frame(6), b"Z\0\0\0\0", wire.reply_frame(0, RESULT)))
    assert node.call("ADD").stdout == RESULT


def test_a_newer_agent_that_understands_us(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    def newer(heard: Any, connection: Any) -> None:
        connection.sendall(wire.hello(9, 1) + wire.deadline_frame(6) + wire.reply_frame(0, RESULT))

    agent(newer)
    assert node.call("ADD").stdout == RESULT


def test_the_environment_holds_only_cni_variables(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    running = agent(replies())
    odd = {"CNI_ARGS": "A=b=c;K8S_POD_NAME=é\n", "CNI_EMPTY": ""}
    env = node.environment("ADD", **odd)
    node.call("ADD", env=env | {"AWS_SECRET_ACCESS_KEY": "x", "PATH": "/bin", "FIP_COMMAND": "status"})
    call = running.heard[0].call
    assert call.env == env | {"FIP_CLIENT": __version__}
    assert call.client == __version__


def test_a_variable_that_is_not_utf_8(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    running = agent(replies())
    node.call("ADD", env={os.fsencode(k): os.fsencode(v) for k, v in node.environment("ADD").items()}
              | {b"CNI_ARGS": b"A=\xff"})  # fmt: skip
    assert os.fsencode(running.heard[0].call.env["CNI_ARGS"]) == b"A=\xff"


def test_the_namespace_arrives_as_a_descriptor(
    node: Node, agent: Callable[..., ScriptedAgent], tmp_path: Path
) -> None:
    """Any file stands for a namespace: its inode shows that it is the one."""
    place = tmp_path / "netns"
    place.touch()
    known = []

    def look(heard: Any, connection: Any) -> None:
        known.append([os.fstat(fd).st_ino for fd in heard.descriptors])
        known.append([os.get_inheritable(fd) for fd in heard.descriptors])
        replies()(heard, connection)

    running = agent(look)
    node.call("ADD", env=node.environment("ADD", CNI_NETNS=str(place)))
    assert known[0] == [place.stat().st_ino]
    assert running.heard[0].call.netns_errno == 0


@pytest.mark.parametrize(
    ("path", "number"),
    [("/nonexistent/ns", errno.ENOENT), ("/etc/passwd/ns", errno.ENOTDIR), ("x" * 5000, errno.ENAMETOOLONG)],
)
def test_a_namespace_that_cannot_be_opened(
    node: Node, agent: Callable[..., ScriptedAgent], path: str, number: Any
) -> None:
    running = agent(replies())
    node.call("ADD", env=node.environment("ADD", CNI_NETNS=path))
    assert running.heard[0].descriptors == []
    assert running.heard[0].call.netns_errno == number


@pytest.mark.parametrize("path", ["", None])
def test_a_call_without_a_namespace(
    node: Node, agent: Callable[..., ScriptedAgent], path: str | None
) -> None:
    running = agent(replies())
    env = {name: value for name, value in node.environment("DEL").items() if name != "CNI_NETNS"}
    node.call("DEL", env=env | ({} if path is None else {"CNI_NETNS": path}))
    assert running.heard[0].descriptors == []
    assert running.heard[0].call.netns_errno == 0


def test_a_namespace_that_is_a_pipe_does_not_block(
    node: Node, agent: Callable[..., ScriptedAgent], tmp_path: Path
) -> None:
    agent(replies(RESULT))
    os.mkfifo(tmp_path / "fifo")
    answer = node.call("ADD", env=node.environment("ADD", CNI_NETNS=str(tmp_path / "fifo")))
    assert answer.stdout == RESULT
