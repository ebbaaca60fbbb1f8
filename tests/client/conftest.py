"""The client as ``floatipctl install-client`` leaves it, and an agent that does what a test says."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.installer import install_client
from tests.client.scripted_agent import CONFIG, Answering, ScriptedAgent

BUNDLE = Path(os.environ["FLOATIP_BUNDLE"]) if "FLOATIP_BUNDLE" in os.environ else None
"""A node bundle whose interpreter is to run the client (tests/image); else ours does."""

SHORT = {
    "CONNECT_SECONDS": {"ADD": 1, "CHECK": 1, "DEL": 0.4, "GC": 0.4, "STATUS": 0.3},
    "CALL_SECONDS": {"ADD": 20, "CHECK": 20, "DEL": 2, "GC": 20, "STATUS": 3},
    "STDIN": {"DEL": 0.3, "ADD": 0.5},
    "MARGIN": 0.2,
}


@dataclass(frozen=True)
class Answer:
    """What a call came to; held to what is true of every one."""

    status: int
    stdout: bytes
    stderr: str
    seconds: float

    def __post_init__(self) -> None:
        if self.stdout:
            assert json.loads(self.stdout)["cniVersion"]
        assert bool(self.status) is ("code" in self.document), self

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.stdout)) if self.stdout else {}

    @property
    def msg(self) -> str:
        return str(self.document["msg"])


@cache
def installed() -> Path:
    """Install the client once: it takes longer than most calls. It is one file, which names two paths."""
    root = Path(tempfile.mkdtemp(prefix=f"fip{os.getpid()}-"))
    atexit.register(shutil.rmtree, root)
    return install_client(root, NodeConf(), bundle=None)


class Node:
    """A directory with an installed client, the place of its agent and the spool."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "agent.sock"
        self.spool = root / "lib" / "spool"
        if BUNDLE:
            policy = NodeConf(socket_path=str(self.socket), spool_dir=str(self.spool))
            self.client = install_client(root, policy, bundle=BUNDLE)
        else:
            self.client = root / "floatip"
            shutil.copy(installed(), self.client)
            self.set(SOCKET=str(self.socket), SPOOL=str(self.spool))

    def set(self, **constants: object) -> None:
        """Change the constants at the top of the installed file."""
        text = self.client.read_text()
        for name, value in constants.items():
            text, result = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value!r}", text, count=1)
            assert result, name
        self.client.write_text(text)

    def environment(self, verb: str, **more: str) -> dict[str, str]:
        env = {"CNI_COMMAND": verb, "CNI_PATH": "/opt/cni/bin"}
        if verb in ("ADD", "CHECK", "DEL"):
            env |= {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "net1", "CNI_NETNS": "/proc/self/ns/net"}
        return env | more

    def start(self, verb: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        env = self.environment(verb) if env is None else env
        return subprocess.Popen([str(self.client)], env=env, **(pipes | options))

    def call(self, verb: str, stdin: bytes | None = None, **options: Any) -> Answer:
        began = time.monotonic()
        process = self.start(verb, **options)
        stdout, stderr = process.communicate(json.dumps(CONFIG).encode() if stdin is None else stdin, 60)
        return Answer(
            process.returncode,
            stdout or b"",
            (stderr or b"").decode(errors="replace"),
            time.monotonic() - began,
        )

    def spooled(self) -> list[Path]:
        return sorted(self.spool.glob("*")) if self.spool.is_dir() else []


@pytest.fixture
def node() -> Iterator[Node]:
    """A node whose client has little patience. (A socket's path must be short.)"""
    root = Path(tempfile.mkdtemp(prefix=f"fip{os.getpid()}-"))
    try:
        made = Node(root)
        made.set(**SHORT)
        yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def agent(node: Node) -> Iterator[Callable[..., ScriptedAgent]]:
    """Start an agent with a script."""
    running: list[ScriptedAgent] = []

    def start(*script: Answering) -> ScriptedAgent:
        running.append(ScriptedAgent(node.socket, script))
        return running[-1]

    yield start
    for scripted_agent in running:
        scripted_agent.close()
