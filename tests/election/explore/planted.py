"""Rules taken away: each row breaks one rule of the core, and names the setting in which that must show.

A process plants a row before it imports the core, so nothing on disk changes:
``python -m tests.election.explore.planted NAME`` explores the row's setting until the first violation, and
prints it. Exit status 0: the violation showed; 1: it did not, so the explorer is blind for the rule.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parents[3] / "cni_floatip" / "election"


@dataclass(frozen=True)
class Row:
    """One rule off. ``edits``: a module, what is there once, what it becomes; none: the setting breaks it.

    ``shows``: how the violation begins that must be there in ``setting``.
    """

    name: str
    setting: str
    shows: str
    edits: tuple[tuple[str, str, str], ...] = ()


ROWS: tuple[Row, ...] = (
    Row(
        "a verdict needs no fresh GET, and suspicion reads nothing",
        "stall",
        "P3",
        (
            ("verdict", "and node.read_began >= moment\n", "\n"),
            ("verdict", "and self.answers.failed_at < node.read_began\n", "\n"),
            ("verdict", "and not clock.past(node.read_at + self.timing.renew)\n", "\n"),
            ("verdict", "return clock.past(began + self.timing.renew) or any(", "return False and any("),
        ),
    ),
    Row(
        "a gap in the API's answers starts no clock anew",
        "firewall api",
        "P3b",
        (("verdict", "if gap <= timing.api_gap * timing.renew:", "if self.last > PAST:"),),
    ),
    Row("agents reconnect later than the Lease lasts", "reconnects slowly", "P3"),
    Row("a Lease lasts two renewals", "short Lease", "P3"),
    Row(
        "an old GET proves",
        "iso",
        "P2",
        (
            ("keeping", "or clock.past(read + timing.proof):", "or False:"),
            (
                "keeping",
                "yield kind(task.uid, task.keys, proof + member.timing.proof)",
                "yield kind(task.uid, task.keys, clock.now)",
            ),
            ("keeping", "member.turn is None or read < member.turn", "member.turn is None"),
        ),
    ),
    Row(
        "an active does not look again",
        "wipe",
        "P1",
        (("keeping", "    if clock.past(_look_at(member)):", "    if member.ec2.looked == -float('inf'):"),),
    ),
    Row(
        "an offer does not wait for the own write",
        "graceful term+slow",
        "P4",
        (("reasons", "return member.writing is None or", "return True or"),),
    ),
    Row(
        "no second witness",
        "crash",
        "P3b",
        (
            ("verdict", "if not self.host_silent:", "if False:"),
            ("verdict", "if self.node.answered_at > PAST:", "if True:"),
        ),
    ),
    Row(
        "the clock is older than the holding",
        "firewall unready+death",
        "P3",
        (("verdict", "max(learned, node.changed_at, answers.since)", "max(node.changed_at, answers.since)"),),
    ),
    Row(
        "watches alone, nothing is read again",
        "stall+term",
        "P1",
        (("suspicion", "poll = clock.past(member.read_began + timing.poll)", "poll = False"),),
    ),
    Row(
        "who is not Ready takes",
        "fresh",
        "P",
        (("fitness", "if status is None or not status.ready:", "if status is None:"),),
    ),
    Row(
        "an active without EC2 stays",
        "wipe+ec2",
        "P1",
        (
            (
                "reasons",
                "return Reason.EC2_LOST if member.ec2.lost(clock, member.timing) else None",
                "return None",
            ),
        ),
    ),
    Row(
        "V11 a look that shows ours refills the bucket",
        "another writer",
        "P5",
        (
            ("outcomes", "import NEVER, PAST, Clock", "import NEVER, PAST, Bucket, Clock"),
            (
                "outcomes",
                "    if foreign and free:\n",
                "    if not foreign:\n        held = replace(held, writer=Bucket())\n    elif free:\n",
            ),
        ),
    ),
    Row(
        "V4 a soft offer before the first write",
        "graceful term+cordon",
        "P4",
        (("active", "or member.turn is not None or not held.tried:", "or False:"),),
    ),
    Row(
        "V6 any Ready counts",
        "boot",
        "P7",
        (("fitness", "return started or self.followed_unready", "return True"),),
    ),
    Row(
        "V8 the entry stays when the level falls",
        "cordon twice, uncordon",
        "P6",
        (
            ("register", "elif not pod.fit_since or level < pod.level:", "elif not pod.fit_since:"),
            ("register", "if (since, level) == (pod.fit_since, pod.level):", "if since == pod.fit_since:"),
        ),
    ),
    Row(
        "V9 the fight with another writer has no bound",
        "another writer",
        "P5",
        (
            (
                "outcomes",
                "    free = held.writer.free_at(timing.contested, timing.contested_refill) <= now",
                "    free = True",
            ),
            ("outcomes", "held.writer.spend(now, timing.contested_refill)", "held.writer"),
        ),
    ),
    Row(
        "the younger of two groups writes too",
        "two groups, one destination",
        "P5",
        (("node", "if rival.group != group and first and", "if False and"),),
    ),
)

OPEN: tuple[Row, ...] = (
    Row(
        "an active that offers writes on",
        "iso+term",
        "P",
        (
            ("keeping", "member.lease is None or member.lease.offer:", "member.lease is None:"),
            ("keeping", "if pod is None or pod.ending or not", "if pod is None or not"),
            ("keeping", "if not held.mending and reason(member, clock):", "if False:"),
        ),
    ),
    Row(
        "a withdrawal is no new holding",
        "unready+boot",
        "P3",
        (("active", "move=move, transitions=lease.transitions + 1)", "move=move)"),),
    ),
    Row(
        "a holder without a claim on its node stays",
        "empty disk, new pod elsewhere",
        "P1",
        (
            (
                "reasons",
                "    if pod is None:\n        return Reason.GONE",
                "    if pod is None:\n        return None",
            ),
        ),
    ),
    Row(
        "V1 what is denied marks nothing, and is EC2 lost",
        "refused all",
        "P5",
        (
            ("routes", "DENIALS = (WriteOutcome.DENIED, WriteOutcome.POLICY)", "DENIALS = ()"),
            ("routes", "if results & {*ALLOWED, WriteOutcome.DENIED}:", "if results & {*ALLOWED}:"),
            ("routes", "if WriteOutcome.UNANSWERED not in results:", "if not results:"),
            (
                "routes",
                "return self._writes_lost(clock, timing) and not self.look_answered",
                "return self._writes_lost(clock, timing)",
            ),
        ),
    ),
    Row(
        "V2 writes alone are EC2 lost",
        "read-only for both, wiped",
        "P5",
        (
            (
                "routes",
                "return self._writes_lost(clock, timing) and not self.look_answered",
                "return self._writes_lost(clock, timing)",
            ),
        ),
    ),
    Row(
        "V3 a soft offer becomes no plain one",
        "graceful cordon+cordon+term+newpod",
        "P",
        (
            (
                "active",
                "if offer is None or offer.soft or SEVERITY[why] > SEVERITY[offer.reason]:",
                "if offer is None:",
            ),
        ),
    ),
    Row(
        "V12 an entry is written by what a watch shows",
        "stall+force",
        "P5",
        (
            ("register", "return not pod.live or (pod.read_began >=", "return True or (pod.read_began >="),
            ("suspicion", "if pod.live and (pod.read_began < since or", "if pod.live and (False or"),
        ),
    ),
    Row(
        "a soft offer is made again and again",
        "stall+cordon",
        "P5",
        (("learn", "and entry.standing not in remembered", ""),),
    ),
)
"""Rows that nothing shows yet within 25 s of CPU: they want a smaller setting, or another rule guards too."""


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads modules of the core with a rule taken away."""

    def __init__(self, row: Row) -> None:
        self._modules = {f"cni_floatip.election.{module}" for module, _, _ in row.edits}
        self._row = row

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Claim the row's modules."""
        if fullname not in self._modules:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed text."""
        name = module.__name__.rpartition(".")[2]
        code = compile(changed(self._row, name), f"{name}.py", "exec")
        exec(code, module.__dict__)  # noqa: S102 - the core with a rule taken away


def changed(row: Row, module: str) -> str:
    """Return a module's text with a row's edits. Raises ValueError where one does not apply exactly once."""
    text = (PACKAGE / f"{module}.py").read_text()
    for name, there, becomes in row.edits:
        if name == module:
            if text.count(there) != 1:
                raise ValueError(f"{row.name}: not once in {module}: {there!r}")
            text = text.replace(there, becomes)
    return text


def main(name: str, seconds: float = 600.0) -> int:
    """Explore a row's setting with its rule off; return 0 if its violation showed."""
    row = next(row for row in (*ROWS, *OPEN) if row.name == name)
    sys.meta_path.insert(0, Planted(row))
    from tests.election.explore.configurations import ALL
    from tests.election.explore.exploration import Exploration
    from tests.election.explore.search import Bounds

    outcome = Exploration(ALL[row.setting]).search(Bounds(seconds=seconds), stop_at=row.shows)
    print(f"{row.name} in {row.setting}: {outcome}", *outcome.violations, sep="\n")  # noqa: T201
    return int(not any(violation.what.startswith(row.shows) for violation in outcome.violations))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
