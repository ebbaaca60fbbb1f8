"""Input that no schema foresees: each is refused for what it is, before anything is written.

``Bench.call`` holds every answer to the protocol; here none is "a bug in floatip" (999) either.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.conformance.harness import Bench, Config, Sandbox

VIP = "192.168.0.9/32"
KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")


def untouched(bench: Bench, pod: Sandbox) -> bool:
    """Say whether nothing was written anywhere."""
    return (bench.written(), bench.claims(), pod.network()) == ([], [], [])


# -- the environment ----------------------------------------------------------------------------------------


def test_an_interface_name_that_is_no_text(bench: Bench) -> None:
    """The kernel takes any byte but a few; a claim of such an interface could not be written down."""
    pod = bench.sandbox(VIP, kind="veth")
    odd = os.fsdecode(b"net\xff")
    config = bench.config(prevResult=pod.prev() | {"interfaces": [{"name": odd, "sandbox": pod.netns}]})
    for verb in ("ADD", "CHECK"):
        bench.call(verb, config, pod, CNI_IFNAME=odd).refused(4, "CNI_IFNAME", r"\udcff", "UTF-8")
    bench.call("DEL", config, pod, CNI_IFNAME=odd).ok()
    assert untouched(bench, pod)


def test_a_namespace_path_that_is_no_text(bench: Bench) -> None:
    pod = bench.sandbox(VIP, kind="veth")
    odd = os.fsdecode(b"/run/netns/\xff")
    answer = bench.call("ADD", bench.config(prevResult=pod.prev()), pod, CNI_NETNS=odd)
    answer.refused(103, odd, "does not exist")
    assert answer.stdout.decode()  # JSON is UTF-8 whatever it speaks of
    bench.call("DEL", bench.config(), pod, CNI_NETNS=odd).ok()
    assert untouched(bench, pod)


@pytest.mark.parametrize(
    ("name", "value", "code", "says"),
    [
        ("AWS_ENDPOINT_URL_EC2", "foo", 100, "'foo' is not a URL like https://ec2."),
        ("AWS_ENDPOINT_URL_EC2", "http://[bad", 100, "'http://[bad' is not a URL"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://x:y", 7, "'http://x:y' is not a URL"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "169.254.169.254", 7, "is not a URL like http://169.254"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://[bad", 7, "'http://[bad' is not a URL"),
    ],
)
def test_an_endpoint_that_is_no_url(bench: Bench, name: str, value: str, code: int, says: str) -> None:
    pod = bench.sandbox(VIP, kind="veth")
    config = bench.config(prevResult=pod.prev())
    bench.call("ADD", config, pod, **{name: value}).refused(code, says)
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


@pytest.mark.parametrize("place", ["a key that we do not know", "podRoutes", "prevResult"])
def test_deep_nesting_is_refused(bench: Bench, place: str) -> None:
    """It is JSON all the same: refused for what it says, or for its depth; or taken, where we do not read."""
    pod = bench.sandbox(VIP, kind="veth")
    deep = nested(900)
    odd, allowed = {
        "a key that we do not know": ({"bogus": deep}, (2, 6)),
        "podRoutes": ({"podRoutes": deep}, (2, 6)),
        "prevResult": ({"prevResult": pod.prev(more=deep)}, (0, 6)),
    }[place]
    answer = bench.add(pod, **odd)
    assert answer.code in allowed, answer.said
    assert untouched(bench, pod) is (answer.code != 0)


def test_deep_nesting_fails_no_del(bench: Bench) -> None:
    """The runtime would run no DEL of the plugins before us, and the pod would never end."""
    pod = bench.sandbox(VIP, kind="veth")
    bench.add(pod, onDelete="release").ok()
    bench.call("DEL", bench.config(dns=nested(900)), pod).ok()
    assert pod.network() == []
    assert bench.vpc(VIP) == {}
    bench.call("DEL", bench.config(prevResult=pod.prev(more=nested(900))), pod).ok()


# -- GC -----------------------------------------------------------------------------------------------------

NO_LISTS: dict[str, Any] = {
    "a word": "x",
    "one attachment without a list": {"containerID": "c", "ifname": "net1"},
    "a number": 5,
    "true": True,
    "an object": {"containerID": "c"},
    "a list of words": ["x"],
    "another spelling": [{"containerId": "c", "ifname": "net1"}],
    "no interface": [{"containerID": "c"}],
    "an interface that is a number": [{"containerID": "c", "ifname": 1}],
}


def test_gc_with_a_list_that_cannot_be_read_ends_nothing(bench: Bench) -> None:
    """Taken for an empty list it would end every claim of the node."""
    pod = bench.sandbox(VIP, kind="veth")
    bench.add(pod, onDelete="release").ok()
    keeps = pod.network()
    bench.lab.ec2.journal.clear()
    for what, value in NO_LISTS.items():
        answer = bench.call("GC", bench.config(**{KEYS[0]: value}))
        assert answer.code == 7, f"{what}: {answer.said}"
    for lists in ({KEYS[1]: "x"}, {KEYS[0]: [], KEYS[1]: "x"}):  # one that can be read does not help
        bench.call("GC", bench.config(**lists)).refused(7)
    assert bench.written() == []
    assert (bench.states(), pod.network(), bench.vpc(VIP)) == (
        [{"held"}],
        keeps,
        bench.everywhere(pod.eni),
    )
