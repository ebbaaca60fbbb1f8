"""A simulated EC2 and STS: moto's cloud, corrected, behind HTTP sockets in any network namespace.

A call goes: cut off? -> latency -> throttled? -> injected error, lost request, hang -> carried out under one
lock -> subscribers told -> answer, unless it is lost. ``client`` takes none of these steps but the carrying
out and the telling.
"""

from __future__ import annotations

import dataclasses
import re
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from lab.ec2 import asked as asking
from lab.ec2 import describe, inprocess, instances, routes, transit, views, wire
from lab.ec2.asked import Asked
from lab.ec2.cloud import Cloud, access_key
from lab.ec2.control import Control
from lab.ec2.faults import Faults
from lab.ec2.journal import Call, Journal
from lab.ec2.past import Past
from lab.ec2.refusal import Refusal
from lab.ec2.views import RouteView, View
from lab.instance import Credentials, InstanceView
from lab.webserver import Answer, Listener, Request

SIGNATURE_SECONDS = 300


class Lost(Exception):
    """The caller gets no answer to this call."""


class SimulatedEC2:
    """One simulated Region, all accounts. moto's state is global: one per process; ``reset`` empties it."""

    def __init__(self, *, region: str = "eu-central-1", account: str = "111122223333", seed: int = 0) -> None:
        self.region = region
        self.account = account
        self.journal = Journal()
        self.seed = seed
        self._lock = threading.RLock()
        self._listeners: list[tuple[str, Listener]] = []
        self._subscribers: list[Callable[[], None]] = []
        self._clients: dict[tuple[str, str], Any] = {}
        self._cloud = Cloud(region, account, seed)
        self._view: View | None = None
        self._past = Past()
        self.faults = Faults(seed, self._follow_faults)
        self._control = Control(self)
        self._warm()

    def listen(self, sock: socket.socket, caller: str) -> Listener:
        """Serve EC2 and STS on a listening socket; whoever connects there is ``caller``."""
        listener = Listener(
            sock, lambda request: self.handle(caller, request), lambda: not self.faults.refuses(caller)
        )
        self._listeners.append((caller, listener))
        return listener

    def close(self) -> None:
        """Stop serving on every socket."""
        for _, listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def client(self, service: str = "ec2", account: str | None = None) -> Any:
        """Return a botocore client for building the world: no faults, no limits, no journal, never stale."""
        key = access_key(account or self.account)
        with self._lock:
            if (service, key) not in self._clients:
                made = inprocess.client(self._serve_here, service, self.region, key)
                self._clients[service, key] = made
            return self._clients[service, key]

    def share_vpc(self, vpc: str, account: str) -> None:
        """Let an account take part in a VPC: it sees subnets and route tables, and may change neither."""
        with self._lock:
            self._cloud.share(vpc, account)
        self._applied()

    def propagate(self, table_id: str, cidr: str, target: str = "vgw-0123456789abcdef0") -> None:
        """Plant a route that no API call can make: a gateway propagates it, to an ENI a VPC Route Server."""
        with self._lock:
            routes.propagate(self._cloud, table_id, cidr, target)
        self._applied()

    def truth(self, table_id: str) -> dict[str, RouteView]:
        """Return what a route table really holds now, by destination."""
        with self._lock:
            raw = views.routes(self._cloud.table(table_id)[1])
            return {cidr: views.route_view(route) for cidr, route in raw.items()}

    def instance(self, instance_id: str, role: str = "node") -> InstanceView:
        """Return what instance metadata shows of an instance now."""

        def credentials() -> Credentials:
            with self._lock:
                return instances.credentials(self._cloud, instance_id, role)

        with self._lock:
            return instances.look(self._cloud, instance_id, role, credentials)

    def view(self) -> View:
        """Return what the Describe calls would show now, past all faults and for all accounts."""
        return self._look()

    def transit_routes(self, table_id: str, account: str | None = None) -> dict[str, transit.Hop | None]:
        """Return every prefix that a Transit Gateway route table knows, and where it leads."""
        with self._lock:
            return transit.routes(self._cloud.backend(account or self.account), table_id)

    def transit(self, table_id: str, address: str, account: str | None = None) -> transit.Hop | None:
        """Say where a Transit Gateway route table sends an address."""
        with self._lock:
            return transit.look_up(self._cloud.backend(account or self.account), table_id, address)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back after every applied change, before its answer is sent. No lock is held meanwhile."""
        self._subscribers.append(callback)

    def reset(self) -> None:
        """Empty every account, forget faults, journal and subscribers. Listeners stay."""
        self._subscribers.clear()
        with self._lock:
            self._cloud.reset(self.seed)
            self._view = None
            self._past.forget()
        self.faults.clear()
        self.journal.clear()

    def save(self) -> bytes:
        """Return what the default account has, for ``load``."""
        with self._lock:
            return self._cloud.save()

    def load(self, saved: bytes) -> None:
        """Reset, then give the default account what it had: much quicker than the calls that made it."""
        self.reset()
        with self._lock:
            self._cloud.load(saved)

    def handle(self, caller: str, request: Request) -> Answer | None:
        """Answer one HTTP request of a caller; ``None`` closes the connection."""
        if request.path.startswith("/_lab/"):
            return self._control.handle(request)
        arrived = time.time()
        started = time.perf_counter()
        call = None
        service = "ec2"
        try:
            service = asking.service(request)
            call = asking.understand(caller, request, self._account_of)
            answer = self._carry_out(call)
            outcome = "ok" if answer.status < 300 else _code(answer)
        except Refusal as e:
            answer, outcome = wire.error(service, e), e.code
        except Lost as e:
            answer, outcome = None, f"<{e}>"
        action, params, account = (call.action, call.params, call.account) if call else ("?", {}, "")
        took = time.perf_counter() - started
        program = request.headers.get("user-agent", "")
        answered = time.monotonic()
        self.journal.add(Call(arrived, caller, action, params, outcome, took, account, program, answered))
        return answer and dataclasses.replace(answer, headers={**answer.headers, "Date": self._date()})

    def _date(self) -> str:
        return formatdate(time.time() + self.faults.switches.clock_ahead, usegmt=True)

    def _account_of(self, key: str) -> str:
        with self._lock:
            return self._cloud.account_of(key)

    def _carry_out(self, request: Asked) -> Answer:
        """Take a call through everything that may go wrong."""
        faults, caller, action = self.faults, request.caller, request.action
        self._stop_if_cut(caller)
        slow = faults.take("latency", action, caller)
        if slow:
            faults.wait(slow.seconds)
        if abs(faults.switches.clock_ahead) >= SIGNATURE_SECONDS:
            raise Refusal("RequestExpired", "Request has expired.")
        if request.service == "ec2" and faults.throttles(caller, request.account, action, request.params):
            raise Refusal("RequestLimitExceeded", "Request limit exceeded.")
        refused = faults.take("error", action, caller)
        if refused and refused.refusal:
            raise Refusal(refused.refusal.code, refused.refusal.message, refused.refusal.status)
        if faults.take("lose_request", action, caller):
            raise Lost("lost request")
        hangs = faults.take("hang", action, caller)
        if hangs:
            faults.wait(hangs.seconds)
            if not hangs.late:
                raise Lost("hang")
        answer = self._apply(request, faults.age(caller))
        if hangs or faults.take("lose_answer", action, caller):
            raise Lost("late" if hangs else "lost answer")
        self._stop_if_cut(caller)
        return answer

    def _stop_if_cut(self, caller: str) -> None:
        self.faults.wait_while_cut(caller)
        if self.faults.cut_off(caller):
            raise Lost("cut off")

    def _apply(self, request: Asked, age: float = 0.0) -> Answer:
        """Carry out a call and tell the subscribers if it changed anything."""
        if request.service == "ec2" and request.action in describe.RESOURCES:
            _dry_run(request)
            view = self._look(age)
            return wire.result(
                request.action, describe.describe(request.action, view, request.account, request.params)
            )
        with self._lock:
            answer = self._change(request)
        if not request.reads and answer.status < 300:
            self._applied()
        return answer

    def _change(self, request: Asked) -> Answer:
        cloud, account, params = self._cloud, request.account, request.params
        if request.service == "ec2":
            if request.action in ("CreateRoute", "ReplaceRoute", "DeleteRoute"):
                routes.writable(cloud, account, params)  # permission first: it is what a dry run asks about
                _dry_run(request)
                match request.action:
                    case "CreateRoute":
                        routes.create(cloud, account, params, self.faults.switches.route_quota)
                    case "ReplaceRoute":
                        routes.replace(cloud, account, params)
                    case _:
                        routes.delete(cloud, account, params)
                return wire.result(request.action, {"Return": True})
            routes.guard(cloud, account, request.action, params)
            _dry_run(request)
        return cloud.call(request.service, account, request.request.headers, request.request.body)

    def _look(self, age: float = 0.0) -> View:
        with self._lock:
            old = self._past.ago(age) if age else None
            if self._view is None:
                self._view = views.take(self._cloud)
            return old or self._view

    def _applied(self) -> None:
        with self._lock:
            self._view = None
            if self.faults.switches.stale_seconds:
                self._past.remember(self._look())
        for callback in list(self._subscribers):
            callback()

    def _follow_faults(self) -> None:
        """Follow the switches: break the connections of who is cut off, start or end the history."""
        for caller, listener in self._listeners:
            if self.faults.refuses(caller):
                listener.sever()
        with self._lock:
            if not self.faults.switches.stale_seconds:
                self._past.forget()
            elif not self._past:
                self._past.remember(self._look())

    def _serve_here(self, request: Request) -> Answer:
        """Answer a request of ``client``."""
        service = asking.service(request)
        try:
            return self._apply(asking.understand("", request, self._account_of))
        except Refusal as e:
            return wire.error(service, e)

    def _warm(self) -> None:
        """Load the service models and build the default account now, so that no caller waits for it."""
        ec2 = self.client()
        ec2.describe_route_tables()
        ec2.describe_vpcs()
        self.client("sts").get_caller_identity()


def _dry_run(request: Asked) -> None:
    """Stop a dry run where it would act. moto's route calls ignore the flag and act."""
    if request.params.get("DryRun"):
        raise Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")


def _code(answer: Answer) -> str:
    match = re.search(rb"<Code>([^<]*)</Code>", answer.body)
    return match[1].decode() if match else str(answer.status)
