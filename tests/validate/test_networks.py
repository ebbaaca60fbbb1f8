"""``floatipctl validate``: where networks are held, several at once, and what is not judged."""

from __future__ import annotations

import json
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip import cli
from cni_floatip.validate.report import FileReport, compare, examine

FLOATIP: dict[str, Any] = {"type": "floatip", "routeTables": {"tags": {"floatip": "core"}}}


def ipvlan(*addresses: str, **output: Any) -> dict[str, Any]:
    ipam = {"type": "static", "addresses": [{"address": text} for text in addresses or ("192.168.0.2/32",)]}
    return {"type": "ipvlan", "mode": "l2", "master": "eth1", "ipam": ipam} | output


def pool(**ipam: Any) -> dict[str, Any]:
    return ipvlan(ipam=ipam)


def conflist(*plugins: Any, **output: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "vip", "plugins": list(plugins or (ipvlan(), FLOATIP))} | output


def nad(config: Any, name: str = "vip", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, **metadata},
        "spec": {"config": json.dumps(config)},
    }


def configmap(name: str, **data: Any) -> dict[str, Any]:
    texts = {key.replace("_", "."): json.dumps(value) for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": texts}


def judge(document: Any, **options: Any) -> FileReport:
    return examine("f", json.dumps(document).encode(), **options)


# -- where plugins are held

WRONG = conflist(ipvlan(mode="L2"), FLOATIP)
SAID = '"L2" is no mode of ipvlan, which refuses it; write l2'
CLUSTER = {"cniVersion": "1.0.0", "name": "aws", "plugins": [{"type": "aws-cni"}]}


def multus(*delegates: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "multus", "type": "multus-shim", "delegates": list(delegates)}


@pytest.mark.parametrize(
    ("document", "label", "path"),
    [
        pytest.param(WRONG, "", "$.plugins[0].mode", id="a conflist"),
        pytest.param(
            nad(WRONG), "NetworkAttachmentDefinition vip", "$.plugins[0].mode", id="a network's configuration"
        ),
        pytest.param(multus(CLUSTER, WRONG), "", "$.delegates[1].plugins[0].mode", id="Multus' delegates"),
        pytest.param(
            conflist(multus(CLUSTER, WRONG)),
            "",
            "$.plugins[0].delegates[1].plugins[0].mode",
            id="Multus' delegates in a conflist",
        ),
        pytest.param(
            nad(multus(CLUSTER, WRONG)),
            "NetworkAttachmentDefinition vip",
            "$.delegates[1].plugins[0].mode",
            id="delegates in a network",
        ),
        pytest.param(
            configmap("multus", **{"cni-conf_json": multus(CLUSTER, WRONG)}),
            "ConfigMap multus cni-conf.json",
            "$.delegates[1].plugins[0].mode",
            id="Multus' ConfigMap",
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "List", "items": [nad(WRONG)]},
            "NetworkAttachmentDefinition vip",
            "$.plugins[0].mode",
            id="a list of networks",
        ),
    ],
)
def test_a_chain_is_judged_wherever_it_is_held(document: Any, label: str, path: str) -> None:
    report = judge(document)
    assert [(finding.document, finding.path, finding.text) for finding in report.findings] == [
        (label, path, SAID)
    ]
    assert (report.judged, report.ignored) == ([label], [])


def test_the_clusters_own_network_is_no_place_for_floatip() -> None:
    (finding,) = judge(multus(conflist())).findings
    assert (finding.path, finding.warning) == ("$.delegates[0]", True)
    assert "the cluster's own network" in finding.text


def test_floatip_alone_as_a_delegate_has_nothing_before_it() -> None:
    alone = FLOATIP | {"cniVersion": "1.0.0", "name": "vip"}
    assert [finding.text for finding in judge(multus(CLUSTER, alone)).findings] == [
        "floatip needs a plugin before it that makes the interface: ipvlan or host-device"
    ]


@pytest.mark.parametrize("held", [None, "x", 7, [], {}, {"plugins": 1}, {"delegates": [1]}, [[]]])
def test_delegates_of_any_kind(held: Any) -> None:
    judge(multus(held))
    judge(multus() | {"delegates": held})
    judge(configmap("multus", conf=multus(held, WRONG)))


def test_host_device_may_be_told_its_device_by_multus() -> None:
    chain = conflist({"type": "host-device", "ipam": ipvlan()["ipam"]}, FLOATIP)
    assert judge(nad(chain)).errors == 1
    resource = {"k8s.v1.cni.cncf.io/resourceName": "example.com/eni"}
    assert judge(nad(chain, annotations=resource)).errors == 0


def test_the_plugin_that_makes_the_interface_is_found() -> None:
    """Also when something stands before it: what is wrong there is said where it is."""
    chain = conflist({"type": "somebodys-eni"}, ipvlan("192.168.0.2"), FLOATIP)
    assert [finding.path for finding in judge(chain).findings] == ["$.plugins[1].ipam.addresses[0].address"]


