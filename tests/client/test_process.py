"""The client as a process: VERSION, odd input, closed descriptors, and that it loads next to nothing."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import cni_floatip
from cni_floatip import client, plugin
from cni_floatip.model.versions import SUPPORTED
from cni_floatip.protocol import wire
from tests.client.conftest import Node
from tests.client.scripted_agent import ScriptedAgent, replies

NEWEST = SUPPORTED[-1]
RESULT = b'{"cniVersion": "1.0.0"}\n'


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b'{"cniVersion": "0.4.0"}', "0.4.0"),
        (b'{"cniVersion":"1.0.0", "name": "n", "type": "floatip"}\n', "1.0.0"),
        (b'\xef\xbb\xbf{"name": 1, "cniVersion": "1.0.0"}', "1.0.0"),
        (b'{"cniVersion": "9.9.9"}', NEWEST),
        (b'{"cniVersion": ["1.0.0"]}', NEWEST),
        (b'{"cniVersion": {}}', NEWEST),
        (b'{"name": "n"}', NEWEST),
        (b"", NEWEST),
        (b"\xff\xfe\x00", NEWEST),
        (b"[" * 60000, NEWEST),
        (b"[1]", NEWEST),
        (b"null", NEWEST),
        (b"9" * 5000, NEWEST),
        (b'{"cniVersion": "1.0.0"', NEWEST),
    ],
)
@pytest.mark.parametrize("verb", ["VERSION", "ADD"])
def test_the_version_that_is_answered_in(node: Node, verb: str, stdin: bytes, version: Any) -> None:
    """ADD: in the error that says that there is no agent."""
    node.set(CONNECT_SECONDS={"ADD": 0})
    answer = node.call(verb, stdin)
    assert answer.document["cniVersion"] == version
    if verb == "VERSION":
        assert answer.document == {"cniVersion": version, "supportedVersions": list(SUPPORTED)}
        assert answer.stderr == ""
    assert "Traceback" not in answer.stderr


def test_version_does_not_wait_for_an_open_input(node: Node) -> None:
    process = node.start("VERSION")
    try:
        assert process.wait(20) == 0
    finally:
        process.communicate()


def test_version_agrees_with_direct_mode(node: Node) -> None:
    for env in ({"CNI_COMMAND": "VERSION"}, {}, {"CNI_COMMAND": ""}):
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from cni_floatip.plugin import main; sys.exit(main())"],
            env=env,
            input=b"{}",
            capture_output=True,
        )
        ours = subprocess.run([node.client], env=env, input=b"{}", capture_output=True)
        assert (ours.returncode, ours.stdout, ours.stderr) == (0, done.stdout, done.stderr)
    assert client.ABOUT == plugin.ABOUT


def test_constants_agree_with_the_protocol() -> None:
    assert (client.VERSION, client.OLDEST) == (wire.VERSION, wire.OLDEST)
    assert client.SUPPORTED == SUPPORTED
    assert client.MOST_ANSWER == wire.MOST_ANSWER
    assert client.MOST_STDIN < wire.MOST_BODY


# -- standard input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stdin", [b"", b"{", b"\xff\x00", b"[" * 100000], ids=["empty", "cut", "binary", "deep"]
)
def test_input_that_is_no_configuration_is_the_agents_to_judge(
    node: Node, agent: Callable[..., ScriptedAgent], stdin: bytes
) -> None:
    running = agent(replies())
    node.call("ADD", stdin)
    assert running.heard[0].call.stdin == stdin


def test_input_in_pieces(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    running = agent(replies(RESULT))
    process = node.start("ADD", bufsize=0)
    for piece in (b'{"a"', b": 1", b"}"):
        assert process.stdin
        process.stdin.write(piece)
        time.sleep(0.05)
    assert process.communicate(timeout=30)[0] == RESULT
    assert running.heard[0].call.stdin == b'{"a": 1}'


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_input_that_does_not_end_is_not_waited_for_without_end(
    node: Node, agent: Callable[..., ScriptedAgent], verb: str
) -> None:
    running = agent(replies())
    process = node.start(verb, bufsize=0)
    assert process.stdin
    process.stdin.write(b"{}")
    try:
        assert process.wait(20) == 0
    finally:
        process.communicate()
    assert running.heard[0].call.stdin == b"{}"


def test_more_input_than_the_protocol_takes(node: Node, agent: Callable[..., ScriptedAgent]) -> None:
    running = agent(replies())
    answer = node.call("ADD", b"x" * (4 << 20))
    assert (answer.status, answer.document["code"]) == (1, 6)
    assert running.connections == 0


def test_input_that_cannot_be_read(node: Node, agent: Callable[..., ScriptedAgent], tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        process = node.start("ADD", stdin=file)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, json.loads(stdout)["code"]) == (1, 5)
    assert b"Traceback" not in stderr


# -- closed descriptors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("verb", ["VERSION", "ADD", "DEL"])
def test_closed_descriptors_are_survived(
    node: Node, agent: Callable[..., ScriptedAgent], verb: str, closed: tuple[Any, ...]
) -> None:
    running = agent(replies(RESULT if verb == "ADD" else b""))
    process = node.start(verb, preexec_fn=lambda: close_all(closed))
    stdout, stderr = process.communicate(b"", 30)
    heard = 1 not in closed
    assert process.returncode == (0 if heard or verb == "DEL" else 1)
    assert bool(stdout) is (heard and verb != "DEL")
    assert stderr == b""
    assert len(running.heard) == (verb != "VERSION")


@pytest.mark.parametrize("verb", ["VERSION", "ADD"])
def test_nobody_reads_the_answer(node: Node, agent: Callable[..., ScriptedAgent], verb: str) -> None:
    agent(replies(RESULT))
    process = node.start(verb)
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    _, stderr = process.communicate(b"{}", 30)
    assert process.returncode == 1
    assert b"Traceback" not in stderr


def test_nobody_reads_what_an_operator_should(node: Node) -> None:
    process = node.start("DEL")
    assert process.stderr
    process.stderr.close()
    process.stderr = None
    stdout, _ = process.communicate(b"{}", 30)
    assert (process.returncode, stdout) == (0, b"")
    assert len(node.spooled()) == 1


# -- mistakes of ours ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "status"), [("ADD", 1), ("DEL", 0)])
def test_a_mistake_is_an_error_document_and_never_fails_a_del(node: Node, verb: str, status: int) -> None:
    node.set(STDIN=None)
    answer = node.call(verb)
    assert answer.status == status
    assert "AttributeError" in answer.stderr
    assert answer.document.get("code") == (999 if status else None)


# -- what it costs ------------------------------------------------------------------------------------------


def test_it_imports_only_what_the_interpreter_has() -> None:
    tree = ast.parse(Path(client.__file__).read_text())
    imported = {alias.name for item in ast.walk(tree) if isinstance(item, ast.Import) for alias in item.names}
    assert imported == {"posix", "sys", "time", "select", "_socket", "json"}  # and by name, what has SHA-256
    assert not [item for item in ast.walk(tree) if isinstance(item, ast.ImportFrom)]


@pytest.mark.parametrize(
    ("verb", "more"),
    [("VERSION", {"select"}), ("ADD", {"select", "_socket"}), ("DEL", {"select", "_socket"})],
)
def test_a_call_loads_next_to_nothing(
    node: Node, agent: Callable[..., ScriptedAgent], verb: str, more: set[str]
) -> None:
    agent(replies(RESULT if verb == "ADD" else b""))
    bare = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True
    ).stdout.split()
    text = node.client.read_text()
    sentence = "import sys, posix\nend = posix._exit\ndef tell(status):\n"
    sentence += "    posix.write(2, ' '.join(sys.modules).encode())\n    end(status)\nposix._exit = tell\n"
    first, rest = text.split("\n", 1)
    node.client.write_text(f"{first}\n{sentence}{rest}")
    loaded = set(node.call(verb, b'{"cniVersion": "1.0.0"}').stderr.split())
    assert loaded - set(bare) <= more | {"_frozen_importlib_external"}


def test_the_source_is_in_the_installed_file(node: Node) -> None:
    source = Path(cni_floatip.__file__).with_name("client.py").read_text()
    assert source.split("# End of what the installer writes.\n")[1] in node.client.read_text()
