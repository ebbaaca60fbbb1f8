"""``floatipctl validate --node-config``: networks held against policy by the agent's own rules."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip import cli
from cni_floatip.config.netconf import NetConf
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.model.errors import PolicyRefused
from cni_floatip.model.values import Eni
from cni_floatip.rules import destinations
from cni_floatip.validate.report import examine

ROOT = Path(__file__).parents[2]
VPC = (ip_network("10.10.0.0/16"),)
ADDRESS = "$.plugins[0].ipam.addresses[0].address"
ADD_IT = "add it to allowedDestinations of the node configuration"
NOT_FOR_CORE = f"is not allowed for namespace core-a: {ADD_IT}"
WHOLE = "is the VPC's, so the whole subnet is claimed:"
SAY_WHOSE = "is for pods of namespace core-* alone: say whose these are (--namespace)"
NO_TABLE = (
    "not in allowedRouteTables of the node configuration: add the id or a tag of the table, or select fewer "
    "tables"
)


def node(*entries: str, tables: Any = None) -> NodeConf:
    """A policy; an entry is ``CIDR`` or ``CIDR NAMESPACE ...``."""
    output = [entry.split() for entry in entries]
    allowed = [{"cidr": cidr} | ({"namespaces": globs} if globs else {}) for cidr, *globs in output]
    tables = {"tags": {"floatip": "*"}} if tables is None else tables
    return NodeConf.parse({"allowedDestinations": allowed, "allowedRouteTables": tables})


def network(*addresses: str, ipam: Any = None, ips: bool = False, **ours: Any) -> dict[str, Any]:
    first: dict[str, Any] = {"type": "ipvlan", "master": "eth1"}
    first["ipam"] = ipam or {"type": "static", "addresses": [{"address": address} for address in addresses]}
    if ips:
        first["capabilities"] = {"ips": True}
    tuning = {"type": "tuning", "sysctl": {"net.ipv6.conf.IFNAME.accept_ra": "0"}}
    floatip = {"type": "floatip", "routeTables": {"tags": {"floatip": "core"}}} | ours
    return {"cniVersion": "1.0.0", "name": "vip", "plugins": [first, tuning, floatip]}


def tables(**selector: Any) -> dict[str, Any]:
    return network("192.168.0.2/32", routeTables=selector)


def test_an_eni_in_the_pod_is_only_for_nodes_that_trust_it() -> None:
    document = network("192.168.0.2/32")
    document["plugins"][0] = {**document["plugins"][0], "type": "host-device", "device": "eth2"}
    policy = node("192.168.0.0/24")
    refused = '$.plugins[0].type: refused at ADD: the node configuration has no "allowHostDevice": true'
    assert said(document, policy) == [refused]
    assert said(document, replace(policy, allow_host_device=True)) == []


def said(document: Any, policy: NodeConf, namespace: str | None = "core-a", vpc: Any = ()) -> list[str]:
    """Return what is said because of the policy alone."""
    text = json.dumps(document).encode()
    without = examine("f", text, None, vpc).findings
    findings = examine("f", text, None, vpc, policy, namespace).findings
    return [str(finding).removeprefix("f: ") for finding in findings if finding not in without]


CORE = node("192.168.0.0/24 core-*")
ALL = ("0.0.0.0/0", "::/0")

JUDGED = [
    pytest.param(network("192.168.0.2/32"), CORE, [], id="allowed"),
    pytest.param(
        network("192.168.0.2/32", "192.168.1.2/32"),
        CORE,
        [f"$.plugins[0].ipam.addresses[1].address: 192.168.1.2/32 {NOT_FOR_CORE}"],
        id="address-outside",
    ),
    pytest.param(
        network("2001:db8::2/128"),
        CORE,
        [f"{ADDRESS}: 2001:db8::2/128 {NOT_FOR_CORE}"],
        id="address-of-the-other-family",
    ),
    pytest.param(
        network("192.168.0.2/32"), node(), [f"{ADDRESS}: 192.168.0.2/32 {NOT_FOR_CORE}"], id="nothing-allowed"
    ),
    pytest.param(
        network("192.168.1.2/32", ips=True),
        CORE,
        [f"{ADDRESS}: warning: for a pod that names no address: 192.168.1.2/32 {NOT_FOR_CORE}"],
        id="address-that-a-pod-may-replace",
    ),
    pytest.param(
        network(ipam={"type": "host-local", "subnet": "192.168.1.0/24"}),
        CORE,
        [f"$.plugins[0].ipam.subnet: none of 253 addresses may be claimed: 192.168.1.2/32 {NOT_FOR_CORE}"],
        id="range-outside",
    ),
    pytest.param(
        network(ipam={"type": "whereabouts", "range": "192.168.0.250-192.168.1.3/16"}),
        CORE,
        [
            (
                "$.plugins[0].ipam.range: warning: 4 of 10 addresses may not be claimed: "
                f"192.168.1.0/32 {NOT_FOR_CORE}"
            )
        ],
        id="range-partly-outside",
    ),
    pytest.param(
        network(ipam={"type": "whereabouts", "range": "192.168.0.0/24", "exclude": ["192.168.0.16/28"]}),
        node("192.168.0.0/28", "192.168.0.32/27", "192.168.0.64/26", "192.168.0.128/25"),
        [],
        id="range-of-which-the-outside-is-left-out",
    ),
    pytest.param(
        network("192.168.0.2/32", destination=["127.0.0.0/8", "172.16.0.0/12", "10.9.0.0/16"]),
        node("192.168.0.0/24", "172.0.0.0/8"),
        [
            (
                "$.plugins[2].destination[1]: 172.16.0.0/12 is so wide (it contains the VPC, or is shorter "
                "than /16, IPv6 /48) that allowedDestinations must name exactly 172.16.0.0/12; "
                "172.0.0.0/8 is not enough"
            ),
            f"$.plugins[2].destination[2]: 10.9.0.0/16 {NOT_FOR_CORE}",
        ],
        id="listed-destinations",
    ),
    pytest.param(
        network("192.168.0.2/32", watchAddresses=["192.168.0.16/28", "192.168.1.0/24"]),
        CORE,
        [f"$.plugins[2].watchAddresses[1]: nothing in it is followed: 192.168.1.0/24 {NOT_FOR_CORE}"],
        id="watched-outside",
    ),
    pytest.param(
        network("192.168.0.2/32", watchAddresses=["0.0.0.0/0"]),
        node("192.168.0.0/25", "192.168.0.128/25", "192.168.3.0/32 core-*", "192.168.4.0/24 edge"),
        [
            (
                "$.plugins[2].watchAddresses[0]: warning: followed only in 192.168.0.0/24, 192.168.3.0/32: "
                "allowedDestinations of the node configuration gives no more"
            )
        ],
        id="watched-partly-outside",
    ),
    pytest.param(
        network("192.168.0.2/32", watchAddresses=["0.0.0.0/0"]),
        node("0.0.0.0/0"),
        [],
        id="watched-but-what-is-never-claimed",
    ),
    pytest.param(
        tables(ids=["rtb-1", "rtb-2"]), node(*ALL, tables={"ids": ["rtb-1", "rtb-2"]}), [], id="ids"
    ),
    pytest.param(
        tables(ids=["rtb-1", "rtb-2"]),
        node(*ALL, tables={"ids": ["rtb-1"]}),
        [f"$.plugins[2].routeTables.ids[1]: rtb-2: {NO_TABLE}"],
        id="id-not-listed",
    ),
    pytest.param(
        tables(ids=["rtb-2"]),
        node(*ALL, tables={"ids": ["rtb-1"], "tags": {"floatip": "core"}}),
        [],
        id="id-that-may-have-the-tag",
    ),
    pytest.param(tables(all=True), node(*ALL, tables={"ids": ["rtb-1"]}), [], id="all-may-be-those-listed"),
    pytest.param(
        tables(subnets=["subnet-1"]),
        node(*ALL, tables={"tags": {"floatip": "core"}}),
        [],
        id="tables-of-subnets-may-have-the-tag",
    ),
    pytest.param(
        tables(all=True), node(*ALL, tables={}), [f"$.plugins[2].routeTables: all: {NO_TABLE}"], id="no-table"
    ),
    pytest.param(
        tables(tags={"floatip": "*", "zone": "a"}),
        node(*ALL, tables={"tags": {"floatip": "core"}}),
        [],
        id="tags-that-a-table-may-have-as-well",
    ),
    pytest.param(
        tables(tags={"floatip": "edge"}),
        node(*ALL, tables={"tags": {"floatip": "core"}}),
        [f"$.plugins[2].routeTables.tags: tags floatip=edge: {NO_TABLE}"],
        id="tag-of-another-value",
    ),
    pytest.param(
        {"type": "floatip", "routeTables": {"ids": ["rtb-2"]}, "destination": ["10.9.0.0/16", "10.9.0.1/8"]},
        node("192.168.0.0/24", tables={"ids": ["rtb-1"]}),
        [f"$.destination[0]: 10.9.0.0/16 {NOT_FOR_CORE}", f"$.routeTables.ids[0]: rtb-2: {NO_TABLE}"],
        id="entry-alone-beside-its-own-faults",
    ),
]


@pytest.mark.parametrize(("document", "policy", "expected"), JUDGED)
def test_what_policy_refuses(document: Any, policy: NodeConf, expected: list[str]) -> None:
    assert said(document, policy) == expected


@pytest.mark.parametrize(
    ("address", "entry", "expected"),
    [
        pytest.param("10.10.254.5/28", "10.10.254.0/28", [], id="whole-subnet"),
        pytest.param("10.10.254.5/24", "10.10.254.0/24", [], id="whole-wider-subnet"),
        pytest.param("10.10.254.5/32", "10.10.0.0/16", [], id="whatever-its-subnet-is"),
        pytest.param(
            "10.10.254.5/28",
            "10.10.254.5/32",
            [f"{ADDRESS}: 10.10.254.5 {WHOLE} 10.10.254.0/28 {NOT_FOR_CORE}"],
            id="less-than-any-subnet",
        ),
        pytest.param(
            "10.10.254.5/24",
            "10.10.253.0/24",
            [f"{ADDRESS}: 10.10.254.5 {WHOLE} 10.10.254.0/24 {NOT_FOR_CORE}"],
            id="another-subnet",
        ),
        pytest.param(
            "10.10.254.5/24",
            "10.10.254.0/28",
            [f"{ADDRESS}: warning: if 10.10.254.0/24 is its subnet: 10.10.254.0/24 {NOT_FOR_CORE}"],
            id="less-than-the-subnet-as-written",
        ),
    ],
)
def test_in_the_vpc_the_whole_subnet_must_be_allowed(address: str, entry: str, expected: list[str]) -> None:
    assert said(network(address), node(entry), vpc=VPC) == expected
    assert said(network(address, destination="subnet"), node(entry)) == expected


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (
            network("192.168.0.2/32", destination=["127.0.0.0/8"]),
            "127.0.0.0/8 is loopback: never a destination",
        ),
        (network("224.0.0.9/32"), "224.0.0.9 is multicast: never a floating address"),
    ],
    ids=["destination", "address"],
)
def test_what_is_wrong_anyway_is_said_once(document: dict[str, Any], text: str) -> None:
    (finding,) = examine("f", json.dumps(document).encode(), policy=node(*ALL)).findings
    assert (finding.text, finding.warning) == (text, False)


def test_a_listed_destination_in_the_vpc_is_a_subnet_or_refused() -> None:
    document = network("192.168.0.2/32", destination=["10.10.254.0/28", "10.10.253.0/29"])
    expected = "10.10.253.0/29 is inside the VPC and not a whole subnet: EC2 routes whole subnets only"
    assert said(document, node(*ALL), vpc=VPC) == [f"$.plugins[2].destination[1]: {expected}"]


def nad(config: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": "vip"} | ({"namespace": namespace} if namespace else {})
    kind = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition"}
    return kind | {"metadata": metadata, "spec": {"config": json.dumps(config)}}


@pytest.mark.parametrize(
    ("of_the_definition", "told", "expected"),
    [
        pytest.param("core-a", None, "", id="its-own"),
        pytest.param("edge", "core-a", "", id="the-pods-as-told"),
        pytest.param("edge", None, f"192.168.0.2/32 is not allowed for namespace edge: {ADD_IT}", id="other"),
        pytest.param(
            "core-a", "", f"192.168.0.2/32 is not allowed for a pod without a namespace: {ADD_IT}", id="none"
        ),
        pytest.param(
            "",
            None,
            f"warning: 192.168.0.2/32 {SAY_WHOSE}",
            id="nobody-tells",
        ),
    ],
)
def test_the_namespace_is_the_pods(of_the_definition: str, told: str | None, expected: str) -> None:
    label = "NetworkAttachmentDefinition " + "/".join(filter(None, (of_the_definition, "vip")))
    results = said(nad(network("192.168.0.2/32"), of_the_definition), CORE, told)
    assert results == ([f"{label}: {ADDRESS}: {expected}"] if expected else [])


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param(
            network("192.168.1.2/32"),
            [f"{ADDRESS}: 192.168.1.2/32 is not allowed for any namespace: {ADD_IT}"],
            id="refused-to-all",
        ),
        pytest.param(
            network(ipam={"type": "whereabouts", "range": "192.168.0.0/29"}),
            [
                (
                    "$.plugins[0].ipam.range: warning: 6 of 6 addresses may not be claimed: "
                    f"192.168.0.1/32 {SAY_WHOSE}"
                )
            ],
            id="range",
        ),
        pytest.param(
            network("192.168.2.2/32", watchAddresses=["192.168.0.8/29"]),
            [f"$.plugins[2].watchAddresses[0]: warning: 192.168.0.8/32 {SAY_WHOSE}"],
            id="watched",
        ),
        pytest.param(network("192.168.2.2/32"), [], id="allowed-to-all"),
    ],
)
def test_where_nobody_tells_the_namespace(document: Any, expected: list[str]) -> None:
    policy = node("192.168.0.0/24 core-*", "192.168.2.0/24", "192.168.3.0/24 edge")
    assert said(document, policy, None) == expected


# -- as the agent does --------------------------------------------------------------------------------------

BITS = st.integers(0, 255)
ENTRIES = st.lists(
    st.tuples(BITS, st.integers(24, 32), st.sampled_from(["", "core-*", "edge"])), max_size=4
).map(
    lambda results: [
        f"{ip_network((0xC0A80000 + n >> 32 - p << 32 - p, p))} {glob}" for n, p, glob in results
    ]
)


CONF = NetConf.parse({"cniVersion": "1.0.0", "name": "vip", "routeTables": {"all": True}})
ENI = Eni("eni-1", "", 1, "vpc-1", "subnet-1", (), VPC)


def refused(address: str, policy: NodeConf) -> bool:
    """Whether an ADD for ``address`` is refused."""
    wants = destinations.destinations(CONF, [ip_interface(address)], ENI, ())
    try:
        destinations.refuse_destinations(wants, ENI, policy, "core-a", {})
    except PolicyRefused:
        return True
    return False


@given(ENTRIES, BITS, BITS)
def test_a_range_is_judged_as_each_of_its_addresses_would_be(entries: list[str], one: int, two: int) -> None:
    policy = node(*entries)
    first, last = sorted((one, two))
    range_ = f"192.168.0.{first}-192.168.0.{last}/24"
    results = said(network(ipam={"type": "whereabouts", "range": range_}), policy, vpc=VPC)
    item = [refused(f"192.168.0.{last_byte}/32", policy) for last_byte in range(first, last + 1)]
    assert [" warning: " not in finding for finding in results] == ([all(item)] if any(item) else [])
    if any(item) and not all(item):
        assert f" {sum(item)} of {len(item)} addresses " in results[0]


# -- the command --------------------------------------------------------------------------------------------

POLICY = '{"allowedDestinations": [{"cidr": "192.168.0.0/24"}], "allowedRouteTables": {"ids": ["rtb-1"]}}'


def configmap(name: str, text: str = POLICY) -> str:
    data = {"config.json": text}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, list[str]]:
    status = cli.main(["validate", *argv])
    return status, capsys.readouterr().out.splitlines()


@pytest.fixture
def vip(tmp_path: Path) -> Path:
    file = tmp_path / "vip.json"
    file.write_text(json.dumps(nad(network("192.168.0.2/32", routeTables={"ids": ["rtb-1"]}), "core-a")))
    return file


@pytest.mark.parametrize(
    ("text", "label"),
    [
        pytest.param(POLICY, "", id="json"),
        pytest.param(
            "allowedDestinations: [{cidr: 192.168.0.0/24}]\nallowedRouteTables: {ids: [rtb-1]}\n",
            "",
            id="yaml",
        ),
        pytest.param(configmap("a"), "ConfigMap a config.json: ", id="configmap"),
        pytest.param(
            f'{{"apiVersion": "v1", "kind": "List", "items": [{configmap("a")}]}}',
            "ConfigMap a config.json: ",
            id="list",
        ),
        pytest.param(
            f"kind: Service\napiVersion: v1\n---\n{configmap('a')}\n---\n{configmap('b', 'echo')}\n",
            "ConfigMap a config.json: ",
            id="among-others",
        ),
    ],
)
def test_a_node_configuration_as_validate_knows_them(
    text: str, label: str, vip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node"
    file.write_text(text)
    ok = [f"{file}: {label}ok", f"{vip}: NetworkAttachmentDefinition core-a/vip: ok"]
    assert run(capsys, "--node-config", str(file), str(vip)) == (0, ok)
    file.write_text(text.replace("192.168.0.0/24", "192.168.1.0/24"))
    status, (first, second) = run(capsys, "--node-config", str(file), str(vip))
    assert (status, first) == (1, ok[0])
    assert second.endswith(f"{ADDRESS}: 192.168.0.2/32 {NOT_FOR_CORE}")


def test_the_manifest_as_it_is_shipped_allows_an_example_address_in_one_namespace(
    vip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vip.write_text(
        json.dumps(nad(network("192.0.2.7/32", routeTables={"ids": ["rtb-00000000000000000"]}), "default"))
    )
    manifest = ROOT / "install" / "manifests" / "cni-floatip.yaml"
    assert run(capsys, "--node-config", str(manifest), str(vip))[0] == 0
    status, lines = run(capsys, "--node-config", str(manifest), "--namespace", "other", str(vip))
    assert (status, "not allowed for namespace other" in lines[-1]) == (1, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            POLICY.replace("0.0/24", "0.1/24"),
            "$.allowedDestinations[0].cidr: 192.168.0.1/24 has host bits set; write 192.168.0.0/24",
            id="faulty",
        ),
        pytest.param(
            '{"allowedDestination": []}',
            '$.allowedDestination: unknown key "allowedDestination" with value []; '
            "did you mean allowedDestinations?",
            id="of-unknown-keys-only",
        ),
        pytest.param(
            configmap("a", '{"allowedDestinations": ['),
            'ConfigMap a: data["config.json"]: line 1 column 26: not JSON: Expecting value',
            id="torn",
        ),
        pytest.param("[", "the file: line 1 column 2: not JSON: Expecting value", id="not-json"),
        pytest.param(
            "kind: Service\napiVersion: v1\n",
            "no node configuration in it: name a file with one, plain or in a ConfigMap",
            id="none",
        ),
        pytest.param(
            f"{configmap('a')}\n---\n{configmap('b')}\n".replace("{", "---\n{", 1),
            "2 node configurations (ConfigMap a config.json, ConfigMap b config.json) in it: "
            "name a file with one, plain or in a ConfigMap",
            id="several",
        ),
        pytest.param(
            "---\nlogLevel: info\n---\nlogLevel: debug\n",
            "2 node configurations in it: name a file with one, plain or in a ConfigMap",
            id="several-without-a-name",
        ),
        pytest.param(None, "cannot be read: No such file or directory", id="absent"),
    ],
)
def test_a_node_configuration_that_cannot_be_judged_by(
    text: str | None, expected: str, vip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The networks are judged without it, and the exit status is that of any error."""
    file = tmp_path / "node"
    if text is not None:
        file.write_text(text)
    status, lines = run(capsys, "--node-config", str(file), str(vip))
    assert (status, lines[0]) == (1, f"{file}: {expected}")
    assert lines[-1] == f"{vip}: NetworkAttachmentDefinition core-a/vip: ok"


def test_the_node_configuration_from_standard_input_and_json(
    vip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = POLICY.replace("rtb-1", "rtb-2").encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    status, lines = run(capsys, "--json", "--node-config", "-", str(vip))
    first, second = json.loads("\n".join(lines))["files"]
    assert (status, first["file"], first["findings"]) == (1, "standard input", [])
    (finding,) = second["findings"]
    assert (finding["path"], finding["severity"]) == ("$.plugins[2].routeTables.ids[0]", "error")


def test_a_namespace_without_a_policy_is_a_mistake(vip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(capsys, "--namespace", "core-a", str(vip))
    assert stopped.value.code == 2
    assert "--namespace: has an effect only with --node-config" in capsys.readouterr().err
