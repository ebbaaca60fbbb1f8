"""What is asked of EC2 for several networks of one VPC, and which tables each of them gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.agent.ec2.table_question import TableQuestion
from cni_floatip.config.netconf import RouteTableSelector
from cni_floatip.edges.ec2.client import MAX_VALUES
from cni_floatip.model.values import RouteTable
from cni_floatip.rules.destinations import table_filters

ALL: dict[str, Any] = {"all": True}


def question(selector: dict[str, Any], vpc: str = "vpc-1", account: str = "") -> TableQuestion:
    return TableQuestion.of(account, table_filters(RouteTableSelector.of(selector), vpc))


def tags(**values: str) -> dict[str, Any]:
    return {"tags": values}


def ids(*names: str) -> dict[str, Any]:
    return {"ids": list(names)}


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (ids("rtb-1"), ids("rtb-2"), {"route-table-id": ["rtb-1", "rtb-2"]}),
        (ids("rtb-1", "rtb-2"), ids("rtb-2", "rtb-1"), {"route-table-id": ["rtb-1", "rtb-2"]}),
        (tags(net="a"), tags(net="b"), {"tag:net": ["a", "b"]}),
        (tags(net="a*"), tags(net="b"), {"tag:net": ["a\\*", "b"]}),
        (tags(net="*"), tags(zone="*"), {"tag-key": ["net", "zone"]}),
        (tags(net="a", zone="1"), tags(net="b", zone="1"), {"tag:net": ["a", "b"], "tag:zone": ["1"]}),
        (tags(net="a", zone="1"), tags(net="a"), {"tag:net": ["a"]}),
        (ALL, tags(net="a"), {}),
        (ALL, ids("rtb-1"), {}),
        ({"subnets": ["subnet-1"]}, tags(net="a"), {}),
        (tags(net="a", zone="1"), tags(net="b", zone="2"), None),
        (tags(net="a"), tags(zone="1"), None),
        (tags(net="a"), tags(net="*"), None),
        (ids("rtb-1"), tags(net="a"), None),
        (ids(*(f"rtb-{n}" for n in range(150))), ids(*(f"rtb-{n}" for n in range(149, 250))), None),
    ],
    ids=str,
)
def test_what_serves_both(
    one: dict[str, Any], other: dict[str, Any], both: dict[str, list[str]] | None
) -> None:
    for first, second in ((one, other), (other, one)):
        mine, others = question(first), question(second)
        result = mine.joined(others)
        assert mine.scope == others.scope
        assert (
            result is None if both is None else result and result.arguments() == {"vpc-id": ["vpc-1"], **both}
        )


def test_what_has_another_scope() -> None:
    scopes = [
        question(ALL).scope,
        question(ALL, vpc="vpc-2").scope,
        question(ALL, account="1").scope,
        TableQuestion.of("", {"route-table-id": ["rtb-1"]}).scope,
        TableQuestion.of("", {"route-table-id": ["rtb-2"]}).scope,
    ]
    assert len(set(scopes)) == len(scopes)
    assert (
        TableQuestion.of("", {"route-table-id": ["b", "a"]}).scope
        == TableQuestion.of("", {"route-table-id": ["a", "b"]}).scope
    )


NAMES, VALUES = st.sampled_from("abc"), st.sampled_from(["1", "2", "*", "\\", "1*"])
SELECTORS = st.one_of(
    st.just(ALL),
    st.dictionaries(NAMES, VALUES, min_size=1).map(lambda d: {"tags": d}),
    st.lists(st.sampled_from(["rtb-0", "rtb-1", "rtb-2"]), min_size=1, unique=True).map(lambda x: {"ids": x}),
)
TABLES = st.lists(st.dictionaries(NAMES, VALUES), min_size=1, max_size=5).map(
    lambda many: [RouteTable(f"rtb-{n}", f"vpc-{n % 4 != 3:d}", "", {}, some) for n, some in enumerate(many)]
)


@given(first=SELECTORS, second=SELECTORS, tables=TABLES)
def test_each_gets_its_own_tables_and_no_other_is_read(
    first: dict[str, Any], second: dict[str, Any], tables: Sequence[RouteTable]
) -> None:
    one, other = question(first), question(second)
    if both := one.joined(other):
        read = both.select(tables)
        assert one.select(read) == one.select(tables)
        assert other.select(read) == other.select(tables)
        assert set(map(str, read)) == set(map(str, [*one.select(tables), *other.select(tables)]))
        assert sum(map(len, both.filters.values())) <= MAX_VALUES
