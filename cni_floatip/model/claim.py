"""The claim: the record of one attachment's VPC routes and pod configuration, with the state of each route.

A claim is written before the work that it describes, so that a later call can undo that work. Each of its
routes has a state (``claim_state``; ``make docs`` draws this):

    claiming   -> held, standby, releasing
    held       -> releasing, superseded
    superseded -> held, releasing
    standby    -> active, gone
    active     -> standby, releasing
    releasing  -> gone
    gone       -> releasing

``claiming`` belongs to an ADD that has not answered, ``held`` to a pod. ``releasing`` routes are to be taken
back. ``gone`` wants nothing, but stays on disk until no request of ours can land any more.

A call locks the attachment before it changes the claim. A DEL does not wait for that lock, because its holder
may wait for AWS; the DEL marks the record as ``deleted_at`` instead. From then on no writer revives the claim
from an older copy: only a claim that was ``created_at`` later, by another ADD, is new.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Literal, Self

from .claim_state import STARTS, ClaimedRoute, Event, State, of_claim
from .errors import short
from .record import Record
from .recorded_config import RecordedConfig
from .values import Attachment, Interface, PodIdentity, PodRoute, PodRule, RouteKey

PLAIN_VERSION = 1
"""The format of the file of a claim that its ADD decides."""
VERSION = 2
"""The format of the file of an elected claim, and the newest. A file of a newer one is kept and reported,
never rewritten: so a release before elections leaves elected claims alone, and works with plain ones."""

LATE_SECONDS = 20 * 60.0
"""How long after its signature a request may still be applied: AWS refuses it 5 to 15 minutes later."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one attachment claims. Times are seconds since the epoch.

    ``last_write_at`` is when the last write to EC2 for this claim ended or was given up. ``config`` is the
    network configuration without ``prevResult``, for the keeper and later calls. ``watched`` are the watched
    addresses that the pod gave itself. ``awaits_address``: the pod has removed every address and may put one
    back, so the claim has not ended ("standby" in its file). ``deleted_at``: when the claim ended for good
    (0: it has not), later than ``created_at``. ``lost_record`` holds the network configuration of a DEL whose
    record was unreadable, until its tables can be looked up. ``pod_lost_since``: since when looks show that
    the pod lacks something of the network that ADD made (0: nothing). ``group``: the name of the group whose
    pods elect one that has the routes ("": not named yet); None for a claim that its ADD decides.
    """

    attachment: Attachment
    eni: str
    region: str
    netns: str
    netns_inode: int
    boot: str
    pod: PodIdentity
    on_delete: Literal["release", "keep"]
    routes: tuple[ClaimedRoute, ...]
    pod_routes: tuple[PodRoute, ...] = ()
    pod_rules: tuple[PodRule, ...] = ()
    connected: tuple[Interface, ...] = ()
    addresses: tuple[Interface, ...] = ()
    table: int | None = None
    source_dest_check: str = "ignore"
    created_at: float = 0.0
    last_write_at: float = 0.0
    vpc: str = ""
    mac: str = ""
    config: RecordedConfig | None = None
    watched: tuple[Interface, ...] = ()
    awaits_address: bool = False
    deleted_at: float = 0.0
    lost_record: RecordedConfig | None = None
    pod_lost_since: float = 0.0
    group: str | None = None

    @property
    def elected(self) -> bool:
        """Whether an election decides which pod has the routes, and not the last ADD."""
        return self.group is not None

    @property
    def live(self) -> bool:
        """Whether any route of it is wanted by a pod or by an ADD under way."""
        return any(route.state.live for route in self.routes)

    @property
    def has_pod(self) -> bool:
        """Whether the claim has not ended: its pod is to have what it lists, even without an address now."""
        return self.live or self.awaits_address

    @property
    def watches(self) -> bool:
        """Whether the claim has not ended and its network watches the pod's own addresses."""
        return bool(self.has_pod and self.config and self.config.watches)

    @property
    def state(self) -> State:
        """The claim's state in one word: that of its least settled route."""
        if self.lost_record is not None:  # its routes are still to be looked up
            return STARTS[Event.RECORD_LOST]
        return of_claim(route.state for route in self.routes)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do for this claim: every route is where it belongs."""
        if self.lost_record is not None or not self.routes:
            return False
        return all(route.state.settled or route.state is State.STANDBY for route in self.routes)

    def wants(self, key: RouteKey) -> bool:
        """Whether this claim wants ``key`` to lead to its ENI."""
        return any(route.key == key and route.state.wants_route for route in self.routes)

    def subject(self, key: RouteKey | None = None) -> dict[str, Any]:
        """Return the log fields that identify the claim, its pod, and ``key`` if given."""
        about: dict[str, Any] = {
            "network": self.attachment.network,
            "container": self.attachment.container,
            "ifname": self.attachment.ifname,
            "namespace": self.pod.namespace,
            "pod": self.pod.name,
            "addresses": tuple(map(str, (*self.addresses, *self.watched))),
            "eni": self.eni,
        }
        if key:
            return about | {"destination": str(key.destination), "table": key.table}
        return about | {"tables": tuple(dict.fromkeys(route.key.table for route in self.routes))}

    def hold(self, keys: Collection[RouteKey], now: float) -> Self:
        """Return the claim with ``keys`` held, as an ADD that ended at ``now`` leaves them."""
        held = self._map_routes(lambda route: route.hold(now, self.eni), keys)
        return replace(held, last_write_at=now)

    def admit(self) -> Self:
        """Return an elected claim after its ADD: standby, and what joins an active one is active."""
        admitted = self._map_routes(ClaimedRoute.admit)
        since = [route.held_since for route in self.routes if route.state is State.ACTIVE]
        return admitted.elect(max(since)) if since else admitted

    def elect(self, now: float) -> Self:
        """Return the claim after its pod was elected ``now``: its routes are to be written."""
        return self._map_routes(lambda route: route.elect(now))

    def depose(self) -> Self:
        """Return the claim after another pod of its group was elected."""
        return self._map_routes(ClaimedRoute.depose)

    def give_up(self, keys: Collection[RouteKey] | None = None) -> Self:
        """Return the claim after its ADD failed: routes that the ADD had begun (of ``keys``) are released."""
        return self._map_routes(ClaimedRoute.give_up, keys)

    def abandon(self) -> Self:
        """Return the claim after its ADD died: routes that the ADD had begun are released, others stay."""
        return self._map_routes(ClaimedRoute.abandon)

    def drop(self) -> Self:
        """Return the claim with every route ``releasing``, also those that were ``gone``."""
        return self._map_routes(ClaimedRoute.drop)

    def observe(self, events: Mapping[RouteKey, Event]) -> Self:
        """Return the claim after a look of the keeper; itself where no route changes its state."""
        return self._map_routes(lambda route: route.observe(events[route.key]), events.keys())

    def see(self, look: Callable[[ClaimedRoute], ClaimedRoute]) -> Self:
        """Return the claim with what ``look`` has seen of each route; itself where that is known."""
        return self._map_routes(look)

    def date_changes(self, known: Self | None, now: float) -> Self:
        """Return the claim with ``changed_at`` of each route that is not as in the record ``known``."""
        before = {route.key: route for route in known.routes} if known else {}

        def date(route: ClaimedRoute) -> ClaimedRoute:
            former = before.get(route.key)
            return replace(route, changed_at=former.changed_at if former and route.is_as(former) else now)

        return self._map_routes(date)

    def finish(self, keys: Collection[RouteKey]) -> Self:
        """Return the claim after ``keys`` were released."""
        return self._map_routes(ClaimedRoute.finish, keys)

    def hand_over(self, key: RouteKey, successor: str) -> Self:
        """Return the claim with ``successor`` recorded as the ENI that gets the route at ``key`` next."""
        return self._map_routes(lambda route: route.hand_over(successor), (key,))

    def end_grace(self) -> Self:
        """Return the claim with its grace ended: routes that have ended are released at once."""
        return self._map_routes(ClaimedRoute.end_grace)

    def release(self, after: float, now: float = 0.0) -> Self:
        """Return the claim with every live route ``releasing``, to be taken back ``not_before`` that time.

        The claim has ended for good, ``now``.
        """
        deleted = max(self.deleted_at, math.nextafter(max(now, self.created_at), math.inf))
        released = self._map_routes(lambda route: route.release(after))
        return replace(released, awaits_address=False, deleted_at=deleted)

    def outlive(self, before: Self) -> Self:
        """Return the claim after ``before``; its pod runs, so without a live route it ``awaits_address``."""
        return replace(self, awaits_address=before.has_pod and not self.live)

    def merge_into(self, known: Self) -> Self:
        """Merge into the record ``known``: a route that a DEL has ended is never revived by an older copy."""
        if self.created_at >= known.deleted_at:  # has not, or this is of an ADD that came after
            return self
        return replace(
            self, routes=tuple(self._release_as(known)), awaits_address=False, deleted_at=known.deleted_at
        )

    def _release_as(self, known: Self) -> Iterator[ClaimedRoute]:
        there = {route.key: route for route in known.routes if not route.state.live}
        after = max((route.not_before for route in there.values()), default=0.0)
        for route in self.routes:
            if not route.state.live:
                yield route
            elif route.key in there:
                yield there[route.key]
            elif self.elected and _waits(route):
                continue  # a standby deletes nothing
            elif self.on_delete == "release" or route.state is State.CLAIMING:  # else its DEL let it stay
                yield route.release(after)

    def _map_routes(
        self, change: Callable[[ClaimedRoute], ClaimedRoute], keys: Collection[RouteKey] | None = None
    ) -> Self:
        """Return the claim with ``change`` made to its routes at ``keys`` (all by default).

        Where every route stays the same object, so does the claim. An elected claim forgets a route that ends
        before its pod was elected, because a standby deletes nothing, also not what it once wrote.
        """
        chosen = None if keys is None else frozenset(keys)
        changed = [change(r) if chosen is None or r.key in chosen else r for r in self.routes]
        if all(map(operator.is_, changed, self.routes)):
            return self
        pairs = zip(changed, self.routes, strict=True)
        return replace(
            self, routes=tuple(r for r, was in pairs if r.state.live or not (self.elected and _waits(was)))
        )

    def document(self) -> dict[str, Any]:
        """Return the claim as the JSON document of its file."""
        return {
            "version": VERSION if self.elected else PLAIN_VERSION,
            "network": self.attachment.network,
            "containerId": self.attachment.container,
            "ifname": self.attachment.ifname,
            "eni": self.eni,
            "region": self.region,
            "netns": self.netns,
            "netnsInode": self.netns_inode,
            "boot": self.boot,
            "pod": {"namespace": self.pod.namespace, "name": self.pod.name, "uid": self.pod.uid},
            "onDelete": self.on_delete,
            "routes": [route.document() for route in self.routes],
            **self._pod_document(),
            "connected": [str(interface) for interface in self.connected],
            "addresses": [str(interface) for interface in self.addresses],
            "table": self.table,
            "sourceDestCheck": self.source_dest_check,
            "created": self.created_at,
            "written": self.last_write_at,
            "vpc": self.vpc,
            "mac": self.mac,
            "config": self.config.document if self.config else None,
            "watched": [str(interface) for interface in self.watched],
            "standby": self.awaits_address,
            "deleted": self.deleted_at,
            "unresolved": self.lost_record.document if self.lost_record else None,
            "podLostSince": self.pod_lost_since,
            **({"group": self.group} if self.elected else {}),
        }

    def _pod_document(self) -> dict[str, Any]:
        return {
            "podRoutes": [
                {
                    "destination": str(route.destination),
                    "gateway": None if route.gateway is None else str(route.gateway),
                    "table": route.table,
                    "mtu": route.mtu,
                    "kind": route.kind,
                }
                for route in self.pod_routes
                if route.kind != "throw"
            ],
            # Apart, because agents up to release 0.3 move a record with another kind of route aside.
            "podThrows": [str(route.destination) for route in self.pod_routes if route.kind == "throw"],
            "podRules": [
                {
                    "source": str(rule.source),
                    "table": rule.table,
                    "oif": rule.oif,
                    "barred": None if rule.unreachable_to is None else str(rule.unreachable_to),
                }
                for rule in self.pod_rules
            ],
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read a document of ``VERSION`` or before. Raises KeyError, TypeError or ValueError for any other.

        Every type is looked at: what is wrong with a record is met here, and not where it is used.
        """
        record = Record(document)
        pod = record.object("pod")
        table = None if record.is_null("table") else record.whole("table")
        return cls(
            attachment=Attachment(record.text("network"), record.text("containerId"), record.text("ifname")),
            eni=record.text("eni"),
            region=record.text("region"),
            netns=record.text("netns"),
            netns_inode=record.whole("netnsInode", most=2**64 - 1),
            boot=record.text("boot"),
            pod=PodIdentity(pod.text("namespace"), pod.text("name"), pod.text("uid")),
            on_delete=record.one_of("onDelete", ("release", "keep")),
            routes=tuple(_routes(record)),
            pod_routes=(*_pod_routes(record), *_pod_throws(record, table)),
            pod_rules=tuple(
                PodRule(
                    ip_network(rule.text("source")),
                    rule.whole("table"),
                    rule.text("oif", ""),
                    None if rule.is_null("barred") else ip_network(rule.text("barred")),
                )
                for rule in record.objects("podRules")
            ),
            connected=tuple(map(ip_interface, record.texts("connected"))),
            addresses=tuple(map(ip_interface, record.texts("addresses"))),
            table=table,
            source_dest_check=record.text("sourceDestCheck"),
            created_at=record.time("created"),
            last_write_at=record.time("written"),
            vpc=record.text("vpc", ""),
            mac=record.text("mac", ""),
            config=_config(record, "config"),
            watched=tuple(map(ip_interface, record.texts("watched", ()))),
            awaits_address=record.truth("standby"),
            deleted_at=record.time("deleted", 0.0),
            lost_record=_config(record, "unresolved"),
            pod_lost_since=record.time("podLostSince", 0.0),
            group=None if record.is_null("group") else record.text("group"),
        )


