"""Every example run in the lab: the file's own chain, under an example's policy, with real packets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path

import pytest

from lab import netns
from lab.chain import PluginError
from lab.node import Node
from lab.pod import Pod
from lab.world import Lab
from tests.examples import adapted, files
from tests.examples.scenarios import SCENARIOS, Scenario
from tests.support.samples import sampled

pytestmark = [
    pytest.mark.needs("root", "ip", "floatip", "reference-plugins", "tuning-plugin", "macvlan-plugin"),
    pytest.mark.lab(nodes_per_az=1, guests={"b1": adapted.PARTICIPANT}, warm=True),
]


@pytest.fixture
def at(scenario: Scenario, lab: Lab) -> Iterator[Node]:
    with node_of(scenario, lab) as node:
        yield node


@contextmanager
def node_of(scenario: Scenario, lab: Lab) -> Iterator[Node]:
    """Lend the scenario's node, with its policy, in a VPC with the tags that the example speaks of."""
    node = lab.nodes[scenario.node]
    with adapted.as_new(lab, node), adapted.tagged(lab, scenario.tags):
        adapted.apply_policy(files.policy(scenario.policy), lab, node)
        lab.ec2.journal.clear()
        yield node


def one(file: str, policy: str | None = None) -> Scenario:
    """Return the scenario of a file (under a policy)."""
    return next(s for s in SCENARIOS if s.file == file and policy in (None, s.policy))


def start(scenario: Scenario, lab: Lab, node: Node) -> Pod:
    """Start the example's pod as Multus does: one chain after another."""
    pod = node.pod("web", namespace=scenario.namespace)
    for chain, ifname in files.attachments(scenario.file):
        result = node.add(pod, adapted.chain(chain, lab), ifname)
        assert [ip["address"] for ip in result["ips"]] == files.addresses(chain)
    return pod


def where(lab: Lab, destination: str) -> dict[str, str]:
    """Return what the route tables, by name, say of a destination."""
    held = {name: lab.ec2.truth(table).get(destination) for name, table in lab.tables.items()}
    return {name: str(route) for name, route in held.items() if route}


def test_every_file_has_a_scenario() -> None:
    """A new example fails here until somebody says what it does in the lab."""
    assert {scenario.file for scenario in SCENARIOS} == set(files.NETWORKS) - set(files.ELECTED)
    assert {scenario.policy for scenario in SCENARIOS} == set(files.POLICIES) - set(files.ELECTING)


@pytest.mark.parametrize("file", files.ELECTED)
def test_direct_mode_refuses_an_elected_example(file: str, lab: Lab) -> None:
    """Nobody elects there, and as a plain one two pods would take the address from each other."""
    with node_of(one("ipv6.yaml"), lab) as node:
        pod = node.pod("web")
        ((chain, ifname),) = files.attachments(file)
        with pytest.raises(PluginError, match=r'\$\.activate: \\*"ready\\*": '):
            node.add(pod, adapted.chain(chain, lab), ifname)
        destinations = {str(ip_interface(address).network) for address in files.addresses(chain)}
        assert [where(lab, destination) for destination in destinations] == [{}] * len(destinations)


SAMPLE = ("pattern-1.yaml", "pattern-2.yaml", "dual-stack.yaml", "host-device.yaml")


@pytest.mark.parametrize(
    "scenario",
    sampled("test_an_example_works_in_the_lab", SCENARIOS, [s for s in SCENARIOS if s.file in SAMPLE]),
)
def test_an_example_works_in_the_lab(scenario: Scenario, lab: Lab, at: Node) -> None:
    before = adapted.own_links(at)

    pod = start(scenario, lab, at)

    expected = {
        destination: dict.fromkeys(scenario.tables, adapted.eni(chain, at))
        for chain, ifname in files.attachments(scenario.file)
        for destination in scenario.claims[ifname]
    }
    assert {destination: where(lab, destination) for destination in expected} == expected
    for chain, _ in files.attachments(scenario.file):
        for address in (str(ip_interface(item).ip) for item in files.addresses(chain)):
            heard = {name for name, client in lab.clients.items() if client.ask(address, timeout=0.5)}
            assert heard == set(scenario.heard_by), address
            reached = {name for name in lab.clients if _reaches(pod, address, lab, name)}
            assert reached == set(scenario.heard_by), address
    assert pod.ping(at.primary.addresses[0], 1) == 1, "the pod has lost its cluster network"

    for chain, ifname in reversed(files.attachments(scenario.file)):
        at.delete(pod, adapted.chain(chain, lab), ifname)

    left = expected if scenario.kept else {destination: {} for destination in expected}
    assert {destination: where(lab, destination) for destination in expected} == left
    assert adapted.ours(at, pod.ns) == []
    assert adapted.own_links(at) == before


def _reaches(pod: Pod, address: str, lab: Lab, client: str) -> bool:
    """Say whether the pod, speaking as its floating address, is answered by a client."""
    family = ip_interface(address).version
    to = next(a for a in lab.clients[client].addresses if a.version == family)
    return pod.ping(to, 1, source=address, timeout=0.5) == 1


