"""Pods in memory: what ``cni_floatip.edges.podnet`` offers, with a state that prints itself one line each.

    pods = FakePods({"/run/netns/web": FakePod([FakeLink("net1", addresses=["192.168.0.2/32"])])})
    with pods.open_pod("/run/netns/web", "net1") as pod: ...
    print(pods)

``tests/edges/podnet`` runs the same tests against this and against the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface
from itertools import count
from typing import Literal

from cni_floatip.edges.podnet import NoInterface, NoNamespace, OtherRoute, Parent
from cni_floatip.model.errors import InvalidNetns, PodNetworkFailure
from cni_floatip.model.values import (
    ROUTE_PROTO,
    Address,
    Interface,
    Link,
    Network,
    PodAddress,
    PodRoute,
    PodRule,
)

_KERNEL = 2
_MAIN = 254
_indices = count(2)
_PARENTS = 10_000
"""Indices of what the pods' links are on."""


@dataclass
class FakeLink:
    """An interface of a pod. ``addresses`` that are in ``tentative`` never stop being so by themselves."""

    name: str
    mac: str = "02:00:00:00:00:01"
    kind: str = "ipvlan"
    parent: Parent | None = None
    addresses: list[str] = field(default_factory=list)
    tentative: set[str] = field(default_factory=set)
    duplicate: set[str] = field(default_factory=set)
    temporary: set[str] = field(default_factory=set)
    made: dict[str, float] = field(default_factory=dict)
    ipvlan_mode: Literal["l2", "l3", "l3s"] = "l2"
    index: int = field(default_factory=lambda: next(_indices))

    def __post_init__(self) -> None:
        if self.kind == "ipvlan" and self.parent is None:
            self.parent = Parent(Link("eth1", self.index + _PARENTS, self.mac, ""), here=True)

    def link(self) -> Link:
        return Link(
            self.name,
            self.index,
            self.mac,
            self.kind,
            ipvlan_mode=self.ipvlan_mode if self.kind == "ipvlan" else "",
        )


@dataclass
class FakePod:
    """A pod's namespace: its interfaces and the routes and rules of everybody in it."""

    links: list[FakeLink] = field(default_factory=list)
    others: list[OtherRoute] = field(default_factory=list)
    other_rules: list[tuple[PodRule, int]] = field(default_factory=list)
    ours: dict[PodRoute, str] = field(default_factory=dict)
    our_rules: list[PodRule] = field(default_factory=list)
    trouble: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for link in self.links:
            for interface in map(ip_interface, link.addresses):
                self._connect(link, interface)

    def unplug(self, ifname: str) -> None:
        """Take an interface away: its routes go with it, rules and routes through no link stay."""
        self.links = [link for link in self.links if link.name != ifname]
        self.ours = {route: dev for route, dev in self.ours.items() if dev != ifname}
        self.others = [route for route in self.others if route.ifname != ifname]

    def fail(self, verb: str, message: str = "not permitted") -> None:
        """Let ``add``, ``remove``, ``addresses``, ... fail until ``trouble`` is cleared."""
        self.trouble[verb] = message

    def _connect(self, link: FakeLink, interface: Interface) -> None:
        if interface.network.prefixlen < interface.network.max_prefixlen:
            self.others.append(OtherRoute(interface.network, _MAIN, None, link.name, _KERNEL))

    def _clear(self, table: int | None, ifname: str) -> None:
        self.our_rules = [rule for rule in self.our_rules if rule.table != table]
        self.ours = {
            route: dev
            for route, dev in self.ours.items()
            if not (dev and dev == ifname) and not (route.kind != "unicast" and route.table == table)
        }

    def lines(self) -> list[str]:
        """Return the routes and rules of everybody as sorted lines, ours with the mark."""
        routes = [_line(route, dev) for route, dev in self.ours.items()]
        routes += [_line(route, route.ifname) for route in self.others]
        rules = [f"{rule} proto {ROUTE_PROTO}" for rule in self.our_rules]
        return sorted(routes + rules + [f"{rule} proto {proto}" for rule, proto in self.other_rules])

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _line(route: PodRoute | OtherRoute, dev: str) -> str:
    kind = "" if route.kind == "unicast" else f"{route.kind} "
    via = f" via {route.gateway}" if route.gateway else ""
    mtu = f" mtu {route.mtu}" if isinstance(route, PodRoute) and route.mtu else ""
    proto = ROUTE_PROTO if isinstance(route, PodRoute) else route.proto
    return (
        f"{kind}{route.destination}{via}{f' dev {dev}' if dev else ''} table {route.table} proto {proto}{mtu}"
    )


