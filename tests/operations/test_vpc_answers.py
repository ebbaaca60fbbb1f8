"""What an ADD reads is kept no longer than it is needed, and what is equal is kept once."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.model.errors import TryAgain
from cni_floatip.model.values import RouteKey, RouteTable
from cni_floatip.operations.check import check
from tests.fakes.podnet import FakeLink, FakePod, FakePods
from tests.fakes.vpc import FakeVpc
from tests.support.watched_pods import ENI_MAC, Place

NETNS = "/run/netns/p"
ADDRESS = "192.168.0.2/32"


class Answers:
    """EC2's answers, and how many of them were in memory at each write of a route."""

    def __init__(self, ec2: FakeVpc) -> None:
        self.at_writes: list[int] = []
        self.refs: list[weakref.ref[Any]] = []
        self._read, self._create = ec2.route_tables, ec2.create

    def route_tables(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[RouteTable, ...]:
        tables = self._read(filters, account)
        self.refs += [weakref.ref(table.routes) for table in tables]
        return tables

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


def test_an_answer_that_turns_out_to_be_unreadable_is_read_again(place: Place, answers: Answers) -> None:
    place.ec2.unreadable = 2
    place.add(NETNS, ADDRESS)
    assert place.ec2.reads == 3
    assert answers.at_writes == [0, 0]


def test_check_reads_an_unreadable_answer_again(place: Place) -> None:
    place.add(NETNS, ADDRESS)
    place.ec2.unreadable, place.ec2.reads = 2, 0
    check(place.request("CHECK", NETNS, ADDRESS), place.world)
    assert place.ec2.reads == 3


def test_answers_that_stay_unreadable_are_a_passing_fault(place: Place) -> None:
    place.ec2.unreadable = 3
    place.clock = lambda: 1000.0 * (place.ec2.reads >= 3)  # the ADD's time is up by then
    with pytest.raises(TryAgain, match=r"cannot read the route tables of vpc-1: .* cannot be read"):
        place.add(NETNS, ADDRESS)
    assert place.ec2.reads == 3
    assert place.ec2.calls == []
    assert place.world.claims.all() == ([], [])


def test_pods_of_a_network_share_its_configuration_in_memory(place: Place) -> None:
    first, second = (place.claim(place.add(NETNS, ADDRESS, container=name)) for name in ("c1", "c2"))
    assert first.config is second.config
