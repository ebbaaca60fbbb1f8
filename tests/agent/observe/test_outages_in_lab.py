"""A real agent whose addresses die in turn: what status, log and metrics say of it, meanwhile and after.

One life of the agent for the whole scene, in the order in which a bad day may bring it.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from lab import agent
from lab.node import Node
from lab.world import Lab
from tests.support.waiting import until

pytestmark = [
    pytest.mark.needs("root", "ip", "macvlan-plugin", "static-plugin"),
    pytest.mark.lab(azs=1, policy={"releaseGraceSeconds": 1, "reconcileSeconds": 1}, warm=True),
]

WEB, OTHER = "192.168.0.2", "192.168.0.3"
HASTENED = {
    "cni_floatip.agent.observe.outages.STALE_SECONDS": 0.5,  # EC2 here is never stale
    "cni_floatip.rules.reconcile.HELD_PATIENCE": 0.5,
}


class Scene:
    """A node with two pods, each with an address on an ENI of its own."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.node = lab, lab.nodes["a1"]
        self.tables = list(lab.tables.values())
        self.began = time.time()
        self.node.install_client()
        self.node.agent.forked = True
        self.node.start_agent(env={agent.HASTENED: json.dumps(HASTENED)})
        self.node.agent.wait_ready()
        self.chains = {
            WEB: lab.conflist([f"{WEB}/32"]),
            OTHER: lab.conflist([f"{OTHER}/32"], eth="ens7", name="other"),
        }
        self.pods = {WEB: self.node.pod("web"), OTHER: self.node.pod("other")}
        for address, pod in self.pods.items():
            self.node.add(pod, self.chains[address])

    def status(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.node.run([str(agent.PROGRAM), "status", *options])

    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.status("--json").stdout))

    def claim(self, address: str = WEB) -> dict[str, Any]:
        claims = self.document()["claims"]
        return next(claim for claim in claims if f"{address}/32" in claim["addresses"])

    def events(self, address: str = WEB) -> list[dict[str, Any]]:
        """Return the events about an address, found by its text as ``grep`` finds it."""
        lines = [line for line in self.node.agent.said() if address in json.dumps(line)]
        return [line for line in lines if line.get("event")]

    def done(self, verb: str) -> list[dict[str, Any]]:
        """Wait for the line of the web pod's call, which comes after its answer."""
        results: list[dict[str, Any]] = []

        def output() -> bool:
            lines = self.node.agent.said()
            results[:] = [line for line in lines if line["msg"] == f"{verb}: done" and line["pod"] == "web"]
            return bool(results)

        self.until(output)
        return results

    def released(self) -> list[str]:
        return sorted(line["table"] for line in self.events() if line["event"] == "released")

    def metric(self, name: str) -> float | None:
        return self.node.agent.metrics().get(name)

    def served(self, address: str, pod: str) -> float | None:
        return self.metric(f'floatip_address_served{{address="{address}",namespace="default",pod="{pod}"}}')

    def point(self, eni: str, *tables: str) -> None:
        """Point the address at an ENI, as another writer does."""
        ec2 = self.lab.ec2.client()
        for table in tables:
            there = f"{WEB}/32" in self.lab.ec2.truth(table)
            write = ec2.replace_route if there else ec2.create_route
            write(RouteTableId=table, DestinationCidrBlock=f"{WEB}/32", NetworkInterfaceId=eni)

    def until(self, condition: Callable[[], object]) -> None:
        until(condition, lambda: self.status().stdout, self.node.agent)

    def dies(self, outage: str, tables: int) -> None:
        """See that the address is said to be dead: on the screen, to programs, in the metrics."""
        self.until(lambda: len(self.claim()["unserved"]) == 1)
        self.until(lambda: len(self.claim()["unserved"][0]["tables"]) == tables)
        shown = self.status()
        head, why, *_ = shown.stdout.splitlines()
        assert head.endswith(": ready; 1 of 2 addresses is not served here")
        assert why == f"  default/web: {WEB}: {outage} in {tables} of {len(self.tables)} tables"
        assert shown.returncode == 1
        result = self.status("--json")
        assert result.returncode == 1
        document = json.loads(result.stdout)
        assert (document["agent"]["addresses"], document["agent"]["unserved"]) == (2, 1)
        outages = [route["outage"] for route in self.claim()["routes"]]
        assert sorted(outages, key=str) == sorted(
            [outage] * tables + [None] * (len(self.tables) - tables), key=str
        )
        assert self.claim(OTHER)["unserved"] == []
        assert (self.served(WEB, "web"), self.served(OTHER, "other")) == (0, 1)
        assert self.metric(f'floatip_routes{{state="{outage}"}}') == tables
        assert self.metric("floatip_ready") == 1

    def lives(self) -> None:
        """See that nothing is wrong any more."""
        self.until(lambda: self.status().returncode == 0)
        assert self.status().stdout.splitlines()[0].endswith(": ready")
        assert (self.document()["agent"]["unserved"], self.served(WEB, "web")) == (0, 1)
        for outage in ("absent", "superseded", "blackhole", "cut off", "not an ENI"):
            assert self.metric(f'floatip_routes{{state="{outage}"}}') == 0


