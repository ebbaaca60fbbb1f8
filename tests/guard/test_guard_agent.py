"""The agent's watch over its ENIs: guarded with the first claim, mended at each look, reported where not."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from cni_floatip.agent.guard import Guard
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.edges import host, podnet
from cni_floatip.edges.podnet import forwarding, guard
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import State
from lab import netns
from tests.guard.frames import ENI_MAC, Wire
from tests.guard.test_guard_kernel import PASSING, STOPPED, nft, no_nftables, stop_forwarding
from tests.support.claims import a_claim, a_route

pytestmark = pytest.mark.needs("root", "ip", "tc", "nft")


class Repairs(NullRecorder):
    """Remembers what was repaired."""

    def __init__(self) -> None:
        self.repairs: list[str] = []

    def repaired(self, what: str) -> None:
        self.repairs.append(what)


@dataclass
class Agent:
    """A Guard on a node, with what it says and counts."""

    wire: Wire
    said: list[str] = field(default_factory=list)
    counts: Repairs = field(default_factory=Repairs)
    at: float = 1000.0

    def __post_init__(self) -> None:
        world: Any = SimpleNamespace(inode=host.inode, log=self.log, clock=lambda: self.at)
        self._guard = Guard(world, self.counts)

    def log(self, sentence: Any, *_: Any, **__: Any) -> None:
        self.said.append(sentence)

    def learn(self, claim: Any) -> None:
        self.wire.on_node(self._guard.on_claim_change, claim.attachment, claim)

    def forget(self, claim: Any) -> None:
        self.wire.on_node(self._guard.on_claim_change, claim.attachment, None)

    def look(self) -> None:
        self.wire.on_node(self._guard.check_all)

    @property
    def uses(self) -> dict[str, Any]:
        return dict(self._guard.uses)

    @property
    def problems(self) -> dict[str, Any]:
        return dict(self._guard.problems)


@pytest.fixture
def agent(wire: Wire) -> Agent:
    return Agent(wire)


def claim(pod: str = "c1", *, mac: Any = ENI_MAC, netns: str = "", state: Any = State.HELD) -> Any:
    return a_claim(a_route(state), container=pod, netns=netns, netns_inode=host.inode(netns), mac=mac)


def present(wire: Wire) -> Any:
    return wire.on_node(guard.present, wire.eni())


def test_the_first_claim_guards_its_eni_at_once(agent: Agent, wire: Wire) -> None:
    wire.attach()
    agent.learn(claim(state=State.CLAIMING))
    assert not wire.arrives(STOPPED["TCP"])
    assert wire.arrives(PASSING["IPv4"])
    assert stopped(wire) == {"eth1": {4, 6}}
    agent.learn(claim())
    assert (agent.said, agent.counts.repairs, agent.problems) == ([], [], {})


class Counting(Guard):
    """Counts how often it looks for an ENI."""

    covers = 0

    def cover(self, mac: Any) -> Any:
        self.covers += 1
        return super().cover(mac)


@pytest.mark.parametrize("missing", [False, True], ids=["both are there", "one is not"])
def test_what_an_earlier_agent_left_is_guarded_once_for_each_eni(
    agent: Agent, wire: Wire, missing: bool
) -> None:
    other = "02:00:00:00:0f:0f" if missing else plug_in(wire)
    claims = [claim(f"c{number}", mac=(ENI_MAC, other)[number % 2]) for number in range(1000)]

    def listen(learn: Any) -> None:
        for item in claims:
            learn(item.attachment, item)

    world: Any = SimpleNamespace(inode=host.inode, log=agent.log, clock=lambda: 0.0)
    agent._guard = Counting(world, agent.counts)
    wire.on_node(agent._guard.subscribe, listen)
    assert agent._guard.covers == 2
    assert present(wire)
    assert list(agent.problems) == [other] * missing
    agent.learn(claim("later"))
    assert agent._guard.covers == 2


def plug_in(wire: Wire) -> str:
    """Plug a second ENI in; return its MAC."""
    mac = "02:00:00:00:0e:0e"
    netns.ip(wire.node, [f"link add eth7 address {mac} type veth peer name reth7"])
    return mac


def stopped(wire: Wire) -> dict[Any, Any]:
    """Return from which links the host forwards nothing, and of which families."""
    return {name: wire.on_node(forwarding.stopped, name) for name in wire.on_node(forwarding.names)}


def remove(wire: Wire) -> None:
    wire.on_node(guard.remove, wire.eni())


def test_what_somebody_removes_comes_back_at_the_next_look(agent: Agent, wire: Wire) -> None:
    agent.learn(claim())
    remove(wire)
    agent.look()
    assert present(wire)
    wire.tc("qdisc", "del", "dev", "eth1", "clsact")
    nft(wire, "flush ruleset")
    agent.look()
    assert present(wire)
    netns.ip(wire.node, ["rule del pref 110"])
    agent.look()
    agent.look()
    assert stopped(wire) == {"eth1": {4, 6}}
    assert agent.counts.repairs == ["guard", "guard", "forwarding"]
    assert agent.problems == {}


def test_it_is_looked_after_as_long_as_any_claim_uses_the_eni(agent: Agent, wire: Wire) -> None:
    one, other = claim("c1"), claim("c2")
    agent.learn(one)
    agent.learn(other)
    agent.forget(one)
    remove(wire)
    agent.look()
    assert present(wire)
    agent.learn(claim("c2", state=State.RELEASING))
    remove(wire)
    agent.look()
    assert present(wire)
    agent.learn(claim("c2", state=State.GONE))
    agent.look()
    assert present(wire), "it stays"
    remove(wire)
    agent.look()
    assert not present(wire)
    assert agent.counts.repairs == ["guard", "guard"]


def test_an_eni_that_was_plugged_in_anew_is_guarded_anew(agent: Agent, wire: Wire) -> None:
    agent.learn(claim())
    netns.ip(wire.node, ["link del eth1", f"link add eth5 address {ENI_MAC} type veth peer name reth5"])
    agent.look()
    assert present(wire)
    assert agent.counts.repairs == []


def test_a_further_pod_is_reason_to_look(agent: Agent, wire: Wire) -> None:
    agent.learn(claim("c1"))
    remove(wire)
    agent.at += 31  # in between the last look is good enough
    agent.learn(claim("c2"))
    assert present(wire)


def test_with_host_device_the_guard_is_in_the_pod_and_comes_back_there(agent: Agent, wire: Wire) -> None:
    netns.ip(wire.node, [f"link set eth1 netns {wire.pod}"])
    netns.ip(wire.pod, ["link set eth1 name net1", "link set net1 up"])
    path = str(netns.path(wire.pod))
    agent.learn(claim(netns=path))
    assert not wire.arrives(STOPPED["TCP"])
    with podnet.open_pod(path, "net1") as pod:
        guard.remove(pod.link, path)
    assert wire.arrives(STOPPED["TCP"])
    agent.look()
    assert not wire.arrives(STOPPED["TCP"])
    assert agent.counts.repairs == ["guard"]
    assert "net1 is itself in a pod (host-device)" in agent.problems[ENI_MAC]
    netns.ip(wire.pod, ["link set net1 down", f"link set net1 name eth1 netns {wire.node}"])
    agent.look()
    assert present(wire)
    assert agent.problems == {}


def test_a_path_that_leads_to_another_namespace_by_now_is_not_entered(agent: Agent, wire: Wire) -> None:
    netns.ip(wire.node, [f"link set eth1 netns {wire.pod}"])
    netns.ip(wire.pod, ["link set eth1 name net1", "link set net1 up"])
    path = str(netns.path(wire.pod))
    agent.learn(Claim.parse(claim(netns=path).document() | {"netnsInode": 1}))
    with podnet.open_pod(path, "net1") as pod:
        assert not guard.present(pod.link, path)
    assert "no link with MAC" in agent.problems[ENI_MAC]


def test_what_cannot_be_guarded_is_said_once_and_again_when_it_is_over(agent: Agent, wire: Wire) -> None:
    no_nftables(wire)
    wire.tc("qdisc", "add", "dev", "eth1", "ingress")
    agent.learn(claim())
    agent.look()
    agent.learn(claim("c2"))
    assert "where clsact belongs" in agent.problems[ENI_MAC]
    assert len(agent.said) == 1
    assert agent.problems[ENI_MAC] in agent.said[0]
    wire.tc("qdisc", "del", "dev", "eth1", "ingress")
    agent.look()
    assert agent.problems == {}
    assert agent.said[1:] == [f"the metadata guard of ENI {ENI_MAC} is complete again"]
    assert agent.counts.repairs == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_host_that_uses_the_eni_is_warned_of_and_the_eni_is_guarded(
    agent: Agent, wire: Wire, version: int
) -> None:
    address, gateway = {4: ("10.10.1.11/24", "10.10.1.1"), 6: ("fd10:1::11/64", "fd10:1::1")}[version]
    agent.learn(claim())
    assert agent.uses == {}
    nodad = " nodad" * (version == 6)
    netns.ip(wire.node, [f"addr add {address} dev eth1{nodad}"])
    agent.look()
    assert agent.uses == {}, "an address alone leads nothing there"
    netns.ip(wire.node, [f"route add default via {gateway} dev eth1 metric 512"])
    agent.look()
    agent.look()
    text = f"the host uses eth1: {address}, default via {gateway} metric 512"
    assert agent.uses == {ENI_MAC: text}
    assert agent.said == [f"{text}; the metadata guard keeps the host from instance metadata there, too"]
    assert (present(wire), agent.problems) == (True, {})
    netns.ip(wire.node, ["route del default dev eth1" if version == 4 else f"addr del {address} dev eth1"])
    agent.look()
    assert agent.uses == {}


def test_a_problem_ends_with_the_last_claim(agent: Agent, wire: Wire) -> None:
    gone = claim(mac="02:00:00:00:0f:0f")
    agent.learn(gone)
    assert list(agent.problems) == [gone.mac]
    agent.forget(gone)
    agent.look()
    assert agent.problems == {}
    agent.learn(claim(mac=gone.mac, state=State.RELEASING))
    assert agent.problems == {}, "nobody alive has it: an ENI may go with its last pod"


def test_one_bad_eni_does_not_hide_the_others(agent: Agent, wire: Wire) -> None:
    agent.learn(claim("c0", mac="00:00:00:00:00:01"))
    agent.learn(claim("c1"))
    remove(wire)
    agent.look()
    assert present(wire)
    assert list(agent.problems) == ["00:00:00:00:00:01"]


def test_the_rules_go_with_the_last_claim_that_is_not_gone(agent: Agent, wire: Wire) -> None:
    agent.learn(claim("c1"))
    agent.learn(claim("c2"))
    agent.forget(claim("c1"))
    agent.learn(claim("c2", state=State.RELEASING))
    assert stopped(wire) == {"eth1": {4, 6}}
    agent.learn(claim("c2", state=State.GONE))
    assert stopped(wire) == {}
    agent.learn(claim("c3"))
    assert stopped(wire) == {"eth1": {4, 6}}
    agent.forget(claim("c3"))
    agent.look()
    assert stopped(wire) == {}
    assert present(wire)


def test_the_rules_of_one_eni_do_not_go_with_those_of_another(agent: Agent, wire: Wire) -> None:
    other = plug_in(wire)
    agent.learn(claim("c1"))
    agent.learn(claim("c2", mac=other))
    agent.forget(claim("c2", mac=other))
    assert stopped(wire) == {"eth1": {4, 6}}


def test_rules_follow_the_name_of_the_link(agent: Agent, wire: Wire) -> None:
    agent.learn(claim())
    netns.ip(wire.node, ["link set eth1 down", "link set eth1 name ens9"])
    agent.look()
    assert stopped(wire) == {"ens9": {4, 6}}
    netns.ip(wire.node, ["link del ens9", f"link add eth5 address {ENI_MAC} type veth peer name reth5"])
    agent.look()
    assert stopped(wire) == {"eth5": {4, 6}}
    netns.ip(wire.node, ["link del eth5"])
    agent.look()
    assert stopped(wire) == {}, "an ENI that was detached: its name may be another's"


def test_what_an_agent_left_that_was_killed_is_taken_over_or_goes(agent: Agent, wire: Wire) -> None:
    stop_forwarding(wire)
    plug_in(wire)
    netns.ip(wire.node, ["rule add iif eth7 pref 110 type blackhole protocol 241"])
    wire.on_node(agent._guard.subscribe, lambda learn: learn(claim().attachment, claim()))
    assert stopped(wire) == {"eth1": {4, 6}}


def test_without_any_claim_there_are_no_rules(agent: Agent, wire: Wire) -> None:
    stop_forwarding(wire)
    wire.on_node(agent._guard.subscribe, lambda learn: None)
    assert stopped(wire) == {}


def test_where_the_rules_cannot_be_it_is_a_problem_and_the_guard_is_there(agent: Agent, wire: Wire) -> None:
    netns.ip(wire.node, ["rule add pref 200 lookup local", "rule del pref 0"])
    agent.learn(claim())
    agent.look()
    assert present(wire)
    assert stopped(wire) == {"eth1": {6}}
    assert "may forward IPv4 from eth1" in agent.problems[ENI_MAC]
    assert len(agent.said) == 1
