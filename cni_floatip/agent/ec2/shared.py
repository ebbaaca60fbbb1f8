"""EC2 as the agent asks it: warm clients that all calls share, every request in its turn, equal reads folded.

``Warm`` lives as long as the agent; each CNI call, and the keeper, looks at EC2 through a ``View`` of its
own, which knows how urgent it is and when nobody waits for it any more. A view is a ``Vpc`` as in ``world``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ...config.nodeconf import NodeConf
from ...edges.ec2.client import Vpc
from ...edges.ec2.faults import meaning
from ...edges.ec2.proxies import proxied_metadata
from ...edges.ec2.sessions import Sdk
from ...model.errors import Ec2Error, Ec2Fault
from ...model.values import NetworkInterface, Place, RouteTable, Subnet
from ...operations.world import Vpc as AnyVpc
from ..observe.recorder import Counts
from .ratelimit import Priority, Token
from .request_queue import Action, Turns
from .singleflight import Flights

T = TypeVar("T")

CONNECTIONS = 50
"""Kept open per client: a whole burst of writes, so that none needs a TLS handshake of its own."""
TURN_SECONDS = 10.0
"""How long a read waits for its turn; whoever still wants it then asks again."""
SUBNET_SECONDS = 60.0
MOST_KEPT = 1024
CLAIMING = ("CreateRoute", "ReplaceRoute")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks EC2, how urgently, and when nobody waits for the answer any more.

    ``stop`` says why the call is over, None while it is not. ``who`` (a pod's uid or name) finds its place in
    line again when it comes back; turns go round the ``group``s (namespaces). ``fresh``: nothing that was
    remembered will do. After ``until`` nothing is waited for any more. ``dropped`` says why a route that
    waits to be written is not wanted any more.
    """

    priority: Priority = Priority.ADD
    stop: Callable[[], str | None] = lambda: None
    who: str = ""
    group: str = ""
    fresh: bool = False
    until: float = math.inf
    dropped: Callable[[Place], str | None] = lambda _: None


class Warm:
    """What all calls share of EC2. For many threads.

    ``region`` overrules the one that a view is asked for (``AWS_REGION``). ``connect`` makes the EC2 of one.
    """

    def __init__(
        self,
        policy: NodeConf,
        counts: Counts,
        clock: Callable[[], float],
        *,
        region: str = "",
        turns: Turns | None = None,
        connect: Callable[[str], AnyVpc] | None = None,
    ) -> None:
        self.policy = policy
        self.clock = clock
        self.turns = turns or Turns(clock)
        self.flights = Flights()
        self.kept = Kept()
        self._counts = counts
        self._region = region
        self._sdk = Sdk(policy.roles, connections=CONNECTIONS, clock=clock)
        self._connect = connect or self._ec2
        self._vpcs: dict[str, AnyVpc] = {}
        self._lock = threading.Lock()
        self._identified = False

    def view(self, region: str, caller: Caller | None = None) -> View:
        """Return EC2 for one call."""
        where = self._region or region
        with self._lock:
            if where not in self._vpcs:
                self._vpcs[where] = self._connect(where)
            vpc = self._vpcs[where]
        return View(self, vpc, where, caller or Caller())

    def warm(self, region: str) -> None:
        """Have credentials, clients and connections ready for ``region``, roles too. Raises Ec2Error."""
        where = self._region or region
        self.view(where)
        vpc = self._vpcs[where]
        if isinstance(vpc, Vpc):
            for account in ("", *self.policy.roles):
                vpc.warm(account)

    def credentials_problem(self) -> str | None:
        """Say what is wrong with our own credentials, None once they were seen. EC2 is not asked."""
        if self._identified:
            return None
        try:
            self._identified = bool(self._sdk.identity())
        except Exception as e:  # noqa: BLE001 (whatever a provider raises, it is the answer)
            return f"no AWS credentials: {type(e).__name__}: {e}"
        if self._identified:
            return None
        return "; ".join(filter(None, ("no AWS credentials found", proxied_metadata())))

    def wake(self) -> None:
        """Let everybody who waits ask again whether to give up: some call has ended."""
        self.turns.wake()
        self.flights.wake()

    def _ec2(self, region: str) -> Vpc:
        paging = partial(self._take_for_page, region)
        return Vpc(region, self.policy.roles, sdk=self._sdk, told=self._told, paging=paging)

    def _take_for_page(self, region: str, name: str, account: str) -> None:
        """Take one more token for one more page, without waiting: its first ones are here already."""
        action = Action(account, region, name)
        self.turns.spend(action, self.turns.at_once(action))

    def _told(self, action: str, outcome: str, seconds: float) -> None:
        self._counts.ec2(action, outcome, seconds)
        if meaning(outcome) is Ec2Fault.THROTTLED:
            self._counts.throttled(action)


