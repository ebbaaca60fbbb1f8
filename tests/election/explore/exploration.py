"""One exploration: a setting's start, its steps, its properties, searched whole or walked at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from tests.election.explore import properties
from tests.election.explore.driver import Agents, node_name
from tests.election.explore.environment import Environment
from tests.election.explore.search import Bounds, Outcome, Search, State, Step
from tests.election.explore.setting import Setting
from tests.election.explore.system import System
from tests.election.explore.world import Place, Pod, World


class Exploration:
    """The system of one setting, and what it must do."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.agents = Agents(setting)
        self._system = System(setting, self.agents)
        self._environment = Environment(setting, self.agents, self._system)

    def start(self) -> World:
        """Return the world at the beginning: every agent runs, every pod is added and not Ready yet."""
        setting, routes = self.setting, len(self.agents.keys)
        claims = tuple(((1, False, False),) for _ in range(setting.groups))
        places = tuple(
            Place(agent=self.agents.started(node, claims), pods=(Pod(),) * setting.groups)
            for node in range(setting.nodes)
        )
        none = ("",) * routes
        leases = (0,) * setting.groups
        return self._quiet(World(True, leases, none, none, setting.budget(), setting.rivals, places))

    def _quiet(self, world: World) -> World:
        """Let the agents do, in any order, what they do before a pod is Ready."""
        for _ in range(1000):
            step = next(step for step in self._system.steps(world) if step.system)
            if step.label == "tick":
                return world
            world = cast("World", step.after)
        raise AssertionError("the agents never come to rest")

    def steps(self, state: State) -> Iterator[Step]:
        """Yield every step from a state."""
        world = cast("World", state)
        yield from self._system.steps(world)
        yield from self._environment.steps(world)

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
        lines += [f"  group {group}: {self.agents.leases[lease]}" for group, lease in enumerate(world.leases)]
        for node, place in enumerate(world.places):
            lines.append(f"  {node_name(node)}: {_without_defaults(place, Place())}")
            lines += [f"    pod: {_without_defaults(pod, Pod())}" for pod in place.pods]
            if place.agent:
                agent = self.agents.agents[place.agent]
                assert agent
                lines += [f"    member: {member}" for member in agent.members]
                lines.append(f"    renewal: {agent.renewal}")
                lines.append(f"    wants: {[wished.kind for wished in self.agents.wishes(place.agent)]}")
        return "\n".join(lines)


def _without_defaults(value: Any, default: Any) -> str:
    fields = value._fields
    return ", ".join(
        f"{name} {getattr(value, name)}"
        for name in fields
        if name not in ("pods", "agent") and getattr(value, name) != getattr(default, name)
    )
