"""S01 to S05 and G01 to G08: the two verbs that are about a node and not about an attachment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import netns
from lab.imds import Imds
from lab.webserver import Answer, Listener, Request, open_socket
from tests.conformance.harness import Bench, Sandbox

VIP = "192.168.0.11/32"
KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")
OLD = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")


# -- STATUS -------------------------------------------------------------------------------------------------


@pytest.mark.one_in(4)
@pytest.mark.parametrize("version", OLD)
def test_S01_status_before_there_was_one(bench: Bench, version: str) -> None:
    bench.call("STATUS", bench.config(version)).refused(1, version, "STATUS", "1.1.0")


def test_S02_ready(bench: Bench) -> None:
    answer = bench.status()
    answer.ok()
    assert answer.stdout == b""
    assert bench.asked() == []


class Metadata:
    """Instance metadata of node a1 on an address of the test's own, which counts and may be changed."""

    def __init__(self, bench: Bench) -> None:
        node = bench.lab.nodes["a1"]
        self.asked: list[str] = []
        self.missing: str | None = None
        self._real = Imds(lambda: bench.lab.ec2.instance(node.instance_id))
        self._listener = Listener(netns.inside(node.ns, open_socket, "127.0.0.1", 0), self._answer)
        host, port = self._listener.address
        self.environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{host}:{port}"}

    def _answer(self, request: Request) -> Answer:
        self.asked.append(f"{request.method} {request.path}")
        if self.missing and self.missing in request.path:
            return Answer(404)
        return self._real.handle(request)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def node_metadata(bench: Bench) -> Iterator[Metadata]:
    made = Metadata(bench)
    yield made
    made.close()


def test_S03_metadata_is_away(bench: Bench, node_metadata: Metadata) -> None:
    node_metadata.close()
    bench.call("STATUS", bench.config(), **node_metadata.environ).refused(50, "instance metadata")


def test_S03_there_are_no_credentials(bench: Bench, node_metadata: Metadata) -> None:
    node_metadata.missing = "iam/"
    bench.status(**node_metadata.environ).refused(50, "credentials")
    keys = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
    bench.status(**node_metadata.environ, **keys).ok()


@pytest.mark.parametrize(
    "text",
    [None, "{", '{"allowedDestinations": 1}', '{"elections": {}}'],
    ids=["absent", "broken", "wrong", "elections"],
)
def test_S03_the_node_configuration_is_missing_or_wrong(bench: Bench, text: str | None) -> None:
    path = Path(bench.lab.nodes["a1"].env["FLOATIP_CONFIG"])
    path.unlink()
    if text:
        path.write_text(text)
    bench.call("STATUS", bench.config()).refused(50, str(path))