class FakePods:
    """All pods of a node by namespace path, and the node's own links."""

    def __init__(self, pods: dict[str, FakePod] | None = None, host: Iterable[Link] = ()) -> None:
        self.pods = pods or {}
        self.host = {link.index: link for link in host}
        self.dead: set[str] = set()  # names of host links that never get a carrier

    def __str__(self) -> str:
        return "\n".join(f"{path} {line}" for path, pod in sorted(self.pods.items()) for line in pod.lines())

    @contextmanager
    def open_pod(self, netns: str, ifname: str, *, override: bool = False) -> Iterator[FakePodNet]:
        pod = self._pod(netns, override=override)
        for link in pod.links:
            if link.name == ifname:
                yield FakePodNet(pod, link)
                return
        raise NoInterface(f"{ifname} does not exist in the pod ({netns})")

    def clear_pod(
        self,
        netns: str,
        table: int | None,
        routes: Iterable[PodRoute] = (),
        rules: Iterable[PodRule] = (),
        *,
        override: bool = False,
    ) -> None:
        try:
            pod = self._pod(netns, override=override)
        except NoNamespace:
            return
        _fail(pod, "clear")
        pod._clear(table, "")
        pod.our_rules = [rule for rule in pod.our_rules if rule not in set(rules)]
        gone = {route for route in routes if route.kind != "unicast"}
        pod.ours = {route: dev for route, dev in pod.ours.items() if route not in gone}

    def host_link(self, index: int) -> Link:
        if index not in self.host:
            raise PodNetworkFailure(f"link {index} of the host: the interface is gone")
        return self.host[index]

    def link_by_mac(self, mac: str) -> Link | None:
        return next((link for _, link in sorted(self.host.items()) if link.mac == mac.lower()), None)

    def set_up(
        self,
        link: Link,
        deadline: float,
        sleep: Callable[[float], object],
        clock: Callable[[], float] = lambda: 0.0,
    ) -> Link:
        alive = link.name not in self.dead
        self.host[link.index] = replace(link, up=True, carrier=alive)
        if not alive:
            raise PodNetworkFailure(f"{link.name} ({link.mac}) has no carrier after it was brought up")
        return self.host[link.index]

    def _pod(self, netns: str, *, override: bool) -> FakePod:
        if netns == "/proc/self/ns/net" and not override:
            raise InvalidNetns(f"CNI_NETNS {netns} is the host's own network namespace, not a pod's")
        if netns not in self.pods:
            raise NoNamespace(f"CNI_NETNS {netns} does not exist: the pod is gone")
        return self.pods[netns]


