"""The keys of a claim's file: agents of other releases read them, so no renaming may reach them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute
from cni_floatip.model.recorded_config import RecordedConfig
from tests.edges.test_store import CLAIM

KEYS = """
    addresses boot config connected containerId created deleted eni ifname mac netns netnsInode network
    onDelete pod podLostSince podRoutes podRules podThrows region routes sourceDestCheck standby table
    unresolved version vpc watched written
"""
INSIDE = {
    "pod": "name namespace uid",
    "routes": "account after changed destination outage since state successor table target",
    "podRoutes": "destination gateway kind mtu table",
    "podRules": "barred oif source table",
}


def test_keys_are_those_that_releases_write() -> None:
    document = json.loads(json.dumps(CLAIM.document()))
    assert document.keys() == set(KEYS.split())
    for key, names in INSIDE.items():
        objects = [document[key]] if isinstance(document[key], dict) else document[key]
        assert objects, key
        assert all(inner.keys() == set(names.split()) for inner in objects), key


def test_each_time_is_under_its_own_key() -> None:
    route = replace(
        CLAIM.routes[0], held_since=3.0, not_before=4.0, target="eni-3", outage="superseded", changed_at=6.0
    )
    lost = RecordedConfig({"name": "net"})
    claim = replace(
        CLAIM,
        routes=(route,),
        created_at=1.0,
        last_write_at=2.0,
        deleted_at=5.0,
        lost_record=lost,
        pod_lost_since=7.0,
    )
    document = claim.document()
    assert (document["created"], document["written"], document["deleted"]) == (1.0, 2.0, 5.0)
    assert [document["routes"][0][key] for key in ("since", "after", "changed")] == [3.0, 4.0, 6.0]
    assert (document["routes"][0]["target"], document["routes"][0]["outage"]) == ("eni-3", "superseded")
    assert document["podLostSince"] == 7.0
    assert document["unresolved"] == {"name": "net"}
    assert Claim.parse(json.loads(json.dumps(document))) == claim


@pytest.mark.parametrize(
    ("state", "since", "target", "changed"),
    [("held", 3.0, CLAIM.eni, 3.0), ("held", 0.0, None, 0.0), ("superseded", 3.0, None, 0.0)],
    ids=["written by its ADD", "in a table that joined", "another has it"],
)
def test_a_record_of_a_release_that_kept_no_history_is_as_its_add_left_it(
    state: str, since: float, target: str | None, changed: float
) -> None:
    document = json.loads(json.dumps(CLAIM.document()))
    del document["podLostSince"]
    for route in document["routes"]:
        route |= {"state": state, "since": since}
        for key in ("target", "outage", "changed"):
            del route[key]
    claim = Claim.parse(document)
    assert {(route.target, route.outage, route.changed_at) for route in claim.routes} == {
        (target, "", changed)
    }
    assert claim.pod_lost_since == 0.0


def test_a_change_is_dated_and_nothing_else_moves_the_date() -> None:
    route = replace(CLAIM.routes[0], target="eni-1", changed_at=3.0)
    known = replace(CLAIM, routes=(route,))

    def dated(change: ClaimedRoute) -> float:
        return replace(CLAIM, routes=(change,)).date_changes(known, 9.0).routes[0].changed_at

    assert dated(replace(route, changed_at=0.0, successor="eni-9", not_before=5.0)) == 3.0
    assert dated(route.release(5.0)) == dated(route.see("eni-2", "")) == dated(route.see("eni-1", "x")) == 9.0
    assert known.date_changes(None, 9.0).routes[0].changed_at == 9.0


def test_claims_of_a_network_share_its_configuration() -> None:
    one, another = (Claim.parse(json.loads(json.dumps(CLAIM.document()))) for _ in range(2))
    assert one.config is another.config
    assert one.config == CLAIM.config
