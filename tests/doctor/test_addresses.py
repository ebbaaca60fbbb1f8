"""Where the addresses of this node's pods lead, and what leads here besides: facts in, findings out."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from cni_floatip.doctor.facts import ClaimedPod, KnownRoutes
from cni_floatip.doctor.judge import addresses, tables
from cni_floatip.model.values import RouteKey, RouteTable, RouteTarget

NET, ADDRESS = ip_network("192.168.0.0/24"), ip_network("192.168.0.7/32")
OURS = RouteTarget("eni-1", is_eni=True)
OTHER, DEAD = RouteTarget("eni-9", is_eni=True), RouteTarget("eni-9", is_eni=True, active=False)
TGW, PROPAGATED = RouteTarget("tgw-1", is_eni=False), RouteTarget("vgw-1", is_eni=False, propagated=True)
DB = ClaimedPod("default/db", "net1", "/run/netns/x", "eni-1", (), (RouteKey("rtb-1", ADDRESS),))


def table(routes: dict[str, RouteTarget] | None = None, id_: str = "rtb-1") -> RouteTable:
    cells = {ip_network(cidr): target for cidr, target in (routes or {}).items()}
    return RouteTable(id_, "vpc-1", "1", cells)


def ids(result: Any) -> list[str]:
    return [finding.id for finding in result]


def test_a_pod_whose_eni_left_is_cut_off_and_its_blackhole_is_not_for_the_sweep() -> None:
    claims = [ClaimedPod("default/db", "net1", "/run/netns/x", eni, ()) for eni in (DEAD.id, "eni-here")]
    findings = list(addresses.cut_off(claims, {"eni-here"}))
    assert ids(findings) == ["address-cut-off"]
    assert "attach eni-9 again, or run: kubectl -n default delete pod db" in findings[0].remedy
    assert ids(tables.conflicts([table({str(ADDRESS): DEAD})], [NET], {DEAD.id})) == []


@pytest.mark.parametrize(
    ("target", "wanted", "said"),
    [
        (OURS, [], ""),
        (None, ["address-unserved"], "has no route in rtb-1"),
        (replace(OURS, active=False), ["address-unserved"], "eni-1 (blackhole) in rtb-1"),
        (DEAD, ["address-unserved"], "eni-9 (blackhole) in rtb-1"),
        (TGW, ["address-unserved"], "leads to tgw-1 in rtb-1"),
        (PROPAGATED, ["address-unserved"], "leads to vgw-1 in rtb-1"),
        (OTHER, ["address-superseded"], "leads to eni-9 (attached to i-9) in rtb-1"),
        (RouteTarget("eni-8", is_eni=True), ["address-superseded"], "eni-8 (attached to nothing)"),
        (RouteTarget("eni-7", is_eni=True), ["address-superseded"], "eni-7 (EC2 does not show whose)"),
        (RouteTarget("eni-2", is_eni=True), ["address-superseded"], "eni-2 (of default/new on this node)"),
        (
            RouteTarget("eni-3", is_eni=True),
            ["address-unserved"],
            "eni-3 of this node in rtb-1, which no pod",
        ),
    ],
    ids=str,
)
def test_where_an_address_leads(target: Any, wanted: list[Any], said: str) -> None:
    new = ClaimedPod("default/new", "net1", "/run/netns/y", "eni-2", (), DB.routes)
    there = [table({str(ADDRESS): target} if target else {})]
    vpc = addresses.VpcState(there, frozenset({"eni-1", "eni-2", "eni-3"}), {"eni-9": "i-9", "eni-8": ""})
    of_db = [finding for finding in addresses.served([DB, new], vpc) if finding.subject == "default/db net1"]
    assert ids(of_db) == wanted
    assert all(said in finding.what and "192.168.0.7/32" in finding.what for finding in of_db)


def test_tables_that_lead_to_the_same_are_one_finding() -> None:
    names = ["rtb-1", "rtb-2", "rtb-3"]
    db = replace(DB, routes=tuple(RouteKey(name, ADDRESS) for name in (*names, "rtb-gone")))
    there = [table({str(ADDRESS): OTHER}, name) for name in names[:2]] + [table(id_="rtb-3")]
    superseded, unserved = addresses.served([db], addresses.VpcState(there, frozenset({"eni-1"}), {}))
    assert superseded.what.endswith("in rtb-1, rtb-2")
    assert unserved.what.endswith("in rtb-3")


def test_who_is_cut_off_is_said_to_be_nothing_else() -> None:
    assert not list(addresses.served([DB], addresses.VpcState([table()], frozenset({"eni-2"}), {})))


@pytest.mark.parametrize(
    ("route", "known", "wanted"),
    [
        (OURS, KnownRoutes(), 1),
        (OURS, KnownRoutes(frozenset(DB.routes)), 0),
        (OURS, KnownRoutes(frozenset({RouteKey("rtb-2", ADDRESS)})), 1),
        (OURS, KnownRoutes(lost_tables=frozenset({"eni-1"})), 0),
        (OURS, KnownRoutes(lost_tables=frozenset({""})), 0),
        (OURS, KnownRoutes(lost_tables=frozenset({"eni-2"})), 1),
        (replace(OURS, active=False), KnownRoutes(), 0),
        (replace(OURS, propagated=True), KnownRoutes(), 0),
        (OTHER, KnownRoutes(), 0),
        (TGW, KnownRoutes(), 0),
    ],
    ids=str,
)
def test_route_that_nobody_here_claims(route: Any, known: KnownRoutes, wanted: int) -> None:
    there = [table({str(ADDRESS): route, "10.9.0.1/32": OURS})]
    findings = list(addresses.unclaimed(there, [NET], {"eni-1"}, known))
    assert ids(findings) == ["route-unclaimed"] * wanted
    assert all("--route-table-id rtb-1 --destination-cidr-block 192.168.0.7/32" in f.remedy for f in findings)


def test_a_blackhole_of_a_live_claim_is_not_for_the_sweep() -> None:
    there = [table({str(ADDRESS): DEAD})]
    assert ids(tables.conflicts(there, [NET], (), DB.routes)) == []
    assert ids(tables.conflicts(there, [NET])) == ["route-blackhole"]
