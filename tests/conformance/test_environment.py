"""E01 to E13: the variables of a call, judged before anything else is looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab import netns
from tests.conformance.harness import PROTO, Bench, Sandbox, address, arguments

VIP = "192.168.0.5/32"

REQUIRED = {
    "ADD": {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"},
    "DEL": {"CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"},
    "CHECK": {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"},
    "GC": {"CNI_PATH"},
    "STATUS": {"CNI_PATH"},
}
"""Copied from libcni's skel (``pkg/skel/skel.go``, ``getCmdArgsFromEnv``)."""

GIVEN = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/nowhere", "CNI_IFNAME": "net1", "CNI_PATH": "/x"}


def run(bench: Bench, verb: str, **changes: str | None) -> Any:
    """Make a call that would be judged sound, but for ``changes``. Its namespace does not exist."""
    environ = bench.environment(verb, **{**GIVEN, **changes})
    prev = {"interfaces": [{"name": "net1", "sandbox": "/x"}], "ips": [address(VIP, interface=0)]}
    return bench.run(environ, json.dumps(bench.config(prevResult=prev)).encode())


@pytest.mark.parametrize(
    ("verb", "name"), [(verb, name) for verb in REQUIRED for name in sorted(REQUIRED[verb])]
)
def test_E01_a_required_variable_is_missing(bench: Bench, verb: str, name: str) -> None:
    run(bench, verb, **{name: None}).refused(4, name)


@pytest.mark.parametrize("name", sorted(REQUIRED["ADD"]))
def test_E01_an_empty_one_is_missing_too(bench: Bench, name: str) -> None:
    """libcni sets all six always, empty where it has nothing to say."""
    run(bench, "ADD", **{name: ""}).refused(4, name)


@pytest.mark.parametrize("verb", REQUIRED)
def test_E02_every_missing_variable_is_named(bench: Bench, verb: str) -> None:
    output = run(bench, verb, **dict.fromkeys(GIVEN, None)).refused(4)
    assert {name for name in GIVEN if name in output} == REQUIRED[verb]


@pytest.mark.parametrize("args", [None, ""], ids=["unset", "empty"])
def test_E03_cni_args_are_optional(bench: Bench, args: str | None) -> None:
    pod = bench.sandbox(VIP)
    config = bench.config(prevResult=pod.prev())
    bench.call("ADD", config, pod, CNI_ARGS=args).ok()
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)


@pytest.mark.parametrize("container", ["a/b", "../x", "-x", ".x", "a b", "a:b", "ä", "a\n", "a;b", "a$b"])
def test_E04_characters_of_a_container_id(bench: Bench, container: str) -> None:
    run(bench, "ADD", CNI_CONTAINERID=container).refused(4, "CNI_CONTAINERID")


BAD_NAMES = {
    "E05 more than 15 bytes": ["sixteen-bytes-xx", "ööööööööö"],
    "E06 dot": ["."],
    "E07 dots": [".."],
    "E08 slash": ["net/1", "/"],
    "E09 colon": ["net:1"],
    "E10 white space": ["net 1", " net1", "net1\n", "net\t1", "net\u00a01"],
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, id=f"{what}: {name!r}") for what, names in BAD_NAMES.items() for name in names],
)
def test_E05_E06_E07_E08_E09_E10_names_that_no_interface_can_have(bench: Bench, name: str) -> None:
    run(bench, "ADD", CNI_IFNAME=name).refused(4, "CNI_IFNAME")


@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
def test_E04_whatever_is_done_with_them(bench: Bench, verb: str) -> None:
    run(bench, verb, CNI_CONTAINERID="a/b").refused(4, "CNI_CONTAINERID")


@pytest.mark.parametrize("name", ["sixteen-bytes-xx", "net:1", "a-" * 4000])
def test_E05_a_del_of_a_name_that_no_interface_can_have_keeps_no_plugin_from_cleaning_up(
    bench: Bench, name: str
) -> None:
    """Multus passes on what a pod's annotation says; libcni would end at our error."""
    run(bench, "CHECK", CNI_IFNAME=name).refused(4, "CNI_IFNAME")
    run(bench, "DEL", CNI_IFNAME=name).ok()


def test_E05_control_characters(bench: Bench) -> None:
    """The kernel takes them; a terminal that shows a list of claims obeys them."""
    run(bench, "ADD", CNI_IFNAME="\x1b[2K").refused(4, "CNI_IFNAME", "control character")
    run(bench, "DEL", CNI_IFNAME="\x1b[2K").ok()


def test_E05_fifteen_bytes_are_enough(bench: Bench) -> None:
    run(bench, "ADD", CNI_IFNAME="fifteen-bytes-x").refused(7, "fifteen-bytes-x")  # has no address


def test_every_malformed_variable_is_named(bench: Bench) -> None:
    output = run(bench, "ADD", CNI_CONTAINERID="a/b", CNI_IFNAME="net:1").refused(4)
    assert "CNI_CONTAINERID" in output
    assert "CNI_IFNAME" in output


