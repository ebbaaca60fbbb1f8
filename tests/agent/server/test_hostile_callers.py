"""Calls refused for a long text, at a real agent: its probes and its other pods do not notice them."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from lab.world import Lab

pytestmark = [
    pytest.mark.needs("root", "ip", "unshare", "macvlan-plugin", "static-plugin"),
    pytest.mark.lab(azs=1, nodes_per_az=1, agents=True, warm=True),
]

LONG = 60_000
FROZEN = 20.0
"""Seconds; a text of this length held the interpreter for longer, one of a megabyte for an hour."""


def evil(lab: Lab, verb: str, **changes: Any) -> tuple[float, dict[str, Any]]:
    """Make a call from a namespace that no policy knows; return how long it took and the answer."""
    node = lab.nodes["a1"]
    config = {
        "cniVersion": "1.0.0",
        "name": "evil",
        "type": "floatip",
        "routeTables": {"tags": {"floatip": "lab"}},
        "watchAddresses": ["a-" * (LONG // 2)],
        "prevResult": {"ips": [{"address": "192.168.0.66/32"}]},
    }
    env = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "e" * 64,
        "CNI_NETNS": f"/run/netns/{node.ns}",
        "CNI_IFNAME": "net1",
        "CNI_PATH": "/nowhere",
        "CNI_ARGS": "K8S_POD_NAMESPACE=unprivileged;K8S_POD_NAME=evil",
        **changes,
    }
    began = time.monotonic()
    done = node.run([str(node.bin_dir / "floatip")], input=json.dumps(config), env=env, timeout=200)
    return time.monotonic() - began, json.loads(done.stdout or "{}")


@pytest.mark.parametrize(
    ("verb", "changes"),
    [("ADD", {}), ("ADD", {"CNI_IFNAME": "eyJaaaaaaaa-" * 5000}), ("DEL", {"CNI_IFNAME": "a-" * 30_000})],
    ids=["watchAddresses of an ADD", "CNI_IFNAME of an ADD", "CNI_IFNAME of a DEL"],
)
def test_a_long_text_stops_nobody(lab: Lab, verb: str, changes: dict[str, str]) -> None:
    node = lab.nodes["a1"]
    calls = [threading.Thread(target=evil, args=(lab, verb), kwargs=changes) for _ in range(3)]
    for call in calls:
        call.start()
    health = []
    while any(call.is_alive() for call in calls):
        began = time.monotonic()
        health.append((node.agent.liveness()[0], time.monotonic() - began < FROZEN / 4))
        time.sleep(0.05)
    for call in calls:
        call.join()
    assert set(health) <= {(200, True)}, health
    took, answer = evil(lab, verb, **changes)
    assert took < FROZEN, answer
    assert len(json.dumps(answer)) < 1000
    assert node.agent.accepts()