def _waits(route: ClaimedRoute) -> bool:
    """Whether a route of an elected claim is not written: its pod is not elected (yet, or any more)."""
    return route.state in (State.CLAIMING, State.STANDBY)


def _routes(record: Record) -> Iterator[ClaimedRoute]:
    for fields in record.objects("routes"):
        route = ClaimedRoute.parse(fields)
        if route.state in (State.STANDBY, State.ACTIVE) and record.is_null("group"):
            raise ValueError(f"routes: {route.key} is {route.state}, and the claim is not elected")
        if "target" not in fields.fields and route.state is State.HELD and route.held_since:
            # Agents up to release 0.3 did not record what looks show: then the route is as its ADD left it.
            route = replace(route, target=record.text("eni"), changed_at=route.held_since)
        yield route


def _pod_routes(record: Record) -> Iterator[PodRoute]:
    for route in record.objects("podRoutes"):
        yield PodRoute(
            ip_network(route.text("destination")),
            None if route.is_null("gateway") else ip_address(route.text("gateway")),
            route.whole("table"),
            None if route.is_null("mtu") else route.whole("mtu"),
            route.one_of("kind", ("unicast", "unreachable")),
        )


def _pod_throws(record: Record, table: int | None) -> Iterator[PodRoute]:
    for destination in record.texts("podThrows", ()):
        if table is None:
            raise ValueError(f"podThrows: {short(destination)} is in no table")
        yield PodRoute(ip_network(destination), None, table, kind="throw")


def _config(record: Record, key: str) -> RecordedConfig | None:
    return None if record.is_null(key) else RecordedConfig.of(record.object(key).fields)
