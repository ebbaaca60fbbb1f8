"""The two Leases as Kubernetes keeps them: there and back, by whose words, and what somebody else wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.election.lease import (
    LONGEST_NAME,
    Entry,
    GroupLease,
    Holder,
    LeaseError,
    NodeLease,
    Offer,
    Reason,
    is_newer,
)

NETWORKS = (ip_network("192.168.0.2/32"), ip_network("2001:db8::2/128"))
ENTRY = Entry("uid-a", "web-a", "node-a", "eu-1a", 1, 77, 55, -3, ("eni-1", "eni-2"), NETWORKS)
LEASE = GroupLease(
    "ns/web.front",
    "lease-uid",
    "41",
    1_700_000_000,
    Holder("web-a", "node-a", "uid-a"),
    7,
    Offer(Reason.LEVEL, level=2),
    NETWORKS,
    (ENTRY, replace(ENTRY, uid="uid-b")),
    "",
    1_700_000_100,
)
OFFERS = {
    Offer(Reason.TERMINATING): "terminating",
    Offer(Reason.GONE): "gone",
    Offer(Reason.UNREADY): "unready",
    Offer(Reason.EC2_LOST): "ec2-lost",
    Offer(Reason.LEVEL, level=1): "level 1",
    Offer(Reason.ZONE): "zone",
    Offer(Reason.MOVE): "move",
    Offer(Reason.MOVE, node="node-b"): "move node-b",
}

words = st.text("abcdefghij-0123456789.", min_size=1, max_size=20)
numbers = st.integers(0, 2**40)
networks = st.lists(st.sampled_from(NETWORKS), unique=True, max_size=2).map(tuple)
entries = st.builds(
    Entry,
    words,
    words,
    words,
    words,
    st.integers(0, 2),
    numbers,
    numbers,
    st.integers(-(2**31), 2**31),
    st.lists(words, max_size=3).map(tuple),
    networks,
)
leases = st.builds(
    GroupLease,
    st.builds(lambda ns, name: f"{ns.replace('.', '-')}/{name}", words, words),
    words,
    numbers.map(str),
    st.just(1_700_000_000),
    st.none() | st.builds(Holder, words, words, words),
    numbers,
    st.none() | st.sampled_from(list(OFFERS)),
    networks,
    st.lists(entries, max_size=3, unique_by=lambda entry: entry.uid).map(
        lambda items: tuple(sorted(items, key=lambda entry: entry.uid))
    ),
    st.none() | words | st.just(""),
)


def served(lease: GroupLease) -> dict[str, Any]:
    """Return a Lease as the API serves what was put."""
    body = json.loads(json.dumps(lease.document("floatip-elections")))
    body["metadata"]["creationTimestamp"] = "2023-11-14T22:13:20Z"
    return body  # type: ignore[no-any-return]


@given(leases)
def test_a_group_lease_comes_back_as_it_was_put(lease: GroupLease) -> None:
    """Else an agent would write its entry again and again."""
    back = GroupLease.parse(served(lease))
    assert back == lease
    assert back.faults == ()


def test_what_people_read_of_it() -> None:
    document = LEASE.document("floatip-elections")
    assert document["metadata"]["name"] == "group.ns.web.front"
    assert document["spec"]["holderIdentity"] == "web-a/node-a/uid-a"
    assert document["spec"]["leaseTransitions"] == 7
    assert document["spec"]["acquireTime"] == "2023-11-14T22:15:00.000000Z"
    assert GroupLease.parse(served(LEASE)).acquired == LEASE.acquired
    notes = document["metadata"]["annotations"]
    assert notes["floatip.io/offered"] == "level 2"
    assert json.loads(notes["floatip.io/members"])["uid-a"]["fitSince"] == 77


def test_a_put_names_uid_and_version_and_a_post_neither() -> None:
    """A PUT without the uid creates a deleted Lease anew."""
    meta = LEASE.document("ns")["metadata"]
    assert (meta["uid"], meta["resourceVersion"]) == ("lease-uid", "41")
    assert (
        not {"uid", "resourceVersion"} & replace(LEASE, uid="", version="").document("ns")["metadata"].keys()
    )
    node = NodeLease("node-a", "u", "9").document("ns", "t")["metadata"]
    assert (node["uid"], node["resourceVersion"]) == ("u", "9")


def test_an_emptied_lease_names_nobody() -> None:
    assert "holderIdentity" not in replace(LEASE, holder=None).document("ns")["spec"]


@pytest.mark.parametrize("offer", OFFERS, ids=str)
def test_offers(offer: Offer) -> None:
    assert str(offer) == OFFERS[offer]
    assert Offer.parse(str(offer)) == offer
    assert offer.soft == (offer.reason.value in ("level", "zone", "move"))


@pytest.mark.parametrize("text", ["", "pod", "pod/node", "pod/node/", "/node/uid", "a/b/c/d", "x" * 100_000])
def test_a_holder_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(LeaseError) as raised:
        Holder.parse(text)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("key", ["offered", "destinations", "members"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "[1",
        "{}{}",
        "null",
        "[[]]",
        '{"a": 1}',
        '{"a": {}}',
        "[" * 100_000,
        "level x",
        "gone by",
        7,
        None,
    ],
)
def test_foreign_text_in_an_annotation_is_left_out_and_named(key: str, text: Any) -> None:
    body = served(LEASE)
    body["metadata"]["annotations"][f"floatip.io/{key}"] = text
    lease = GroupLease.parse(body)
    assert lease.holder == LEASE.holder
    if text is not None:
        assert [fault.partition(" ")[0] for fault in lease.faults] == [f"floatip.io/{key}"]
        assert len(lease.faults[0]) < 600
    assert {"offered": lease.offer, "destinations": lease.destinations, "members": lease.members}[key] in (
        None,
        (),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": None},
        {"metadata": []},
        {"metadata": {}},
        {"metadata": {"name": "group.x"}},
        {"metadata": {"name": "group..x"}},
        {"metadata": {"name": 7}},
        {"metadata": {"name": "node.a"}},
        {"metadata": {"name": "group.ns.web", "annotations": [1]}},
        {"spec": [1]},
        {"spec": {"holderIdentity": 7}},
        {"spec": {"holderIdentity": "pod"}},
        {"spec": {"leaseTransitions": "7"}},
        {"spec": {"leaseTransitions": True}},
    ],
    ids=str,
)
def test_what_is_no_group_lease_is_an_error(change: dict[str, Any]) -> None:
    with pytest.raises(LeaseError):
        GroupLease.parse(served(LEASE) | change)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["metadata", "spec", "name", "annotations", "holderIdentity"]) | st.text(), x
            )
        ),
    )
)
def test_nothing_else_than_a_lease_error_is_raised(document: Any) -> None:
    for kind in (GroupLease, NodeLease):
        with pytest.raises(LeaseError):
            kind.parse(document)


def test_a_node_lease() -> None:
    lease = NodeLease("node-a", "u", "9", "node-uid/boot", 2, "node-uid")
    body = lease.document("ns", "2026-11-30T00:00:00.000001Z")
    assert NodeLease.parse(body) == lease
    assert body["spec"]["renewTime"] == "2026-11-30T00:00:00.000001Z"
    assert body["metadata"]["ownerReferences"][0]["uid"] == "node-uid"


@pytest.mark.parametrize("length", [63, 248, 249, 253])
def test_a_long_name_is_hashed_and_read_back(length: int) -> None:
    lease = NodeLease("n" * length)
    assert len(lease.name) <= LONGEST_NAME
    assert (lease.name == f"node.{lease.node}") == (length <= 248)
    assert NodeLease.parse(lease.document("ns", "t")).node == lease.node
    assert lease.name != NodeLease("n" * (length - 1) + "m").name


def test_a_group_of_the_longest_names_is_not_hashed() -> None:
    lease = GroupLease(f"{'n' * 63}/{'g' * 63}")
    assert GroupLease.parse(lease.document("ns")).group == lease.group


@pytest.mark.parametrize(
    ("version", "other", "newer"),
    [
        ("10", "9", True),
        ("9", "10", False),
        ("9", "9", False),
        ("x", "9", True),
        ("x", "x", False),
        ("", "", False),
    ],
)
def test_versions_are_ordered_as_numbers(version: str, other: str, newer: bool) -> None:
    assert is_newer(version, other) is newer
