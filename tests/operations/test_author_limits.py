"""What the author of one network or pod may cost everybody else: memory, disk, routes, requests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.observe import status
from cni_floatip.config.netconf import OWN_KEYS
from cni_floatip.config.nodeconf import Limits, NodeConf
from cni_floatip.model.errors import (
    AwsRefused,
    CniError,
    Ec2Error,
    Ec2Fault,
    InvalidConfig,
    PolicyRefused,
    raise_any,
)
from cni_floatip.protocol import request
from cni_floatip.validate import report as validate
from tests.fakes.podnet import FakeLink, FakePod, FakePods
from tests.support.watched_pods import ENI_MAC, Place

NETNS = "/run/netns/p"
ADDRESSES = [f"192.168.0.{n}/32" for n in range(1, 40)]
POOLS = [f"192.168.{n}.0/24" for n in range(100, 160)]


def node(directory: Path, *addresses: str, **policy: Any) -> Place:
    link = FakeLink("net1", ENI_MAC, addresses=list(addresses))
    return Place(directory, FakePods({NETNS: FakePod([link])}), lambda _: 1, **policy)


def refused(key: Place, *addresses: str, **output: Any) -> CniError:
    with pytest.raises(CniError) as caught:
        key.add(NETNS, *addresses, **output)
    return caught.value


def test_a_claim_keeps_only_what_is_read_again(tmp_path: Path) -> None:
    """What others wrote beside may be of any size, and would stay in memory and on disk."""
    key = node(tmp_path, ADDRESSES[0])
    beside = {
        "dns": {"search": ["x"] * 1000},
        "ipam": {"a": "b"},
        "capabilities": {"ips": True},
        "cni.dev/x": 1,
    }
    attachment = key.add(NETNS, ADDRESSES[0], **beside)
    config = key.claim(attachment).config
    assert config
    kept = config.document
    assert set(kept) <= {"cniVersion", "type", *OWN_KEYS}
    assert kept["routeTables"] == {"ids": ["rtb-a", "rtb-b"]}
    assert "search" not in "".join(path.read_text() for path in (tmp_path / "claims").glob("*.json"))


def test_a_large_entry_is_refused_at_its_add_and_nowhere_else() -> None:
    env = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c",
        "CNI_NETNS": NETNS,
        "CNI_IFNAME": "net1",
        "CNI_PATH": "/",
    }
    large = {"cniVersion": "1.0.0", "name": "n", "dns": {"search": ["x" * 60] * 1100}}
    with pytest.raises(InvalidConfig, match=r"has 7.... bytes beside prevResult; at most 65536"):
        request.parse(env, json.dumps(large).encode())
    request.parse(env, json.dumps({**large, "dns": {}, "prevResult": large}).encode())
    for verb in ("DEL", "CHECK"):
        request.parse(env | {"CNI_COMMAND": verb}, json.dumps(large).encode())


def test_destinations_of_one_interface_are_limited(tmp_path: Path) -> None:
    key = node(tmp_path, *ADDRESSES)
    error = refused(key, *ADDRESSES[:17])
    assert isinstance(error, PolicyRefused)
    assert "17 destinations" in error.msg
    assert "allows 16" in error.msg
    assert isinstance(refused(key, *ADDRESSES[:4], destination=POOLS[:13]), PolicyRefused)
    assert key.ec2.calls == []
    key.add(NETNS, *ADDRESSES[:4], destination=POOLS[:12])
    assert len(key.ec2.tables["rtb-a"]) == 16


@pytest.mark.parametrize(("listed", "says"), [(3, 0), (4, 1)])
def test_validate_tells_what_every_add_would_be_refused_for(listed: int, says: int) -> None:
    entry = {
        "name": "n",
        "cniVersion": "1.0.0",
        "type": "floatip",
        "routeTables": {"all": True},
        "destination": POOLS[:listed],
    }
    allowed = {"allowedDestinations": [{"cidr": "192.168.0.0/16"}], "limits": {"destinations": 4}}
    report = validate.examine("file", json.dumps(entry).encode(), policy=NodeConf.parse(allowed))
    findings = [finding for finding in report.findings if "limits.destinations" in finding.text]
    assert [(finding.path, finding.warning) for finding in findings] == [("$.destination", False)] * says


def test_the_administrator_says_how_many(tmp_path: Path) -> None:
    key = node(tmp_path, *ADDRESSES, limits={"destinations": 2})
    assert "3 destinations" in refused(key, *ADDRESSES[:3]).msg
    key.add(NETNS, *ADDRESSES[:2])


def test_a_limit_is_asked_at_an_add_alone(tmp_path: Path) -> None:
    from cni_floatip import operations

    key = node(tmp_path, *ADDRESSES)
    key.add(NETNS, *ADDRESSES[:3])
    narrower = node(tmp_path, *ADDRESSES, limits={"destinations": 1})
    narrower.ec2, narrower.kernel = key.ec2, key.kernel
    operations.check(narrower.request("CHECK", NETNS, *ADDRESSES[:3]), narrower.world)


def test_a_live_claim_beyond_its_limit_is_named(tmp_path: Path) -> None:
    """In the agent's status, which doctor tells: it was added before the limit was there."""
    key = node(tmp_path, *ADDRESSES)
    key.add(NETNS, *ADDRESSES[:2], destination=POOLS[:3])
    claims = key.claims.all()[0]
    (text,) = status.beyond_limits(claims, Limits(destinations=4))
    assert "floating/c1/net1 of core/web-0 has 5 destinations, and limits.destinations is 4" in text
    assert not list(status.beyond_limits(claims, Limits(destinations=5)))
    ended = [claim.release(0.0) for claim in claims]
    assert not list(status.beyond_limits(ended, Limits(destinations=4)))


