"""Breadth-first search over all states of a system, and what must hold where the system comes to rest.

A system is a start and a function from a state to its steps. A step of the *system* happens if nothing else
does; one of the *environment* may happen or not. Where the system's own steps lead back from wherever they
lead (a bottom component), the system is at rest. A write or swap on a cycle of them may go on for ever.
Breadth first, so the trace of each violation is a shortest one. States are kept whole: there is no hash
compaction, so "complete" means complete.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

State = Hashable
COST = 1 << 31
NOBODY = 0xFFFFFFFF
FIRST_LOOK = 4096
"""States after which a search that stops at a violation first judges what is at rest."""
ENDLESS = "P5 endless writes or swaps"


class Step(NamedTuple):
    """One step. ``system``: of the agents; ``cost``: an EC2 write or a swap; ``wrong``: what it breaks."""

    label: str
    after: State
    system: bool = True
    cost: bool = False
    wrong: str | None = None


@dataclass(frozen=True)
class Bounds:
    """When a search ends unfinished: after so many states, or seconds of this process's CPU."""

    states: int = 5_000_000
    seconds: float = 150.0


@dataclass(frozen=True)
class Violation:
    """A property that does not hold: how often, and the shortest way to it. ``loop``: what then repeats."""

    what: str
    times: int
    trace: tuple[str, ...]
    state: str
    loop: tuple[str, ...] = ()

    def __str__(self) -> str:
        steps = " ".join(self.trace)
        loop = f"\n  for ever: {' '.join(self.loop)}" if self.loop else ""
        return f"{self.what}: {self.times} times, {len(self.trace)} steps\n  {steps}{loop}\n  {self.state}"


@dataclass(frozen=True)
class Outcome:
    """What a search is worth: without violations and complete, everything within its budget was seen."""

    states: int
    transitions: int
    resting: int
    depth: int
    complete: bool
    seconds: float
    violations: tuple[Violation, ...]

    def __str__(self) -> str:
        extent = "complete" if self.complete else "CUT"
        rate = self.states / max(self.seconds, 1e-9)
        figures = f"{self.states} states ({extent}), {self.transitions} transitions, {self.resting} at rest"
        return f"{figures}, depth {self.depth}, {self.seconds:.1f} s, {rate:.0f} states/s"


@dataclass
class _Places:
    """The first place of each violation, by name: the state, the last step, how often."""

    first: dict[str, tuple[int, int, str | None]] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, depth: int, state: int, label: str | None) -> None:
        self.times[what] = self.times.get(what, 0) + 1
        if what not in self.first or depth < self.first[what][0]:
            self.first[what] = depth, state, label