def test_a_range_into_what_never_floats() -> None:
    chain = conflist(pool(type="whereabouts", range="223.255.255.254-224.0.0.1/1"), FLOATIP)
    texts = [finding.text for finding in judge(chain).findings if "never" in finding.text]
    assert texts == ["of 4 addresses some are multicast (224.0.0.0/4): never floating addresses"]
    chain = conflist(pool(type="whereabouts", range="224.0.0.0/24"), FLOATIP)
    assert [finding.warning for finding in judge(chain).findings if "never" in finding.text] == [False]


# -- what is not judged


def test_what_is_not_judged_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f"
    unknown = ipvlan(capabilities={"ips": True}, ipam={"type": "calico-ipam"})
    file.write_text(json.dumps(nad(conflist(unknown, {"type": "portmap"}, {"type": "istio-cni"}, FLOATIP))))
    assert cli.main(["validate", str(file)]) == 0
    label = f"{file}: NetworkAttachmentDefinition vip"
    not_judged = (
        "the plugin portmap, the plugin istio-cni, the IPAM calico-ipam, the addresses that pods bring"
    )
    assert capsys.readouterr().out.splitlines() == [
        f"{label}: ok",
        f"{label}: not judged: {not_judged} (capability ips)",
    ]
    assert cli.main(["validate", "--json", str(file)]) == 0
    (sentence,) = json.loads(capsys.readouterr().out)["files"]
    assert list(sentence["notJudged"]) == ["NetworkAttachmentDefinition vip"]


def test_what_ipvlan_takes_from_a_plugin_before_it_is_not_judged() -> None:
    """Its master and its addresses: both are required unless chained."""
    report = judge(conflist({"type": "chooser"}, {"type": "ipvlan", "mode": "l2"}, FLOATIP))
    assert report.errors == 0
    (texts,) = report.not_judged.values()
    assert texts == ["the plugin chooser", "what ipvlan takes from the plugin before it"]
    assert judge(conflist({"type": "ipvlan", "mode": "l2"}, FLOATIP)).errors == 2


def test_a_version_that_old_plugins_refuse_is_not_judged() -> None:
    (texts,) = judge(conflist(cniVersion="1.1.0")).not_judged.values()
    assert texts == ["whether the other plugins on the nodes are new enough for cniVersion 1.1.0"]
    assert judge(conflist()).not_judged == {}


@pytest.mark.parametrize(
    "config",
    [conflist(ipvlan()), ipvlan(), multus(CLUSTER, conflist(ipvlan()))],
    ids=["chain", "one", "multus"],
)
def test_a_network_without_floatip_is_told_the_next_step(
    config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "f"
    file.write_text(json.dumps(nad(config)))
    assert cli.main(["validate", str(file)]) == 0
    nothing, step = capsys.readouterr().out.splitlines()
    assert nothing == (
        f"{file}: nothing of floatip in it (NetworkAttachmentDefinition vip (without floatip))"
    )
    assert '{"type": "floatip", "routeTables": {...}}' in step
    assert "docs/migration.md" in step


# -- several networks


def together(*files: list[Any], **options: Any) -> list[str]:
    """Return what networks in several files have against each other."""
    reports = [
        examine(
            f"f{number}",
            b"".join(f"---\n{json.dumps(document)}\n".encode() for document in documents),
            **options,
        )
        for number, documents in enumerate(files)
    ]
    alone = [len(report.findings) for report in reports]
    compare(reports)
    return [
        str(finding)
        for report, before in zip(reports, alone, strict=True)
        for finding in report.findings[before:]
    ]


LAST = "of two pods, the one that is added last has the traffic"
VPC = [ip_network("10.10.0.0/16")]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        pytest.param(
            ipvlan("192.168.0.2/32"),
            ipvlan("192.168.0.3/32", "192.168.0.2/32"),
            f"addresses[1].address: warning: 192.168.0.2 is also in {{}}: {LAST}",
            id="the same address",
        ),
        pytest.param(ipvlan("192.168.0.2/32"), ipvlan("192.168.0.3/32"), None, id="other addresses"),
        pytest.param(
            ipvlan("192.168.0.9/32"),
            pool(type="whereabouts", range="192.168.0.0/24"),
            f"range: warning: 192.168.0.1 to 192.168.0.254 is also in {{}} (192.168.0.9): {LAST}",
            id="a range around an address",
        ),
        pytest.param(
            pool(type="host-local", subnet="192.168.0.0/24"),
            ipvlan("192.168.0.9/32"),
            f"addresses[0].address: warning: 192.168.0.9 is also in {{}} (192.168.0.1 to 192.168.0.254): "
            f"{LAST}",
            id="an address in a range",
        ),
        pytest.param(
            ipvlan("10.10.254.5/28"),
            ipvlan("10.10.254.6/28"),
            f"addresses[0].address: warning: the subnet 10.10.254.0/28 is also in {{}}: {LAST}",
            id="two addresses of a subnet",
        ),
        pytest.param(ipvlan("10.10.254.5/28"), ipvlan("10.10.253.6/28"), None, id="two subnets"),
        pytest.param(ipvlan("fd00::2/128"), ipvlan("0.0.0.2/32"), None, id="another family"),
    ],
)
def test_networks_that_ask_for_the_same(one: Any, other: Any, said: str | None) -> None:
    first, second = (nad(conflist(maker, FLOATIP), name) for maker, name in ((one, "one"), (other, "two")))
    apart, side_by_side = together([first], [second], vpc_cidrs=VPC), together([first, second], vpc_cidrs=VPC)
    label = "NetworkAttachmentDefinition"
    expected = [f"{label} two: $.plugins[0].ipam.{said}"] if said else []
    assert apart == [f"f1: {item.format(f'f0: {label} one')}" for item in expected]
    assert side_by_side == [f"f0: {item.format(f'{label} one')}" for item in expected]


