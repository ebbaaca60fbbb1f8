"""EC2's answers, which may be of many megabytes, are kept no longer than they are needed."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.model.errors import Ec2Error, Ec2Fault, TryAgain
from cni_floatip.model.values import Network, RouteKey, RouteTable, RouteTarget
from tests.fakes.podnet import FakeLink, FakePod, FakePods
from tests.fakes.vpc import FakeVpc
from tests.support.watched_pods import ENI_MAC, Place

NETNS = "/run/netns/p"
ADDRESS = "192.168.0.2/32"


class Routes(dict[Network, RouteTarget]):
    """A table's routes. ``fails``: EC2's text of them cannot be read."""

    fails = False

    def get(self, key: Network, default: Any = None) -> Any:
        if self.fails:
            raise Ec2Error(Ec2Fault.UNANSWERED, "DescribeRouteTables", "", "a route that cannot be read")
        return super().get(key, default)


class Answers:
    """EC2's answers, and how many of them were in memory at each write of a route."""

    def __init__(self, ec2: FakeVpc) -> None:
        self.fail = False
        self.at_writes: list[int] = []
        self.refs: list[weakref.ref[Routes]] = []
        self._read, self._create = ec2.route_tables, ec2.create

    def route_tables(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[RouteTable, ...]:
        return tuple(map(self._answer, self._read(filters, account)))

    def _answer(self, table: RouteTable) -> RouteTable:
        routes = Routes(table.routes)
        routes.fails = self.fail
        self.refs.append(weakref.ref(routes))
        return replace(table, routes=routes)

    def create(self, key: RouteKey, eni: str, account: str = "") -> None:
        self.at_writes.append(sum(answer() is not None for answer in self.refs))
        self._create(key, eni, account)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    link = FakeLink("net1", ENI_MAC, addresses=[ADDRESS])
    return Place(tmp_path, FakePods({NETNS: FakePod([link])}), lambda _: 1)


@pytest.fixture
def answers(place: Place, monkeypatch: pytest.MonkeyPatch) -> Answers:
    result = Answers(place.ec2)
    for name in ("route_tables", "create"):
        monkeypatch.setattr(place.ec2, name, getattr(result, name))
    return result


def test_an_add_that_writes_holds_no_answer(place: Place, answers: Answers) -> None:
    """It may wait a minute and more for its turn."""
    place.add(NETNS, ADDRESS)
    assert answers.refs
    assert answers.at_writes == [0, 0]


def test_an_answer_that_turns_out_to_be_unreadable_is_a_passing_fault(place: Place, answers: Answers) -> None:
    answers.fail = True
    with pytest.raises(TryAgain, match=r"cannot read the route tables of vpc-1: .* cannot be read"):
        place.add(NETNS, ADDRESS)
    assert place.ec2.calls == []
    assert place.world.claims.all() == ([], [])
