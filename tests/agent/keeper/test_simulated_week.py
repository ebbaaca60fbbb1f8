"""A week of three agents' lives: pods come, move and go, nodes die, EC2 has its bad days, agents are killed.

Time is simulated; what is done is real but for EC2, the kernel and the socket. Whatever has happened, once
things have been well for a while every pod has its routes and nobody else has any, and nothing is kept of
what has been.
"""

from __future__ import annotations

import gc
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.model.claim import LATE_SECONDS, Claim
from cni_floatip.model.errors import Ec2Fault
from cni_floatip.model.values import Attachment
from tests.support.cluster_with_pods import DEATHS, LOSSES, ClusterWithPods, Fate, NodeWithPods, in_order

DAY = 86400.0
DESTINATIONS = range(2, 10)
SETTLED = 1000.0
"""After so long without trouble everything is as it should be: looks are 8 minutes apart under throttling,
and one pod in a minute is found to be gone without a DEL."""
BAD_DAYS = (Ec2Fault.THROTTLED, Ec2Fault.UNANSWERED, Ec2Fault.BUSY, Ec2Fault.DENIED)


@dataclass
class Owner:
    """A pod that was told that its ADD succeeded."""

    node: NodeWithPods
    attachment: Attachment


@dataclass
class Week:
    """What happens, and what must be true of it. ``pods``: by destination, newest last."""

    cluster: ClusterWithPods
    chance: random.Random
    pods: dict[int, list[Owner]] = field(default_factory=lambda: {n: [] for n in DESTINATIONS})
    changed: dict[int, float] = field(default_factory=lambda: dict.fromkeys(DESTINATIONS, 0.0))
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    bystanders: dict[str, Attachment] = field(default_factory=dict)
    """A pod on each node that stays: where no namespace can be seen, none is known to be gone."""
    trouble: float = 0.0
    """Until when, as far as we know, something was wrong."""
    checked: int = 0
    over: bool = False
    happened: dict[str, int] = field(default_factory=dict)

    # -- what happens ---------------------------------------------------------------------------------

    def live(self, seconds: float) -> None:
        """Let so much time pass, with something happening every ten minutes or so."""
        end = self.cluster.at + seconds
        deeds = [
            (self.start, 8),
            (self.move, 8),
            (self.end, 5),
            (self.power_cut, 1),
            (self.kill, 6),
            (self.lose_a_call, 6),
            (self.bad_day, 3),
            (self.outage, 2),
            (self.old_reads, 3),
            (self.somebody_deletes, 3),
            (self.change_tables, 1),
            (self.rest, 6),
        ]
        while self.cluster.at < end:
            deed = self.chance.choices([d for d, _ in deeds], [w for _, w in deeds])[0]
            self.happened[deed.__name__] = self.happened.get(deed.__name__, 0) + 1
            deed()
            self.wait(self.chance.expovariate(1 / 600))

    def wait(self, seconds: float) -> None:
        """Let time pass; look every five minutes."""
        end = self.cluster.at + seconds
        while self.cluster.at < end:
            due = sorted(self.later, key=lambda item: item[0])
            until = min([end, self.cluster.at + 300, *(at for at, _ in due[:1])])
            self.cluster.pass_time(max(0.1, until - self.cluster.at))
            for item in [item for item in due if item[0] <= self.cluster.at]:
                self.later.remove(item)
                item[1]()
            self.stand_by()
            self.check()

    def stand_by(self) -> None:
        for place, node in enumerate(self.cluster.nodes.values()):
            if node.powered and node.name not in self.bystanders and not self.over:
                self.well_from(0)
                if made := node.add_pod(self.cluster.destination(100 + place)):
                    self.bystanders[node.name] = made

    def rest(self) -> None:
        self.wait(2 * SETTLED)

    def after(self, seconds: float, deed: Callable[[], None]) -> None:
        self.later.append((self.cluster.at + seconds, deed))

    def up(self) -> list[NodeWithPods]:
        return [node for node in self.cluster.nodes.values() if node.powered]

    def start(self) -> None:
        number = self.chance.choice(DESTINATIONS)
        if not self.pods[number]:
            self.add(number, self.chance.choice(self.up()))

    def add(self, number: int, node: NodeWithPods) -> None:
        self.changed[number] = self.cluster.at
        made = node.add_pod(self.cluster.destination(number), self.chance.randrange(2))
        self.changed[number] = self.cluster.at
        if made:
            self.pods[number].append(Owner(node, made))

    def add_anywhere(self, number: int) -> None:
        self.add(number, self.chance.choice(self.up()))

    def move(self) -> None:
        """A rolling update (the new pod first), or an eviction (the old one's DEL first)."""
        number = self.chance.choice(DESTINATIONS)
        old = list(self.pods[number])
        if self.chance.random() < 0.5:
            self.add(number, self.chance.choice(self.up()))
            self.wait(self.chance.uniform(0, 40))
            self.finish(number, old)
        else:
            self.finish(number, old)
            self.wait(self.chance.uniform(0, 40))
            self.add(number, self.chance.choice(self.up()))

    def end(self) -> None:
        number = self.chance.choice(DESTINATIONS)
        self.finish(number, list(self.pods[number]))

    def finish(self, number: int, owners: list[Owner]) -> None:
        """End pods: their DEL comes, comes late, or never."""
        for owner in owners:
            if owner not in self.pods[number]:
                continue
            self.pods[number].remove(owner)
            self.changed[number] = self.cluster.at
            node, call = owner.node, owner.node.calls[owner.attachment]
            how = self.chance.choice(("told", "told", "told", "late", "never"))
            node.end_pod(owner.attachment, message=how == "told")
            if how == "late":

                def late(node: NodeWithPods = node, call: tuple[dict[str, str], bytes] = call) -> None:
                    self.changed[number] = self.cluster.at
                    if node.powered:
                        node.late_del(*call)

                self.after(self.chance.uniform(5, 3000), late)

    def power_cut(self) -> None:
        """A node dies (one always stays); its pods are elsewhere soon, and it boots, or much later."""
        up = self.up()
        if len(up) < 2:
            return
        node = self.chance.choice(up)
        node.crash()
        self.bystanders.pop(node.name, None)
        self.well_from(0)
        orphans = [n for n, owners in self.pods.items() if any(o.node is node for o in owners)]
        for number in orphans:
            self.pods[number] = [o for o in self.pods[number] if o.node is not node]
            self.changed[number] = self.cluster.at
            self.after(self.chance.uniform(30, 300), partial(self.add_anywhere, number))

        def boot() -> None:
            node.boot()
            self.well_from(0)

        self.after(self.chance.uniform(120, 7200), boot)

    def kill(self) -> None:
        """An agent dies at some moment of what it does next."""
        node = self.chance.choice(self.up())
        node.life.fate = Fate(self.chance.choice(DEATHS), self.chance.randint(1, 25))

    def lose_a_call(self) -> None:
        node = self.chance.choice(self.up())
        node.life.fate = Fate(self.chance.choice(LOSSES), self.chance.randint(1, 25))

    def bad_day(self) -> None:
        """EC2 refuses some of the next calls."""
        self.cluster.ec2.faults = [self.chance.choice(BAD_DAYS)] * self.chance.randint(1, 40)
        self.well_from(0)

    def outage(self) -> None:
        """EC2 is away for minutes to hours."""
        seconds = self.chance.choice((120.0, 1200.0, 4 * 3600.0)) * self.chance.random()
        self.cluster.ec2.down = True
        self.well_from(seconds)

        def back() -> None:
            self.cluster.ec2.down = False
            self.well_from(0)

        self.after(seconds, back)

    def old_reads(self) -> None:
        self.cluster.ec2.stale = self.chance.choice((0.0, 5.0, 15.0))

    def somebody_deletes(self) -> None:
        """Somebody deletes a route by hand."""
        number = self.chance.choice(DESTINATIONS)
        table = self.chance.choice(list(self.cluster.ec2.tables))
        if self.cluster.ec2.tables[table].pop(self.cluster.destination(number), None):
            self.changed[number] = self.cluster.at

    def change_tables(self) -> None:
        """A route table is made, or one is deleted, or it does not carry the tag any more."""
        tables, untagged = self.cluster.ec2.tables, self.cluster.ec2.untagged
        what = self.chance.randrange(3)
        if what == 0 and len(tables) < 4:
            tables[f"rtb-{int(self.cluster.at)}"] = {}
        elif what == 1 and len(tables) > 2:
            gone = list(tables)[-1]
            del tables[gone]
            untagged.discard(gone)
        elif len(tables) > 2:
            untagged ^= {list(tables)[-1]}
        self.well_from(0)

    def well_from(self, seconds: float) -> None:
        self.trouble = max(self.trouble, self.cluster.at + seconds)

    # -- what must be true ----------------------------------------------------------------------------

    def check(self) -> None:
        routes = self.cluster.ec2.now()
        if self.cluster.ec2.faults or self.cluster.ec2.down:
            self.well_from(0)
        enis = {eni: node for node in self.cluster.nodes.values() for eni in node.enis}
        for number in DESTINATIONS:
            destination = self.cluster.destination(number)
            for table, targets in routes.items():
                target = targets.get(destination)
                if target:  # whoever has a route knows of it
                    claims = enis[target.id].claims.all()[0]
                    known = {route.key.destination for claim in claims for route in claim.routes}
                    assert destination in known, f"{table} {destination} -> {target}: nobody's"
            if self.cluster.at - max(self.trouble, self.changed[number]) > SETTLED:
                self.check_settled(number, routes)
        self.check_size()

    def check_settled(self, number: int, routes: Any) -> None:
        self.checked += 1
        destination, owners = self.cluster.destination(number), self.pods[number]
        tagged = set(routes) - self.cluster.ec2.untagged
        targets = {str(routes[table].get(destination, "")) for table in tagged}
        if not owners:
            waiting = [node for node in self.cluster.nodes.values() if not node.powered]
            assert targets == {""} or waiting, f"{destination}: {targets} and nobody lives\n{self}"
        elif len(owners) == 1:
            claim = owners[0].node.claims.get(owners[0].attachment)
            assert isinstance(claim, Claim), f"{destination}: {owners[0].attachment} has no claim\n{self}"
            assert targets == {claim.eni}, f"{destination}: {targets}, not {claim.eni}\n{self}"

    def check_size(self) -> None:
        """What is kept is in proportion to the claims that there are."""
        for node in self.up():
            claims = node.claims.all()[0]
            keys = {route.key for claim in claims for route in claim.routes}
            mender, keeper = node.keeper._repairer, node.keeper
            # Records may have gone since the last look.
            slack = 2 * len(DESTINATIONS) * len(self.cluster.ec2.tables)
            for kept in (
                mender.observations,
                mender.errors,
                node.keeper._reconciler._membership._unmatched,
                mender.outages._known,
                mender.outages._served,
                mender.outages._wrote,
            ):
                assert len(kept) <= 2 * len(keys) + slack, f"{node.name} keeps {len(kept)}"
            assert len(keeper._known) <= len(claims), node.name
            assert len(keeper._due) <= 400, node.name
            assert not node.claims._held, node.name

    def __str__(self) -> str:
        lines = [f"at {self.cluster.at}"]
        for name, node in self.cluster.nodes.items():
            lines += [f"-- {name} {'up' if node.powered else 'off'}", *node.said[-8:]]
            for claim in node.claims.all()[0]:
                routes = ", ".join(
                    f"{route.key} {route.state} {route.not_before:.0f}" for route in claim.routes
                )
                lines.append(f"   {claim.attachment} {claim.eni}: {routes}")
        return "\n".join(lines)

    # -- the end --------------------------------------------------------------------------------------

    def come_to_rest(self) -> None:
        """Everything heals, every pod ends, and time passes."""
        ec2 = self.cluster.ec2
        for item in sorted(self.later, key=lambda item: item[0]):
            item[1]()
        self.later.clear()
        ec2.faults, ec2.down, ec2.stale = [], False, 0.0
        for node in self.cluster.nodes.values():
            node.life.fate = Fate()
            if not node.powered:
                node.boot()
        for number, owners in self.pods.items():
            for owner in list(owners):
                owners.remove(owner)
                self.changed[number] = self.cluster.at
                owner.node.end_pod(owner.attachment)
        self.wait(4 * SETTLED)
        self.over = True
        for name, bystander in self.bystanders.items():
            self.cluster.nodes[name].end_pod(bystander)
        self.bystanders.clear()
        self.wait(SETTLED + LATE_SECONDS)
        self.over = False


