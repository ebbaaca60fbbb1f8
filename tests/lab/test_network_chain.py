"""The lab's container runtime runs chains as libcni does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from lab.chain import PluginError
from lab.world import Lab

pytestmark = pytest.mark.needs("root", "ip", "macvlan-plugin", "static-plugin", "tuning-plugin")


@pytest.fixture
def chain(lab: Lab) -> dict[str, Any]:
    tuning = {
        "type": "tuning",
        "capabilities": {"mac": True},
        "sysctl": {"net.ipv4.conf.net1.rp_filter": "2"},
    }
    # Not a /32: CHECK of the reference plugins wants a route to the prefix in the main table.
    first = lab.predecessor(addresses=["192.168.0.2/24"])
    return {"cniVersion": "1.0.0", "name": "two", "plugins": [first, tuning]}


@pytest.fixture
def plain_pod(lab: Lab) -> Iterator[Any]:
    node = lab.nodes["a1"]
    made = node.pod("plain")
    yield made
    node.remove_pod(made)


def order(node: Any, verb: Any) -> list[Any]:
    return [run.plugin for run in node.runtime.runs if run.verb == verb]


def test_add_threads_the_result_and_del_runs_backwards(
    lab: Lab, chain: dict[str, Any], plain_pod: Any
) -> None:
    node = lab.nodes["a1"]
    node.runtime.runs.clear()
    first = chain["plugins"][0]["type"]
    result = node.add(plain_pod, chain)
    assert [ip["address"] for ip in result["ips"]] == ["192.168.0.2/24"]
    assert [i["sandbox"] for i in result["interfaces"]] == [plain_pod.netns]
    node.check(plain_pod, chain)
    node.delete(plain_pod, chain)
    assert order(node, "ADD") == [first, "tuning"]
    assert order(node, "CHECK") == [first, "tuning"]
    assert order(node, "DEL") == ["tuning", first]
    assert "net1" not in node.run(["ip", "-n", plain_pod.ns, "-br", "link"]).stdout


def test_an_eni_is_free_once_its_pod_is_removed(lab: Lab, chain: dict[str, Any], plain_pod: Any) -> None:
    """Also while the kernel still has its namespace, as on a busy machine: a descriptor keeps it."""
    node = lab.nodes["a1"]
    former = node.pod("former")
    try:
        node.add(former, chain)
        kept = os.open(former.netns, os.O_RDONLY)
    finally:
        node.remove_pod(former)
    try:
        node.add(plain_pod, chain)
    finally:
        os.close(kept)
    node.delete(plain_pod, chain)


def test_a_plugin_s_error_is_raised_with_code_and_message(
    lab: Lab, chain: dict[str, Any], plain_pod: Any
) -> None:
    chain["plugins"][0]["master"] = "eth9"
    with pytest.raises(PluginError, match="Link not found") as caught:
        lab.nodes["a1"].add(plain_pod, chain)
    assert (caught.value.plugin, caught.value.verb) == (chain["plugins"][0]["type"], "ADD")
    assert caught.value.code > 0


def test_a_capability_is_handed_to_the_plugin_that_has_it(
    lab: Lab, chain: dict[str, Any], plain_pod: Any
) -> None:
    node = lab.nodes["a1"]
    mac = "02:00:00:00:be:ef"
    node.add(plain_pod, chain, runtime_config={"mac": mac})
    try:
        assert mac in node.run(["ip", "-n", plain_pod.ns, "-br", "link"]).stdout
    finally:
        node.delete(plain_pod, chain)


def test_a_pod_has_a_cluster_interface_with_the_default_route(lab: Lab, plain_pod: Any) -> None:
    node = lab.nodes["a1"]
    routes = node.run(["ip", "-n", plain_pod.ns, "route"]).stdout
    assert "default via 169.254.1.1 dev eth0" in routes
    assert plain_pod.ping(node.primary.addresses[0]) == 3
    assert node.run(["ping", "-c1", "-W1", str(plain_pod.address)]).returncode == 0


def test_what_a_node_runs_knows_where_aws_is_and_nothing_of_this_process(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    shown = lab.nodes["a1"].run(["env"]).stdout
    assert "AWS_ENDPOINT_URL_EC2=http://127.0.0.1:8000" in shown
    assert "AWS_PROFILE" not in shown
    assert "FLOATIP_CONFIG=" in shown
