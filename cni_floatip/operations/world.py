"""The interfaces of an operation to the outside: edges, clock, policy. Tests replace them by fakes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from ..config.nodeconf import NodeConf
from ..model.claim import Claim
from ..model.errors import CniError
from ..model.values import (
    Address,
    Attachment,
    Eni,
    Interface,
    Link,
    Network,
    NetworkInterface,
    Node,
    PodAddress,
    PodRoute,
    PodRule,
    RouteKey,
    RouteTable,
    Subnet,
)
from .election import Election

T = TypeVar("T")


class Metadata(Protocol):
    """Instance metadata; see ``imds``.

    ``ask_again``: forget what was read before this conversation; returns whether any answer so far came from
    there.
    """

    def node(self) -> Node: ...
    def macs(self) -> tuple[str, ...]: ...
    def knows(self, mac: str) -> bool: ...
    def primary_mac(self) -> str: ...
    def role(self) -> str: ...
    def eni(self, mac: str) -> Eni: ...
    def interface_id(self, mac: str) -> str: ...
    def ask_again(self) -> bool: ...
    def close(self) -> None: ...


class Vpc(Protocol):
    """EC2; see ``edges.ec2.client``. Every method raises Ec2Error.

    ``wait_turn`` waits for the request rate of a writing action ("CreateRoute" ...). Call it before the
    decision, because a decision grows old while it waits. ``try_create`` and ``try_replace`` ask whether a
    write would be allowed, and write nothing.
    """

    def wait_turn(self, action: str, key: RouteKey, account: str, deadline: float) -> None: ...
    def route_tables(
        self, filters: Mapping[str, Sequence[str]], account: str = ""
    ) -> tuple[RouteTable, ...]: ...
    def subnets(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[Subnet, ...]: ...
    def interfaces_in(self, subnets: Sequence[str], account: str = "") -> dict[str, str]: ...
    def network_interface(self, eni: str) -> NetworkInterface: ...
    def disable_source_dest_check(self, eni: str) -> None: ...
    def create(self, key: RouteKey, eni: str, account: str = "") -> None: ...
    def replace(self, key: RouteKey, eni: str, account: str = "") -> None: ...
    def delete(self, key: RouteKey, account: str = "") -> None: ...
    def try_create(self, key: RouteKey, eni: str, account: str = "") -> None: ...
    def try_replace(self, key: RouteKey, eni: str, account: str = "") -> None: ...


class Parent(Protocol):
    """The link below a pod's interface, and whether it lives in this process's namespace."""

    @property
    def link(self) -> Link: ...
    @property
    def here(self) -> bool: ...


class PodNet(Protocol):
    """One interface of a pod, from inside; see ``podnet``."""

    link: Link

    def parent(self) -> Parent | None: ...
    def addresses(self) -> tuple[PodAddress, ...]: ...
    def wait_addresses(
        self,
        addresses: Iterable[Any],
        deadline: float,
        sleep: Callable[[float], object],
        clock: Callable[[], float] = ...,
    ) -> None: ...
    def skip_detection(self, addresses: Iterable[Address]) -> None: ...
    def other_addresses(self) -> tuple[Interface, ...]: ...
    def routes(self) -> frozenset[PodRoute]: ...
    def rules(self) -> frozenset[PodRule]: ...
    def foreign_routes(self, table: int | None = None) -> Sequence[object]: ...
    def free_table(self, start: int = 100) -> int: ...
    def add(self, wanted: PodRoute | PodRule) -> None: ...
    def remove(self, unwanted: PodRoute | PodRule) -> None: ...
    def remove_all(self, table: int | None) -> None: ...
    def connected(self) -> frozenset[Network]: ...
    def remove_connected(self, network: Network) -> None: ...
    def restore_connected(self, interface: Interface) -> None: ...


class Kernel(Protocol):
    """Network namespaces of this machine; see ``podnet``."""

    def open_pod(
        self, netns: str, ifname: str, *, override: bool = False
    ) -> AbstractContextManager[PodNet]: ...
    def clear_pod(
        self,
        netns: str,
        table: int | None,
        routes: Iterable[PodRoute] = (),
        rules: Iterable[PodRule] = (),
        *,
        override: bool = False,
    ) -> None: ...
    def set_up(
        self,
        link: Link,
        deadline: float,
        sleep: Callable[[float], object],
        clock: Callable[[], float] = ...,
    ) -> Link: ...


class Namespaces(Protocol):
    """The paths of network namespaces; see ``edges.host``."""

    def is_hidden(self, netns: str) -> bool: ...
    def holds_namespace(self, directory: str) -> bool: ...


class Problem(Protocol):
    """An unreadable record. ``moved``: out of the way; else it stays in place, and is not ours to touch."""

    @property
    def moved(self) -> bool: ...


class Claims(Protocol):
    """The node's claims; see ``agent.claim_cache``.

    ``update`` atomically replaces the record by what its callable makes of it. ``put_if_absent`` atomically
    puts a record where there is none (false: there is one). A claim may have ended in memory while the disk
    was full: ``is_persisted`` is false until ``flush`` has written it (``flush`` returns why it could not,
    None when all is written).
    """

    def put(self, claim: Claim) -> None: ...
    def put_if_absent(self, claim: Claim) -> bool: ...
    def update(self, attachment: Attachment, change: Callable[[Claim], Claim]) -> Claim | None: ...
    def is_persisted(self, attachment: Attachment) -> bool: ...
    def flush(self) -> str | None: ...
    def get(self, attachment: Attachment) -> Claim | Problem | None: ...
    def all(self) -> tuple[list[Claim], Sequence[Problem]]: ...
    def for_route(self, key: RouteKey) -> list[Claim]: ...
    def delete(self, attachment: Attachment) -> None: ...
    def remove_partial_files(self) -> None: ...
    def lock(
        self, what: str, seconds: float, go_on: Callable[[], object] = ...
    ) -> AbstractContextManager[bool]: ...
    def is_locked(self, what: str) -> bool: ...


class Log(Protocol):
    """Where the operator reads what was done and what is wrong.

    A field ``event`` names what has happened, and such a line is always written at once. A line without one
    describes a condition; an operation may log it at each look, and the agent writes it once in a while.
    """

    def __call__(self, sentence: str, level: str = "info", **fields: object) -> None: ...


@dataclass(frozen=True)
class World:
    """Everything outside. No field has a default, so that a forgotten one is a TypeError.

    ``clock`` is monotonic, ``now`` is since the epoch, both in seconds; ``jitter`` gives a number in [0, 1).
    Edges that cost an import are made on first use. ``cancelled`` says why a call must stop writing (None: it
    may write). ``wake_keeper`` starts the release of what a call leaves: by the keeper, or in direct mode by
    the call itself after its operation. ``election`` knows who has the routes of elected claims.
    ``run_in_thread`` raises RuntimeError when no thread is available.
    """

    policy: NodeConf
    on_delete: Literal["release", "keep"]
    claims: Claims
    kernel: Callable[[], Kernel]
    metadata: Callable[[float], Metadata]
    vpc: Callable[[str], Vpc]
    boot: Callable[[], str]
    inode: Callable[[str], int]
    namespaces: Namespaces
    clock: Callable[[], float]
    now: Callable[[], float]
    sleep: Callable[[float], object]
    jitter: Callable[[], float]
    log: Log
    cancelled: Callable[[], str | None]
    wake_keeper: Callable[[], None]
    election: Election
    run_in_thread: Callable[[Callable[[], None]], None]

    def run_all(self, *thunks: Callable[[], T], at_once: int = 16) -> list[T | CniError]:
        """Run ``thunks`` in parallel until all have ended; return their results or errors, in order.

        This thread and ``at_once - 1`` more run them. This thread waits for those that took part, not for
        those that start when all is done. An exception other than CniError is a bug and is raised here.
        """
        results: dict[int, T | CniError] = {}
        mistakes: list[BaseException] = []
        todo = iter(enumerate(thunks))
        taking = threading.Lock()
        changed = threading.Condition()
        over, busy = False, 0

        def run() -> None:
            while True:
                with taking:
                    number, thunk = next(todo, (0, None))
                if thunk is None:
                    return
                try:
                    results[number] = thunk()
                except CniError as e:
                    results[number] = e
                except BaseException as e:  # noqa: BLE001 (raised again in the caller's thread)
                    mistakes.append(e)

        def take_part() -> None:
            nonlocal busy
            with changed:
                if over:
                    return
                busy += 1
            try:
                run()
            finally:
                with changed:
                    busy -= 1
                    changed.notify()

        for _ in range(min(at_once, len(thunks)) - 1):
            try:
                self.run_in_thread(take_part)
            except RuntimeError:  # no further thread: those that there are do it
                break
        run()
        with changed:
            over = True
            while busy:
                changed.wait()
        if mistakes:
            raise mistakes[0]
        return [results[number] for number in range(len(thunks))]


def start_thread(work: Callable[[], None]) -> None:
    """Run ``work`` in a thread of its own. Raises RuntimeError when no thread is available."""
    threading.Thread(target=work, daemon=True).start()
