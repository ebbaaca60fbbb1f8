"""EC2 as the agent uses it: warm clients for all calls, rate-limited requests, coalesced reads.

``SharedEc2`` lives as long as the agent. Each CNI call, and the keeper, uses EC2 through a ``CallEc2`` of its
own, which knows how urgent the caller is, and when its answer is not wanted any more. It is a ``Vpc`` as in
``world``.
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
from ...model.values import NetworkInterface, RouteKey, RouteTable, Subnet
from ...operations.world import Vpc as AnyVpc
from ..observe.recorder import Recorder
from .ratelimit import Priority, Token
from .read_limit import ReadLimit
from .request_queue import ApiAction, RequestQueue
from .singleflight import Same, Shareable, SingleFlight
from .table_question import TableQuestion
from .ttl_cache import TtlCache

T = TypeVar("T")

CONNECTIONS = 50
"""Kept open per client: enough for a whole burst of writes, so that none needs a TLS handshake of its own."""
TURN_SECONDS = 10.0
"""How long a read waits for its turn; a caller that still wants it then asks again."""
SUBNET_SECONDS = 60.0
CLAIMING = ("CreateRoute", "ReplaceRoute")


@dataclass(frozen=True, slots=True)
class Caller:
    """A user of EC2: how urgent it is, and when its answer is not wanted any more.

    ``cancelled`` says why the call is over, None while it is not. ``who`` (a pod's uid or name) gets its old
    place in the queue when it comes back; turns go round the ``group``s (namespaces). ``fresh``: no cached
    answer will do. After ``until`` nothing is waited for any more. ``superseded_by`` says why a queued write
    of a route is not wanted any more.
    """

    priority: Priority = Priority.ADD
    cancelled: Callable[[], str | None] = lambda: None
    who: str = ""
    group: str = ""
    fresh: bool = False
    until: float = math.inf
    superseded_by: Callable[[RouteKey], str | None] = lambda _: None


class SharedEc2:
    """The clients, caches and queues of EC2 that all calls share. For many threads.

    ``region`` (``AWS_REGION``) overrules the region that a call asks for. ``connect`` makes a region's EC2.
    """

    def __init__(
        self,
        policy: NodeConf,
        recorder: Recorder,
        clock: Callable[[], float],
        *,
        region: str = "",
        turns: RequestQueue | None = None,
        connect: Callable[[str], AnyVpc] | None = None,
    ) -> None:
        self.policy = policy
        self.clock = clock
        self.queue = turns or RequestQueue(clock)
        self.single_flight = SingleFlight()
        self.table_reads = ReadLimit()
        self.cache = TtlCache()
        self._counts = recorder
        self._region = region
        self._sdk = Sdk(policy.roles, connections=CONNECTIONS, clock=clock)
        self._connect = connect or self._ec2
        self._vpcs: dict[str, AnyVpc] = {}
        self._lock = threading.Lock()
        self._identified = False

    def for_call(self, region: str, caller: Caller | None = None) -> CallEc2:
        """Return EC2 for one call."""
        where = self._region or region
        with self._lock:
            if where not in self._vpcs:
                self._vpcs[where] = self._connect(where)
            vpc = self._vpcs[where]
        return CallEc2(self, vpc, where, caller or Caller())

    def warm(self, region: str) -> None:
        """Have credentials, clients and connections ready for ``region``, roles too. Raises Ec2Error."""
        where = self._region or region
        self.for_call(where)
        vpc = self._vpcs[where]
        if isinstance(vpc, Vpc):
            for account in ("", *self.policy.roles):
                vpc.warm(account)

    def credentials_problem(self) -> str | None:
        """Return what is wrong with our own credentials, None once they were seen. EC2 is not asked."""
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
        """Make every waiting caller check again whether to give up, because some call has ended."""
        self.queue.wake()
        self.single_flight.wake()
        self.table_reads.wake()

    def _ec2(self, region: str) -> Vpc:
        paging = partial(self._take_for_page, region)
        return Vpc(region, self.policy.roles, sdk=self._sdk, on_request=self._count_request, paging=paging)

    def _take_for_page(self, region: str, name: str, account: str) -> None:
        """Take a token for one more page, without waiting, because the first pages are here already."""
        action = ApiAction(account, region, name)
        self.queue.spend(action, self.queue.acquire_at_once(action))

    def _count_request(self, action: str, outcome: str, seconds: float) -> None:
        self._counts.ec2(action, outcome, seconds)
        if meaning(outcome) is Ec2Fault.THROTTLED:
            self._counts.throttled(action)


class CallEc2:
    """EC2 for one call: ``world.Vpc``. Every method raises Ec2Error, or TryAgain when the call is over."""

    def __init__(self, warm: SharedEc2, vpc: AnyVpc, region: str, caller: Caller) -> None:
        self._shared = warm
        self._vpc = vpc
        self._region = region
        self._caller = caller
        self._tokens: dict[tuple[RouteKey, str], tuple[ApiAction, Token]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give unspent tokens back. Without this that happens some seconds later."""
        with self._lock:
            left, self._tokens = list(self._tokens.values()), {}
        for action, token in left:
            self._shared.queue.put_back(action, token)

    # -- reading --------------------------------------------------------------------------------------

    def route_tables(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[RouteTable, ...]:
        """Return the tables that match ``filters``, from a read that began after this call.

        Callers that ask for different tables of one VPC at the same time share a read where that costs no
        more (``table_question``). So many reads as ``ReadLimit`` allows run at once.
        """
        action = self._action("DescribeRouteTables", account)
        own = TableQuestion.of(action, filters)

        def read(token: Token, question: TableQuestion) -> tuple[TableQuestion, tuple[RouteTable, ...]]:
            try:
                call = partial(self._vpc.route_tables, question.arguments(), account)
                return question, self._send(action, call, token)
            finally:
                self._shared.table_reads.release()

        question, tables = self._read(action, own, self._turn_for_tables, read)
        return tables if question == own else own.select(tables)

    def subnets(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[Subnet, ...]:
        """Return the subnets that match ``filters``, from an answer that is a minute old at most."""
        question = self._action("DescribeSubnets", account), _frozen(filters)
        read = self._reader(*question, partial(self._vpc.subnets, filters, account))
        return self._read_cached(question, SUBNET_SECONDS, read)

    def interfaces_in(self, subnets: Sequence[str], account: str = "") -> dict[str, str]:
        """Return one network interface for each of ``subnets`` that has any."""
        question = self._action("DescribeNetworkInterfaces", account), ("in", tuple(subnets))
        return dict(self._reader(*question, partial(self._vpc.interfaces_in, subnets, account))())

    def network_interface(self, eni: str) -> NetworkInterface:
        """Return the source/dest check and the tags of ``eni``; from the cache if they allow its use."""
        question = self._action("DescribeNetworkInterfaces", ""), ("interface", eni)
        policy = self._shared.policy
        return self._read_cached(
            question,
            policy.reconcile_seconds,
            self._reader(*question, partial(self._vpc.network_interface, eni)),
            worth=lambda interface: not interface.checks_source and policy.allows_interface(interface),
        )

    # -- writing --------------------------------------------------------------------------------------

    def wait_turn(self, action: str, key: RouteKey, account: str, deadline: float) -> None:
        """Wait until ``action`` may be sent for ``key``. The token is spent by the write, or given back."""
        caller = self._caller
        self._put_back(key, account)
        where = self._action(action, account)
        last = min(deadline, caller.until)
        # Credentials first: else they would be waited for after the turn.
        self._vpc.wait_turn(action, key, account, last)

        def stop() -> str | None:
            return caller.cancelled() or (caller.superseded_by(key) if action in CLAIMING else None)

        token = self._shared.queue.acquire(where, caller.priority, last, stop, self._key(key), caller.group)
        with self._lock:
            self._tokens[key, account] = where, token

    def create(self, key: RouteKey, eni: str, account: str = "") -> None:
        """Create the route at ``key`` to ``eni``, where there is none."""
        self._write("CreateRoute", key, account, partial(self._vpc.create, key, eni, account))

    def replace(self, key: RouteKey, eni: str, account: str = "") -> None:
        """Point the existing route at ``key`` to ``eni``."""
        self._write("ReplaceRoute", key, account, partial(self._vpc.replace, key, eni, account))

    def delete(self, key: RouteKey, account: str = "") -> None:
        """Remove the route at ``key``."""
        self._write("DeleteRoute", key, account, partial(self._vpc.delete, key, account))

    def try_create(self, key: RouteKey, eni: str, account: str = "") -> None:
        """Ask whether ``create`` would be allowed, when it is this call's turn; writes nothing."""
        self._send_in_turn("CreateRoute", account, partial(self._vpc.try_create, key, eni, account))

    def try_replace(self, key: RouteKey, eni: str, account: str = "") -> None:
        """Ask whether ``replace`` would be allowed, when it is this call's turn; writes nothing."""
        self._send_in_turn("ReplaceRoute", account, partial(self._vpc.try_replace, key, eni, account))

    def disable_source_dest_check(self, eni: str) -> None:
        """Turn the source/dest check of ``eni`` off, when it is this call's turn."""
        call = partial(self._vpc.disable_source_dest_check, eni)
        self._send_in_turn("ModifyNetworkInterfaceAttribute", "", call)

    # -- in turn --------------------------------------------------------------------------------------

    def _action(self, name: str, account: str) -> ApiAction:
        return ApiAction(account, self._region, name)

    def _send_in_turn(self, name: str, account: str, call: Callable[[], object]) -> None:
        action = self._action(name, account)
        self._send(action, call, self._turn(action, self._turn_deadline()))

    def _key(self, key: RouteKey) -> Hashable:
        return self._caller.who, key

    def _reader(self, action: ApiAction, what: Hashable, call: Callable[[], T]) -> Callable[[], T]:
        """Return the read of ``what``, which callers that ask for the same share."""
        return partial(
            self._read, action, Same((action, what)), self._turn, partial(self._send, action, call)
        )

    def _read(
        self,
        action: ApiAction,
        question: Shareable,
        turn: Callable[[ApiAction, float], Token],
        read: Callable[[Token, Any], T],
    ) -> T:
        """Return the answer to ``question``, read by this caller or by another that waits for it too."""
        shared, caller, until = self._shared, self._caller, self._turn_deadline()
        try:
            result: T = shared.single_flight.do(
                question,
                caller.priority,
                caller.cancelled,
                lambda: turn(action, until),
                read,
                lambda: until - shared.clock(),
            )
        except TimeoutError as e:
            text = "timed out waiting for a shared read: EC2's request rate limit is exhausted"
            raise Ec2Error(Ec2Fault.THROTTLED, action.name, "", text) from e
        return result

    def _turn_for_tables(self, action: ApiAction, until: float) -> Token:
        """Wait for a turn, and then until few other reads of route tables run.

        Credentials of a role first, because a read that waited for them would keep others from running.
        """
        shared, caller = self._shared, self._caller
        if action.account and isinstance(self._vpc, Vpc):
            self._vpc.ready(action.name, action.account)
        token = self._turn(action, until)
        try:
            shared.table_reads.acquire(caller.priority, caller.cancelled, lambda: until - shared.clock())
        except BaseException as e:  # whatever it is, nothing is sent
            shared.queue.put_back(action, token)
            if not isinstance(e, TimeoutError):
                raise
            text = "timed out waiting for other reads of route tables"
            raise Ec2Error(Ec2Fault.NOT_SENT, action.name, "", text) from e
        return token

    def _turn(self, action: ApiAction, until: float) -> Token:
        """Wait for a turn, without keeping a place in the queue."""
        caller = self._caller
        return self._shared.queue.acquire(
            action, caller.priority, until, caller.cancelled, group=caller.group
        )

    def _turn_deadline(self) -> float:
        """Return until when to wait for a turn."""
        return min(self._shared.clock() + TURN_SECONDS, self._caller.until)

    def _read_cached(
        self,
        question: Hashable,
        seconds: float,
        read: Callable[[], T],
        worth: Callable[[T], bool] = lambda _: True,
    ) -> T:
        asked_at, kept = self._shared.clock(), self._shared.cache
        if not self._caller.fresh and (known := kept.get(question, asked_at - seconds)) is not None:
            result: T = known[0]
            return result
        answer = read()
        if worth(answer):
            kept.put(question, answer, asked_at)
        else:
            kept.forget(question)
        return answer

    def _write(self, name: str, key: RouteKey, account: str, call: Callable[[], None]) -> None:
        action = self._action(name, account)
        with self._lock:
            held = self._tokens.get((key, account))
            if held and held[0] == action:
                del self._tokens[key, account]
        # Without a held token nobody waited. This must not wait either, because the decision would grow old.
        token = held[1] if held and held[0] == action else self._shared.queue.acquire_at_once(action)
        self._send(action, call, token)
        self._shared.queue.forget(self._key(key))

    def _send(self, action: ApiAction, call: Callable[[], T], token: Token, _: object = None) -> T:
        turns = self._shared.queue
        turns.spend(action, token)
        try:
            answer = call()
        except Ec2Error as e:  # another action, AssumeRole, failed before this request was sent
            turns.on_answer(action, token, e.fault if e.action == action.name else Ec2Fault.NOT_SENT)
            raise
        turns.on_answer(action, token, None)
        return answer

    def _put_back(self, key: RouteKey, account: str) -> None:
        with self._lock:
            held = self._tokens.pop((key, account), None)
        if held:
            self._shared.queue.put_back(*held)


def _frozen(filters: Mapping[str, Sequence[str]]) -> Hashable:
    return tuple(sorted((name, tuple(values)) for name, values in filters.items()))
