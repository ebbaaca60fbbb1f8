"""Which addresses of a result are ours, and what the result says afterwards, version by version."""

from __future__ import annotations

import copy
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from cni_floatip.model.errors import InvalidConfig
from cni_floatip.model.values import PodRoute
from cni_floatip.model.versions import SUPPORTED
from cni_floatip.protocol.result import PrevResult

INTERFACES = [
    {"name": "br0", "mac": "02:00:00:00:00:01"},
    {"name": "net1", "mac": "02:00:00:00:00:AA", "sandbox": "/run/netns/x"},
    {"name": "net2", "sandbox": "/run/netns/x"},
    {"name": "net1"},  # of that name, but on the host
]


def parse(ips: list[Any], ifname: str = "net1") -> PrevResult:
    return PrevResult.parse({"prevResult": {"interfaces": INTERFACES, "ips": ips}}, ifname)


@pytest.mark.parametrize(
    ("ips", "ours"),
    [
        pytest.param([{"address": "192.168.0.2/32", "interface": 1}], ["192.168.0.2/32"], id="by index"),
        pytest.param([{"address": "192.168.0.2/32"}], ["192.168.0.2/32"], id="no index: ours"),
        pytest.param([{"address": "192.168.0.2/32", "interface": -1}], ["192.168.0.2/32"], id="-1: ours"),
        pytest.param([{"address": "192.168.0.2/32", "interface": None}], ["192.168.0.2/32"], id="null: ours"),
        pytest.param(
            [{"address": "192.168.0.3/32", "interface": i} for i in (0, 2, 3)] + [{"address": "fd00::2/64"}],
            ["fd00::2/64"],
            id="other interfaces are not ours",
        ),
        pytest.param([{"address": "192.168.0.2/32"}] * 2, ["192.168.0.2/32"], id="twice is once"),
    ],
)
def test_addresses_of_a_result(ips: Any, ours: list[str]) -> None:
    assert [str(interface) for interface in parse(ips).addresses] == ours


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "must be called as a chained plugin"),
        ({"prevResult": None}, "must be called as a chained plugin"),
        ({"prevResult": {}}, "must be called as a chained plugin"),
        ({"prevResult": {"ips": []}, "x": 1}, "no address of net1|chained"),
        ({"prevResult": {"interfaces": [], "ips": [{"address": "1.2.3.4/32", "interface": 4}]}}, r"ips\[0\]"),
        ({"prevResult": {"ips": [{"address": "1.2.3.400/32"}]}}, r"ips\[0\].*no usable address"),
        ({"prevResult": {"ips": ["1.2.3.4"]}}, r"ips\[0\].*no usable address"),
        ({"prevResult": [1]}, "expected an object"),
        ({"prevResult": {"ips": 5}}, r"\$\.prevResult\.ips: expected a list, found 5"),
        ({"prevResult": {"ips": True}}, r"\$\.prevResult\.ips: expected a list, found True"),
        ({"prevResult": {"ips": {"address": "1.2.3.4/32"}}}, r"\$\.prevResult\.ips: expected a list"),
        ({"prevResult": {"ips": [{"address": 167772161}]}}, r"ips\[0\].*167772161 is not an address"),
        ({"prevResult": {"ips": [{"address": True}]}}, r"ips\[0\].*True is not an address"),
        ({"prevResult": {"ips": [{"address": "fd00::1%eth0/64"}]}}, r"ips\[0\].*%eth0/64' is not an address"),
        ({"prevResult": {"ips": [{"address": "1.2.3.4/32", "interface": "0"}]}}, r"ips\[0\]"),
        (
            {"prevResult": {"ips": [{"address": "1.2.3.4/32"}], "interfaces": 5}},
            r"prevResult\.interfaces: exp",
        ),
        ({"prevResult": {"ips": [{"address": "1.2.3.4/32"}], "routes": 5}}, r"prevResult\.routes: expected"),
        ({"prevResult": {"ips": [{"address": "1.2.3.4/32"}], "routes": {"dst": 1}}}, r"prevResult\.routes"),
        (
            {"prevResult": {"ips": [{"address": "1.2.3.4/32", "interface": 0}], "interfaces": [None]}},
            r"ips\[0\]",
        ),
    ],
)
def test_wrong_results_are_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidConfig, match=says):
        PrevResult.parse(config, "net1")


ROUTES = (
    PodRoute(ip_network("0.0.0.0/0"), ip_address("10.10.1.1"), 100, 8500),
    PodRoute(ip_network("10.20.0.0/16"), ip_address("10.10.1.1"), 254),
    PodRoute(ip_network("169.254.0.0/16"), None, 100, kind="unreachable"),
)


@pytest.mark.parametrize("version", SUPPORTED)
def test_routes_that_the_version_can_name(version: Any) -> None:
    document = {
        "interfaces": INTERFACES,
        "ips": [{"address": "192.168.0.2/32", "interface": 1, "novelty": [1.5]}],
        "routes": [{"dst": "1.0.0.0/8"}],
        "dns": {},
    }
    before = copy.deepcopy(document)
    raw = PrevResult.parse({"prevResult": document}, "net1").with_routes(version, ROUTES)
    main = {"dst": "10.20.0.0/16", "gw": "10.10.1.1"}
    table = {"dst": "0.0.0.0/0", "gw": "10.10.1.1", "mtu": 8500, "table": 100}
    added = [table, main] if version == "1.1.0" else [main]
    assert raw == {"cniVersion": version, **before, "routes": [{"dst": "1.0.0.0/8"}, *added]}
    assert document == before


def test_mac_of_the_interface_in_the_pod() -> None:
    assert parse([{"address": "192.168.0.2/32"}]).mac("net1") == "02:00:00:00:00:aa"
    assert parse([{"address": "192.168.0.2/32"}]).mac("net9") == ""
