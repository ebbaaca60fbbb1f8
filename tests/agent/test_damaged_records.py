"""Records of claims whose JSON is right and whose types are not: moved aside when read, never met later."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.claim_cache import ClaimCache
from cni_floatip.agent.observe import status
from cni_floatip.commands import claims_table, status_view
from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from tests.support.malformed import Mutator, paths
from tests.support.samples import sampled

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "network": "n",
    "containerId": "abc",
    "ifname": "net1",
    "eni": "eni-1",
    "region": "eu-central-1",
    "netns": "/run/netns/x",
    "netnsInode": 1,
    "boot": "b",
    "pod": {"namespace": "ns", "name": "p", "uid": "u"},
    "onDelete": "release",
    "routes": [
        {
            "table": "rtb-1",
            "destination": "192.168.0.2/32",
            "state": "held",
            "account": "",
            "successor": "",
            "since": 1.0,
            "after": 0.0,
        }
    ],
    "podRoutes": [
        {"destination": "0.0.0.0/0", "gateway": "10.0.0.1", "table": 100, "mtu": 8500, "kind": "unicast"},
        {"destination": "169.254.0.0/16", "gateway": None, "table": 100, "mtu": None, "kind": "unreachable"},
    ],
    "podThrows": ["100.64.8.0/22"],
    "podRules": [{"source": "192.168.0.2/32", "table": 100, "oif": "", "unreachable_to": None}],
    "connected": ["192.168.0.2/24"],
    "addresses": ["192.168.0.2/24", "fd00::2/128"],
    "table": 100,
    "sourceDestCheck": "disable",
    "created": 1.5,
    "written": 2.5,
    "vpc": "vpc-1",
    "mac": "02:00:00:00:00:01",
    "config": {"name": "n", "cniVersion": "1.0.0", "routeTables": {"all": True}},
    "watched": ["192.168.0.3/32"],
    "standby": False,
    "deleted": 0.0,
    "unresolved": None,
}
ODD: tuple[Any, ...] = ([], {}, "x", 5, -1, 1e300, True, None, "\0", ["x"], [5], {"a": 1}, 2**70)
MAY_BE_NULL = {"config", "unresolved", "table", "podRoutes", "podRules"}


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document = json.loads(json.dumps(DOCUMENT))
    at = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return document  # type: ignore[no-any-return]


def of_another_type() -> Iterator[tuple[tuple[Any, ...], Any]]:
    for path in paths({key: DOCUMENT[key] for key in DOCUMENT if key != "version"}):
        before = DOCUMENT
        for step in path:
            before = before[step]
        for value in ODD:
            kinds = (type(value), type(before))
            numbers = {int, float} >= set(kinds) and value not in (-1, 1e300, 2**70)
            if path and kinds[0] is not kinds[1] and not numbers and value is not None and before is not None:
                yield path, value


def put(directory: Path, document: Any) -> Path:
    (directory / "claims").mkdir(exist_ok=True)
    path = directory / "claims" / "1.json"
    path.write_text(json.dumps(document))
    return path


def used(claim: Claim) -> None:
    """Do with a claim what the agent does with what it has read."""
    assert Claim.parse(json.loads(json.dumps(claim.document()))) == claim
    assert claim.live or claim.state or claim.watches or claim.settled or claim.attachment
    claims_table.table([claim])
    claims_table.document([claim], [], {})
    unseen = status.KeeperLooks({}, lambda *_: None)
    raw = status.document(status.Facts("1", 1, 0.0), [claim], [], unseen, now=1.0)
    status_view.text(json.loads(json.dumps(raw)))
    assert sorted([claim, claim], key=lambda claim: claim.created_at)
    assert {claim.attachment: {route.key for route in claim.routes}}


def test_what_has_another_type_is_moved_aside(tmp_path: Path) -> None:
    accepted = []
    for path, value in of_another_type():
        if path[0] in ("config", "unresolved") and len(path) > 1:
            continue  # judged where it is used, as a network configuration
        file = put(tmp_path, changed(path, value))
        claims, problems = ClaimCache(Store(str(tmp_path), sleep=print, clock=float), float).all()
        if claims or len(problems) != 1 or not problems[0].moved or file.exists():
            accepted.append((path, value))
    assert accepted == []


@pytest.mark.parametrize("seed", sampled("test_a_record_with_any_wrong_type_is_moved_aside", [1, 2, 3], [1]))
def test_a_record_with_any_wrong_type_is_moved_aside(tmp_path: Path, seed: int) -> None:
    """Whatever is read as a claim can be used as one."""
    chance = Mutator(random.Random(seed))  # noqa: S311
    read = 0
    for _ in range(400 if seed == 1 else 10_000):
        document = chance.mutated(DOCUMENT)
        try:
            claim = Claim.parse(document)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        used(claim)
        read += 1
    assert read
