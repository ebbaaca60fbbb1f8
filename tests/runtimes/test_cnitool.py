"""The plugin under cnitool: real libcni with its cache and its order of calls, on two lab nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import netns
from lab.world import Lab
from tests.runtimes.cnitool import Cnitool, VerbFailed
from tests.support.lab_state import NOWHERE, claims, only, plugin_directory, targets
from tests.support.samples import sampled

VIP, VIP6 = "192.168.0.2", "fd00:192:168::2"
ROUTE, ROUTE6 = f"{VIP}/32", f"{VIP6}/128"

pytestmark = [
    pytest.mark.needs("root", "ip", "unshare", "cnitool", "macvlan-plugin", "floatip"),
    pytest.mark.usefixtures("lab_as_new"),
]


@pytest.fixture
def on(lab: Lab, tmp_path: Path) -> dict[str, Cnitool]:
    """cnitool on each node."""
    plugins = plugin_directory(tmp_path / "plugins")
    return {name: Cnitool(node, tmp_path / name, plugins) for name, node in lab.nodes.items()}


def release(lab: Lab, *addresses: str, version: str = "1.1.0") -> dict[str, object]:
    return lab.conflist(addresses or (ROUTE,), version=version, onDelete="release")


def offer(on: dict[str, Cnitool], conflist: dict[str, object]) -> str:
    return {runtime.network(conflist) for runtime in on.values()}.pop()


def test_a_pod_moves_to_the_other_az_and_the_late_del_harms_nothing(lab: Lab, on: dict[str, Cnitool]) -> None:
    """A09 A16 D09: last ADD wins, and the old node's DEL leaves the new owner's route alone."""
    net = offer(on, release(lab))
    here, there = lab.nodes["a1"], lab.nodes["b1"]
    client = lab.clients["vpc"]

    old = here.pod("old")
    on["a1"].add(net, old.netns)
    assert targets(lab, ROUTE) == only(here)
    assert client.ask(VIP) == "old"
    assert claims(here) == ["held"]

    lab.azs["a"].fail()
    new = there.pod("new")
    on["b1"].add(net, new.netns)
    assert targets(lab, ROUTE) == only(there)
    assert client.ask(VIP) == "new"
    assert lab.clients["tgw"].ask(VIP) == "new"

    lab.azs["a"].recover()
    with client.probe(VIP) as probe:
        on["a1"].delete(net, old.netns)
    assert targets(lab, ROUTE) == only(there)
    assert (probe.report.lost, set(probe.report.by)) == (0, {"new"})
    assert (claims(here), claims(there)) == (["gone"], ["held"])


@pytest.mark.parametrize(
    "version",
    sampled(
        "test_add_and_del_in_every_version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"], ["1.1.0", "0.3.0"]
    ),
)
def test_add_and_del_in_every_version(lab: Lab, on: dict[str, Cnitool], version: str) -> None:
    """A01 A02 D15: the predecessor's result in the caller's version; below 0.4.0 DEL has no prevResult."""
    net, node = offer(on, release(lab, ROUTE, ROUTE6, version=version)), lab.nodes["a1"]
    pod = node.pod("web")

    result = on["a1"].add(net, pod.netns)

    assert result["cniVersion"] == version
    assert [ip["address"] for ip in result["ips"]] == [ROUTE, ROUTE6]
    assert [interface["name"] for interface in result["interfaces"]] == ["net1"]
    assert targets(lab, ROUTE) == targets(lab, ROUTE6) == only(node)
    assert [lab.clients["vpc"].ask(address) for address in (VIP, VIP6)] == ["web", "web"]

    on["a1"].delete(net, pod.netns)

    assert targets(lab, ROUTE) == targets(lab, ROUTE6) == NOWHERE
    assert on["a1"].cached() == []


def test_del_after_the_cache_was_lost(lab: Lab, on: dict[str, Cnitool]) -> None:
    """D02: as on a node that has booted, where ``/var/lib/cni/results`` is wiped."""
    net, pod = offer(on, release(lab)), lab.nodes["a1"].pod("web")
    on["a1"].add(net, pod.netns)

    on["a1"].forget()
    on["a1"].delete(net, pod.netns)
    on["a1"].delete(net, pod.netns)  # D01

    assert targets(lab, ROUTE) == NOWHERE
    assert claims(lab.nodes["a1"]) == ["gone"]


@pytest.mark.thorough(sample="test_del_after_the_cache_was_lost")
def test_del_after_the_namespace_has_gone(lab: Lab, on: dict[str, Cnitool]) -> None:
    """D05: the predecessor, too, forgives a namespace that is not there."""
    net, pod = offer(on, release(lab)), lab.nodes["a1"].pod("web")
    on["a1"].add(net, pod.netns)

    lab.nodes["a1"].remove_pod(pod)
    on["a1"].delete(net, pod.netns)

    assert targets(lab, ROUTE) == NOWHERE
    assert claims(lab.nodes["a1"]) == ["gone"]


def test_del_that_follows_a_failed_add(lab: Lab, on: dict[str, Cnitool]) -> None:
    """A10: libcni caches nothing when the last plugin fails: the DEL that follows has no prevResult."""
    net, pod = offer(on, release(lab)), lab.nodes["a1"].pod("web")
    lab.ec2.client().create_route(
        RouteTableId=lab.tables["client"], DestinationCidrBlock=ROUTE, GatewayId=_igw(lab)
    )

    with pytest.raises(VerbFailed, match=lab.tables["client"]):
        on["a1"].add(net, pod.netns)
    assert on["a1"].cached() == []
    on["a1"].delete(net, pod.netns)

    left = {name for name, table in lab.tables.items() if ROUTE in lab.ec2.truth(table)}
    assert left == {"client"}


def test_check_agrees_and_then_names_what_is_missing(lab: Lab, on: dict[str, Cnitool]) -> None:
    """K03 K04, after the predecessor has checked its own part."""
    net, pod = offer(on, release(lab)), lab.nodes["a1"].pod("web")
    on["a1"].add(net, pod.netns)
    # The reference plugins' CHECK wants a main-table route for the address's prefix, and the kernel makes
    # none for a /32.
    netns.ip(pod.ns, [f"route replace {ROUTE} dev net1 scope link"])
    on["a1"].check(net, pod.netns)

    netns.ip(pod.ns, ["route del 0.0.0.0/0 table 100", f"rule del from {VIP} table 100"])
    with pytest.raises(VerbFailed) as refused:
        on["a1"].check(net, pod.netns)
    assert "0.0.0.0/0" in str(refused.value)
    assert f"rule from {VIP}" in str(refused.value)


def test_status_is_ready_and_says_why_when_not(lab: Lab, on: dict[str, Cnitool]) -> None:
    """S02 S03"""
    net, node = offer(on, release(lab)), lab.nodes["a1"]
    on["a1"].status(net)

    config = Path(node.env["FLOATIP_CONFIG"])
    text = config.read_text()
    try:
        config.write_text(json.dumps({"allowedDestinations": "everything"}))
        with pytest.raises(VerbFailed, match="allowedDestinations"):
            on["a1"].status(net)
    finally:
        config.write_text(text)


def test_gc_deletes_what_the_cache_knows(lab: Lab, on: dict[str, Cnitool]) -> None:
    """libcni makes a DEL of each cached attachment that it is not told to keep; cnitool tells it of none."""
    net, pod = offer(on, release(lab)), lab.nodes["a1"].pod("web")
    on["a1"].add(net, pod.netns)

    on["a1"].gc(net)

    assert targets(lab, ROUTE) == NOWHERE
    assert on["a1"].cached() == []


@pytest.mark.thorough(sample="test_gc_deletes_what_the_cache_knows")
def test_gc_without_a_list_takes_nothing(lab: Lab, on: dict[str, Cnitool]) -> None:
    """G03: cnitool sends no list of valid attachments at all, and absent is not empty."""
    net, pod = offer(on, release(lab)), lab.nodes["a1"].pod("web")
    on["a1"].add(net, pod.netns)
    on["a1"].forget()

    on["a1"].gc(net)

    assert targets(lab, ROUTE) == only(lab.nodes["a1"])
    assert claims(lab.nodes["a1"]) == ["held"]
    assert lab.clients["vpc"].ask(VIP) == "web"


@pytest.mark.thorough(sample="test_a_pod_moves_to_the_other_az_and_the_late_del_harms_nothing")
def test_two_pods_of_one_node_each_with_its_own_address(lab: Lab, on: dict[str, Cnitool]) -> None:
    node = lab.nodes["a1"]
    runtime = on["a1"]
    # ens7 is down, as AL2023 leaves a hot-plugged ENI: ADD brings it up.
    second = lab.conflist(("192.168.0.3/32",), eth="ens7", name="second", version="1.1.0", onDelete="release")
    first_net, second_net = runtime.network(release(lab)), runtime.network(second)
    one, two = node.pod("one"), node.pod("two")

    runtime.add(first_net, one.netns)
    runtime.add(second_net, two.netns)

    assert targets(lab, ROUTE) == only(node, "eth1")
    assert targets(lab, "192.168.0.3/32") == only(node, "ens7")
    assert [lab.clients["vpc"].ask(a) for a in (VIP, "192.168.0.3")] == ["one", "two"]

    runtime.delete(first_net, one.netns)
    assert targets(lab, ROUTE) == NOWHERE
    assert lab.clients["vpc"].ask("192.168.0.3") == "two"


def test_the_machine_s_own_cache_is_not_touched(lab: Lab, on: dict[str, Cnitool]) -> None:
    net, pod = offer(on, release(lab)), lab.nodes["a1"].pod("web")
    before = sorted(Path("/var/lib/cni").rglob("*"))

    on["a1"].add(net, pod.netns)

    assert len(on["a1"].cached()) == 1
    assert sorted(Path("/var/lib/cni").rglob("*")) == before


def _igw(lab: Lab) -> str:
    """An Internet gateway of the lab's VPC: a target that no ADD may take a route from."""
    ec2 = lab.ec2.client()
    vpc = [{"Name": "attachment.vpc-id", "Values": [lab.vpc.id]}]
    if result := ec2.describe_internet_gateways(Filters=vpc)["InternetGateways"]:
        return str(result[0]["InternetGatewayId"])
    made = str(ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"])
    ec2.attach_internet_gateway(InternetGatewayId=made, VpcId=lab.vpc.id)
    return made
