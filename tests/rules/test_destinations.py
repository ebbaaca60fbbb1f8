"""Decisions by name: which destination, which tables, and what becomes of a route at the end of a claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.config.netconf import RouteTableSelector
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, State
from cni_floatip.model.errors import InvalidConfig, PolicyRefused, RouteConflict
from cni_floatip.model.values import (
    Network,
    RouteKey,
    RouteTable,
    RouteTarget,
)
from cni_floatip.rules import destinations
from cni_floatip.rules.destinations import Release
from tests.rules.vpc_sample import ENI, SUBNETS, conf, interfaces
from tests.support.claims import a_claim


def policy(*cidrs: str, namespaces: list[str] | None = None) -> NodeConf:
    extra = {"namespaces": namespaces} if namespaces else {}
    return NodeConf.parse(
        {
            "allowedDestinations": [{"cidr": cidr, **extra} for cidr in cidrs],
            "allowedRouteTables": {"ids": ["rtb-0a"]},
        }
    )


@pytest.mark.parametrize(
    ("how", "addresses", "wanted"),
    [
        pytest.param(
            "auto",
            ["192.168.0.2/29"],
            ["192.168.0.2/32"],
            id="pattern 1: the host route, whatever the prefix",
        ),
        pytest.param("auto", ["10.10.254.2/28"], ["10.10.254.0/28"], id="pattern 2: the whole subnet"),
        pytest.param("auto", ["10.10.254.2/32"], ["10.10.254.0/28"], id="pattern 2 with a VIP's own prefix"),
        pytest.param(
            "auto", ["10.10.254.2/28", "10.10.254.3/28"], ["10.10.254.0/28"], id="two addresses, one subnet"
        ),
        pytest.param(
            "auto",
            ["10.10.254.2/28", "fd00::2/64"],
            ["10.10.254.0/28", "fd00::2/128"],
            id="each family its own",
        ),
        pytest.param("auto", ["fd10:0:fe::2/64"], ["fd10:0:fe::/64"], id="pattern 2, IPv6"),
        pytest.param("address", ["192.168.0.2/32"], ["192.168.0.2/32"], id="asserted and true: address"),
        pytest.param("subnet", ["10.10.254.2/28"], ["10.10.254.0/28"], id="asserted and true: subnet"),
        pytest.param(
            ["172.16.0.0/16"],
            ["192.168.0.2/32"],
            ["192.168.0.2/32", "172.16.0.0/16"],
            id="a pool in addition",
        ),
    ],
)
def test_destinations_of_a_pods_addresses(
    how: str | list[str], addresses: list[str], wanted: list[str]
) -> None:
    results = destinations.destinations(conf(destination=how), interfaces(*addresses), ENI, SUBNETS)
    assert [str(want.destination) for want in results] == wanted


@pytest.mark.parametrize(
    ("how", "address", "error", "says"),
    [
        ("address", "10.10.254.2/28", InvalidConfig, r"inside the VPC .* use an address outside it"),
        ("subnet", "192.168.0.2/32", InvalidConfig, r"outside the VPC .* empty subnet"),
        ("auto", "10.10.99.2/32", PolicyRefused, r"in none of its subnets: .* make a subnet"),
    ],
)
def test_wrong_destinations_are_refused(how: str, address: str, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        destinations.destinations(conf(destination=how), interfaces(address), ENI, SUBNETS)


@pytest.mark.parametrize(
    ("address", "allowed", "occupied", "says"),
    [
        pytest.param(
            "10.10.1.9/24", ["10.10.0.0/16"], True, "subnet-a, where eni-9 lives", id="a live subnet"
        ),
        pytest.param(
            "192.168.0.2/32", ["192.168.1.0/24"], False, "not allowed for namespace core", id="outside policy"
        ),
        pytest.param("169.254.1.1/32", ["0.0.0.0/0"], False, "link-local", id="link-local"),
        pytest.param("127.0.0.1/32", ["0.0.0.0/0"], False, "loopback", id="loopback"),
        pytest.param("224.0.0.1/32", ["0.0.0.0/0"], False, "multicast", id="multicast"),
        pytest.param("fd00:ec2::254/128", ["::/0"], False, "AWS's own", id="IPv6 metadata"),
    ],
)
def test_destination_outside_policy_or_never(
    address: str, allowed: list[str], occupied: bool, says: str
) -> None:
    wants = destinations.destinations(conf(), interfaces(address), ENI, SUBNETS)
    with pytest.raises(PolicyRefused, match=says):
        destinations.refuse_destinations(
            wants, ENI, policy(*allowed), "core", {"subnet-a": "eni-9"} if occupied else {}
        )


@pytest.mark.parametrize(
    ("wide", "entries", "ok"),
    [
        ("10.0.0.0/8", ["10.0.0.0/8"], True),
        ("10.0.0.0/8", ["0.0.0.0/0"], False),
        ("172.16.0.0/15", ["172.16.0.0/12"], False),
        ("172.16.0.0/15", ["172.16.0.0/12", "172.16.0.0/15"], True),
        ("172.16.0.0/16", ["172.16.0.0/12"], True),
        ("fd20::/47", ["fd20::/32"], False),
        ("fd20::/48", ["fd20::/32"], True),
    ],
)
def test_wide_destination_needs_an_exact_entry(wide: str, entries: list[str], ok: bool) -> None:
    wants = destinations.destinations(conf(destination=[wide]), [], ENI, SUBNETS)
    if ok:
        destinations.refuse_destinations(wants, ENI, policy(*entries), "", {})
    else:
        with pytest.raises(PolicyRefused, match="must name exactly"):
            destinations.refuse_destinations(wants, ENI, policy(*entries), "", {})


def test_policy_lists_namespaces() -> None:
    wants = destinations.destinations(conf(), interfaces("192.168.0.2/32"), ENI, ())
    destinations.refuse_destinations(
        wants, ENI, policy("192.168.0.0/24", namespaces=["core-*"]), "core-a", {}
    )
    for namespace in ("default", ""):
        with pytest.raises(PolicyRefused, match="allowedDestinations"):
            destinations.refuse_destinations(
                wants, ENI, policy("192.168.0.0/24", namespaces=["core-*"]), namespace, {}
            )


def table(name: str, routes: Mapping[Network, RouteTarget] | None = None, **keys: Any) -> RouteTable:
    return RouteTable(name, "vpc-1", "1", routes or {}, **keys)


MAIN = table("rtb-0main", main=True)
TAGGED = table("rtb-0tag", tags={"floatip": "yes", "env": "a"}, subnets=frozenset({"subnet-a"}))
EDGE = table("rtb-0edge", tags={"floatip": "yes"}, is_gateway_table=True)
ELSEWHERE = replace(table("rtb-0far", tags={"floatip": "yes"}), vpc="vpc-2")


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        pytest.param(
            {"all": True}, ["rtb-0main", "rtb-0tag"], id="all, without gateway tables and other VPCs"
        ),
        pytest.param({"tags": {"floatip": "*"}}, ["rtb-0tag"], id="any value"),
        pytest.param({"tags": {"floatip": "yes", "env": "a"}}, ["rtb-0tag"], id="all tags must match"),
        pytest.param({"subnets": ["subnet-a"]}, ["rtb-0tag"], id="the subnet's own table"),
        pytest.param({"subnets": ["subnet-dummy"]}, ["rtb-0main"], id="no association: the main table"),
        pytest.param({"ids": ["rtb-0edge"]}, ["rtb-0edge"], id="a gateway table by id"),
    ],
)
def test_route_tables_by_selector(selector: dict[str, Any], found: list[str]) -> None:
    tables = [MAIN, TAGGED, EDGE, ELSEWHERE]
    if "ids" in selector:
        tables = [route_table for route_table in tables if route_table.id in selector["ids"]]
    chosen = destinations.select_tables(RouteTableSelector.of(selector), tables, SUBNETS, ENI)
    assert [route_table.id for route_table in chosen] == found


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ({"ids": ["rtb-0a", "rtb-0main"]}, "rtb-0a: no such route table in vpc-1"),
        ({"tags": {"floatip": "no"}}, "tags floatip=no: no route table"),
        ({"tags": {"floatip": "yes", "env": "b"}}, "no route table"),
        ({"subnets": ["subnet-x"]}, "subnet-x: no such subnet"),
    ],
)
def test_no_table_is_an_error(selector: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidConfig, match=says):
        destinations.select_tables(RouteTableSelector.of(selector), [MAIN, TAGGED, EDGE], SUBNETS, ENI)


def test_table_filters_take_values_literally() -> None:
    filters = destinations.table_filters(RouteTableSelector(tags={"a*": "b?", "c": "*"}), "vpc-1")
    assert filters == {"vpc-id": ["vpc-1"], "tag:a*": [r"b\?"], "tag-key": ["c"]}


@pytest.mark.parametrize(
    ("target", "conflict"),
    [
        (RouteTarget("eni-9", is_eni=True), False),
        (RouteTarget("eni-9", is_eni=True, active=False), False),
        (RouteTarget("igw-1", is_eni=False), True),
        (RouteTarget("tgw-1", is_eni=False, active=False), True),
        (RouteTarget("vgw-1", is_eni=False, propagated=True), True),
    ],
    ids=str,
)
def test_only_routes_to_network_interfaces_are_replaced(target: RouteTarget, conflict: bool) -> None:
    wants = destinations.destinations(conf(), interfaces("192.168.0.2/32"), ENI, ())
    tables = [table("rtb-0a", {ip_network("192.168.0.2/32"): target})]
    if conflict:
        with pytest.raises(RouteConflict, match=f"rtb-0a 192.168.0.2/32: .*{target.id}"):
            destinations.refuse_tables(tables, wants, policy())
    else:
        destinations.refuse_tables(tables, wants, policy())


def test_table_outside_policy() -> None:
    with pytest.raises(PolicyRefused, match="rtb-0b: not in allowedRouteTables"):
        destinations.refuse_tables([table("rtb-0a"), table("rtb-0b")], [], policy())


# -- the end of a claim

VIP = ip_network("192.168.0.2/32")
PLACE = RouteKey("rtb-0a", VIP)


def claim(container: str, eni: str, state: State = State.HELD, created: float = 0) -> Claim:
    return a_claim(ClaimedRoute(PLACE, state), container=container, eni=eni, created_at=created)


@pytest.mark.parametrize(
    ("target", "others", "what"),
    [
        pytest.param(None, [], Release.LEAVE, id="absent"),
        pytest.param(RouteTarget("eni-1", is_eni=True), [], Release.DELETE, id="last pod gone"),
        pytest.param(
            RouteTarget("eni-1", is_eni=True, active=False), [], Release.DELETE, id="ours, blackhole"
        ),
        pytest.param(RouteTarget("eni-9", is_eni=True), [], Release.LEAVE, id="another node's"),
        pytest.param(RouteTarget("igw-1", is_eni=False), [], Release.LEAVE, id="not a network interface"),
        pytest.param(RouteTarget("eni-1", is_eni=True, propagated=True), [], Release.LEAVE, id="propagated"),
        pytest.param(
            RouteTarget("eni-1", is_eni=True), [claim("b", "eni-1")], Release.LEAVE, id="second pod, same ENI"
        ),
        pytest.param(
            RouteTarget("eni-1", is_eni=True),
            [claim("b", "eni-2")],
            Release.HAND_OVER,
            id="second pod, other ENI",
        ),
        pytest.param(
            RouteTarget("eni-2", is_eni=True), [claim("b", "eni-2")], Release.LEAVE, id="the other ENI has it"
        ),
        pytest.param(
            RouteTarget("eni-1", is_eni=True),
            [claim("b", "eni-1", State.RELEASING)],
            Release.DELETE,
            id="the other ends too",
        ),
    ],
)
def test_what_release_does_with_a_route(target: RouteTarget | None, others: list[Any], what: Any) -> None:
    assert (
        destinations.decide_release(
            target, claim("a", "eni-1", State.RELEASING), PLACE, others, always, always
        )
        is what
    )


def always(claim: Claim) -> bool:
    return True


def never(claim: Claim) -> bool:
    return False


@pytest.mark.parametrize(
    ("target", "what"),
    [
        pytest.param(RouteTarget("eni-1", is_eni=True), Release.LEAVE, id="works: another node has it"),
        pytest.param(RouteTarget("eni-1", is_eni=True, active=False), Release.DELETE, id="blackhole: ours"),
    ],
)
def test_release_through_an_eni_that_is_not_here(target: RouteTarget, what: Any) -> None:
    assert (
        destinations.decide_release(target, claim("a", "eni-1", State.RELEASING), PLACE, [], never, always)
        is what
    )


def test_what_no_other_claim_may_have_is_not_handed_over() -> None:
    ended, other = claim("a", "eni-1", State.RELEASING), claim("b", "eni-2")
    target = RouteTarget("eni-1", is_eni=True)
    assert destinations.decide_release(target, ended, PLACE, [other], always, never) is Release.DELETE
    assert destinations.heir(ended, PLACE, [other], never) is None


@pytest.mark.parametrize(
    ("state", "what"),
    [(State.ACTIVE, Release.LEAVE), (State.STANDBY, Release.DELETE)],
)
def test_an_elected_pod_here_inherits_nothing_and_keeps_what_it_has(state: State, what: Release) -> None:
    """Its election has its route written, which needs no delete before it."""
    elected = replace(claim("b", "eni-2", state), group="core")
    target, ended = RouteTarget("eni-1", is_eni=True), claim("a", "eni-1", State.RELEASING)
    assert destinations.decide_release(target, ended, PLACE, [elected], always, always) is what
    assert destinations.heir(ended, PLACE, [elected], always) is None


def test_the_newest_heir_inherits() -> None:
    old, new = claim("b", "eni-2", created=1), claim("c", "eni-3", created=2)
    assert destinations.heir(claim("a", "eni-1"), PLACE, [new, old], always) is new
    assert destinations.heir(claim("a", "eni-1"), PLACE, [new, old], lambda item: item is old) is old


enis = st.sampled_from(["eni-1", "eni-2", "eni-3"])


@given(
    route=st.one_of(st.none(), enis),
    others=st.lists(st.tuples(enis, st.sampled_from(list(State))), max_size=3),
)
def test_release_never_takes_a_route_from_a_live_claim(route: Any, others: Any) -> None:
    """After the decision is applied, a live claim that had the route has it, and what we end has not."""
    ended = claim("ended", "eni-1", State.RELEASING)
    rest = [claim(str(n), eni, state, created=n) for n, (eni, state) in enumerate(others)]
    what = destinations.decide_release(
        RouteTarget(route, is_eni=True) if route else None, ended, PLACE, rest, always, always
    )
    after = route
    if what is Release.DELETE:
        after = None
    elif what is Release.HAND_OVER:
        heir = destinations.heir(ended, PLACE, rest, always)
        assert heir
        after = heir.eni
    holders = {item.eni for item in rest if item.wants(PLACE)}
    if route in holders:
        assert after == route
    if route == "eni-1" and "eni-1" not in holders:
        assert after in holders or (after is None and not holders)
    if route not in ("eni-1", None):
        assert after == route