@pytest.fixture(scope="module")
def outage(lab: Lab) -> Scene:
    return Scene(lab)


def about(line: dict[str, Any]) -> tuple[Any, ...]:
    names = ("level", "destination", "namespace", "pod", "eni")
    return tuple(line.get(name) for name in names)


def test_each_way_to_die_is_said_while_it_lasts(lab: Lab, outage: Scene) -> None:
    node: Node = outage.node
    ours, thief = node.eni("eth1").id, lab.nodes["a2"].eni("eth1").id
    subject = (f"{WEB}/32", "default", "web", ours)
    outage.lives()
    (added,) = outage.done("ADD")
    assert (added["addresses"], set(added["tables"]), added["eni"]) == (
        [f"{WEB}/32"],
        set(outage.tables),
        ours,
    )
    looked = outage.metric("floatip_last_look_timestamp_seconds")
    assert looked is not None
    assert outage.began <= looked <= time.time()
    assert outage.events() == []

    # Somebody deletes a route, and the agent may not create it.
    lab.ec2.faults.error("CreateRoute", "UnauthorizedOperation", "You are not authorized.", times=None)
    lab.ec2.client().delete_route(RouteTableId=outage.tables[0], DestinationCidrBlock=f"{WEB}/32")
    outage.dies("absent", 1)
    lab.ec2.faults.clear()
    outage.lives()
    outage.until(lambda: len(outage.events()) == 2)  # a line comes after what it tells of
    absent, created = outage.events()
    assert (absent["event"], about(absent)) == ("absent", ("warning", *subject))
    assert (created["event"], about(created)) == ("created", ("info", *subject))
    assert absent["table"] == created["table"] == outage.tables[0]
    assert absent["time"] < created["time"]

    # Another writer takes it, and gives it back.
    outage.point(thief, *outage.tables)
    outage.dies("superseded", len(outage.tables))
    outage.point(ours, *outage.tables)
    outage.lives()
    outage.until(lambda: len(outage.events()) == 2 + 2 * len(outage.tables))
    output = outage.events()[2:]
    stolen = [line for line in output if line["event"] == "superseded"]
    held = [line for line in output if line["event"] == "held"]
    assert len(output) == len(stolen) + len(held)
    for lines, level, target in ((stolen, "warning", thief), (held, "info", ours)):
        assert sorted(line["table"] for line in lines) == sorted(outage.tables)
        assert {about(line) for line in lines} == {(level, *subject)}
        assert {line["target"] for line in lines} == {target}

    # The ENI is taken off the node, under the pod.
    said_before = len(outage.events())
    ec2 = lab.ec2.client()
    (result,) = ec2.describe_network_interfaces(NetworkInterfaceIds=[ours])["NetworkInterfaces"]
    ec2.detach_network_interface(AttachmentId=result["Attachment"]["AttachmentId"], Force=True)
    outage.dies("cut off", len(outage.tables))
    (line,) = [line for line in outage.events()[said_before:] if line["event"] == "cut off"]
    assert (line["level"], line["pod"], set(line["tables"])) == ("warning", "web", set(outage.tables))

    # Its pod is deleted. What has ended is nobody's outage.
    node.delete(outage.pods[WEB], outage.chains[WEB])
    outage.until(lambda: outage.claim()["state"] == "gone")
    assert outage.status().returncode == 0
    assert outage.document()["agent"]["addresses"] == 1
    assert (outage.served(WEB, "web"), outage.served(OTHER, "other")) == (None, 1)
    (deleted,) = outage.done("DEL")
    assert (deleted["addresses"], set(deleted["tables"])) == ([f"{WEB}/32"], set(outage.tables))
    outage.until(lambda: outage.released() == sorted(outage.tables))