@pytest.mark.parametrize("scenario", [one("ipv6.yaml"), one("dual-stack.yaml")], ids=str)
def test_ipv6_is_usable_and_takes_no_advertisements(scenario: Scenario, lab: Lab, at: Node) -> None:
    pod = start(scenario, lab, at)

    floating = ["ip", "-n", pod.ns, "-6", "addr", "show", "dev", "net1", "scope", "global"]
    assert "/128 scope global" in at.run(floating).stdout
    assert at.run([*floating, "tentative"]).stdout == ""
    assert _sysctl(pod, "net1/accept_ra") == "0"


def _sysctl(pod: Pod, key: str) -> str:
    return netns.inside(pod.ns, Path("/proc/sys/net/ipv6/conf", key).read_text).strip()


def test_static_routes_lead_to_the_named_networks_alone(lab: Lab) -> None:
    scenario = one("static-routes.yaml")
    with node_of(scenario, lab) as at:
        pod = start(scenario, lab, at)

        output = adapted.routes(at, pod.ns, "-4", "table", "main")
        ways = {route["dst"]: (route["dev"], route.get("metrics", [{}])[0].get("mtu")) for route in output}
        assert ways["default"] == ("eth0", None)
        assert ways["10.10.9.0/24"] == ways["10.99.0.0/16"] == ("net1", 8500)
        assert [entry for entry in adapted.ours(at, pod.ns) if entry.startswith("rule")] == []
        # What does not bind to the floating address leaves by it all the same.
        assert pod.ping(lab.clients["tgw"].addresses[0], 1) == 1


def test_host_device_takes_the_eni_and_gives_it_back(lab: Lab) -> None:
    scenario = one("host-device.yaml")
    with node_of(scenario, lab) as at:
        ((chain, ifname),) = files.attachments(scenario.file)
        pod = start(scenario, lab, at)
        assert "ens7" not in adapted.links(at)
        assert at.eni("ens7").mac in at.run(["ip", "-n", pod.ns, "link", "show", "net1"]).stdout

        at.delete(pod, adapted.chain(chain, lab), ifname)
        assert "ens7" in adapted.links(at)


def test_host_device_is_refused_where_policy_does_not_trust_the_pod(lab: Lab) -> None:
    scenario = one("host-device.yaml")
    with node_of(scenario, lab) as at:
        full = files.policy(scenario.policy)
        adapted.apply_policy({key: full[key] for key in full if key != "allowHostDevice"}, lab, at)
        with pytest.raises(PluginError, match=r"code 102.*is itself in the pod .*\"allowHostDevice\": true"):
            start(scenario, lab, at)
        assert where(lab, "192.168.0.16/32") == {}
        assert not list(at.data_dir.rglob("claims/*.json"))


def test_shared_vpc_role_for_routes_own_identity_for_interfaces(lab: Lab) -> None:
    scenario = one("pattern-1.yaml", "node-shared-vpc.json")
    with node_of(scenario, lab) as at:
        start(scenario, lab, at)

        request = {(call.action, call.account) for call in lab.ec2.journal.of(caller=at.name)}
        roles = [call.params["RoleArn"] for call in lab.ec2.journal.of(action="AssumeRole")]
        assert roles == [files.policy(scenario.policy)["roles"][lab.ec2.account]]
        by_owner = {"DescribeRouteTables", "CreateRoute"}
        assert {action for action, account in request if account == lab.ec2.account} == by_owner
        assert {
            ("DescribeNetworkInterfaces", adapted.PARTICIPANT),
            ("AssumeRole", adapted.PARTICIPANT),
        } <= request


def test_shared_vpc_without_the_role_gets_nothing(lab: Lab) -> None:
    """The counterpart: the lab's owner account is not kinder than AWS to a participant."""
    scenario = one("pattern-1.yaml", "node-shared-vpc.json")
    with node_of(scenario, lab) as at:
        adapted.apply_policy(files.policy("node-minimal.json"), lab, at)
        with pytest.raises(PluginError) as refused:
            start(scenario, lab, at)
        assert refused.value.code == 100
        assert where(lab, "192.168.0.10/32") == {}


@pytest.mark.parametrize("namespace", ["edge", "default"])
def test_another_namespace_is_refused(lab: Lab, namespace: str) -> None:
    scenario = one("pattern-1.yaml", "node-per-namespace.json")
    with node_of(scenario, lab) as at:
        ((chain, ifname),) = files.attachments(scenario.file)
        pod = at.pod("thief", namespace=namespace)

        with pytest.raises(PluginError, match=f"not allowed for namespace {namespace}") as refused:
            at.add(pod, adapted.chain(chain, lab), ifname)

        assert refused.value.code == 102
        assert where(lab, "192.168.0.10/32") == {}


@pytest.mark.needs("cnitool", "unshare")
def test_the_conflist_under_cnitool(lab: Lab, tmp_path: Path) -> None:
    scenario = one("cnitool.conflist")
    with node_of(scenario, lab) as at:
        from tests.runtimes.cnitool import Cnitool
        from tests.support.lab_state import plugin_directory

        ((chain, _),) = files.attachments(scenario.file)
        tool = Cnitool(at, tmp_path / "cnitool", plugin_directory(tmp_path / "plugins"))
        pod = at.pod("web")
        network = tool.network(adapted.chain(chain, lab))

        tool.add(network, pod.netns)
        assert [client.ask("192.168.0.2") for client in lab.clients.values()] == ["web", "web"]
        tool.check(network, pod.netns)  # "disableCheck": true
        tool.delete(network, pod.netns)

        assert where(lab, "192.168.0.2/32") == {}