class View:
    """EC2 for one call: ``world.Vpc``. Beside Ec2Error every method raises TryAgain when the call is over."""

    def __init__(self, warm: Warm, vpc: AnyVpc, region: str, caller: Caller) -> None:
        self._warm = warm
        self._vpc = vpc
        self._region = region
        self._caller = caller
        self._tokens: dict[tuple[Place, str], tuple[Action, Token]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give back what was not sent. Without it that happens some seconds later."""
        with self._lock:
            left, self._tokens = list(self._tokens.values()), {}
        for action, token in left:
            self._warm.turns.put_back(action, token)

    # -- reading --------------------------------------------------------------------------------------

    def route_tables(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[RouteTable, ...]:
        """Return the tables that match ``filters``, as they were after this was asked."""
        question = self._action("DescribeRouteTables", account), _frozen(filters)
        return self._read(*question, partial(self._vpc.route_tables, filters, account))

    def subnets(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[Subnet, ...]:
        """Return the subnets that match ``filters``, as they were at most a minute ago."""
        question = self._action("DescribeSubnets", account), _frozen(filters)
        read = partial(self._read, *question, partial(self._vpc.subnets, filters, account))
        return self._remembered(question, SUBNET_SECONDS, read)

    def interfaces_in(self, subnets: Sequence[str], account: str = "") -> dict[str, str]:
        """Return one network interface for each of ``subnets`` that has any."""
        question = self._action("DescribeNetworkInterfaces", account), ("in", tuple(subnets))
        return dict(self._read(*question, partial(self._vpc.interfaces_in, subnets, account)))

    def network_interface(self, eni: str) -> NetworkInterface:
        """Return the source/dest check and the tags of ``eni``; remembered if nothing stands against it."""
        question = self._action("DescribeNetworkInterfaces", ""), ("interface", eni)
        policy = self._warm.policy
        return self._remembered(
            question,
            policy.reconcile_seconds,
            partial(self._read, *question, partial(self._vpc.network_interface, eni)),
            worth=lambda found: not found.checks_source and policy.allows_interface(found),
        )

    # -- writing --------------------------------------------------------------------------------------

    def turn(self, action: str, place: Place, account: str, deadline: float) -> None:
        """Wait until ``action`` may be sent for ``place``. The token is spent by the write, or given back."""
        caller = self._caller
        self._put_back(place, account)
        where = self._action(action, account)
        last = min(deadline, caller.until)
        self._vpc.turn(action, place, account, last)  # credentials: after the turn they would be waited for

        def stop() -> str | None:
            return caller.stop() or (caller.dropped(place) if action in CLAIMING else None)

        token = self._warm.turns.turn(where, caller.priority, last, stop, self._key(place), caller.group)
        with self._lock:
            self._tokens[place, account] = where, token

    def create(self, place: Place, eni: str, account: str = "") -> None:
        """Make the route ``place -> eni`` where there is none."""
        self._write("CreateRoute", place, account, partial(self._vpc.create, place, eni, account))

    def replace(self, place: Place, eni: str, account: str = "") -> None:
        """Point the existing route at ``place`` to ``eni``."""
        self._write("ReplaceRoute", place, account, partial(self._vpc.replace, place, eni, account))

    def delete(self, place: Place, account: str = "") -> None:
        """Remove the route at ``place``."""
        self._write("DeleteRoute", place, account, partial(self._vpc.delete, place, account))

    def disable_source_dest_check(self, eni: str) -> None:
        """Turn the source/destination check of ``eni`` off, when it is this call's turn."""
        action = self._action("ModifyNetworkInterfaceAttribute", "")
        token = self._turn(action, self._patience())
        self._send(action, partial(self._vpc.disable_source_dest_check, eni), token)

    # -- in turn --------------------------------------------------------------------------------------

    def _action(self, name: str, account: str) -> Action:
        return Action(account, self._region, name)

    def _key(self, place: Place) -> Hashable:
        return self._caller.who, place

    def _read(self, action: Action, what: Hashable, call: Callable[[], T]) -> T:
        until = self._patience()
        try:
            found: T = self._warm.flights.ask(
                (action, what),
                self._caller.priority,
                self._caller.stop,
                lambda: self._turn(action, until),
                partial(self._send, action, call),
                lambda: until - self._warm.clock(),
            )
        except TimeoutError as e:
            text = "timed out waiting for a shared read: EC2's request rate limit is exhausted"
            raise Ec2Error(Ec2Fault.THROTTLED, action.name, "", text) from e
        return found

    def _turn(self, action: Action, until: float) -> Token:
        """Wait for a turn, with no place in line to come back to."""
        caller = self._caller
        return self._warm.turns.turn(action, caller.priority, until, caller.stop, group=caller.group)

    def _patience(self) -> float:
        """Return until when to wait for a turn."""
        return min(self._warm.clock() + TURN_SECONDS, self._caller.until)

    def _remembered(
        self,
        question: Hashable,
        seconds: float,
        read: Callable[[], T],
        worth: Callable[[T], bool] = lambda _: True,
    ) -> T:
        asked, kept = self._warm.clock(), self._warm.kept
        if not self._caller.fresh and (known := kept.get(question, asked - seconds)) is not None:
            found: T = known[0]
            return found
        answer = read()
        if worth(answer):
            kept.put(question, answer, asked)
        else:
            kept.forget(question)
        return answer

    def _write(self, name: str, place: Place, account: str, call: Callable[[], None]) -> None:
        action = self._action(name, account)
        with self._lock:
            held = self._tokens.get((place, account))
            if held and held[0] == action:
                del self._tokens[place, account]
        # With none held nobody waited, and this cannot: what was decided would grow old meanwhile.
        token = held[1] if held and held[0] == action else self._warm.turns.at_once(action)
        self._send(action, call, token)
        self._warm.turns.forget(self._key(place))

    def _send(self, action: Action, call: Callable[[], T], token: Token) -> T:
        turns = self._warm.turns
        turns.spend(action, token)
        try:
            answer = call()
        except Ec2Error as e:  # that of another action, AssumeRole, came before this one was sent
            turns.answered(action, token, e.fault if e.action == action.name else Ec2Fault.NOT_SENT)
            raise
        turns.answered(action, token, None)
        return answer

    def _put_back(self, place: Place, account: str) -> None:
        with self._lock:
            held = self._tokens.pop((place, account), None)
        if held:
            self._warm.turns.put_back(*held)


class Kept:
    """Answers that may be used again for a while, and when they were asked for. Bounded; for many threads."""

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[Any, float]] = {}
        self._lock = threading.Lock()

    def get(self, question: Hashable, since: float) -> tuple[Any, float] | None:
        """Return the answer and when it was asked for, unless that was before ``since``."""
        with self._lock:
            known = self._found.get(question)
            if known and known[1] < since:
                del self._found[question]
                return None
            return known

    def put(self, question: Hashable, answer: Any, asked: float) -> None:
        """Keep ``answer``, unless a newer one is there; the oldest makes room for it."""
        with self._lock:
            known = self._found.pop(question, None)
            if known and known[1] > asked:
                answer, asked = known
            if len(self._found) >= MOST_KEPT:
                del self._found[next(iter(self._found))]
            self._found[question] = answer, asked

    def forget(self, question: Hashable) -> None:
        """Keep no answer to ``question``."""
        with self._lock:
            self._found.pop(question, None)


def _frozen(filters: Mapping[str, Sequence[str]]) -> Hashable:
    return tuple(sorted((name, tuple(values)) for name, values in filters.items()))
