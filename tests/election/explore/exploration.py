"""One exploration: a setting's start, its steps, its properties, searched whole or walked at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, cast

from tests.election.explore import properties
from tests.election.explore.canonical import FLOOR
from tests.election.explore.driver import Agents, node_name
from tests.election.explore.environment import Environment
from tests.election.explore.search import Bounds, Outcome, Search, State, Step
from tests.election.explore.setting import LONG, Setting
from tests.election.explore.system import Source, System
from tests.election.explore.values import NOW
from tests.election.explore.world import Phase, Place, Pod, World, pod_set

SETTLING = 12
"""Ticks until everything of the beginning is long ago."""


class Exploration:
    """The system of one setting, and what it must do."""

    def __init__(self, setting: Setting, *, exact: bool = False) -> None:
        self.setting = setting
        self.agents = Agents(setting, exact=exact)
        self._system = System(setting, self.agents)
        self._environment = Environment(setting, self.agents, self._system)
        self._start: World | None = None

    def start(self) -> World:
        """Return the world at the beginning: every agent runs, every pod is added, and no fault was."""
        if self._start is None:
            self._start = self._begin()
        return self._start

    def _begin(self) -> World:
        setting, routes = self.setting, len(self.agents.keys)
        claims = tuple(((1, False, False),) for _ in range(setting.groups))
        places = tuple(
            Place(agent=self.agents.started(node, claims), pods=(Pod(),) * setting.groups)
            for node in range(setting.nodes)
        )
        none = ("",) * routes
        leases = (0,) * setting.groups
        left = (0,) * len(setting.budget())
        world = self._quiet(World(True, leases, none, none, left, False, places))
        for turn in range(setting.nodes if setting.settled else 0):
            for group in range(setting.groups):
                node = (group + turn) % setting.nodes
                world = self._quiet(pod_set(world, node, group, phase=Phase.READY))
        for _ in range(SETTLING if setting.settled else 0):
            world = self._quiet(self._system.tick(world))
        return world._replace(left=setting.budget(), writer=setting.rivals)

    def _quiet(self, world: World) -> World:
        """Let the agents do, in one order, what they can do before time passes."""
        for _ in range(1000):
            step = next(step for step in self._system.steps(world) if step.system)
            if step.label == "tick":
                return world
            world = cast("World", step.after)
        raise AssertionError(f"the agents never come to rest: {step.label}\n{self.show(world)}")

    def steps(self, state: State) -> Iterator[Step]:
        """Yield every step from a state."""
        world = cast("World", state)
        yield from self._system.steps(world)
        yield from self._environment.steps(world)

    def sources(self, state: State) -> Iterator[Source]:
        """Yield where the system's own steps come from."""
        return self._system.sources(cast("World", state))

    def happenings(self, state: State) -> Iterator[Step]:
        """Yield the steps of the environment."""
        return self._environment.steps(cast("World", state))

    def judge(self, state: State) -> str | None:
        """Say what is wrong with a state."""
        return properties.of_state(self.setting, cast("World", state))

    def judge_rest(self, state: State) -> str | None:
        """Say what is wrong with a state at rest."""
        return properties.of_rest(self.setting, self.agents, cast("World", state))

    def search(
        self, bounds: Bounds, progress: Callable[[str], None] = lambda _: None, *, stop_at: str | None = None
    ) -> Outcome:
        """Search every state."""
        search = Search(
            self.steps, judge=self.judge, judge_rest=self.judge_rest, show=self.show, progress=progress
        )
        return search.run(self.start(), bounds, stop_at=stop_at)

    def show(self, state: State) -> str:
        """Return a state for people."""
        world = cast("World", state)
        lines = [f"api {'answers' if world.api else 'is away'}, routes {world.routes}, left {world.left}"]
        lines += [
            f"  group {group}: {brief(self.agents.leases[lease])}" for group, lease in enumerate(world.leases)
        ]
        for node, place in enumerate(world.places):
            lines.append(f"  {node_name(node)}: {_without_defaults(place, Place())}")
            lines += [f"    pod: {_without_defaults(pod, Pod())}" for pod in place.pods]
            if place.agent:
                agent = self.agents.agents[place.agent]
                assert agent
                lines.append(f"    surroundings: {brief(agent.surroundings)}")
                lines += [f"    member: {brief(member)}" for member in agent.members]
                lines.append(f"    renewal: {brief(agent.renewal)}")
                wants = ", ".join(wished.kind for wished in self.agents.wishes(place.agent))
                lines.append(f"    wants: {wants}")
        return "\n".join(lines)


def brief(value: Any) -> str:
    """Return a value for people: fields that are not as always, moments as they are relative to now."""
    if is_dataclass(value) and not isinstance(value, type):
        shown = []
        for item in fields(value):
            inner = getattr(value, item.name)
            usual = item.default_factory() if item.default_factory is not MISSING else item.default
            if item.name not in ("timing", "surroundings", "rules") and inner != usual:
                shown.append(f"{item.name}={brief(inner)}")
        return f"{type(value).__name__}({', '.join(shown)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(brief, value))})"
    if isinstance(value, float) and FLOOR <= value < NOW + LONG:
        return f"now{value - NOW:+g}" if value > FLOOR else "long ago"
    return str(value)


def _without_defaults(value: Any, default: Any) -> str:
    names = value._fields
    return ", ".join(
        f"{name} {getattr(value, name)}"
        for name in names
        if name not in ("pods", "agent") and getattr(value, name) != getattr(default, name)
    )
