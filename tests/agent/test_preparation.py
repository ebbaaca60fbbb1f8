"""What an agent has ready before the first ADD, also where metadata or names do not answer as it begins."""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import netns
from lab.agent import HASTENED, PROGRAM
from lab.ec2.cloud import access_key
from lab.node import Node
from lab.world import Lab
from tests.support.waiting import until

pytestmark = pytest.mark.lab(azs=1, nodes_per_az=1, warm=True)


SOON = {
    "cni_floatip.agent.preparation.CREDENTIALS_SECONDS": 0.2,
    "cni_floatip.agent.preparation.WARM_SECONDS": 1.0,
}


@pytest.fixture
def bare_node(lab: Lab) -> Iterator[Node]:
    node = lab.nodes["a1"]
    yield node
    node.agent.kill()
    lab.imds["a1"].heal()


def identity(lab: Lab) -> dict[str, str]:
    """Credentials that are there whatever metadata does."""
    return {"AWS_ACCESS_KEY_ID": access_key(lab.ec2.account), "AWS_SECRET_ACCESS_KEY": "made-up"}


def test_what_did_not_answer_as_it_began_is_asked_again(lab: Lab, bare_node: Node) -> None:
    lab.imds["a1"].cut()
    bare_node.start_agent(env=identity(lab) | {HASTENED: json.dumps(SOON)})
    until(lambda: "EC2 does not answer yet" in bare_node.agent.log)

    def shown() -> str:
        result = json.loads(bare_node.run([str(PROGRAM), "status", "--json"]).stdout)
        return str((result["agent"]["node"] or {}).get("instance", ""))

    assert shown() == ""
    lab.imds["a1"].heal()
    until(lambda: shown() == bare_node.instance_id)


def test_a_name_that_nobody_resolves_is_given_up_soon(lab: Lab, bare_node: Node, tmp_path: Path) -> None:
    """No time-out of ours covers it: asked as Amazon Linux says, five times, that takes ten seconds."""
    names = tmp_path / "resolv.conf"
    names.write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:5\n")
    silent, before = netns.inside(bare_node.ns, _silent_name_server), len(bare_node.agent.log)
    with silent:
        sees = [f"mount --bind {names} {Path('/etc/resolv.conf').resolve()}"]
        named = {"AWS_ENDPOINT_URL_EC2": "http://ec2.nobody-knows.example:8000"}
        bare_node.agent.start(bare_node.env | identity(lab) | named, sees=sees)
        silent.settimeout(60)
        queries = [silent.recv(512)]
        until(lambda: "EC2 does not answer yet" in bare_node.agent.log[before:])
        silent.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                queries.append(silent.recv(512))
    request = Counter(query[:2] for query in queries)  # the id, which a repetition has, too (RFC 1035)
    assert max(request.values()) <= 2


def _silent_name_server() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 53))
    return made
