"""Instance metadata that is incomplete or wrong for moments, as after an attach, and the agent's memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab import netns
from lab.node import Node
from lab.world import Lab
from tests.support.dialogue import call
from tests.support.two_nodes import Attachment, Place, Scene
from tests.support.waiting import until

pytestmark = pytest.mark.lab(azs=1, nodes_per_az=1, policy={"releaseGraceSeconds": 0}, warm=True)


ADDRESS = "192.168.0.2/32"


class Bench:
    """A node whose agent has just begun, a pod on eth1, and what metadata shows of that ENI."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node: Node = lab.nodes["a1"]
        self.scene = Scene(lab)
        self.attachment: Attachment = self.scene.attach(Place(lab, self.node, "direct"), ADDRESS)
        self.eni = self.node.eni("eth1")

    def call(self, verb: str, **options: Any) -> tuple[int, dict[str, Any]]:
        options.setdefault("netns", self.attachment.pod.netns)
        attachment = self.attachment
        return call(
            self.node.agent.socket, verb, attachment.config(), container=attachment.container, **options
        )

    def show(self, item: str, text: str | None) -> None:
        self.lab.imds["a1"].show(f"network/interfaces/macs/{self.eni.mac}/{item}", text)

    def heal(self) -> None:
        self.lab.imds["a1"].heal()


@pytest.fixture
def metadata_bench(lab: Lab) -> Iterator[Bench]:
    bench = Bench(lab)
    bench.node.start_agent()
    yield bench
    bench.heal()
    bench.call("DEL", netns="")
    until(lambda: not bench.scene.routes(ADDRESS))
    bench.node.agent.kill()
    bench.node.remove_pod(bench.attachment.pod)


def test_what_is_incomplete_is_not_remembered(metadata_bench: Bench) -> None:
    """Device number 0 is what metadata shows for moments of an ENI that is not the primary one."""
    for item, text in {"device-number": "0", "vpc-id": "", "vpc-ipv4-cidr-blocks": None}.items():
        metadata_bench.show(item, text)
        code, output = metadata_bench.call("ADD")
        assert code == 11, output
        assert metadata_bench.eni.mac in output["msg"]
        assert "primary ENI" not in output["msg"]
        metadata_bench.heal()
    assert metadata_bench.call("ADD")[0] == 0
    assert metadata_bench.scene.routes(ADDRESS) == {"a": "a1 eth1", "client": "a1 eth1"}


def test_a_refusal_rests_on_nothing_that_is_remembered(metadata_bench: Bench) -> None:
    """Nobody can see that this is wrong, so it is remembered; and asked again before it refuses anything."""
    metadata_bench.show("vpc-ipv4-cidr-blocks", "10.10.0.0/16\n192.168.0.0/16")
    code, output = metadata_bench.call("ADD")
    assert (code, "in none of its subnets" in output["msg"]) == (102, True), output
    metadata_bench.heal()
    assert metadata_bench.call("ADD")[0] == 0


def test_an_eni_of_a_second_network_card(metadata_bench: Bench) -> None:
    metadata_bench.show("network-card", "1")
    metadata_bench.show("device-number", "0")
    code, output = metadata_bench.call("ADD")
    assert code == 0, output
    assert metadata_bench.scene.routes(ADDRESS) == {"a": "a1 eth1", "client": "a1 eth1"}


def test_the_keeper_sees_the_enis_beside_one_that_is_not_described_yet(metadata_bench: Bench) -> None:
    other, before = metadata_bench.node.eni("ens7").mac, len(metadata_bench.node.agent.log)
    metadata_bench.lab.imds["a1"].show(f"network/interfaces/macs/{other}/vpc-id", None)
    assert metadata_bench.call("ADD")[0] == 0
    metadata_bench.scene.clear(ADDRESS)
    until(lambda: metadata_bench.scene.routes(ADDRESS) == {"a": "a1 eth1", "client": "a1 eth1"})
    assert "cannot list the network interfaces" not in metadata_bench.node.agent.log[before:]


def test_a_primary_eni_stays_one(metadata_bench: Bench) -> None:
    name, mac = metadata_bench.attachment.ifname, metadata_bench.node.primary.mac
    netns.ip(metadata_bench.attachment.pod.ns, [f"link set {name} address {mac}"])
    code, output = metadata_bench.call("ADD")
    assert (code, "is the primary ENI" in output["msg"]) == (7, True), output
