"""The keys of a claim's file: agents of other releases read them, so no renaming may reach them."""

from __future__ import annotations

import json
from dataclasses import replace

from cni_floatip.model.claim import Claim
from cni_floatip.model.recorded_config import RecordedConfig
from tests.edges.test_store import CLAIM

KEYS = """
    addresses boot config connected containerId created deleted eni ifname mac netns netnsInode network
    onDelete pod podRoutes podRules podThrows region routes sourceDestCheck standby table unresolved version
    vpc watched written
"""
INSIDE = {
    "pod": "name namespace uid",
    "routes": "account after destination since state successor table",
    "podRoutes": "destination gateway kind mtu table",
    "podRules": "barred oif source table",
}


def test_keys_are_those_of_the_first_release() -> None:
    document = json.loads(json.dumps(CLAIM.document()))
    assert document.keys() == set(KEYS.split())
    for key, names in INSIDE.items():
        objects = [document[key]] if isinstance(document[key], dict) else document[key]
        assert objects, key
        assert all(inner.keys() == set(names.split()) for inner in objects), key


def test_each_time_is_under_its_own_key() -> None:
    route = replace(CLAIM.routes[0], held_since=3.0, not_before=4.0)
    lost = RecordedConfig({"name": "net"})
    claim = replace(
        CLAIM, routes=(route,), created_at=1.0, last_write_at=2.0, deleted_at=5.0, lost_record=lost
    )
    document = claim.document()
    assert (document["created"], document["written"], document["deleted"]) == (1.0, 2.0, 5.0)
    assert (document["routes"][0]["since"], document["routes"][0]["after"]) == (3.0, 4.0)
    assert document["unresolved"] == {"name": "net"}
    assert Claim.parse(json.loads(json.dumps(document))) == claim
