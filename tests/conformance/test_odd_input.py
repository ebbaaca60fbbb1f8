"""Input that no schema foresees: each is refused for what it is, before anything is written.

``Bench.call`` holds every answer to the protocol; here none is "a mistake in floatip" (999) either.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from .harness import NETWORK, Bench, Config, Sandbox

VIP = "192.168.0.9/32"
KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")


def untouched(bench: Bench, pod: Sandbox) -> bool:
    """Say whether nothing was written anywhere."""
    return (bench.written(), bench.claims(), pod.network()) == ([], [], [])


# -- the environment ----------------------------------------------------------------------------------------


def test_an_interface_name_that_is_no_text(bench: Bench) -> None:
    """The kernel takes any byte but a few; a claim of such an interface could not be written down."""
    pod = bench.sandbox(VIP, kind="veth")
    name = b"net\xff"
    argv = [b"ip", b"-n", os.fsencode(pod.pod.ns), b"link", b"set", b"net1", b"down", b"name", name]
    subprocess.run(argv, check=True, capture_output=True)
    odd = os.fsdecode(name)
    for verb in ("ADD", "CHECK", "DEL"):
        config = bench.config(prevResult=pod.prev())
        bench.call(verb, config, pod, CNI_IFNAME=odd).refused(4, "CNI_IFNAME", r"\udcff")
    assert untouched(bench, pod)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("AWS_ENDPOINT_URL_EC2", "foo", 100),
        ("AWS_ENDPOINT_URL_EC2", "http://[bad", 100),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://x:y", 7),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "169.254.169.254", 7),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://[bad", 7),
    ],
)
def test_an_endpoint_that_is_no_url(bench: Bench, name: str, value: str, code: int) -> None:
    pod = bench.sandbox(VIP, kind="veth")
    config = bench.config(prevResult=pod.prev())
    bench.call("ADD", config, pod, **{name: value}).refused(code, value)
    assert untouched(bench, pod)


def test_an_endpoint_that_is_no_url_fails_no_del(bench: Bench) -> None:
    pod = bench.sandbox(VIP, kind="veth")
    bench.add(pod, onDelete="release").ok()
    wrong = {"AWS_ENDPOINT_URL_EC2": "foo", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://x:y"}
    bench.call("DEL", bench.config(), pod, **wrong).ok()
    assert (pod.network(), bench.states()) == ([], [{"releasing"}])
    bench.delete(pod).ok()
    assert bench.vpc(VIP) == {}


# -- prevResult ---------------------------------------------------------------------------------------------

ODD_RESULTS: dict[str, Config] = {
    "ips is a number": {"ips": 5},
    "ips is true": {"ips": True},
    "an address that is a number": {"ips": [{"address": 167772161}]},
    "an address with a zone": {"ips": [{"address": "fe80::1%eth0/64"}]},
    "routes is a number": {"routes": 5},
    "routes is an object": {"routes": {"dst": "10.0.0.0/8"}},
    "interfaces is a number": {"interfaces": 5},
    "an interface that is null": {"interfaces": [None]},
}


@pytest.mark.parametrize("what", ODD_RESULTS)
def test_an_odd_result_of_the_plugin_before_us(bench: Bench, what: str) -> None:
    pod = bench.sandbox(VIP, kind="veth")
    bench.add(pod, prevResult=pod.prev() | ODD_RESULTS[what]).refused(7, "$.prevResult")
    assert untouched(bench, pod)


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize("depth", [100, 900])
@pytest.mark.parametrize("place", ["prevResult", "unknown", "podRoutes"])
def test_deep_nesting(bench: Bench, depth: int, place: str) -> None:
    """Deep, but JSON: it is refused for what it says, or for its depth, or (what we do not read) taken."""
    pod = bench.sandbox(VIP, kind="veth")
    odd = {
        "prevResult": {"prevResult": pod.prev(more=nested(depth))},
        "unknown": {"bogus": nested(depth)},
        "podRoutes": {"podRoutes": nested(depth)},
    }[place]
    answer = bench.add(pod, **odd)
    allowed = {"prevResult": (0, 6), "unknown": (2, 6), "podRoutes": (2, 6, 7)}[place]
    assert answer.code in allowed, answer.said
    if answer.code:
        assert untouched(bench, pod)
    elif place == "prevResult":
        assert answer.document["more"] == nested(depth)


# -- GC -----------------------------------------------------------------------------------------------------

NO_LISTS: dict[str, Any] = {
    "a word": "x",
    "a number": 5,
    "true": True,
    "a list of words": ["x"],
    "another spelling": [{"containerId": "c", "ifname": "net1"}],
    "no interface": [{"containerID": "c"}],
    "an interface that is a number": [{"containerID": "c", "ifname": 1}],
}


@pytest.mark.parametrize("key", KEYS)
def test_gc_with_a_list_that_cannot_be_read_ends_nothing(bench: Bench, key: str) -> None:
    """Taken for an empty list it would end every claim of the node."""
    pod = bench.sandbox(VIP, kind="veth")
    bench.add(pod, onDelete="release").ok()
    keeps = pod.network()
    bench.lab.ec2.journal.clear()
    for what, value in NO_LISTS.items():
        answer = bench.call("GC", bench.config(**{key: value}))
        assert answer.code == 7, f"{what}: {answer.said}"
    lists = {KEYS[0]: [], KEYS[1]: "x"}  # the one that can be read does not help
    bench.call("GC", bench.config(**lists)).refused(7)
    assert bench.written() == []
    assert (bench.states(), pod.network(), bench.vpc(VIP)) == (
        [{"held"}],
        keeps,
        bench.everywhere(pod.eni),
    )


def test_gc_with_a_bare_object_names_one_attachment(bench: Bench) -> None:
    """Not what the specification says; but whom it names is clear, and nobody who is valid is ended."""
    pods = [bench.sandbox(f"192.168.0.{n}/32", kind="veth", name=f"web{n}") for n in (9, 10)]
    for pod in pods:
        bench.add(pod, onDelete="release").ok()
    named = {"containerID": pods[0].container, "ifname": "net1"}
    bench.call("GC", bench.config(**{KEYS[0]: named, "name": NETWORK})).ok()
    assert bench.vpc(pods[0].addresses[0]) == bench.everywhere(pods[0].eni)
