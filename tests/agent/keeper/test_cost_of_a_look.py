"""What a look costs when nothing has changed, counted in calls and objects, which no busy machine changes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from types import FrameType

import pytest

from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, State
from cni_floatip.model.values import Network, RouteKey, RouteTarget
from tests.support.simulated_cluster import SimulatedCluster, SimulatedNode


class LookupOnly(Mapping[Network, RouteTarget]):
    """Routes of a table that can be looked up, but not iterated over: that is dear in a large VPC."""

    def __init__(self, routes: Mapping[Network, RouteTarget]) -> None:
        self._routes = routes

    def __getitem__(self, network: Network) -> RouteTarget:
        return self._routes[network]

    def __iter__(self) -> Iterator[Network]:
        raise AssertionError("the keeper iterates over the routes of a table")

    def __len__(self) -> int:
        raise AssertionError("the keeper counts the routes of a table")


class Quiet:
    """A node whose claims all hold their routes, and an EC2 that answers from memory."""

    def __init__(self, directory: Path, claims: int, tables: int, foreign: int = 0) -> None:
        self.cluster = SimulatedCluster(directory, "a", [f"rtb-{number}" for number in range(tables)])
        self.node: SimulatedNode = self.cluster.nodes["a"]
        for routes in self.cluster.ec2.tables.values():
            networks = (IPv4Network((10 << 24 | number << 8, 24)) for number in range(foreign))
            routes.update(dict.fromkeys(networks, RouteTarget("igw-1", is_eni=False)))
        for number in range(claims):
            self.node.add(ip_network(f"192.168.{number}.2/32"))
        self.cluster.pass_time(300)
        self.read()

    def read(self) -> None:
        """Let every look from now on see the routes as they are now."""
        tables = self.cluster.ec2.__class__.route_tables(self.cluster.ec2, {})
        answer = tuple(replace(table, routes=LookupOnly(table.routes)) for table in tables)
        self.reads = 0

        def route_tables(filters: object, account: str = "") -> object:
            self.reads += 1
            return answer

        self.cluster.ec2.route_tables = route_tables  # type: ignore[assignment, method-assign]

    def look(self) -> None:
        """Let the keeper do its next ordinary round."""
        before = self.reads
        self.cluster.at = self.node.due = self.cluster.at + 2 * self.node.world.policy.reconcile_seconds
        self.node.round()
        assert self.reads == before + 1, "one look"
        assert self.node.keeper.ready_problem() is None

    def states(self) -> set[State]:
        return {route.state for claim in self.node.claims.all()[0] for route in claim.routes}


def calls_of(quiet: Quiet) -> int:
    """Return how many functions are called in one look, the interpreter's own included."""
    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.disable()  # it calls finalizers of what other tests have left
    sys.setprofile(count)
    try:
        quiet.look()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


@contextmanager
def constructions(of: type) -> Iterator[list[object]]:
    """Yield a list that gets every object of a class that is made meanwhile."""
    objects: list[object] = []
    real = of.__init__  # type: ignore[misc]

    def init(self: object, *values: object, **fields: object) -> None:
        objects.append(self)
        real(self, *values, **fields)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of, "__init__", init)
        yield objects


@contextmanager
def file_writes() -> Iterator[list[Claim]]:
    """Yield a list that gets every claim that is written to disk meanwhile."""
    claims: list[Claim] = []
    real = Store.put

    def put(self: Store, claim: Claim) -> None:
        claims.append(claim)
        real(self, claim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "put", put)
        yield claims


@pytest.mark.parametrize("of", [Claim, ClaimedRoute, RouteKey])
def test_a_look_that_shows_nothing_new_rebuilds_nothing(tmp_path: Path, of: type) -> None:
    quiet = Quiet(tmp_path, claims=5, tables=4)
    with constructions(of) as objects, file_writes() as claims:
        quiet.look()
    assert quiet.states() == {State.HELD}
    assert (len(objects), claims) == (0, [])


def test_a_look_costs_in_proportion_to_claims_and_to_tables(tmp_path: Path) -> None:
    """Twice as many of either are at most twice the calls: no route costs more because there are others."""
    one, more_tables, more_claims = (
        calls_of(Quiet(tmp_path / f"{claims}x{tables}", claims, tables))
        for claims, tables in ((10, 10), (10, 20), (20, 10))
    )
    assert more_tables < 2.05 * one
    assert more_claims < 2.05 * one


def test_a_look_costs_the_same_whatever_else_is_in_the_tables(tmp_path: Path) -> None:
    few, many = (
        calls_of(Quiet(tmp_path / str(foreign), claims=3, tables=3, foreign=foreign)) for foreign in (0, 400)
    )
    assert few == many


def test_a_claim_that_changes_in_all_its_tables_is_written_once(tmp_path: Path) -> None:
    quiet = Quiet(tmp_path, claims=3, tables=5)
    quiet.cluster.ec2.alive.add("eni-other")
    for routes in quiet.cluster.ec2.tables.values():
        routes.update(dict.fromkeys(routes, RouteTarget("eni-other", is_eni=True)))
    quiet.read()
    with file_writes() as claims:
        quiet.look()
    assert quiet.states() == {State.SUPERSEDED}
    assert len(claims) == 3, "its states, with what status shows of them"
    with file_writes() as claims:
        quiet.look()
    assert claims == []
