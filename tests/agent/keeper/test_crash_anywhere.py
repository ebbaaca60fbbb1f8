"""Whatever an agent did when it died, or when an answer of EC2's was lost: it ends as if nothing had been.

Each story is told once undisturbed, which gives its end and every event of every node's agent. Then it is
told again for each event: killed before it, killed after it, its answer lost, its request lost. ``make test``
tells a story for a sample of them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_floatip.model.claim import LATE_SECONDS
from tests.support.cluster_with_pods import DEATHS, LOSSES, READS, ClusterWithPods, Fate, in_order
from tests.support.simulated_cluster import FLOATING

GRACE = 60
TABLES = ("rtb-1", "rtb-2")


@pytest.fixture(autouse=True)
def _in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    in_order(monkeypatch)


def lose(cluster: ClusterWithPods, *tables: str) -> None:
    for table in tables:
        cluster.ec2.tables[table].pop(FLOATING, None)


def an_add(cluster: ClusterWithPods) -> None:
    """One table has no route, in the other a blackhole is in the way."""
    b = cluster.nodes["b"]
    b.add_pod(FLOATING)
    lose(cluster, "rtb-1")
    b.crash()
    yield_to(cluster)
    cluster.nodes["a"].add_pod(FLOATING)
    cluster.pass_time(70)


def an_add_and_a_del(cluster: ClusterWithPods) -> None:
    a = cluster.nodes["a"]
    yield_to(cluster)
    pod = a.add_pod(FLOATING)
    cluster.pass_time(5)
    if pod:
        a.end_pod(pod)
    cluster.pass_time(GRACE + 10)


def a_pod_that_moves(cluster: ClusterWithPods) -> None:
    a, b = cluster.nodes.values()
    old = a.add_pod(FLOATING)
    cluster.pass_time(70)
    yield_to(cluster)
    b.add_pod(FLOATING)
    cluster.pass_time(2)
    if old:
        a.end_pod(old)
    cluster.pass_time(GRACE + 10)


def a_pod_that_moves_after_its_del(cluster: ClusterWithPods) -> None:
    a, b = cluster.nodes.values()
    old = a.add_pod(FLOATING)
    cluster.pass_time(70)
    yield_to(cluster)
    if old:
        a.end_pod(old)
    cluster.pass_time(2)
    b.add_pod(FLOATING)
    cluster.pass_time(GRACE + 10)


def routes_that_are_lost(cluster: ClusterWithPods) -> None:
    cluster.nodes["a"].add_pod(FLOATING)
    cluster.pass_time(100)
    lose(cluster, *TABLES)
    yield_to(cluster)
    cluster.pass_time(160)


def a_blackhole_of_another(cluster: ClusterWithPods) -> None:
    a, b = cluster.nodes.values()
    a.add_pod(FLOATING)
    b.add_pod(FLOATING)
    cluster.pass_time(70)
    b.crash()
    yield_to(cluster)
    cluster.pass_time(260)


def a_table_that_joins(cluster: ClusterWithPods) -> None:
    cluster.ec2.untagged.add("rtb-2")
    cluster.nodes["a"].add_pod(FLOATING)
    cluster.pass_time(70)
    cluster.ec2.untagged.clear()
    yield_to(cluster)
    cluster.pass_time(160)


def a_table_that_leaves(cluster: ClusterWithPods) -> None:
    cluster.nodes["a"].add_pod(FLOATING)
    cluster.pass_time(70)
    cluster.ec2.untagged.add("rtb-2")
    yield_to(cluster)
    cluster.pass_time(160)


def a_move_within_the_node(cluster: ClusterWithPods) -> None:
    a = cluster.nodes["a"]
    a.add_pod(FLOATING)
    cluster.pass_time(10)
    newer = a.add_pod(FLOATING, 1)
    cluster.pass_time(70)
    yield_to(cluster)
    if newer:
        a.end_pod(newer)
    cluster.pass_time(GRACE + 70)


def a_pod_that_is_gone_without_del(cluster: ClusterWithPods) -> None:
    a = cluster.nodes["a"]
    a.add_pod(cluster.destination(9))
    pod = a.add_pod(FLOATING)
    cluster.pass_time(70)
    yield_to(cluster)
    if pod:
        a.end_pod(pod, message=False)
    cluster.pass_time(GRACE + 150)


def a_node_that_boots(cluster: ClusterWithPods) -> None:
    a = cluster.nodes["a"]
    a.add_pod(FLOATING)
    cluster.pass_time(70)
    a.crash()
    cluster.pass_time(30)
    yield_to(cluster)
    a.boot()
    cluster.pass_time(GRACE + 70)


STORIES: dict[str, Callable[[ClusterWithPods], None]] = {
    story.__name__.replace("_", " "): story
    for story in (
        an_add,
        an_add_and_a_del,
        a_pod_that_moves,
        a_pod_that_moves_after_its_del,
        routes_that_are_lost,
        a_blackhole_of_another,
        a_table_that_joins,
        a_table_that_leaves,
        a_move_within_the_node,
        a_pod_that_is_gone_without_del,
        a_node_that_boots,
    )
}

_planned: dict[str, Fate] = {}


def yield_to(cluster: ClusterWithPods) -> None:
    """From here on fates are met."""
    for name, fate in _planned.items():
        cluster.nodes[name].life.fate = fate


def told(
    story: Callable[[ClusterWithPods], None], directory: Path, stale: float, **fates: Fate
) -> tuple[str, ClusterWithPods]:
    """Tell a story; return how it ends, once everything that goes on by itself has been done."""
    cluster = ClusterWithPods(directory, tables=TABLES)
    cluster.ec2.stale = stale
    _planned.clear()
    _planned.update(fates)
    story(cluster)
    for fate in fates.values():
        fate.recording = False
    cluster.pass_time(LATE_SECONDS + 400)
    return picture(cluster), cluster


def picture(cluster: ClusterWithPods) -> str:
    """Say how things are. Of claims only what they want: when a record goes depends on what went wrong."""
    lines = [
        f"{table} {network} -> {target}"
        for table, routes in cluster.ec2.now().items()
        for network, target in sorted(routes.items(), key=str)
    ]
    for name, claim in cluster.claims():
        lines += sorted(f"{name} {route.key} {route.state} {claim.eni}" for route in claim.routes)
    for name, node in cluster.nodes.items():
        lines += [f"{name} {line}" for line in str(node.pods).splitlines()]
        lines += [f"{name} spool {len(node.spool)}"]
    return "\n".join(lines)


def every_fate(record: Fate) -> Iterator[Fate]:
    """Return every fate that an agent which did these things can have.

    Looks that nothing follows are all alike: of many reads in a row only the first and the last two.
    """
    number = 0
    for reading, run in itertools.groupby(record.events, lambda event: event in READS):
        events = list(enumerate(run, number + 1))
        number += len(events)
        for at, event in events[:2] + events[2:][-2:] if reading else events:
            for what in DEATHS + (LOSSES if event.startswith("ec2") else ()):
                yield Fate(what, at)


SAMPLE = 19
"""``make test`` tells a story for every so many fates: odd, so that it meets each of the four."""


def tell_all(
    story: Callable[[ClusterWithPods], None], directory: Path, stale: float, *, twice: bool, every: int
) -> None:
    records = {node: Fate(recording=True) for node in "ab"}
    expected = told(story, directory / "undisturbed", 0.0, **records)[0]
    chance = random.Random(3)  # noqa: S311 (a test that can be repeated)
    wrong: list[str] = []
    met = number = 0
    for node, record in records.items():
        fates = [fate for fate in every_fate(record) if fate.what in DEATHS or not twice]
        for fate in fates[::every]:
            if twice:
                fate.then = Fate(chance.choice(DEATHS), chance.randint(1, 12))
            number += 1
            observed, cluster = told(story, directory / str(number), stale, **{node: fate})
            met += fate.met
            if observed != expected:
                event = record.events[fate.number - 1]
                text = "\n".join(cluster.nodes[node].said[-12:])
                wrong.append(
                    f"{node} {fate.what} {fate.number} ({event}), then {fate.then}:\n{observed}\n{text}"
                )
    assert not wrong, f"{len(wrong)} of {number}\n-- expected\n{expected}\n-- " + "\n-- ".join(wrong[:4])
    assert met > (0.5 if stale else 0.9) * number


def stories(test: str) -> pytest.MarkDecorator:
    """Give a test every story, with a sample of its fates and with all."""
    cases = [pytest.param(name, SAMPLE, id=f"sample: {name}") for name in STORIES]
    for name in STORIES:
        thorough = pytest.mark.thorough(sample=f"{test}[sample: {name}]")
        cases.append(pytest.param(name, 1, id=name, marks=thorough))
    return pytest.mark.parametrize(("name", "every"), cases)


@stories("test_it_ends_as_it_would_have")
def test_it_ends_as_it_would_have(tmp_path: Path, name: str, every: int) -> None:
    tell_all(STORIES[name], tmp_path, 0.0, twice=False, every=every)


@stories("test_also_when_the_next_agent_dies_as_well")
def test_also_when_the_next_agent_dies_as_well(tmp_path: Path, name: str, every: int) -> None:
    tell_all(STORIES[name], tmp_path, 0.0, twice=True, every=every)


@stories("test_also_when_what_is_read_is_old")
def test_also_when_what_is_read_is_old(tmp_path: Path, name: str, every: int) -> None:
    tell_all(STORIES[name], tmp_path, 14.0, twice=False, every=every)


@pytest.mark.parametrize("what", DEATHS)
def test_an_add_that_nobody_repeats_leaves_nothing_in_the_vpc(tmp_path: Path, what: str) -> None:
    """Its client has died too, and no DEL ever comes: nobody was told that the route exists.

    Only who dies after its last write and before its answer leaves a claim that looks like any other.
    """
    ends: list[tuple[list[str], int]] = []
    for number in range(1, 100):
        cluster = ClusterWithPods(tmp_path / str(number), tables=TABLES)
        a, b = cluster.nodes.values()
        b.add_pod(FLOATING)
        lose(cluster, "rtb-1")
        pod = a.pod(FLOATING)
        a.life.fate = Fate(what, number)
        if a.call("ADD", pod, times=1):
            break
        cluster.pass_time(LATE_SECONDS + 400)
        ends.append(([cluster.leads(table) for table in TABLES], len(a.claims.all()[0])))
    assert len(ends) >= 9
    assert ends[:-1] == [(["eni-b", "eni-b"], 0)] * (len(ends) - 1)
    assert ends[-1] == ((["eni-a", "eni-a"], 1) if what == "killed after" else ends[0])
