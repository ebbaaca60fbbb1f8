"""Whatever an agent with elected pods did when it died, or an answer was lost: it ends as undisturbed.

As ``test_crash_anywhere`` does it: each story is told once undisturbed, then once for each event and fate.
What an election has a node do (``ElectedNode.take``, ...) is done again by the next agent's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cni_floatip.config import election
from cni_floatip.model.claim import LATE_SECONDS
from tests.agent.keeper.test_crash_anywhere import every_fate, picture
from tests.support.cluster_with_pods import DEATHS, Fate, in_order
from tests.support.elected_cluster import ElectedCluster
from tests.support.simulated_cluster import FLOATING

GRACE = 60
TABLES = ("rtb-1", "rtb-2")


@pytest.fixture(autouse=True)
def _in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    in_order(monkeypatch)
    monkeypatch.setattr(election, "RELEASED", True)


class Story:
    """One telling, with the fates that the nodes meet from ``begin`` on."""

    def __init__(self, directory: Path, fates: dict[str, Fate]) -> None:
        self.group = ElectedCluster(directory, tables=TABLES)
        self.a, self.b = self.group.nodes.values()
        self._fates = fates

    def begin(self) -> None:
        for name, fate in self._fates.items():
            self.group.nodes[name].life.fate = fate


def an_add_and_an_election(story: Story) -> None:
    story.begin()
    pod = story.a.add_elected()
    story.group.pass_time(2)
    story.group.elect(story.a, pod)
    story.group.pass_time(100)


def a_standby_that_ends(story: Story) -> None:
    active, standby = story.a.add_elected(), story.b.add_elected()
    story.group.elect(story.b, standby)
    story.group.elect(story.a, active)
    story.begin()
    story.b.end_pod(standby)
    story.group.pass_time(100)


def a_hand_over(story: Story) -> None:
    old, new = story.a.add_elected(), story.b.add_elected()
    story.group.elect(story.a, old)
    story.group.pass_time(70)
    story.begin()
    story.group.elect(story.b, new)
    story.a.end_pod(old)
    story.group.pass_time(GRACE + 100)


def an_end_for_good(story: Story) -> None:
    pod = story.a.add_elected()
    story.group.elect(story.a, pod)
    story.group.pass_time(70)
    story.begin()
    story.a.end_pod(pod)
    story.group.pass_time(GRACE)
    story.group.empty(story.a, pod)
    story.group.pass_time(100)


def a_rollout_from_add_to_ready(story: Story) -> None:
    plain = story.a.add_pod(FLOATING)
    story.group.pass_time(70)
    story.begin()
    new = story.a.add_elected()
    assert plain
    story.a.end_pod(plain)
    story.group.elect(story.a, new)
    story.group.pass_time(GRACE + 100)


def a_table_that_joins(story: Story) -> None:
    story.group.ec2.untagged.add("rtb-2")
    active, standby = story.a.add_elected(), story.b.add_elected()
    story.group.elect(story.a, active)
    story.group.pass_time(70)
    story.group.ec2.untagged.clear()
    story.begin()
    story.group.pass_time(100)
    story.group.elect(story.a, active)
    story.group.elect(story.b, standby)
    story.group.pass_time(100)


STORIES: dict[str, Callable[[Story], None]] = {
    story.__name__.replace("_", " "): story
    for story in (
        an_add_and_an_election,
        a_standby_that_ends,
        a_hand_over,
        an_end_for_good,
        a_rollout_from_add_to_ready,
        a_table_that_joins,
    )
}


def ending_of(tell: Callable[[Story], None], directory: Path, fates: dict[str, Fate]) -> tuple[str, Story]:
    story = Story(directory, fates)
    tell(story)
    for fate in fates.values():
        fate.recording = False
    story.group.pass_time(LATE_SECONDS + 400)
    return picture(story.group), story


@pytest.mark.parametrize("tell", STORIES.values(), ids=STORIES)
def test_it_ends_as_it_would_have(tmp_path: Path, tell: Callable[[Story], None]) -> None:
    records = {name: Fate(recording=True) for name in "ab"}
    expected = ending_of(tell, tmp_path / "undisturbed", records)[0]
    wrong: list[str] = []
    met = number = 0
    for name, record in records.items():
        for fate in every_fate(record):
            number += 1
            result, _ = ending_of(tell, tmp_path / str(number), {name: fate})
            met += fate.met
            if result != expected:
                event = record.events[fate.number - 1]
                wrong.append(f"{name} {fate.what} {fate.number} ({event}):\n{result}")
    assert not wrong, f"{len(wrong)} of {number}\n-- expected\n{expected}\n-- " + "\n-- ".join(wrong[:4])
    assert number > 10
    assert met > 0.9 * number


@pytest.mark.parametrize("what", DEATHS)
def test_an_add_that_nobody_repeats_leaves_no_claim_and_no_write(tmp_path: Path, what: str) -> None:
    """Its client has died too, and no DEL ever comes; the route of the group stays as it was."""
    ends: list[tuple[str, int, list[str]]] = []
    for number in range(1, 100):
        story = Story(tmp_path / str(number), {})
        group, a, b = story.group, story.a, story.b
        group.elect(b, b.add_elected())
        group.ec2.writes.clear()
        pod = a.pod(FLOATING, activate="ready")
        a.life.fate = Fate(what, number)
        if a.call("ADD", pod, times=1):
            break
        group.pass_time(LATE_SECONDS + 400)
        ends.append((group.leads(), len(a.claims.all()[0]), list(group.ec2.writes)))
    assert len(ends) >= 6
    assert ends[:-1] == [("eni-b", 0, [])] * (len(ends) - 1)
    assert ends[-1] == (("eni-b", 1, []) if what == "killed after" else ends[0])


def test_a_node_that_boots_wrote_nothing_and_releases_nothing(tmp_path: Path) -> None:
    """The pod that the Lease names went with the boot: its route stays until the election is done with it."""
    story = Story(tmp_path, {})
    group, a = story.group, story.a
    pod = a.add_elected()
    group.elect(a, pod)
    group.pass_time(70)
    a.crash()
    group.pass_time(30)
    group.ec2.writes.clear()
    a.boot()
    group.pass_time(GRACE + 600)
    assert (group.ec2.writes, group.leads(), a.state(pod)) == ([], "eni-a", "releasing")
    group.empty(a, pod)
    assert (group.leads(), a.state(pod)) == ("", "gone")
