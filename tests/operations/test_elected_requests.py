"""ADD of a network that wants an election: where it is refused, and what the record keeps of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cni_floatip import direct
from cni_floatip.config import election
from cni_floatip.config.netconf import conf_of
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.model.errors import PolicyRefused, UnsupportedField
from tests.fakes.podnet import FakeLink, FakePod, FakePods
from tests.support.watched_pods import ENI_MAC, Place

NETNS = "/run/netns/p"
ADDRESS = "192.168.0.5/32"
ELECTED: dict[str, Any] = {
    "watchAddresses": None,
    "activate": "ready",
    "election": {"group": "core", "zones": ["eu-central-1a"], "failbackSeconds": 300},
}


def node(directory: Path, **policy: Any) -> Place:
    link = FakeLink("net1", ENI_MAC, addresses=[ADDRESS])
    return Place(directory, FakePods({NETNS: FakePod([link])}), lambda _: 1, **policy)


@pytest.mark.parametrize("elections", [None, {}])
def test_in_this_release_it_is_refused_before_anything_happens(tmp_path: Path, elections: Any) -> None:
    place = node(tmp_path, elections=elections)
    with pytest.raises(UnsupportedField, match="not in this release"):
        place.add(NETNS, ADDRESS, **ELECTED)
    assert (place.ec2.calls, place.claims.all()[0]) == ([], [])


def test_a_node_without_elections_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "RELEASED", True)
    place = node(tmp_path)
    with pytest.raises(PolicyRefused, match="nobody elects here"):
        place.add(NETNS, ADDRESS, **ELECTED)
    assert (place.ec2.calls, place.claims.all()[0]) == ([], [])


def test_direct_mode_has_no_elections_whatever_the_node_configuration_says() -> None:
    policy = NodeConf.parse({"elections": {}})
    world = direct._world(policy, {}, claims=None, on_delete="keep", log=direct.tell)  # type: ignore[arg-type]
    assert world.policy.elections is None


def test_the_record_keeps_how_a_claim_is_elected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent elects by the record, also after a restart."""
    monkeypatch.setattr(election, "RELEASED", True)
    place = node(tmp_path, elections={})
    attachment = place.add(NETNS, ADDRESS, **ELECTED)
    place.restart()
    conf = conf_of(place.claim(attachment))
    assert (conf.activate, conf.election.group) == ("ready", "core")
    assert (conf.election.zones, conf.election.failback_seconds) == (("eu-central-1a",), 300)


def test_the_record_of_a_plain_claim_has_no_key_that_release_0_3_refuses(tmp_path: Path) -> None:
    """Else a roll-back would leave a running pod with a claim that nobody keeps."""
    plain, written = node(tmp_path / "a"), node(tmp_path / "b")
    without = plain.claim(plain.add(NETNS, ADDRESS)).config
    given = written.claim(written.add(NETNS, ADDRESS, activate="add")).config
    assert given == without
    texts = "".join(path.read_text() for path in (tmp_path / "b" / "claims").glob("*.json"))
    assert json.loads(texts)
    assert "activate" not in texts