class Search:
    """One search. ``judge`` says what is wrong with a state, ``judge_rest`` with one at rest."""

    def __init__(
        self,
        steps: Callable[[State], Iterable[Step]],
        *,
        judge: Callable[[State], str | None] = lambda _: None,
        judge_rest: Callable[[State], str | None] = lambda _: None,
        show: Callable[[State], str] = str,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._steps = steps
        self._judge = judge
        self._judge_rest = judge_rest
        self._show = show
        self._progress = progress
        self._states: list[State] = []
        self._parents = array("I")
        self._came_by = array("I")
        self._depths = array("I")
        self._labels: dict[str, int] = {}
        self._index: dict[State, int] = {}
        self._transitions = 0
        self._edges = array("I")
        self._first_edge = array("Q", [0])
        self._component = array("I")
        self._places = _Places()

    def run(self, start: State, bounds: Bounds = Bounds(), *, stop_at: str | None = None) -> Outcome:
        """Search from ``start``, until a step or state shows a violation whose text begins with ``stop_at``.

        What shows only at rest is then judged each time that twice as many states were expanded.
        """
        begun = time.process_time()
        self._begin(start)
        complete, expanded = False, FIRST_LOOK if stop_at is not None else bounds.states
        while not complete and not self._stopped(stop_at) and not self._spent(bounds, begun):
            complete = self._walk(min(expanded, bounds.states), bounds, begun, stop_at)
            resting = self._rest()
            expanded *= 2
        return Outcome(
            len(self._states),
            self._transitions,
            resting,
            self._depths[-1],
            complete,
            time.process_time() - begun,
            tuple(self._violations()),
        )

    def _begin(self, start: State) -> None:
        self._index[start] = 0
        self._states.append(start)
        self._parents.append(NOBODY)
        self._came_by.append(0)
        self._depths.append(0)

    def _stopped(self, stop_at: str | None) -> bool:
        return stop_at is not None and any(what.startswith(stop_at) for what in self._places.first)

    def _spent(self, bounds: Bounds, begun: float) -> bool:
        return len(self._states) > bounds.states or time.process_time() - begun > bounds.seconds

    def _walk(self, expanded: int, bounds: Bounds, begun: float, stop_at: str | None) -> bool:
        """Expand states until so many are, or the bounds are reached; return whether all are."""
        states, index, labels = self._states, self._index, self._labels
        here = len(self._first_edge) - 1
        while here < len(states):
            if here % 1024 == 0 and (here >= expanded or self._spent(bounds, begun)):
                return False
            if here % (1 << 16) == 0 and here:
                spent = time.process_time() - begun
                self._progress(f"{here} of {len(states)} states, depth {self._depths[here]}, {spent:.0f} s")
            depth = self._depths[here]
            if (wrong := self._judge(states[here])) is not None:
                self._places.add(wrong, depth, here, None)
            for label, after, system, cost, broken in self._steps(states[here]):
                self._transitions += 1
                there = index.setdefault(after, len(states))
                if there == len(states):
                    states.append(after)
                    self._parents.append(here)
                    self._came_by.append(labels.setdefault(label, len(labels)))
                    self._depths.append(depth + 1)
                if broken is not None:
                    self._places.add(broken, depth + 1, here, label)
                if system and (cost or there != here):
                    self._edges.append(there | (COST if cost else 0))
            self._first_edge.append(len(self._edges))
            if stop_at is not None and self._stopped(stop_at):
                return False
            here += 1
        return True

    def _rest(self) -> int:
        """Judge the bottom components of the system's steps; return how many states are in them.

        A state that was not expanded is a way out, so that a search that was cut claims nothing.
        """
        count, expanded = len(self._states), len(self._first_edge) - 1
        component = self._component = self._components(count, expanded)
        leaves = bytearray(max(component, default=0) + 1)
        for state in range(count):
            own = component[state]
            if state >= expanded:
                leaves[own] = 1
                continue
            for at in range(self._first_edge[state], self._first_edge[state + 1]):
                edge = self._edges[at]
                if component[edge & ~COST] != own:
                    leaves[own] = 1
                elif edge & COST:
                    self._places.add(ENDLESS, self._depths[state], state, None)
        resting = 0
        for state in range(expanded):
            if not leaves[component[state]]:
                resting += 1
                if (wrong := self._judge_rest(self._states[state])) is not None:
                    self._places.add(wrong, self._depths[state], state, None)
        return resting

    def _components(self, count: int, expanded: int) -> array[int]:
        """Return each state's strongly connected component (Tarjan 1972, without recursion)."""
        first, edges = self._first_edge, self._edges
        number, low = array("I", bytes(4 * count)), array("I", bytes(4 * count))
        component = array("I", [NOBODY]) * count
        stack: list[int] = []
        counter = components = 0
        for root in range(count):
            if number[root]:
                continue
            work: list[tuple[int, int]] = [(root, -1)]
            while work:
                state, at = work.pop()
                end = first[state + 1] if state < expanded else 0
                if at < 0:
                    counter += 1
                    number[state] = low[state] = counter
                    stack.append(state)
                    at = first[state] if state < expanded else 0
                else:
                    low[state] = min(low[state], low[edges[at] & ~COST])
                    at += 1
                while at < end:
                    other = edges[at] & ~COST
                    if not number[other]:
                        work.append((state, at))
                        work.append((other, -1))
                        break
                    if component[other] == NOBODY:
                        low[state] = min(low[state], number[other])
                    at += 1
                else:
                    if low[state] == number[state]:
                        while True:
                            member = stack.pop()
                            component[member] = components
                            if member == state:
                                break
                        components += 1
        return component

    def _violations(self) -> Iterator[Violation]:
        for what, (_, state, label) in sorted(self._places.first.items()):
            trace = [*self._trace(state), *([label] if label else [])]
            loop = self._loop(state) if what == ENDLESS else ()
            times, shown = self._places.times[what], self._show(self._states[state])
            yield Violation(what, times, tuple(trace), shown, loop)

    def _loop(self, start: int) -> tuple[str, ...]:
        """Return a shortest way from a state through a step that costs and back, within its component."""
        index = self._index
        ways: dict[tuple[int, bool], tuple[str, ...]] = {(start, False): ()}
        todo = [(start, False)]
        for here, paid in todo:
            for step in self._steps(self._states[here]):
                there = index.get(step.after, NOBODY)
                if not step.system or there == NOBODY or self._component[there] != self._component[start]:
                    continue
                way = (*ways[here, paid], step.label)
                if there == start and (paid or step.cost):
                    return way
                if (there, paid or step.cost) not in ways:
                    ways[there, paid or step.cost] = way
                    todo.append((there, paid or step.cost))
        return ()

    def _trace(self, state: int) -> list[str]:
        path, labels = [], list(self._labels)
        while self._parents[state] != NOBODY:
            path.append(labels[self._came_by[state]])
            state = self._parents[state]
        return path[::-1]
