"""How often an ADD asks the kernel. Each request serves one decision; a new one costs every ADD."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.node import Node
from lab.world import Lab
from tests.agent import counting_agent
from tests.support.dialogue import call
from tests.support.two_nodes import Attachment, Place, Scene, ours_in
from tests.support.waiting import until

pytestmark = pytest.mark.lab(azs=1, nodes_per_az=1)

ADDRESS = "192.168.0.2/32"
ADD = {
    "link get": 1,  # the interface: its MAC, kind, parent
    "nsid get": 1,  # is the parent a link of this node?
    "address dump": 1,  # are the addresses on the interface?
    "rule dump": 2,  # a free table, for each family
    "route dump": 2,
    "route create": 2,  # the default route, and none to metadata
    "rule create": 2,  # from the address, and from bound sockets
}
"""Of each ADD but the first on its ENI, which also asks for the parent and makes the guard."""

Requests = Callable[[], dict[str, int]]


@pytest.fixture
def pod_and_count(lab: Lab, node: Node, tmp_path: Path) -> Iterator[tuple[Attachment, Requests]]:
    """An attachment on a node whose agent writes down its requests, and what its ADDs have asked since."""
    record = tmp_path / "requests"
    node.agent.command = [sys.executable, str(Path(counting_agent.__file__)), str(record)]
    node.start_agent()
    result = Scene(lab).attach(Place(lab, node, "direct"), ADDRESS)

    def requests() -> dict[str, int]:
        lines = [line.split("|") for line in record.read_text().splitlines()]
        record.write_text("")
        return dict(Counter(request for thread, request in lines if thread.startswith("ADD ")))

    yield result, requests
    node.agent.kill()
    node.remove_pod(result.pod)


def run(node: Node, verb: str, attachment: Attachment, container: str) -> None:
    code, result = call(
        node.agent.socket, verb, attachment.config(), container=container, netns=attachment.pod.netns
    )
    assert code == 0, result


def test_an_add_asks_the_kernel_so_often(node: Node, pod_and_count: tuple[Attachment, Requests]) -> None:
    """The kernel may still tell that the parent's carrier came: then one more ADD asks for the parent."""
    pod, requests = pod_and_count

    def requests_of_an_add() -> dict[str, int]:
        requests()
        run(node, "ADD", pod, "web")
        assert ours_in(pod.pod)
        result = requests()
        run(node, "DEL", pod, "web")
        return result

    requests_of_an_add()

    def asks_no_more() -> bool:
        count = requests_of_an_add()
        assert count in (ADD, ADD | {"link get": 2})
        return count == ADD

    until(asks_no_more, "each ADD asks for the parent", seconds=20)
