"""What people read of elections: one line for each change, whoever made it."""

from __future__ import annotations

from dataclasses import replace

from cni_floatip.agent.election.observer import Observer
from cni_floatip.agent.election.view import ElectionView
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.election.events import SurroundingsChanged
from cni_floatip.election.member import Member
from cni_floatip.election.node import Rival
from tests.agent.election.scene import Log
from tests.election.cluster import Cluster

NAMES = "ab"


def members() -> tuple[float, list[Member]]:
    """Return the time, and the members of a group at rest: the active and a standby."""
    cluster = Cluster(NAMES)
    cluster.run(40)
    return cluster.now, [cluster.hosts[name].member for name in NAMES]


def test_an_older_group_with_the_same_destination_is_in_the_log_once() -> None:
    now, both = members()
    for before in both:
        log = Log()
        observer = Observer(ElectionView(), NullRecorder(), log)
        observer.changed(None, before)
        assert log.lines == []
        destinations = before.pods[0].claims.destinations
        around = replace(before.surroundings, rivals=(Rival(0, "other/older", destinations),))
        after = before.on(SurroundingsChanged(now, around))
        observer.changed(before, after)
        observer.changed(after, after.on(SurroundingsChanged(now + 1, around)))
        assert log.events == ["contested"]
        assert "other/older is older" in log.lines[0]
        observer.changed(after, before)
        assert log.events == ["contested"]