class FakePodNet:
    """One interface of a ``FakePod``."""

    def __init__(self, pod: FakePod, link: FakeLink) -> None:
        self._pod = pod
        self._link = link
        self.link = link.link()

    def parent(self) -> Parent | None:
        _fail(self._pod, "parent")
        return self._link.parent

    def addresses(self) -> tuple[PodAddress, ...]:
        _fail(self._pod, "addresses")
        here = self._link
        return tuple(
            PodAddress(
                ip_interface(address),
                address in here.tentative,
                address in here.duplicate,
                address in here.temporary,
                here.made.get(address, 0.0),
            )
            for address in here.addresses
        )

    def wait_addresses(
        self,
        addresses: Iterable[Address | Interface],
        deadline: float,
        sleep: Callable[[float], object],
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        wanted = {address.ip if isinstance(address, Interface) else address for address in addresses}
        while True:
            results = {address.interface.ip: address for address in self.addresses()}
            for address in sorted(wanted, key=str):
                if address not in results:
                    raise PodNetworkFailure(f"{address} is not on {self.link.name}")
                if results[address].duplicate:
                    raise PodNetworkFailure(f"{address} on {self.link.name} is a duplicate")
            tentative = sorted(str(address) for address in wanted if results[address].tentative)
            if not tentative:
                return
            if clock() >= deadline or sleep(0.02):
                raise PodNetworkFailure(
                    f"{', '.join(tentative)} on {self.link.name} cannot be used yet: tentative"
                )

    def skip_detection(self, addresses: Iterable[Address]) -> None:
        _fail(self._pod, "skip_detection")
        parent = self._link.parent
        if self._link.kind != "ipvlan" and parent and parent.here:
            return
        wanted = {address for address in addresses if address.version == 6}
        for address in self.addresses():
            shown = str(address.interface)
            if address.interface.ip in wanted and address.tentative and not address.duplicate:
                self._link.tentative.discard(shown)
                self._link.made[shown] = self._link.made.get(shown, 0.0) + 1
                if address.interface.network not in self.connected():
                    self._pod._connect(self._link, address.interface)

    def other_addresses(self) -> tuple[Interface, ...]:
        others = [address for link in self._pod.links if link is not self._link for address in link.addresses]
        return tuple(interface for interface in map(ip_interface, others) if not interface.ip.is_link_local)

    def routes(self) -> frozenset[PodRoute]:
        _fail(self._pod, "routes")
        return frozenset(
            route for route, dev in self._pod.ours.items() if dev == self.link.name or route.kind != "unicast"
        )

    def rules(self) -> frozenset[PodRule]:
        _fail(self._pod, "rules")
        return frozenset(self._pod.our_rules)

    def foreign_routes(self, table: int | None = None) -> tuple[OtherRoute, ...]:
        return tuple(route for route in self._pod.others if table in (None, route.table))

    def free_table(self, start: int = 100) -> int:
        routes: list[PodRoute | OtherRoute | PodRule] = [
            *self._pod.ours,
            *self._pod.others,
            *self._pod.our_rules,
        ]
        used = {route.table for route in routes}
        used |= {rule.table for rule, _ in self._pod.other_rules} | {0, 253, 254, 255}
        return next(table for table in count(start) if table not in used)

    def add(self, wanted: PodRoute | PodRule) -> None:
        _fail(self._pod, "add")
        if isinstance(wanted, PodRule):
            self._add_rule(wanted)
            return
        dev = "" if wanted.kind != "unicast" else self.link.name
        if self._pod.ours.get(wanted) == dev:
            return
        place = (wanted.destination, wanted.table)
        way = [
            _line(route, at)
            for route, at in self._pod.ours.items()
            if (route.destination, route.table) == place
        ]
        way += [str(route) for route in self._pod.others if (route.destination, route.table) == place]
        if way:
            shown = "; ".join(way)
            raise PodNetworkFailure(
                f"cannot add {wanted} dev {self.link.name}: another route is there: {shown}"
            )
        self._pod.ours[wanted] = dev

    def _add_rule(self, wanted: PodRule) -> None:
        if wanted in self._pod.our_rules:
            return
        theirs = [
            f"{rule} proto {proto}"
            for rule, proto in self._pod.other_rules
            if rule.selector == wanted.selector
        ]
        if theirs:
            raise PodNetworkFailure(f"cannot add rule {wanted}: another rule is there: {'; '.join(theirs)}")
        self._pod.our_rules.append(wanted)

    def remove(self, unwanted: PodRoute | PodRule) -> None:
        _fail(self._pod, "remove")
        if isinstance(unwanted, PodRule):
            self._pod.our_rules = [rule for rule in self._pod.our_rules if rule != unwanted]
            return
        dev = "" if unwanted.kind != "unicast" else self.link.name
        bare = replace(unwanted, mtu=None)
        self._pod.ours = {
            route: at for route, at in self._pod.ours.items() if (replace(route, mtu=None), at) != (bare, dev)
        }

    def remove_all(self, table: int | None) -> None:
        _fail(self._pod, "remove_all")
        self._pod._clear(table, self.link.name)

    def connected(self) -> frozenset[Network]:
        return frozenset(route.destination for route in self._pod.others if self._is_connected(route))

    def remove_connected(self, network: Network) -> None:
        _fail(self._pod, "remove_connected")
        self._pod.others = [
            route
            for route in self._pod.others
            if not (self._is_connected(route) and route.destination == network)
        ]

    def restore_connected(self, interface: Interface) -> None:
        _fail(self._pod, "restore_connected")
        present = {ip_interface(address).ip for address in self._link.addresses}
        if interface.ip in present and interface.network not in self.connected():
            self._pod._connect(self._link, interface)

    def _is_connected(self, route: OtherRoute) -> bool:
        return (route.proto, route.table, route.ifname) == (_KERNEL, _MAIN, self.link.name)


def _fail(pod: FakePod, verb: str) -> None:
    if verb in pod.trouble:
        raise PodNetworkFailure(f"{verb}: {pod.trouble[verb]}")