@pytest.mark.parametrize("verb", ["GC", "STATUS", "VERSION"])
@pytest.mark.parametrize("value", [None, "", "no/such:thing !"], ids=["unset", "empty", "malformed"])
def test_E11_no_attachment_is_asked_for_where_there_is_none(
    bench: Bench, verb: str, value: str | None
) -> None:
    run(bench, verb, CNI_CONTAINERID=value, CNI_NETNS=value, CNI_IFNAME=value).ok()


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_E12_del_needs_no_namespace(bench: Bench, value: str | None) -> None:
    pod = bench.sandbox(VIP)
    bench.add(pod, onDelete="release").ok()
    bench.call("DEL", bench.config(), pod, CNI_NETNS=value).ok()
    assert bench.vpc(VIP) == {}


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_E13_the_host_s_own_namespace(bench: Bench, verb: str) -> None:
    node = bench.lab.nodes["a1"]
    if verb == "CHECK":
        pod = bench.sandbox(VIP)
        bench.add(pod).ok()
        config = bench.config(prevResult=pod.prev())
        bench.call("CHECK", config, pod, CNI_NETNS=node.netns).refused(104, "host")
    else:
        run(bench, verb, CNI_NETNS=node.netns).refused(8, node.netns)
        assert bench.vpc(VIP) == {}
        assert bench.claims() == []


def test_E13_del_does_nothing_in_the_host_s_own_namespace_and_succeeds(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    bench.add(pod, onDelete="release").ok()
    bench.call("DEL", bench.config(), pod, CNI_NETNS=pod.node.netns).ok()
    assert bench.vpc(VIP) == {}


@pytest.mark.parametrize("override", ["1", "TRUE"])
def test_E13_unless_it_is_overridden(bench: Bench, override: str) -> None:
    """As skel has it: a plugin that is to work on the host's own interface (here the ENI itself)."""
    bench.policy(allowHostDevice=True)
    node = bench.lab.nodes["a1"]
    host = Host(bench)
    environ = {"CNI_NETNS": node.netns, "CNI_IFNAME": "eth1", "CNI_CONTAINERID": "host"}
    prev = {
        "interfaces": [{"name": "eth1", "mac": node.eni("eth1").mac, "sandbox": node.netns}],
        "ips": [address(VIP, interface=0)],
    }
    config = bench.config(prevResult=prev, onDelete="release")
    with host:
        bench.call("ADD", config, **environ, CNI_NETNS_OVERRIDE=override).ok()
        assert host.ours() == ["from all lookup 100 oif eth1", "from 192.168.0.5 lookup 100"]
        assert bench.vpc(VIP) == bench.everywhere(node.eni("eth1").id)

        bench.call("CHECK", config, **environ, CNI_NETNS_OVERRIDE=override).ok()
        bench.call("DEL", bench.config(), **environ, CNI_NETNS_OVERRIDE=override).ok()
        assert host.ours() == []
        assert bench.vpc(VIP) == {}


class Host:
    """The node's own eth1 with a floating address on it, for a moment."""

    def __init__(self, bench: Bench) -> None:
        self.node = bench.lab.nodes["a1"]

    def __enter__(self) -> None:
        netns.ip(self.node.ns, [f"addr add {VIP} dev eth1"])

    def __exit__(self, *_: object) -> None:
        netns.ip(self.node.ns, [f"addr del {VIP} dev eth1"])
        for family in ("-4", "-6"):
            self.node.run(["ip", family, "rule", "flush", "proto", PROTO])
            self.node.run(["ip", family, "route", "flush", "table", "all", "proto", PROTO])

    def ours(self) -> list[str]:
        result = json.loads(self.node.run(["ip", "-N", "-j", "-d", "rule", "show"]).stdout)
        return [
            f"from {r['src']} lookup {r['table']}" + (f" oif {r['oif']}" if "oif" in r else "")
            for r in result
            if r.get("protocol") == PROTO and "iif" not in r  # by that the agent bars forwarding
        ]


def test_a_pod_is_known_by_its_cni_args(bench: Bench) -> None:
    """``K8S_POD_*`` end up in the claim; values may hold an equals sign."""
    pod = bench.sandbox(VIP, namespace="core", name="gw")
    environ = {"CNI_ARGS": arguments(pod.pod, K8S_POD_UID="a=b=c", OTHER="x")}
    bench.call("ADD", bench.config(prevResult=pod.prev()), pod, **environ).ok()
    assert [claim["pod"] for claim in bench.claims()] == [{"namespace": "core", "name": "gw", "uid": "a=b=c"}]


def test_where_the_attachment_is_recorded(bench: Bench) -> None:
    pod: Sandbox = bench.sandbox(VIP)
    bench.add(pod).ok()
    (claim,) = bench.claims()
    keys = ("network", "containerId", "ifname", "netns", "eni")
    assert [claim[key] for key in keys] == ["floating", pod.container, "net1", pod.netns, pod.eni]