def files(week: Week) -> list[str]:
    return [
        str(path)
        for node in week.cluster.nodes.values()
        for path in Path(node._directory).rglob("*")
        if path.is_file() and path.name != "lock"
    ]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.parametrize(
    ("seed", "days"),
    [
        pytest.param(2, 0.5, id="half a day"),
        pytest.param(
            1,
            7,
            id="a week",
            marks=pytest.mark.thorough(sample="test_a_simulated_week[half a day]"),
        ),
    ],
)
def test_a_simulated_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, days: float) -> None:
    in_order(monkeypatch)
    cluster = ClusterWithPods(tmp_path, "abc", ("rtb-1", "rtb-2"))
    week = Week(cluster, random.Random(seed))  # noqa: S311 (a test that can be repeated)
    threads, fds = threading.active_count(), descriptors()
    first = DAY * days / 7
    week.live(first)
    week.come_to_rest()
    gc.collect()
    objects = len(gc.get_objects())

    week.live(days * DAY - first)
    week.come_to_rest()
    gc.collect()

    assert week.checked > 150 * days, week.happened
    assert cluster.ec2.now() == {table: {} for table in cluster.ec2.tables}
    assert cluster.claims() == []
    assert files(week) == []
    for node in cluster.nodes.values():
        mender = node.keeper._repairer
        kept = (
            mender.observations,
            mender.errors,
            node.keeper._reconciler._membership._unmatched,
            mender.outages._known,
            mender.outages._served,
            mender.outages._wrote,
        )
        assert [len(item) for item in kept] == [0] * len(kept)
        assert len(node.keeper._known) + len(node.keeper._due) + len(node.claims._held) == 0
        assert not node.spool
    assert threading.active_count() == threads
    assert descriptors() <= fds
    assert len(gc.get_objects()) < objects + 2000
