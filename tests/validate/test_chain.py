"""What ``validate`` says of a chain, and what the plugins in it answer: the same."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from copy import deepcopy
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.validate.report import examine
from lab.chain import PluginError
from lab.vpc import FLOATING, FLOATING6
from lab.world import Lab
from tests.support.samples import sampled
from tests.validate.chain_cases import ACCEPTED, FLOATIP, REFUSED, SAMPLE, Case, ipvlan

POOL = "100.64.8.0/22"
pytestmark = pytest.mark.lab(
    azs=1,
    nodes_per_az=1,
    policy={
        "allowHostDevice": True,
        "allowedDestinations": [{"cidr": item} for item in (str(FLOATING), str(FLOATING6), POOL)],
    },
    warm=True,
)


needs = pytest.mark.needs(
    "root",
    "ip",
    "floatip",
    "reference-plugins",
    *(f"{name}-plugin" for name in ("macvlan", "host-local", "tuning", "sbr", "vrf", "bandwidth", "bridge")),
)


def accepted(name: str) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "judged", "plugins": [*ACCEPTED[name], FLOATIP]}


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_validate_refuses(case: Case) -> None:
    report = examine("f", json.dumps(case.conflist).encode())
    errors = [finding for finding in report.findings if not finding.warning]
    assert [finding.path for finding in errors] == [case.path], errors
    assert re.search(case.said, errors[0].text), errors


@pytest.mark.parametrize("name", ACCEPTED)
def test_validate_accepts(name: str) -> None:
    assert examine("f", json.dumps(accepted(name)).encode()).errors == 0


ANYTHING: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "x", "static", "0.0.0.0/0", "::/0", "fe80::1%eth0", "1.2.3.4", [], [[]], {}]
)


@given(
    st.sampled_from([case.conflist for case in REFUSED] + [accepted(name) for name in ACCEPTED]), st.data()
)
def test_whatever_stands_in_a_chain_it_is_judged(written: dict[str, Any], data: st.DataObject) -> None:
    """Anything in the place of anything: a sentence or none, never an exception."""
    chain = deepcopy(written)
    inner: Any = chain["plugins"]
    while isinstance(inner, dict | list) and inner:
        outer, inner = inner, None
        key = data.draw(st.sampled_from(list(outer) if isinstance(outer, dict) else range(len(outer))))
        if data.draw(st.booleans()):
            outer[key] = data.draw(ANYTHING)
        else:
            inner = outer[key]
    examine("f", json.dumps(chain).encode(), vpc_cidrs=[ip_network("10.10.0.0/16")])


def add(lab: Lab, conflist: dict[str, Any]) -> None:
    """Run the chain in a new pod, with the lab's stand-in where this kernel has no ipvlan."""
    node = lab.nodes["a1"]
    chain = deepcopy(conflist)
    for plugin in chain["plugins"]:
        if plugin["type"] == "ipvlan" and not lab.has_ipvlan:
            mode = next(key for key in plugin if key.casefold() == "mode")
            plugin |= {"type": "macvlan", mode: plugin[mode].replace("l2", "passthru")}
        ipam = plugin.get("ipam")
        if isinstance(ipam, dict) and ipam.get("type") == "host-local":
            ipam["dataDir"] = str(node.state / "host-local")
    pod = node.pod("judged")
    try:
        node.add(pod, chain)
    finally:
        with suppress(PluginError):  # what refuses an ADD may refuse a DEL
            node.delete(pod, chain)
        node.remove_pod(pod)


@needs
@pytest.mark.parametrize(
    "case", sampled("test_the_plugins_refuse", REFUSED, [case for case in REFUSED if case.name in SAMPLE])
)
def test_the_plugins_refuse(case: Case, lab: Lab) -> None:
    with pytest.raises(PluginError) as refused:
        add(lab, case.conflist)
    answer = f"{refused.value.code} {refused.value.msg} {refused.value.details} {refused.value.stderr}"
    stand_in = {"ipvlan": "macvlan"} if not lab.has_ipvlan else {}
    assert refused.value.plugin == stand_in.get(case.plugin, case.plugin), answer
    assert re.search(case.answer, answer), answer


@needs
@pytest.mark.parametrize("name", ACCEPTED)
def test_the_plugins_accept(name: str, lab: Lab) -> None:
    add(lab, accepted(name))


@needs
def test_a_pool_behind_host_device_answers_through_the_floating_interface(lab: Lab) -> None:
    """Of its addresses some are in the pod, the others behind it. Behind ipvlan: ``tests/uml``."""
    node, client = lab.nodes["a1"], lab.clients["vpc"]
    device = {"type": "host-device", "device": "eth1", "ipam": ipvlan()["ipam"]}
    chain = {"cniVersion": "1.0.0", "name": "pool", "plugins": [device, FLOATIP | {"destination": [POOL]}]}
    pod = node.pod("gateway")

    def ip(*arguments: str) -> str:
        return node.run(["ip", "-n", pod.ns, *arguments]).stdout

    node.add(pod, chain)
    try:
        ip("addr", "add", "100.64.8.1/32", "dev", "lo")
        assert client.ask("192.168.0.2") == "gateway"
        assert client.ask("100.64.8.1") == "gateway"

        ip("link", "add", "tunnels", "up", "type", "bridge")
        ip("route", "add", POOL, "dev", "tunnels")
        assert "dev tunnels" in ip("route", "get", "100.64.8.9", "from", "100.64.8.1")
        assert "dev net1" in ip("route", "get", str(client.addresses[0]), "from", "100.64.8.1")
    finally:
        node.delete(pod, chain)
        left = ip("rule", "show") + ip("route", "show", "table", "all")
        node.remove_pod(pod)
    assert "from 100.64.8.0/22" not in left
    assert "throw" not in left
