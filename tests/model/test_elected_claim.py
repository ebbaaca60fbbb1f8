"""An elected claim: its record, and that nothing is left to release of what its pod was not elected for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cni_floatip.model.claim import PLAIN_VERSION, VERSION, Claim
from cni_floatip.model.claim_state import State
from tests.edges.test_store import CLAIM
from tests.support.claims import a_claim, a_route

STANDBY, ACTIVE = a_route(State.STANDBY, "rtb-a"), a_route(State.ACTIVE, "rtb-b", held_since=5.0)


def elected(*routes: Any, **fields: Any) -> Claim:
    return a_claim(*routes, **{"group": "core", **fields})


def states(claim: Claim) -> dict[str, str]:
    return {route.key.table: route.state.value for route in claim.routes}


def test_a_plain_record_has_no_key_of_elected_ones() -> None:
    """A release before elections reads it as it reads its own."""
    document = CLAIM.document()
    assert (document["version"], "group" in document) == (PLAIN_VERSION, False)
    assert not CLAIM.elected


@pytest.mark.parametrize("group", ["", "core"])
def test_an_elected_record_is_of_the_next_version_and_survives(group: str) -> None:
    claim = elected(STANDBY, ACTIVE, group=group, created_at=1.0)
    document = json.loads(json.dumps(claim.document()))
    assert (document["version"], document["group"]) == (VERSION, group) == (PLAIN_VERSION + 1, group)
    assert Claim.parse(document) == claim
    assert claim.elected


@pytest.mark.parametrize("state", ["standby", "active"])
def test_a_plain_record_has_no_state_of_elected_ones(state: str) -> None:
    document = CLAIM.document()
    document["routes"][0]["state"] = state
    with pytest.raises(ValueError, match="not elected"):
        Claim.parse(document)


ENDS: dict[str, tuple[Callable[[Claim], Claim], dict[str, str]]] = {
    "DEL, or the pod is gone": (lambda claim: claim.release(9.0, 2.0), {"rtb-b": "releasing"}),
    "the next ADD does not claim it": (lambda claim: claim.drop(), {"rtb-b": "releasing"}),
    "its ADD failed": (lambda claim: claim.give_up(), {"rtb-a": "standby", "rtb-b": "active"}),
    "its ADD died": (lambda claim: claim.abandon(), {"rtb-a": "standby", "rtb-b": "active"}),
}


@pytest.mark.parametrize(("end", "left"), ENDS.values(), ids=ENDS)
def test_what_its_pod_is_not_elected_for_vanishes_with_it(
    end: Callable[[Claim], Claim], left: dict[str, str]
) -> None:
    """A ``releasing`` route is deleted if it is ours, and a standby deletes nothing."""
    claim = elected(STANDBY, ACTIVE, a_route(State.CLAIMING, "rtb-c"))
    assert states(end(claim)) == left


def test_a_del_that_comes_between_outlives_an_older_copy() -> None:
    claim = elected(STANDBY, ACTIVE, created_at=1.0)
    known = claim.release(9.0, 2.0)
    assert states(claim.merge_into(known)) == {"rtb-b": "releasing"}
    assert not elected(STANDBY, created_at=1.0).merge_into(elected(created_at=1.0).release(9.0, 2.0)).routes


def test_a_plain_claim_is_released_as_before() -> None:
    claiming = a_claim(a_route(State.CLAIMING))
    assert [states(end(claiming)) for end in (Claim.give_up, Claim.abandon, Claim.drop)] == [
        {"rtb-1": "releasing"}
    ] * 3


def test_its_role_changes_all_routes_and_dates_the_election() -> None:
    claim = elected(STANDBY, replace(STANDBY, key=ACTIVE.key))
    active = claim.elect(7.0)
    assert states(active) == {"rtb-a": "active", "rtb-b": "active"}
    assert {route.held_since for route in active.routes} == {7.0}
    assert active.elect(9.0) is active
    assert states(active.depose()) == states(claim)


def test_what_joins_is_as_the_rest_is() -> None:
    new = a_route(State.CLAIMING, "rtb-c")
    assert states(elected(STANDBY, new).admit()) == {"rtb-a": "standby", "rtb-c": "standby"}
    joined = elected(ACTIVE, new).admit()
    assert states(joined) == {"rtb-b": "active", "rtb-c": "active"}
    assert {route.held_since for route in joined.routes} == {5.0}


def test_only_an_active_wants_its_route_to_lead_here() -> None:
    claim = elected(STANDBY, ACTIVE)
    assert (claim.wants(STANDBY.key), claim.wants(ACTIVE.key), claim.live) == (False, True, True)
    assert elected(STANDBY).settled
