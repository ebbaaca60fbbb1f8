"""The version matrix: A, K and D in every version that the plugin claims; and what the suite covers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.chain import PluginError
from tests.conformance.harness import NETWORK, VERSIONS, Bench, address
from tests.conformance.through import DIRECT_ONLY

VIP, VIP6 = "192.168.0.12/32", "fd00:192:168::12/128"

CHECKLIST = (
    [f"P{n:02}" for n in range(1, 18)]
    + [f"E{n:02}" for n in range(1, 14)]
    + [f"C{n:02}" for n in range(1, 16)]
    + [f"A{n:02}" for n in range(1, 17)]
    + [f"D{n:02}" for n in range(1, 17)]
    + [f"K{n:02}" for n in range(1, 8)]
    + [f"S{n:02}" for n in range(1, 6)]
    + [f"G{n:02}" for n in range(1, 9)]
)
"""Process, environment, configuration, ADD, DEL, CHECK, STATUS, GC."""


@pytest.mark.one_in(3)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_life_of_an_attachment(bench: Bench, version: str) -> None:
    """ADD, ADD again, CHECK (from 0.4.0), DEL as libcni sends it (``prevResult`` from 0.4.0), DEL again."""
    pod = bench.sandbox(VIP, VIP6)
    prev = pod.prev(version, routes=[{"dst": "10.1.0.0/16", "gw": "192.168.0.1"}], dns={"domain": "x"})
    result = bench.add(pod, version, prevResult=prev, onDelete="release").ok()
    assert result["cniVersion"] == version
    assert {**result, "routes": prev["routes"]} == prev
    assert [("version" in ip) for ip in result["ips"]] == [version < "1.0.0"] * 2
    assert bench.add(pod, version, prevResult=prev, onDelete="release").ok() == result
    assert bench.vpc(VIP) == bench.vpc(VIP6) == bench.everywhere(pod.eni)

    if version >= "0.4.0":
        bench.check(pod, version, prevResult=result).ok()
        bench.unpoint(VIP6, "client")
        bench.age_claims()
        bench.check(pod, version, prevResult=result).refused(104, bench.lab.tables["client"], VIP6)
    else:
        bench.check(pod, version, prevResult=result).refused(1, version)

    known = {"prevResult": result} if version >= "0.4.0" else {}
    bench.delete(pod, version, **known).ok()
    bench.delete(pod, version, **known).ok()
    assert bench.vpc(VIP) == bench.vpc(VIP6) == {}
    assert pod.network() == []
    assert bench.states() == [{"gone"}]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_each_version_refuses(bench: Bench, version: str) -> None:
    """In an error of the same version."""
    pod = bench.sandbox(VIP)
    prev = pod.prev(version, ips=[address("192.168.1.12/32", version, interface=0)])
    answer = bench.add(pod, version, prevResult=prev)
    answer.refused(102, "192.168.1.12")
    assert answer.document["cniVersion"] == version


def test_the_address_list_as_the_text_of_0_3_0_spells_it(bench: Bench) -> None:
    """The text says ``ip``, every implementation writes ``ips`` (corrected in 0.3.1)."""
    pod = bench.sandbox(VIP)
    prev = pod.prev("0.3.0")
    prev["ip"] = prev.pop("ips")
    assert bench.add(pod, "0.3.0", prevResult=prev).ok()["ip"] == prev["ip"]
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)


@pytest.mark.one_in(3)
@pytest.mark.needs("macvlan-plugin", "static-plugin")
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_behind_a_reference_plugin(bench: Bench, version: str) -> None:
    """The result of a real predecessor in this version, and its DEL after ours."""
    _chain(bench, version)


@pytest.mark.needs("reference-plugins-1.1.0")
def test_behind_a_reference_plugin_that_speaks_1_1_0(bench: Bench) -> None:
    _chain(bench, "1.1.0")


def _chain(bench: Bench, version: str) -> None:
    node = bench.lab.nodes["a1"]
    if bench.agents:
        bench.agents.prepare(node, node.env)
    conflist = bench.lab.conflist([VIP, VIP6], version=version, name=NETWORK, onDelete="release")
    pod = node.pod("chained", serve=False)
    try:
        result = node.add(pod, conflist)
        assert (result["cniVersion"], [ip["address"] for ip in result["ips"]]) == (version, [VIP, VIP6])
        assert bench.vpc(VIP) == bench.vpc(VIP6) == bench.everywhere(node.eni("eth1").id)
        bench.lab.follow()  # the one packet of the suite
        assert bench.lab.clients["vpc"].ping(VIP.split("/")[0], 1) == 1
        node.delete(pod, conflist)
        bench.settle(node)
        assert bench.vpc(VIP) == bench.vpc(VIP6) == {}
    except PluginError:
        node.delete(pod, conflist)
        raise
    finally:
        node.remove_pod(pod)


def test_what_the_client_is_not_held_to_exists_and_has_a_reason() -> None:
    text = "\n".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))
    names = {name.partition("[")[0] for name in DIRECT_ONLY}
    assert names <= set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    assert all(DIRECT_ONLY.values())


def test_every_check_of_the_list_is_covered() -> None:
    """Its id stands in the name of a test; a name may have several."""
    text = "\n".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))
    names = re.findall(r"^def (test_\w+)", text, re.MULTILINE)
    covered = {mark for name in names for mark in re.findall(r"_([A-Z]\d\d)(?=_)", name)}
    assert sorted(covered) == sorted(CHECKLIST)
