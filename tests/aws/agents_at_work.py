"""What agents do to AWS, all of it, played once in one lab and written down.

Node a1 belongs to the account that owns the VPC, node b1 to one that takes part in it (a shared VPC) and
writes routes in the owner's role.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab import netns
from lab.agent import PROGRAM
from lab.demo.story import claim_states
from lab.ec2.journal import Call
from lab.node import Node
from lab.pod import Pod
from lab.world import Lab
from tests.aws.needs import Cloud
from tests.aws.policies import Policy, Request, read
from tests.support.lab_state import report_of
from tests.support.waiting import until

GUEST = "444455556666"
TAG = "lab"
VIP, VIP6 = "192.168.0.2/32", "fd00:192:168::2/128"
MOVES = "192.168.0.7"


@dataclass(frozen=True)
class Played:
    """What was called, by whom, and what it was about: by agents, and by ``sweep`` and ``doctor``."""

    lab: Lab
    cloud: Cloud
    calls: tuple[Call, ...]
    swept: tuple[Call, ...]
    diagnosed: tuple[Call, ...]

    @property
    def owner(self) -> str:
        return self.lab.ec2.account

    def needs(
        self, node: str, account: str, *, pod_identity: bool = True, calls: tuple[Call, ...] | None = None
    ) -> list[Request]:
        """Return what ``node`` needed when it called in the name of ``account``; ``calls``: of these."""
        heard = self.calls if calls is None else calls
        mine = [call for call in heard if (call.caller, call.account) == (node, account)]
        return [need for call in mine for need in self.cloud.needs(call, pod_identity=pod_identity)]

    def fill(self, name: str, account: str) -> Policy:
        return read(
            name,
            ROUTE_TABLE_1=self.lab.tables["a"],
            ROUTE_TABLE_2=self.lab.tables["client"],
            REGION=self.cloud.region,
            ACCOUNT=account,
            TAG_VALUE=TAG,
            VPC="vpc-0a1b2c3d4e5f60718",
            OWNER_ACCOUNT=self.owner,
            OWNER_ROLE="floatip-routes",
            AGENT_ROLE="floatip-agent",
        )


@contextmanager
def playing() -> Iterator[Played]:
    """Play it, and hold the lab while it is judged."""
    with Lab(azs=2, nodes_per_az=1, guests={"b1": GUEST}, warm=True) as lab:
        for node in lab.nodes.values():
            for eni in node.enis[1:]:
                tags = [{"Key": "floatip", "Value": TAG}]
                lab.ec2.client(account=_account(lab, node)).create_tags(Resources=[eni.id], Tags=tags)
        _start(lab)
        lab.ec2.journal.clear()
        for node in lab.nodes.values():  # from its first call on: who am I, whose role can I be
            node.start_agent()
            node.agent.wait_ready()
        _play(lab)
        calls = tuple(lab.ec2.journal)
        for node in lab.nodes.values():  # so that what is heard next is nobody else's
            node.stop_agent()
            node.mend_network()
        swept = _heard(lab, "sweep", "--range", "192.168.0.0/24")
        diagnosed = _heard(lab, "doctor", "--json")
        yield Played(lab, Cloud.of(lab.ec2.region, lab.ec2.view()), calls, swept, diagnosed)


def _account(lab: Lab, node: Node) -> str:
    return GUEST if node.name == "b1" else lab.ec2.account


def _start(lab: Lab) -> None:
    """Give both nodes their policy and client. Only the guest's has a role to take."""
    role = f"arn:aws:iam::{lab.ec2.account}:role/floatip-routes"
    for node in lab.nodes.values():
        roles = {"roles": {lab.ec2.account: role}} if node.name == "b1" else {}
        times = {"releaseGraceSeconds": 1, "reconcileSeconds": 2}
        node.write_config({**lab.node_config(), **times, **roles})
        node.install_client()