@pytest.mark.parametrize("fault", [Ec2Fault.QUOTA, Ec2Fault.DENIED])
def test_what_a_table_refuses_once_is_not_asked_for_again(tmp_path: Path, fault: Ec2Fault) -> None:
    key = node(tmp_path, ADDRESSES[0], limits={"destinations": 100})
    room = {"rtb-a": 3, "rtb-b": 100}

    def before_write(what: str) -> None:
        verb, table = what.split()[:2]
        if verb == "create":
            with key.ec2.lock:
                room[table] -= 1
            if room[table] < 0:
                key.ec2.calls.append(f"refused {table}")
                raise Ec2Error(fault, "CreateRoute", "RouteLimitExceeded", "no more")

    key.ec2.before_write = before_write
    error = refused(key, ADDRESSES[0], destination=POOLS)
    assert isinstance(error, AwsRefused)
    assert "RouteLimitExceeded" in error.msg
    assert key.ec2.calls.count("refused rtb-a") <= 16, "those that were under way with it, no more"


@pytest.mark.parametrize("fault", [Ec2Fault.QUOTA, Ec2Fault.DENIED])
def test_a_full_table_is_asked_once(tmp_path: Path, fault: Ec2Fault) -> None:
    key = node(tmp_path, ADDRESSES[0], limits={"destinations": 100})

    def before_write(what: str) -> None:
        if what.startswith("create rtb-a"):
            key.ec2.calls.append("refused")
            time.sleep(0.3)  # long enough for all that are sent beside it
            raise Ec2Error(fault, "CreateRoute", "RouteLimitExceeded", "no more")

    key.ec2.before_write = before_write
    refused(key, ADDRESSES[0], destination=POOLS)
    assert key.ec2.calls.count("refused") == 1
    assert not key.ec2.tables["rtb-b"], "what was made in the other table is taken back"


@pytest.mark.parametrize("fault", [Ec2Fault.QUOTA, Ec2Fault.DENIED, Ec2Fault.REFUSED])
def test_equal_refusals_of_several_tables_are_one_sentence(tmp_path: Path, fault: Ec2Fault) -> None:
    key = node(tmp_path, ADDRESSES[0])

    def before_write(what: str) -> None:
        if what.startswith("create"):
            raise Ec2Error(fault, "CreateRoute", "RouteLimitExceeded", "no more")

    key.ec2.before_write = before_write
    refusal = "192.168.0.1/32 -> eni-here: CreateRoute: RouteLimitExceeded: no more"
    assert refused(key, ADDRESSES[0]).msg == f"rtb-a, rtb-b {refusal}"


def test_refusals_that_differ_stay_apart(tmp_path: Path) -> None:
    key = node(tmp_path, ADDRESSES[0])

    def before_write(what: str) -> None:
        if what.startswith("create"):
            raise Ec2Error(Ec2Fault.QUOTA, "CreateRoute", "", f"no more in {what.split()[1]}")

    key.ec2.before_write = before_write
    assert set(refused(key, ADDRESSES[0]).msg.split(" | ")) == {
        "rtb-a 192.168.0.1/32 -> eni-here: CreateRoute: no more in rtb-a",
        "rtb-b 192.168.0.1/32 -> eni-here: CreateRoute: no more in rtb-b",
    }


def test_releases_that_ec2_refuses_are_one_sentence() -> None:
    with pytest.raises(AwsRefused, match=r"^cannot release rtb-a, rtb-b 192.168.0.1/32: no right$"):
        raise_any(
            AwsRefused(f"cannot release {table} 192.168.0.1/32: no right") for table in ("rtb-b", "rtb-a")
        )


def test_a_sentence_about_many_tables_keeps_its_reason() -> None:
    """Kubelet cuts an event after 1024 characters."""
    with pytest.raises(AwsRefused) as caught:
        raise_any(AwsRefused(f"rtb-{number:017x} 192.168.0.1/32: no more") for number in range(500))
    assert caught.value.msg.endswith(f"rtb-{19:017x} and 480 more 192.168.0.1/32: no more")
    assert len(caught.value.msg) < 1024


@pytest.mark.parametrize(
    "chosen",
    [
        {"args": {"cni": {"ips": ["192.168.0.1/32"]}}},
        {"runtimeConfig": {"ips": ["192.168.0.1/32"]}},
    ],
    ids=["cni-args", "the capability"],
)
def test_a_pod_that_chose_its_address(tmp_path: Path, chosen: dict[str, Any]) -> None:
    key = node(tmp_path, ADDRESSES[0], fixedAddresses=True)
    error = refused(key, ADDRESSES[0], **chosen)
    assert isinstance(error, PolicyRefused)
    assert '"fixedAddresses": true' in error.msg
    assert key.ec2.calls == []
    choices: tuple[dict[str, Any], ...] = (
        {},
        {"args": {"cni": {}}},
        {"args": {"cni": {"ips": []}}},
        {"args": "x"},
        {"runtimeConfig": {}},
    )
    for none in choices:
        key.add(NETNS, ADDRESSES[0], **none)
    node(tmp_path / "other", ADDRESSES[0]).add(NETNS, ADDRESSES[0], **chosen)