def test_S03_the_data_directory_cannot_be_used(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bench.policy(dataDir=str(tmp_path / "file"))
    bench.call("STATUS", bench.config()).refused(50, str(tmp_path / "file"))


def test_S03_everything_that_is_missing_is_named(
    bench: Bench, node_metadata: Metadata, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    bench.policy(dataDir=str(tmp_path / "file"))
    node_metadata.missing = "iam/"
    text = bench.status(**node_metadata.environ).refused(50)
    assert "credentials" in text
    assert str(tmp_path / "file") in text


def test_S04_status_is_cheap(bench: Bench, node_metadata: Metadata) -> None:
    """kubelet may ask every five seconds: no EC2, no claim, three local requests."""
    bench.status(node_metadata.asked, **node_metadata.environ).ok()
    assert len(node_metadata.asked) <= 3, node_metadata.asked
    assert bench.asked() == []
    assert bench.claims() == []


def test_S04_status_creates_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.policy(dataDir=str(tmp_path / "a" / "data"), spoolDir=str(tmp_path / "b" / "spool"))
    bench.status().ok()
    assert list(tmp_path.iterdir()) == []


def test_S05_status_has_no_attachment(bench: Bench) -> None:
    none = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"), None)
    bench.status(**none).ok()


# -- GC -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pods(bench: Bench) -> list[Sandbox]:
    """Two pods of one node, whose routes are to be released when they are gone."""
    made = [bench.sandbox(f"192.168.0.{11 + n}/32", kind="veth", name=f"web{n}") for n in range(2)]
    for pod in made:
        bench.add(pod, onDelete="release").ok()
    bench.lab.ec2.journal.clear()
    return made


def entry(pod: Sandbox, **changes: str) -> dict[str, str]:
    return {"containerID": pod.container, "ifname": pod.ifname, **changes}


def routed(bench: Bench, pods: list[Sandbox]) -> list[bool]:
    return [bench.vpc(pod.addresses[0]) == bench.everywhere(pod.eni) for pod in pods]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("version", OLD)
def test_G01_gc_before_there_was_one(bench: Bench, version: str) -> None:
    bench.call("GC", bench.config(version)).refused(1, version, "GC", "1.1.0")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("keys", [KEYS[:1], KEYS[1:], KEYS], ids=["new", "old", "both"])
def test_G02_G04_G05_stale_ones_end_and_valid_ones_stay(
    bench: Bench, pods: list[Sandbox], keys: tuple[str, ...]
) -> None:
    """libcni sends the list under two names, a runtime perhaps under one."""
    keeps = pods[0].network()
    bench.call("GC", bench.config(**{key: [entry(pods[0])] for key in keys})).ok()
    assert routed(bench, pods) == [True, False]
    assert pods[0].network() == keeps
    assert pods[1].network() == []
    assert bench.states() == [{"held"}, {"gone"}]


def test_G02_what_either_list_names_is_valid(bench: Bench, pods: list[Sandbox]) -> None:
    bench.call("GC", bench.config(**{KEYS[0]: [entry(pods[0])], KEYS[1]: [entry(pods[1])]})).ok()
    assert routed(bench, pods) == [True, True]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("present", [..., None, []], ids=["absent", "null", "empty"])
def test_G03_no_list_is_not_an_empty_list(bench: Bench, pods: list[Sandbox], present: object) -> None:
    """``cnitool gc`` leaves it out, which says nothing; null and [] say that no pod is left."""
    answer = bench.call("GC", bench.config(**dict.fromkeys(KEYS, present)))
    answer.ok()
    assert routed(bench, pods) == [present is ...] * 2
    assert "valid attachments" in bench.told(answer)
    if present is ...:
        assert bench.written() == []


def test_G04_another_interface_of_the_same_container_is_another_attachment(
    bench: Bench, pods: list[Sandbox]
) -> None:
    valid = [entry(pods[0], ifname="net2"), entry(pods[1])]
    bench.call("GC", bench.config(**{KEYS[0]: valid})).ok()
    assert routed(bench, pods) == [False, True]


def test_G05_of_pods_whose_namespaces_are_gone(bench: Bench, pods: list[Sandbox]) -> None:
    for pod in pods:
        netns.remove([pod.pod.ns])
    bench.call("GC", bench.config(**{KEYS[0]: []})).ok()
    assert routed(bench, pods) == [False, False]
    assert bench.states() == [{"gone"}] * 2


def test_G05_direct_mode_keeps_routes_by_default(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    bench.add(pod).ok()
    bench.lab.ec2.journal.clear()
    bench.call("GC", bench.config(**{KEYS[0]: []})).ok()
    assert (routed(bench, [pod]), bench.written(), bench.claims()) == ([True], [], [])
    assert pod.network() == []


def test_G06_it_goes_on_after_an_error_and_reports_them_all(bench: Bench, pods: list[Sandbox]) -> None:
    last = bench.sandbox("192.168.0.13/32", kind="veth", name="web2")
    bench.add(last, onDelete="release").ok()
    tables = len(bench.lab.tables)
    bench.lab.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "no", times=2 * tables)
    text = bench.call("GC", bench.config(**{KEYS[0]: []})).refused(100)
    for pod in pods:
        (refused,) = re.findall(rf"((?:rtb-\w+, )*rtb-\w+) {re.escape(pod.addresses[0])}", text)
        assert set(refused.split(", ")) == set(bench.lab.tables.values())
    assert routed(bench, [*pods, last]) == [True, True, False]
    assert bench.states() == [{"releasing"}, {"releasing"}, {"gone"}]
    assert [pod.network() for pod in pods] == [[], []]

    bench.call("GC", bench.config(**{KEYS[0]: []})).ok()
    assert routed(bench, pods) == [False, False]


def test_G07_what_is_not_ours_is_not_touched(bench: Bench, pods: list[Sandbox]) -> None:
    """Another network of this node, another node, a route that has moved on, a route by hand."""
    other_network = bench.sandbox("192.168.0.14/32", eth="ens7")
    bench.add(other_network, name="second", onDelete="release").ok()
    other_node = bench.sandbox("192.168.0.15/32", on="b1")
    bench.add(other_node, onDelete="release").ok()
    moved = bench.sandbox(pods[0].addresses[0], on="b1", eth="ens7")
    bench.add(moved).ok()
    bench.point("192.168.0.16/32", ["a"], NetworkInterfaceId=pods[0].eni)

    bench.call("GC", bench.config(**{KEYS[0]: []})).ok()

    assert routed(bench, [pods[1], other_network, other_node, moved]) == [False, True, True, True]
    assert bench.vpc("192.168.0.16/32") == {"a": pods[0].eni}
    assert {claim["network"] for claim in bench.claims("b1")} == {"floating"}
    assert bench.states("b1") == [{"held"}] * 2


def test_G07_a_corrupt_record_is_put_aside_and_the_others_are_worked_on(
    bench: Bench, pods: list[Sandbox]
) -> None:
    broken = next(path for path in bench.claim_files() if pods[0].container in path.read_text())
    with bench.offline():
        broken.write_bytes(b"")
    answer = bench.call("GC", bench.config(**{KEYS[0]: []}))
    answer.ok()
    assert broken.name in bench.told(answer)
    assert routed(bench, pods) == [True, False]


def test_G08_disable_gc_is_the_runtime_s_business(bench: Bench, pods: list[Sandbox]) -> None:
    config = bench.config(**{KEYS[0]: [entry(pods[0])], "disableGC": True})
    bench.call("GC", config).ok()
    assert routed(bench, pods) == [True, False]


def test_gc_works_off_what_a_del_could_not(bench: Bench, pods: list[Sandbox]) -> None:
    bench.lab.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "no", times=None)
    bench.delete(pods[1]).ok()
    bench.lab.ec2.faults.clear()
    bench.call("GC", bench.config(**{KEYS[0]: [entry(pods[0])]})).ok()
    assert routed(bench, pods) == [True, False]
    assert json.dumps(bench.claims()[1]["routes"]).count("gone") == len(bench.lab.tables)