def _play(lab: Lab) -> None:
    """Let agents do whatever they can do to a VPC."""
    a, b = lab.nodes["a1"], lab.nodes["b1"]
    chain = lab.conflist([VIP, VIP6], watchAddresses=["192.168.0.0/28"])
    dummy = lab.dummy_subnets[0].cidr
    inside = lab.conflist([f"{dummy[5]}/{dummy.prefixlen}"], eth="ens7", name="inside")

    _left_behind(lab, VIP)
    ours = _added(a, chain)  # pattern 1, both families: Replace and Create; the check is turned off
    lost = _added(a, inside)  # pattern 2: subnets and the interfaces in them
    _appears(a, ours, MOVES, lab)  # a watched address
    _taken_away(lab, VIP)  # somebody deletes it: the keeper creates it again
    a.cut_network()  # no packets, but AWS: the agent is to see what happens
    theirs = _added(b, chain)  # the move: Replace, in the owner's role
    until(lambda: "superseded" in claim_states(a), report_of(a))
    a.delete(ours, chain)
    a.delete(lost, inside)  # ours still: Delete, when grace is over
    until(lambda: claim_states(a) <= {"gone"}, report_of(a))
    _mended(lab, b)  # a blackhole of a dead node: Delete, then Create
    _checked_again(lab, b)  # somebody turns source/dest check on: it is turned off again
    b.delete(theirs, chain)
    b_inside = _added(b, inside)
    b.delete(b_inside, inside)
    until(lambda: claim_states(b) <= {"gone"}, report_of(b))


def _heard(lab: Lab, *command: str) -> tuple[Call, ...]:
    """Run a command on each node, where a node that has died left something; return what it called."""
    heard = []
    for node in lab.nodes.values():
        _dead(lab, "192.168.0.9/32")
        lab.ec2.journal.clear()
        done = node.run([str(PROGRAM), *command], timeout=30)
        assert done.returncode in (0, 1), done.stderr
        heard += list(lab.ec2.journal)
    return tuple(heard)


def _dead(lab: Lab, destination: str) -> None:
    """Leave a route to an interface that is gone, unless it is there already."""
    ec2 = lab.ec2.client()
    eni = ec2.create_network_interface(SubnetId=lab.vpc.subnets["client"].id)["NetworkInterface"]
    if destination not in lab.ec2.truth(lab.tables["a"]):
        ec2.create_route(
            RouteTableId=lab.tables["a"],
            DestinationCidrBlock=destination,
            NetworkInterfaceId=eni["NetworkInterfaceId"],
        )
    ec2.delete_network_interface(NetworkInterfaceId=eni["NetworkInterfaceId"])


def _added(node: Node, chain: dict[str, object]) -> Pod:
    pod = node.pod(f"p{time.monotonic_ns() % 10**6}", serve=False)
    node.add(pod, chain)
    return pod


def _leads(lab: Lab, destination: str) -> list[str]:
    truth = [lab.ec2.truth(table).get(destination) for table in lab.tables.values()]
    return ["" if route is None else f"{route.target} {route.state}" for route in truth]


def _appears(node: Node, pod: Pod, address: str, lab: Lab) -> None:
    netns.ip(pod.ns, [f"addr add {address}/32 dev net1"])
    until(lambda: set(_leads(lab, f"{address}/32")) == {f"{node.eni('eth1').id} active"}, report_of(node))
    netns.ip(pod.ns, [f"addr del {address}/32 dev net1"])
    until(lambda: set(_leads(lab, f"{address}/32")) == {""}, report_of(node))


def _left_behind(lab: Lab, destination: str) -> None:
    """Let one table lead to the other node, as after a failure."""
    to = {"NetworkInterfaceId": lab.nodes["b1"].eni("ens7").id}
    lab.ec2.client().create_route(RouteTableId=lab.tables["a"], DestinationCidrBlock=destination, **to)


def _taken_away(lab: Lab, destination: str) -> None:
    """Delete a route behind the agent's back; it is there again when the keeper has looked."""
    before = _leads(lab, destination)
    lab.ec2.client().delete_route(RouteTableId=lab.tables["a"], DestinationCidrBlock=destination)
    until(lambda: _leads(lab, destination) == before, *map(report_of, lab.nodes.values()))


def _mended(lab: Lab, node: Node) -> None:
    """Point a claimed route at an interface that nobody holds."""
    before = _leads(lab, VIP)
    ec2 = lab.ec2.client()
    eni = ec2.create_network_interface(SubnetId=lab.vpc.subnets["client"].id)["NetworkInterface"]
    ec2.replace_route(
        RouteTableId=lab.tables["a"],
        DestinationCidrBlock=VIP,
        NetworkInterfaceId=eni["NetworkInterfaceId"],
    )
    until(lambda: _leads(lab, VIP) == before, report_of(node))


def _checked_again(lab: Lab, node: Node) -> None:
    eni = node.eni("eth1").id
    ec2 = lab.ec2.client(account=GUEST)
    ec2.modify_network_interface_attribute(NetworkInterfaceId=eni, SourceDestCheck={"Value": True})

    def is_off() -> bool:
        result = ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"]
        return not result[0]["SourceDestCheck"]

    until(is_off, report_of(node))
