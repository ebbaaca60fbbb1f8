"""D01 to D16: DEL always completes, and takes back only what is ours and wanted by nobody."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab import netns
from lab.vpc import TAG
from tests.conformance.harness import Answer, Bench, Sandbox
from tests.support.waiting import until

VIP = "192.168.0.9/32"
PREVIOUS = {"absent": ..., "null": None, "empty": {}, "nonsense": {"ips": [{}], "interfaces": "x"}}


@pytest.fixture
def pod(bench: Bench) -> Sandbox:
    """A pod whose address every table leads to, to be released by DEL."""
    made = bench.sandbox(VIP)
    bench.add(made, onDelete="release").ok()
    assert bench.vpc(VIP) == bench.everywhere(made.eni)
    bench.lab.ec2.journal.clear()
    return made


def released(bench: Bench, pod: Sandbox) -> None:
    assert bench.vpc(VIP) == {}
    assert pod.network() == []
    assert bench.states() == [{"gone"}]


def test_D01_twice(bench: Bench, pod: Sandbox) -> None:
    bench.delete(pod, prevResult=pod.prev()).ok()
    bench.delete(pod, prevResult=pod.prev()).ok()
    released(bench, pod)
    assert bench.written() == ["DeleteRoute ok"] * len(bench.lab.tables)


def test_D01_twice_and_the_address_is_somebody_else_s_by_then(bench: Bench, pod: Sandbox) -> None:
    bench.delete(pod).ok()
    new = bench.sandbox(VIP, eth="ens7")
    bench.add(new).ok()
    bench.delete(pod).ok()
    assert bench.vpc(VIP) == bench.everywhere(new.eni)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("prev", PREVIOUS)
def test_D02_D03_without_a_usable_previous_result(bench: Bench, pod: Sandbox, prev: str) -> None:
    bench.delete(pod, prevResult=PREVIOUS[prev]).ok()
    released(bench, pod)


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_D04_without_a_namespace(bench: Bench, pod: Sandbox, value: str | None) -> None:
    bench.call("DEL", bench.config(), pod, CNI_NETNS=value).ok()
    assert bench.vpc(VIP) == {}
    assert bench.states() == [{"gone"}]


def test_D05_the_namespace_is_gone(bench: Bench, pod: Sandbox) -> None:
    netns.remove([pod.pod.ns])
    bench.delete(pod).ok()
    assert bench.vpc(VIP) == {}
    assert bench.states() == [{"gone"}]


def test_D05_the_path_is_no_namespace_any_more(bench: Bench, pod: Sandbox, tmp_path: Path) -> None:
    """An empty file is what a reboot leaves where a namespace was mounted."""
    (tmp_path / "empty").touch()
    bench.call("DEL", bench.config(), pod, CNI_NETNS=str(tmp_path / "empty")).ok()
    assert bench.vpc(VIP) == {}


def test_D05_the_interface_is_gone_and_its_rules_are_not(bench: Bench, pod: Sandbox) -> None:
    pod.ip("link del net1")
    assert pod.network() != []
    bench.delete(pod).ok()
    released(bench, pod)


def test_D06_the_path_leads_to_another_pod_by_now(bench: Bench) -> None:
    """``/proc/PID/ns/net`` of a process id that was given away again: that pod keeps what it has."""
    first = bench.sandbox(VIP)
    sleeper = netns.inside(first.pod.ns, subprocess.Popen, ["sleep", "60"])
    path = f"/proc/{sleeper.pid}/ns/net"
    bench.call("ADD", bench.config(prevResult=first.prev(), onDelete="release"), first, CNI_NETNS=path).ok()
    sleeper.kill()
    sleeper.wait()

    second = bench.sandbox("192.168.0.90/32", eth="ens7")
    bench.add(second).ok()
    theirs = second.network()
    assert "from 192.168.0.90 lookup 100" in theirs

    bench.call("DEL", bench.config(), first, CNI_NETNS=second.netns).ok()
    assert bench.vpc(VIP) == {}
    assert second.network() == theirs
    assert bench.vpc("192.168.0.90/32") == bench.everywhere(second.eni)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("keys", [{}, {"onDelete": "release"}], ids=str)
def test_D07_never_added(bench: Bench, keys: dict[str, Any]) -> None:
    """With the very address that somebody else holds in its ``prevResult``: no claim, no write."""
    owner = bench.sandbox(VIP)
    bench.add(owner).ok()
    bench.lab.ec2.journal.clear()
    stranger = bench.sandbox(VIP, eth="ens7")
    before = bench.claims()
    bench.delete(stranger, prevResult=stranger.prev(), **keys).ok()
    assert bench.asked() == []
    assert bench.claims() == before
    assert bench.vpc(VIP) == bench.everywhere(owner.eni)


def test_D07_on_a_node_where_nothing_was_ever_added(bench: Bench) -> None:
    data = bench.lab.nodes["a1"].data_dir
    shutil.rmtree(data)
    bench.delete(bench.sandbox(VIP)).ok()
    assert not data.exists()
    assert bench.asked() == []


def test_D08_ec2_is_out_of_reach(bench: Bench, pod: Sandbox) -> None:
    """It succeeds, the work stays on disk, and the next call on the node does it."""
    bench.lab.ec2.faults.cut("a1")
    bench.delete(pod).ok()
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    assert pod.network() == []
    assert bench.states() == [{"releasing"}]

    bench.lab.ec2.faults.heal("a1")
    bench.add(bench.sandbox("192.168.0.91/32", eth="ens7")).ok()
    assert bench.vpc(VIP) == {}
    assert bench.states() == [{"gone"}, {"held"}]


def test_D08_and_its_own_repetition_does_the_work(bench: Bench, pod: Sandbox) -> None:
    bench.lab.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "no", times=None)
    answer = bench.delete(pod)
    answer.ok()
    assert "UnauthorizedOperation" in bench.told(answer)
    assert bench.states() == [{"releasing"}]
    bench.lab.ec2.faults.clear()
    bench.delete(pod).ok()
    released(bench, pod)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("which", [["a"], ["main", "a", "b", "client", "tgw"]], ids=["one", "all"])
def test_D09_the_route_leads_to_another_eni(bench: Bench, pod: Sandbox, which: list[str]) -> None:
    other = bench.lab.nodes["b1"].eni("eth1").id
    for name in which:
        bench.lab.ec2.client().replace_route(
            RouteTableId=bench.lab.tables[name], DestinationCidrBlock=VIP, NetworkInterfaceId=other
        )
    bench.delete(pod).ok()
    assert bench.vpc(VIP) == dict.fromkeys(which, other)
    assert bench.states() == [{"gone"}]


def test_D09_the_route_leads_to_a_gateway(bench: Bench, pod: Sandbox) -> None:
    bench.unpoint(VIP, "client")
    bench.point(VIP, ["client"], TransitGatewayId=bench.lab.vpc.tgw)
    bench.delete(pod).ok()
    assert bench.vpc(VIP) == {"client": bench.lab.vpc.tgw}


def test_D10_the_route_is_absent(bench: Bench, pod: Sandbox) -> None:
    bench.unpoint(VIP)
    bench.delete(pod).ok()
    released(bench, pod)
    assert bench.written() == []


def test_D10_the_route_table_is_gone(bench: Bench) -> None:
    """A claim may outlive its table; the others are released all the same."""
    lab, ec2 = bench.lab, bench.lab.ec2.client()
    tags = [
        {"ResourceType": "route-table", "Tags": [{"Key": key, "Value": value} for key, value in TAG.items()]}
    ]
    made = ec2.create_route_table(VpcId=lab.vpc.id, TagSpecifications=tags)["RouteTable"]["RouteTableId"]
    pod = bench.sandbox(VIP)
    try:
        bench.add(pod, onDelete="release").ok()
        assert lab.ec2.truth(made)[VIP].target == pod.eni
    finally:
        ec2.delete_route_table(RouteTableId=made)
    bench.delete(pod).ok()
    released(bench, pod)


CORRUPT = {
    "empty": b"",
    "cut": b'{"version": 1, "network"',
    "keys": b'{"version": 1}',
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("content", CORRUPT)
def test_D11_the_record_is_corrupt(bench: Bench, pod: Sandbox, content: str) -> None:
    """It is put aside and reported; ``prevResult`` and configuration say what is to be released."""
    (path,) = bench.claim_files()
    with bench.offline():
        path.write_bytes(CORRUPT[content])
    answer = bench.delete(pod, prevResult=pod.prev(), onDelete="release")
    answer.ok()
    assert path.name in bench.told(answer)
    assert bench.vpc(VIP) == {}
    assert bench.states() == [{"gone"}]
    (aside,) = (bench.lab.nodes["a1"].data_dir / "corrupt").iterdir()
    assert aside.read_bytes() == CORRUPT[content]


@pytest.mark.parametrize("keys", [{}, {"onDelete": "release"}], ids=["keep", "no prevResult"])
def test_D11_the_record_is_corrupt_and_nothing_says_what_it_was(
    bench: Bench, pod: Sandbox, keys: dict[str, Any]
) -> None:
    (path,) = bench.claim_files()
    with bench.offline():
        path.write_bytes(b"")
    bench.delete(pod, **keys).ok()
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    assert bench.written() == []


def test_D11_a_corrupt_record_and_a_route_that_has_moved(bench: Bench, pod: Sandbox) -> None:
    new = bench.sandbox(VIP, on="b1")
    bench.add(new).ok()
    (path,) = bench.claim_files()
    with bench.offline():
        path.write_bytes(b"")
    bench.delete(pod, prevResult=pod.prev(), onDelete="release").ok()
    assert bench.vpc(VIP) == bench.everywhere(new.eni)


def test_D11_a_record_of_a_newer_release_is_kept(bench: Bench, pod: Sandbox) -> None:
    (path,) = bench.claim_files()
    with bench.offline():
        path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    before = path.read_bytes()
    answer = bench.delete(pod)
    answer.ok()
    assert "version 99" in bench.told(answer)
    assert path.read_bytes() == before
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "keys",
    [
        {"routeTables": {"ids": ["rtb-0123"]}},
        {"routeTables": ...},
        {"onDelete": "keep"},
        {"podRoutes": "nonsense", "unheard": "of", "timeoutSeconds": -1},
        {"cniVersion": "0.3.0"},
    ],
    ids=["tables", "no tables", "keep", "nonsense", "version"],
)
def test_D12_the_configuration_has_changed_since(bench: Bench, pod: Sandbox, keys: dict[str, Any]) -> None:
    """What was claimed is in the record."""
    bench.delete(pod, **keys).ok()
    released(bench, pod)


def test_D12_of_a_policy_with_faults_its_directories_are_believed(bench: Bench, pod: Sandbox) -> None:
    path = Path(pod.node.env["FLOATIP_CONFIG"])
    directories = {"dataDir": str(pod.node.data_dir), "spoolDir": str(pod.node.agent.spool)}
    path.write_text(json.dumps({"unheard": "of", **directories}))
    bench.delete(pod).ok()
    released(bench, pod)


@pytest.mark.parametrize("text", [None, "{"], ids=["absent", "broken"])
def test_D12_without_a_policy_it_knows_of_nothing(bench: Bench, pod: Sandbox, text: str | None) -> None:
    """The default data directory is then asked, here one that is empty: it succeeds all the same."""
    path = Path(pod.node.env["FLOATIP_CONFIG"])
    path.unlink()
    if text:
        path.write_text(text)
    elsewhere = (
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        'mount -t tmpfs none /var/lib && exec "$@"',
        "sh",
    )
    config = json.dumps(bench.config(prevResult=pod.prev())).encode()
    bench.run(bench.environment("DEL", pod), config, prefix=elsewhere).ok()
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)


def test_D12_an_address_that_is_no_longer_allowed_is_released(bench: Bench, pod: Sandbox) -> None:
    bench.policy(allowedDestinations=[], allowedRouteTables={})
    bench.delete(pod).ok()
    released(bench, pod)


def test_D13_no_credentials(bench: Bench, pod: Sandbox) -> None:
    nobody = {"AWS_EC2_METADATA_DISABLED": "true"}
    bench.call("DEL", bench.config(), pod, **nobody).ok()
    assert bench.states() == [{"releasing"}]
    assert pod.network() == []
    bench.delete(pod).ok()
    released(bench, pod)


def hasty(bench: Bench, pod: Sandbox) -> Answer:
    """DEL, without waiting for what it leaves to the agent."""
    config = json.dumps(bench.config()).encode()
    return bench.run(bench.environment("DEL", pod), config, node=pod.node, settle=False)


def test_D14_within_ten_seconds_whatever_happens(bench: Bench, pod: Sandbox) -> None:
    """On one node a call that is never answered, on another an EC2 that says nothing at all."""
    other = bench.sandbox("192.168.0.93/32", on="b1")
    bench.add(other, onDelete="release").ok()
    faults = bench.lab.ec2.faults
    faults.hang("DeleteRoute", 30, times=None, caller="a1")
    faults.cut("b1", silent=True)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda sandbox: hasty(bench, sandbox), [pod, other]))
    for answer in answers:
        answer.ok()
        assert answer.seconds < 10
    assert bench.states("a1") == bench.states("b1") == [{"releasing"}]
    assert pod.network() == other.network() == []
    faults.clear()
    bench.delete(pod).ok()
    released(bench, pod)


def test_D14_while_an_add_of_the_same_attachment_hangs(bench: Bench) -> None:
    """DEL ends the ADD, and what EC2 makes of its writes later is released."""
    pod = bench.sandbox(VIP)
    bench.lab.ec2.faults.hold("CreateRoute")
    config = bench.config(prevResult=pod.prev(), routeTables={"tags": {"floatip": "lab"}})
    adding = bench.start(bench.environment("ADD", pod))
    assert adding.stdin is not None
    adding.stdin.write(json.dumps(config).encode())
    adding.stdin.close()
    adding.stdin = None
    until(lambda: bench.lab.ec2.faults.held)
    answer = hasty(bench, pod)
    answer.ok()
    assert answer.seconds < 10
    assert bench.vpc(VIP) == {}
    bench.lab.ec2.faults.clear()
    stdout, _ = adding.communicate(timeout=60)
    assert json.loads(stdout)["code"] == 11
    until(lambda: not bench.lab.ec2.faults.held)
    bench.delete(pod).ok()
    released(bench, pod)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1"])
def test_D15_of_a_version_that_never_gets_a_previous_result(bench: Bench, version: str) -> None:
    pod = bench.sandbox(VIP)
    bench.add(pod, version, onDelete="release").ok()
    bench.delete(pod, version, prevResult=...).ok()
    released(bench, pod)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("stdin", [b"", b"{", b"\xff", b"[]", b"null"], ids=repr)
def test_D16_a_malformed_configuration_is_still_an_error(bench: Bench, pod: Sandbox, stdin: bytes) -> None:
    bench.run(bench.environment("DEL", pod), stdin).refused(6)
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    assert bench.states() == [{"held"}]


# -- what becomes of the route ------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{}, {"onDelete": "keep"}], ids=["default", "keep"])
def test_keep_leaves_the_route_and_ends_the_claim(bench: Bench, keys: dict[str, Any]) -> None:
    """The default of direct mode: nobody is there later to mend what a late delete hits."""
    pod = bench.sandbox(VIP)
    bench.add(pod, **keys).ok()
    bench.lab.ec2.journal.clear()
    bench.delete(pod, onDelete="release").ok()
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    assert bench.written() == []
    assert bench.claims() == []
    assert pod.network() == []


@pytest.mark.one_in(4)
@pytest.mark.parametrize("first", [0, 1], ids=["older first", "newer first"])
@pytest.mark.parametrize("eths", [("eth1", "eth1"), ("eth1", "ens7")], ids=["one ENI", "two ENIs"])
def test_the_route_stays_while_one_claim_of_the_node_lives(
    bench: Bench, eths: tuple[str, str], first: int
) -> None:
    """Two pods of one node with one address, which Kubernetes can bring about for a moment."""
    pods = [bench.sandbox(VIP, eth=eth, kind="veth") for eth in eths]
    for pod in pods:
        bench.add(pod, onDelete="release").ok()
    assert bench.vpc(VIP) == bench.everywhere(pods[1].eni)

    gone, stays = pods[first], pods[1 - first]
    bench.delete(gone).ok()
    assert bench.vpc(VIP) == bench.everywhere(stays.eni)
    bench.delete(stays).ok()
    assert bench.vpc(VIP) == {}


def test_nothing_in_the_pod_that_is_not_ours_is_touched(bench: Bench) -> None:
    pod = bench.sandbox(VIP, "192.168.0.92/24")
    pod.ip(
        "route add 10.50.0.0/16 dev net1",
        "route add 10.51.0.0/16 dev net1 table 100",
        "rule add from 10.52.0.0/16 lookup 100",
    )
    bench.add(pod, podRoutes={"sourceRouting": True}).ok()
    bench.delete(pod).ok()
    assert pod.network() == []
    assert "10.50.0.0/16" in pod.main_routes()
    shown = pod.node.run(["ip", "-n", pod.pod.ns, "route", "show", "table", "100"]).stdout
    assert "10.51.0.0/16" in shown
    assert "from 10.52.0.0/16 lookup 100" in pod.node.run(["ip", "-n", pod.pod.ns, "rule"]).stdout