def test_of_many_networks_those_with_the_same_address_are_told() -> None:
    numbers = (1, 9, 5, 9, 200, 9)
    makers = [ipvlan(f"192.168.0.{number}/32") for number in numbers]
    results = together([nad(conflist(maker, FLOATIP), f"n{at}") for at, maker in enumerate(makers)])
    assert [line.split(": ")[1] for line in results] == [
        f"NetworkAttachmentDefinition n{at}" for at in (3, 5)
    ]


def test_two_networks_with_one_table_number() -> None:
    by_number = FLOATIP | {"podRoutes": {"sourceRouting": 101}}
    one, two = (nad(conflist(ipvlan(f"192.168.0.{number}/32"), by_number), f"n{number}") for number in (2, 3))
    label = "NetworkAttachmentDefinition"
    assert together([one, two]) == [
        (
            f"f0: {label} n3: $.plugins[1].podRoutes.sourceRouting: warning: table 101 is also "
            f"in {label} n2: a pod with both networks is refused"
        )
    ]


def test_a_network_that_is_defined_twice() -> None:
    label, last = "NetworkAttachmentDefinition vip", "a cluster keeps the one that is applied last"
    one, other = nad(conflist()), nad(conflist(ipvlan("192.168.0.3/32"), FLOATIP))
    assert together([one, other]) == [f"f0: {label}: $: warning: there is another one in this file: {last}"]
    assert together([one], [other]) == [f"f1: {label}: $: warning: there is another one in f0: {last}"]
    assert together([one], [nad(conflist(ipvlan("192.168.0.3/32"), FLOATIP), namespace="core")]) == []


def test_one_network_does_not_stand_in_its_own_way() -> None:
    two_ranges = pool(type="whereabouts", ipRanges=[{"range": "192.168.0.0/28"}, {"range": "192.168.0.0/24"}])
    assert together([nad(conflist(two_ranges, FLOATIP))]) == []


# -- networks that are made to be expensive


@pytest.mark.one_in(5)
@pytest.mark.parametrize("what", ["addresses", "routes", "ranges", "delegates", "networks", "workloads"])
def test_time_grows_with_the_size_alone(what: str) -> None:
    def text(count: int) -> bytes:
        addresses = [f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}/{8 + n % 25}" for n in range(count)]
        routes = [{"dst": "0.0.0.0/0", "gw": f"11.{n >> 8 & 255}.{n & 255}.1"} for n in range(count)]
        ranges = [[{"subnet": f"10.{n >> 8 & 255}.{n & 255}.0/24"}] for n in range(count)]
        elected = nad(conflist(ipvlan(), FLOATIP | {"activate": "ready"}))
        named = {"k8s.v1.cni.cncf.io/networks": "vip"}
        template = {"metadata": {"annotations": named}}
        workload = {"kind": "Deployment", "apiVersion": "apps/v1", "spec": {"template": template}}
        documents: dict[str, Any] = {
            "addresses": conflist(ipvlan(*addresses), FLOATIP),
            "routes": conflist(pool(**ipvlan(*addresses[: count // 2])["ipam"], routes=routes), FLOATIP),
            "ranges": conflist(pool(type="host-local", ranges=ranges), FLOATIP),
            "delegates": multus(*[conflist()] * (count // 8)),
            "networks": {"kind": "List", "apiVersion": "v1", "items": [nad(conflist())] * (count // 8)},
            "workloads": {"kind": "List", "apiVersion": "v1", "items": [elected, workload] * (count // 8)},
        }
        return json.dumps(documents[what]).encode()

    def seconds(count: int) -> float:
        given = text(count)
        began = time.process_time()
        compare([examine("f", given)])
        return time.process_time() - began

    seconds(100)
    few, many = min(seconds(200) for _ in range(3)), min(seconds(800) for _ in range(2))
    assert many < 10 * few + 0.1
