"""keepalived in two pods in two zones moves an address between them; the VPC follows, and packets with it.

Nobody tells us: keepalived (unicast VRRP, RFC 5798) puts the address on the pod's interface or takes it away,
and the agents hear of it from the pods' kernels. Its raw socket is bound to the interface, and routed before
it has a source: with the default ``podRoutes`` the rule for what is bound carries its advertisements. Graces
and rounds are a twentieth of their defaults.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import netns
from lab.node import Node
from lab.pod import Pod
from lab.world import Lab
from tests.conftest import program
from tests.support.lab_state import targets
from tests.support.waiting import throughout, until

VIP = "192.168.0.100"
ROUTE = f"{VIP}/32"
ADDRESSES = {"a1": "192.168.0.11", "b1": "192.168.0.12"}
RECONCILE = 3.0

pytestmark = [
    pytest.mark.needs("root", "ip", "unshare", "keepalived", "macvlan-plugin", "static-plugin"),
    pytest.mark.lab(
        nodes_per_az=1,
        agents=True,
        warm=True,
        policy={"releaseGraceSeconds": 3, "reconcileSeconds": RECONCILE},
    ),
]


class Replica:
    """One pod of the application: an address of its own, and keepalived for the one that moves."""

    def __init__(self, lab: Lab, node: Node, priority: int) -> None:
        self.node = node
        self.own = ADDRESSES[node.name]
        self.chain = lab.conflist([f"{self.own}/32"], watchAddresses=["192.168.0.96/27"])
        self.pod: Pod = node.pod(f"app-{node.name}")
        node.add(self.pod, self.chain)
        self._priority = priority
        self._process: subprocess.Popen[bytes] | None = None
        self._files = node.state / "keepalived"
        self._files.mkdir()
        (self._files / "log").touch()

    def _config(self) -> Path:
        peer = next(item for item in ADDRESSES.values() if item != self.own)
        path = self._files / "keepalived.conf"
        path.write_text(
            f"""\
global_defs {{
  router_id {self.node.name}
  vrrp_garp_master_delay 0
}}
vrrp_instance V {{
  state BACKUP
  interface net1
  virtual_router_id 51
  priority {self._priority}
  advert_int 0.5
  version 3
  unicast_src_ip {self.own}
  unicast_peer {{
    {peer}
  }}
  virtual_ipaddress {{
    {VIP}/32 dev net1
  }}
}}
"""
        )
        return path

    def start(self) -> None:
        files = [f"-{flag}{self._files / f'{flag}.pid'}" for flag in "prc"]
        command = [str(program("keepalived")), "-n", "-l", "-f", str(self._config()), *files]
        with (self._files / "log").open("ab") as log:
            self._process = netns.inside(
                self.pod.ns, subprocess.Popen, command, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End keepalived, parent and child. Killed, it leaves the address behind."""
        if self._process:
            os.killpg(self._process.pid, number)
            self._process.wait(10)
            self._process = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    def holds(self) -> bool:
        shown = subprocess.run(["ip", "-n", self.pod.ns, "addr"], capture_output=True, text=True, check=True)
        return f"inet {VIP}/" in shown.stdout

    def __str__(self) -> str:
        return f"{self.pod}: {(self._files / 'log').read_text()[-2000:]}\n{self.node.agent}"


@pytest.fixture(scope="module")
def replicas(lab: Lab) -> Iterator[tuple[Replica, Replica]]:
    both = Replica(lab, lab.nodes["a1"], 150), Replica(lab, lab.nodes["b1"], 100)
    yield both
    for replica in both:
        replica.stop(signal.SIGKILL)


def leads_to(lab: Lab, replica: Replica) -> Callable[[], bool]:
    eni = {replica.node.eni("eth1").id}
    return lambda: targets(lab, ROUTE) == eni


def settle(lab: Lab, holder: Replica, other: Replica) -> None:
    """Let both run, and wait until one alone holds the address.

    A test may be the first that runs; on a busy machine an advertisement may come late, and both move.
    """
    for replica in (holder, other):
        if not replica.runs:
            replica.start()
    until(lambda: holder.holds() and not other.holds() and leads_to(lab, holder)(), holder, other)


