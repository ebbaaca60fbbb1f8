"""Every order of events up to a bound, over the decisions as they are shipped (``rules``).

Two nodes, three ENIs, one place. Pods come, end, and have their DEL late; ENIs are detached and attached to
the other node; policy narrows; a third hand deletes the route or puts a gateway's there; a look may see what
was there before the last change, and another node's ADD may come between a look and its write.

After each write the promises are checked, and from each state the nodes look again and again,
with true answers, until nothing changes any more: then the route must be where it belongs, and nobody writes.
Times are relative to now and cut off where they make no difference, so that there are finitely many states.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_network
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, State
from cni_floatip.model.values import Attachment, RouteKey, RouteTarget
from cni_floatip.operations.release import _is_kept
from cni_floatip.rules import destinations
from cni_floatip.rules.reconcile import STALE_SECONDS, Action, Claimant, Observation, decide
from tests.support.claims import a_claim

PLACE = RouteKey("rtb-1", ip_network("192.168.0.2/32"))
NOW, RECONCILE, GRACE = 1_000_000.0, 60.0, 60.0
GAP = 1.5 * RECONCILE
HOME = {"a1": "a", "a2": "a", "b1": "b"}
NODES = "ab"
GATEWAY = "igw"
AGE, BROKEN, AGO = 60.0, 150.0, GAP + 1


class Pod(NamedTuple):
    """A claim: ``age`` of its ADD, ``left`` of its grace, ``number`` by the order of ADDs."""

    number: int
    node: str
    eni: str
    state: State
    age: float
    left: float


class Seen(NamedTuple):
    """What a node knows of the place."""

    target: str
    active: bool
    broken: float | None
    ago: float


class World(NamedTuple):
    """Everything. ``target`` "" is no route; ``before`` is what was there until ``changed`` seconds ago."""

    target: str
    before: str
    changed: float
    attached: tuple[tuple[str, str], ...]
    given: tuple[bool, ...]
    pods: tuple[Pod, ...]
    seen: tuple[Seen | None, ...]
    left: tuple[int, ...]  # events that may still come: ADDs, moves of ENIs, narrowings, other hands

    def on(self, node: str) -> frozenset[str]:
        return frozenset(eni for eni, at in self.attached if at == node)

    def is_given(self, node: str) -> bool:
        return self.given[NODES.index(node)]


START = World("", "", AGO, tuple(HOME.items()), (True, True), (), (None, None), (3, 2, 1, 1))


class Violation(AssertionError):
    """A promise that does not hold."""


def target_of(world: World, name: str) -> RouteTarget | None:
    if not name:
        return None
    return RouteTarget(
        name, is_eni=name != GATEWAY, active=name == GATEWAY or bool(dict(world.attached)[name])
    )


@cache
def claim_of(pod: Pod) -> Claim:
    route = ClaimedRoute(
        PLACE, pod.state, held_since=NOW - pod.age, not_before=NOW + pod.left if pod.left else 0.0
    )
    return a_claim(route, container=f"c{pod.number}", eni=pod.eni, created_at=float(pod.number))


def pass_time(world: World, seconds: float) -> World:
    pods = tuple(
        pod._replace(age=min(pod.age + seconds, AGE), left=max(0.0, pod.left - seconds)) for pod in world.pods
    )
    seens = tuple(
        s
        and s._replace(
            ago=min(s.ago + seconds, AGO),
            broken=None if s.broken is None else min(s.broken + seconds, BROKEN),
        )
        for s in world.seen
    )
    changed = min(world.changed + seconds, AGO)
    return world._replace(
        pods=pods,
        seen=seens,
        changed=changed,
        before=world.before if changed <= STALE_SECONDS else world.target,
    )


def lead(world: World, target: str) -> World:
    """Change the route."""
    if target == world.target:
        return world
    return world._replace(target=target, before=world.target, changed=0.0)


@dataclass
class Look:
    """One look of a node, its judgement again, and what it writes then."""

    world: World
    node: str

    def see(self, name: str) -> tuple[Observation, Action, int | None]:
        """Look; take note of what the claims are now; return what is to be done, by which pod."""
        world, index = self.world, NODES.index(self.node)
        known = world.seen[index]
        target = known and known.target
        before = known and Observation(
            RouteTarget(target, is_eni=target != GATEWAY, active=known.active) if target else None,
            NOW - known.ago,
            0.0,
            None if known.broken is None else NOW - known.broken,
        )
        observation = Observation.next(before, target_of(world, name), NOW, GAP)
        mine = {pod.number: pod for pod in world.pods if pod.node == self.node}
        claimants = [Claimant(claim_of(pod), claim_of(pod).routes[0]) for pod in mine.values()]
        given = world.is_given(self.node)
        decision = decide(claimants, observation, world.on(self.node), NOW, RECONCILE, lambda _: given)
        for number, pod in mine.items():
            if event := decision.events.get(Attachment("net", f"c{number}", "net1")):
                self.become(number, claim_of(pod).routes[0].observe(event).state)
        broken = None if observation.broken is None else min(NOW - observation.broken, BROKEN)
        new = Seen(name, bool(observation.target and observation.target.active), broken, 0.0)
        self.world = self.world._replace(
            seen=tuple(new if i == index else s for i, s in enumerate(world.seen))
        )
        by = int(decision.by.claim.attachment.container[1:]) if decision.by else None
        return observation, decision.action, by

    def become(self, number: int, state: State) -> None:
        pods = tuple(pod._replace(state=state) if pod.number == number else pod for pod in self.world.pods)
        self.world = self.world._replace(pods=pods)

    def write(self, action: Action, number: int, read: str, *, certain: bool) -> None:
        """Write; ``read`` is what the last read showed, ``certain`` that it is what is there."""
        world = self.world
        pod = next(p for p in world.pods if p.number == number)
        here, given = world.on(self.node), world.is_given(self.node)
        if action is Action.RELEASE:
            return self.release(pod, read, certain=certain)
        if not pod.state.live or pod.eni not in here or not given:
            raise Violation(f"{action} for {pod}")
        if action in (Action.DELETE, Action.MOVE):
            self.check_delete(pod, read, certain=certain)
            self.world = lead(self.world, "")
        if action in (Action.CREATE, Action.MOVE) and not self.world.target:
            self.world = lead(self.world, pod.eni)
            self.become(number, State.HELD)
        return None

    def release(self, pod: Pod, read: str, *, certain: bool) -> None:
        world, claim = self.world, claim_of(pod)
        here = world.on(self.node)
        all_here = [claim_of(p) for p in world.pods if p.node == self.node]
        others = [claim for claim in all_here if claim.live]
        given = world.is_given(self.node)

        def is_here(item: Claim) -> bool:
            return item.eni in here

        def able(item: Claim) -> bool:
            return given and is_here(item)

        what = destinations.decide_release(target_of(world, read), claim, PLACE, others, is_here, able)
        around = SimpleNamespace(now=lambda: NOW, claims=SimpleNamespace(for_route=lambda _: all_here))
        if what is not destinations.Release.LEAVE and not _is_kept(around, claim, PLACE):  # type: ignore[arg-type]
            self.check_delete(pod, read, certain=certain)
            heir = destinations.heir(claim, PLACE, others, able)
            self.world = lead(self.world, "")
            if heir and what is destinations.Release.HAND_OVER:
                if heir.eni not in here or not given:
                    raise Violation(f"handed over to {heir.attachment}")
                self.world = lead(self.world, heir.eni)
        self.become(pod.number, State.GONE)

    def check_delete(self, pod: Pod, read: str, *, certain: bool) -> None:
        if read == GATEWAY:
            raise Violation("deletes what is not an ENI's")
        if not certain:
            return
        world = self.world
        active = bool(dict(world.attached)[read])
        if active and read not in world.on(self.node):
            raise Violation(f"deletes the route of another node, to {read}")
        for other in world.pods:
            wants = active if other.state.live else other.left and (active or not pod.state.live)
            if other.node == self.node and other.eni == read and wants:
                raise Violation(f"deletes for {pod} what {other} has")


def looks(world: World, node: str) -> Iterator[World]:
    """Yield what one look may lead to."""
    names = {world.target, world.before} if world.changed <= STALE_SECONDS else {world.target}
    for first in names:
        look = Look(world, node)
        _, action, _ = look.see(first)
        if action is Action.NOTHING:
            yield look.world
            continue
        for second in names:
            again = Look(look.world, node)
            _, act_again, by = again.see(second)
            if act_again is not action or by is None:
                yield again.world
                continue
            for robbed in (again.world, *adds(again.world, {"a": "b", "b": "a"}[node])):
                last = Look(robbed, node)
                last.write(action, by, second, certain=second == world.target and robbed is again.world)
                yield last.world


def spent(world: World, what: int) -> World:
    return world._replace(left=tuple(n - (i == what) for i, n in enumerate(world.left)))


def adds(world: World, node: str) -> Iterator[World]:
    """Yield what an ADD on ``node`` may lead to: it always writes."""
    if not world.left[0] or not world.is_given(node) or world.target == GATEWAY:
        return
    for eni in sorted(world.on(node)):
        if sum(pod.state.live for pod in world.pods) < 2:
            pod = Pod(4 - world.left[0], node, eni, State.HELD, 0.0, 0.0)
            yield spent(lead(world, eni)._replace(pods=(*world.pods, pod)), 0)


def events(world: World) -> Iterator[tuple[str, World]]:
    for node in NODES:
        for after in looks(world, node):
            yield f"look {node}", after
        for after in adds(world, node):
            yield f"add {node}", after
    for pod in world.pods:
        if pod.state.live:
            ended = pod._replace(state=State.RELEASING, left=GRACE)
            pods = tuple(ended if p is pod else p for p in world.pods)
            yield f"del c{pod.number}", world._replace(pods=pods)
    if world.left[1]:
        for eni, at in world.attached:
            for to in {"", "a", "b"} - {at} if at else {"a", "b"}:
                moved = tuple((e, to if e == eni else n) for e, n in world.attached)
                yield f"{eni} to {to or 'nowhere'}", spent(world._replace(attached=moved), 1)
    if world.left[2]:
        for index, node in enumerate(NODES):
            given = tuple(old and i != index for i, old in enumerate(world.given))
            yield f"policy of {node} narrows", spent(world._replace(given=given), 2)
    if world.left[3]:
        yield "deleted by another hand", spent(lead(world, ""), 3)
        yield "taken by a gateway", spent(lead(world, GATEWAY), 3)
    for seconds in (10.0, 40.0):
        yield f"{seconds:.0f} s pass", pass_time(world, seconds)


RESTED: dict[World, str] = {}


def rest(world: World) -> str:
    """Let the nodes look until nothing changes; return what is wrong then, "" for nothing."""
    path: dict[World, int] = {}
    routes: list[str] = []
    while world not in RESTED:
        if world in path:
            routes = routes[path[world] :]
            wrong = f"nobody comes to rest: {routes}" if len(set(routes)) > 1 else misplaced(world)
            RESTED[world] = wrong
            break
        path[world] = len(routes)
        routes.append(world.target)
        for node in NODES:
            look = Look(world, node)
            _, action, _ = look.see(world.target)
            if action is not Action.NOTHING:
                _, action, by = look.see(world.target)
                if by is not None:
                    look.write(action, by, world.target, certain=True)
            world = look.world
        world = pass_time(world, 30.0)
    wrong = RESTED[world]
    RESTED.update(dict.fromkeys(path, wrong))
    return wrong


def misplaced(world: World) -> str:
    """Say what is wrong with where the route leads, when nothing moves any more."""
    if world.target == GATEWAY:
        return ""
    attached = dict(world.attached)
    live = [pod for pod in world.pods if pod.state.live]
    able = [pod for pod in live if attached[pod.eni] == pod.node and world.is_given(pod.node)]
    target = world.target
    if (
        target
        and attached[target]
        and not any(p.eni == target and p.node == attached[target] for p in world.pods)
    ):
        return ""  # works for a node that has no claim of it: whoever wrote that is right, for all we know
    if able:
        if target not in {pod.eni for pod in (*able, *live)} or not attached[target]:
            return f"leads to {target or 'nowhere'}, while {able} want it"
        if len(live) == 1 and target != able[0].eni:
            return f"leads to {target}, not to that of {able[0]}"
        return ""
    if target and target not in {pod.eni for pod in live}:
        return f"leads to {target}, which nobody wants"
    return ""


def explore(start: World, depth: int) -> int:
    """Explore everything within ``depth`` events of ``start``; return how many states that was."""
    came: dict[World, tuple[World, str] | None] = {start: None}
    todo = deque([(start, 0)])
    while todo:
        world, far = todo.popleft()
        wrong = rest(world)
        if wrong:
            raise Violation(f"{wrong}\n{told(came, world)}")
        if far == depth:
            continue
        try:
            for what, after in events(world):
                if after not in came:
                    came[after] = world, what
                    todo.append((after, far + 1))
        except Violation as e:
            raise Violation(f"{e}\n{told(came, world)}") from e
    return len(came)


def told(came: dict[World, tuple[World, str] | None], world: World) -> str:
    story = [str(world)]
    while step := came[world]:
        world, what = step
        story.insert(0, what)
    return "\n".join(story)


def begun(*steps: str) -> World:
    """Return the state after ``steps``, each the first event of that name."""
    world = START
    for step in steps:
        world = next(after for what, after in events(world) if what == step)
    return world


BEGINNINGS = {
    "nothing": (),
    "one pod": ("add a", "look a", "40 s pass", "40 s pass", "look a"),
    "two owners": ("add a", "40 s pass", "40 s pass", "add b", "40 s pass", "look a", "40 s pass", "look b"),
    "restarted": ("add a", "40 s pass", "del c1", "add a", "40 s pass", "40 s pass", "look a"),
}


@pytest.mark.parametrize(
    ("beginning", "depth"), [("nothing", 3), ("one pod", 4), ("two owners", 3), ("restarted", 3)]
)
def test_everything_that_may_happen_soon(beginning: str, depth: int) -> None:
    assert explore(begun(*BEGINNINGS[beginning]), depth) > 1000


@pytest.mark.thorough(sample="test_everything_that_may_happen_soon[one pod-4]")
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_everything_that_may_happen(beginning: str) -> None:
    assert explore(begun(*BEGINNINGS[beginning]), 5) > 20_000
