"""The examples as files: judged by ``floatipctl validate``, complete, such as a reader may copy blindly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from pathlib import Path

import pytest

from cni_floatip.config import election, nodeconf
from cni_floatip.validate import report as validate
from lab.vpc import VPC_CIDR, VPC_CIDR6
from tests.examples import files

FLOATIPCTL = Path(sys.executable).with_name("floatipctl")
VPC = ["--vpc-cidr", str(VPC_CIDR), "--vpc-cidr", str(VPC_CIDR6)]


@pytest.mark.needs("floatip")
@pytest.mark.parametrize("told", [[], VPC], ids=["", "knowing the VPC"])
def test_validate_has_nothing_to_say(told: list[str]) -> None:
    """No error, and no warning either, whether or not it knows the VPC. But it says what is not released."""
    paths = [str(files.DIRECTORY / name) for name in files.FILES]

    done = subprocess.run(
        [FLOATIPCTL, "validate", "--json", *told, *paths], capture_output=True, text=True, timeout=60
    )

    later = [] if election.RELEASED else [*files.ELECTED, *files.ELECTING]
    assert (done.returncode, done.stderr) == (int(bool(later)), "")
    output = {Path(report["file"]).name: report for report in json.loads(done.stdout)["files"]}
    assert sorted(output) == files.FILES
    for name, report in output.items():
        texts = [finding["message"] for finding in report["findings"]]
        assert len(texts) == (name in later), texts
        assert all(text.startswith("elected claims are not in this release") for text in texts)
        deployment = [f"Deployment {_name(name)}"] if name in files.MANIFESTS else []
        judged, ignored = (deployment, []) if name in files.ELECTED else ([], deployment)
        assert len(report["documents"]) == len(judged) + (
            1 if name in files.POLICIES else len(files.chains(name))
        )
        assert set(judged) <= set(report["documents"])
        assert report["ignored"] == ignored


def _name(manifest: str) -> str:
    return str(files.objects(manifest, "Deployment")[0]["metadata"]["name"])


def test_a_pod_that_has_the_eni_to_itself_drops_net_raw() -> None:
    (container,) = files.workload("host-device.yaml")["template"]["spec"]["containers"]
    assert container["securityContext"] == {"capabilities": {"drop": ["NET_RAW"]}}


@pytest.mark.parametrize("name", files.MANIFESTS)
def test_a_manifest_begins_with_what_it_is_for(name: str) -> None:
    lines = files.text(name).splitlines()
    comment = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    assert 4 <= len(comment) <= 12
    assert comment[0].startswith("# ")
    for what in ("# In AWS: ", "# Change: "):
        assert sum(line.startswith(what) for line in comment) == 1, what


def test_the_readme_names_every_file_and_no_other() -> None:
    text = files.text(files.README)
    named = set(re.findall(r"`([a-z0-9-]+\.(?:yaml|json|conflist))`", text)) - {"config.json"}
    assert named == set(files.FILES)
    for name in files.NETWORKS:
        if name not in files.MANIFESTS:
            assert f"## `{name}`" in text
    for name in files.POLICIES:
        assert f"* `{name}`: " in text


@pytest.mark.parametrize("name", files.NETWORKS)
def test_a_network_is_one_to_copy(name: str) -> None:
    for network, chain in files.chains(name).items():
        assert chain["name"] == network
        assert tuple(map(int, chain["cniVersion"].split("."))) >= (1, 0, 0)
        first, *_, last = chain["plugins"]
        assert last["type"] == "floatip"
        assert (first["type"], first.get("mode")) in {("ipvlan", "l2"), ("host-device", None)}
        assert first["ipam"]["type"] == "static"
        for address in map(ip_interface, files.addresses(chain)):
            if address.ip in ip_network(VPC_CIDR):
                assert _usable(address.network, address.ip), f"{address} is one that AWS keeps"
                assert last["destination"] == "subnet"
            else:
                assert address.network.prefixlen == address.max_prefixlen
        if any(":" in address for address in files.addresses(chain)):
            assert [plugin["type"] for plugin in chain["plugins"]] == [first["type"], "tuning", "floatip"]


def _usable(subnet: IPv4Network | IPv6Network, address: object) -> bool:
    """AWS keeps a subnet's first four addresses and its last (VPC user guide, "Subnet sizing")."""
    hosts = list(subnet)
    return address in hosts[4:-1]


@pytest.mark.parametrize("name", [name for name in files.MANIFESTS if name not in files.ELECTED])
def test_a_deployment_moves_in_seconds_and_never_runs_twice(name: str) -> None:
    spec = files.workload(name)
    template = spec["template"]
    pod = template["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert pod["nodeSelector"]
    assert {t["key"]: (t["operator"], t["effect"]) for t in pod["tolerations"]} == {
        "node.kubernetes.io/not-ready": ("Exists", "NoExecute"),
        "node.kubernetes.io/unreachable": ("Exists", "NoExecute"),
    }
    assert all(0 < toleration["tolerationSeconds"] <= 10 for toleration in pod["tolerations"])
    # One pod moves addresses, one has an ENI to itself and must not have NET_RAW.
    rights = (
        {"securityContext"}
        if "watchAddresses" in files.text(name) or '"host-device"' in files.text(name)
        else set()
    )
    assert [set(container) for container in pod["containers"]] == [{"name", "image"} | rights]  # no sidecar


@pytest.mark.parametrize("name", files.ELECTED)
def test_an_elected_deployment_has_a_pod_in_each_of_two_zones_and_ends_without_a_gap(name: str) -> None:
    spec = files.workload(name)
    template = spec["template"]
    pod, labels = template["spec"], {"matchLabels": template["metadata"]["labels"]}
    assert spec["replicas"] == 2
    rolling = {"maxSurge": 0, "maxUnavailable": 1}
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
    assert spec["selector"] == labels
    (apart,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart == {"topologyKey": "kubernetes.io/hostname", "labelSelector": labels}
    (spread,) = pod["topologySpreadConstraints"]
    assert spread == {
        "topologyKey": "topology.kubernetes.io/zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": labels,
    }
    (container,) = pod["containers"]
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] >= 2
    assert container["readinessProbe"]["periodSeconds"] == 1


@pytest.mark.parametrize("name", files.ELECTED)
def test_the_policy_with_elections_allows_every_elected_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(election, "RELEASED", True)
    policy = nodeconf.NodeConf.parse(files.policy("node-elections.json"))
    vpc = [ip_network(VPC_CIDR), ip_network(VPC_CIDR6)]
    report = validate.examine(name, files.text(name).encode(), None, vpc, policy)
    validate.compare([report])
    assert report.findings == []


@pytest.mark.parametrize("name", files.MANIFESTS)
def test_a_deployment_asks_for_the_networks_of_its_file(name: str) -> None:
    request = files.asked(name)
    assert [network for network, _ in request] == list(files.chains(name))
    # Multus takes the interface's name after the @; without it the names would depend on the order.
    assert [ifname for _, ifname in request] == [f"net{number}" for number in range(1, len(request) + 1)]
    assert len(files.text(name).split("\n---\n")) == len(files.chains(name)) + 1


def test_the_full_policy_has_every_key() -> None:
    """A new key of the node configuration fails here until the example shows it."""
    assert set(files.policy("node-full.json")) == set(nodeconf.FIELDS)