def writes(lab: Lab) -> list[str]:
    """Return what was written for the address since the journal was cleared."""
    actions = ("CreateRoute", "ReplaceRoute", "DeleteRoute")
    calls = [call for call in lab.ec2.journal if call.action in actions and ROUTE in call.params.values()]
    return [f"{call.caller} {call.action} {call.outcome}" for call in calls]


def test_an_address_moved_by_hand_is_answered(lab: Lab) -> None:
    pods, chains = [], {}
    for node, own in zip(lab.nodes.values(), ("192.168.0.21", "192.168.0.22"), strict=True):
        pod = node.pod(f"hand-{node.name}")
        chains[node] = lab.conflist([f"{own}/32"], name="by-hand", watchAddresses=["192.168.0.64/27"])
        node.add(pod, chains[node])
        pods.append(pod)
    for holder, other in (pods, pods[::-1], pods):
        netns.ip(other.ns, ["addr flush dev net1 to 192.168.0.77"])
        netns.ip(holder.ns, ["addr add 192.168.0.77/24 dev net1"])
        for client in lab.clients.values():  # each behind a table of its own
            until(lambda client=client, holder=holder: client.ask("192.168.0.77", 0.2) == str(holder))  # type: ignore[misc]
    for node, pod in zip(lab.nodes.values(), pods, strict=True):
        node.delete(pod, chains[node])
        node.remove_pod(pod)


def test_the_address_moves_both_ways_and_packets_follow(
    lab: Lab, replicas: tuple[Replica, Replica], record_property: Callable[[str, object], None]
) -> None:
    first, second = replicas
    settle(lab, first, second)
    assert lab.clients["vpc"].ask(VIP) == lab.clients["tgw"].ask(VIP) == "app-a1"

    for old, new in ((first, second), (second, first)):
        lab.ec2.journal.clear()
        if old is first:
            first.stop()
        else:
            first.start()  # the higher priority takes it back
        until(new.holds, *replicas)
        began = time.monotonic()
        until(leads_to(lab, new), *replicas)
        took = time.monotonic() - began
        record_property(f"seconds from address to routes, {new.pod}", round(took, 3))
        assert [client.ask(VIP) for client in lab.clients.values()] == [str(new.pod)] * 2
        until(lambda old=old: not old.holds(), *replicas)  # type: ignore[misc]
        assert not [item for item in writes(lab) if f"{new.node} ReplaceRoute ok" != item]
    throughout(leads_to(lab, first), 4)  # the grace is over: what the loser released is not its to delete
    assert "DeleteRoute" not in " ".join(writes(lab))


def test_one_that_dies_leaves_the_address_and_the_last_that_appeared_wins(
    lab: Lab, replicas: tuple[Replica, Replica]
) -> None:
    first, second = replicas
    settle(lab, first, second)
    lab.ec2.journal.clear()
    first.stop(signal.SIGKILL)
    until(second.holds, *replicas)
    until(leads_to(lab, second), *replicas)
    assert first.holds()  # two holders now
    assert lab.clients["vpc"].ask(VIP) == "app-b1"

    first.node.stop_agent()
    first.node.start_agent()  # no new appearance
    throughout(leads_to(lab, second), 3 * RECONCILE)
    assert set(writes(lab)) == {"b1 ReplaceRoute ok"}
    assert lab.clients["vpc"].ask(VIP) == "app-b1"

    first.start()
    until(lambda: not second.holds(), *replicas)
    until(leads_to(lab, first), *replicas)
    assert lab.clients["vpc"].ask(VIP) == "app-a1"


@pytest.mark.thorough(sample="test_an_address_moved_by_hand_is_answered")
def test_the_end_of_the_pod_is_the_end_of_its_address(lab: Lab, replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    settle(lab, first, second)
    first.stop(signal.SIGKILL)
    first.node.delete(first.pod, first.chain)
    until(leads_to(lab, second), *replicas)
    throughout(leads_to(lab, second), 4)
    assert lab.clients["vpc"].ask(VIP) == "app-b1"
    second.stop()
    until(lambda: targets(lab, ROUTE) == {None}, *replicas)
