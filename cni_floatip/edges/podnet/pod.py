"""Reads and changes one interface of a pod: its addresses, and our routes and rules beside the others."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_interface

from ...model.errors import PodNetworkFailure
from ...model.values import ROUTE_PROTO, Address, Interface, Link, Network, PodAddress, PodRoute, PodRule
from . import dad, namespace, routes, tables
from .links import POLL_SECONDS, HostLink, Parent, ask_always, link_of, parent_of, reported
from .routes import OtherRoute
from .rtnetlink import Message, Refused, Rtnetlink

_TEMPORARY, _DADFAILED, _TENTATIVE = 0x01, 0x08, 0x40  # linux/if_addr.h; of IPv4 0x01 is "secondary"
_LOOPBACK = 1  # lo's index in every namespace


class NoInterface(PodNetworkFailure):
    """The namespace is there, the interface is not (or no longer): its routes went with it."""


@contextmanager
def open_pod(
    netns: str, ifname: str, *, override: bool = False, host_link: HostLink = ask_always
) -> Iterator[PodNet]:
    """Hold the pod's interface ``ifname`` in the namespace at ``netns`` for the length of a ``with`` block.

    ``PodNetworkFailure`` if path or interface do not exist; ``InvalidNetns`` if the path is not a network
    namespace or, unless ``override`` (CNI_NETNS_OVERRIDE), the one this process runs in. The namespace is
    never made. The block holds one descriptor (a socket), which keeps the namespace alive: do not hold it
    longer than a call. ``host_link`` may remember links of this process's namespace.
    """
    with namespace.enter(netns, override=override) as kernel:
        try:
            with reported(f"look at {ifname} in {netns}"):
                message = kernel.get("link", [("IFLA_IFNAME", ifname)])
        except PodNetworkFailure as failure:
            if isinstance(failure.__cause__, Refused) and failure.__cause__.errno == errno.ENODEV:
                raise NoInterface(f"{ifname} does not exist in the pod ({netns})") from failure
            raise
        yield PodNet(kernel, message, host_link)


def clear_pod(
    netns: str,
    table: int | None,
    routes: Iterable[PodRoute] = (),
    rules: Iterable[PodRule] = (),
    *,
    override: bool = False,
) -> None:
    """Remove what we left in a pod whose interface is gone; the kernel removed only its routes.

    Removes every rule of ours that names ``table``, because an ipvlan link leaves its rules behind, every
    linkless route of ours in it, and what the lists name. A namespace that is gone (also: the empty file that
    a reboot leaves) has nothing to clear; ``InvalidNetns`` only for the one this process runs in,
    ``PodNetworkFailure`` if the kernel refuses.
    """
    linkless = [route for route in routes if route.kind != "unicast"]
    try:
        with (
            namespace.enter(netns, override=override) as kernel,
            reported(f"remove our rules from {netns}"),
        ):
            tables.clear(kernel, table, tables.NO_LINK)
            for rule in rules:
                tables.remove_rules(kernel, rule.table, rule)
            for route in linkless:
                tables.remove_route(kernel, route, tables.NO_LINK)
    except (namespace.NoNamespace, namespace.NotANamespace):
        return


class PodNet:
    """The pod's interface. Made by ``open_pod``; safe to share between threads.

    Every method raises ``PodNetworkFailure`` where the kernel refuses. ``link`` is as it was when opened.
    """

    def __init__(self, kernel: Rtnetlink, message: Message, host_link: HostLink) -> None:
        self._kernel = kernel
        self._message = message
        self._host_link = host_link
        self._parent: Parent | None = None
        self._empty: set[int] = set()  # tables in which nothing was when this call looked
        self._rules: list[Message] = []  # as they were then
        self.link: Link = link_of(message)

    def parent(self) -> Parent | None:
        """Return the link below the interface and whether it lives in this process's namespace.

        None where there is none (host-device: the interface is the ENI itself). A veth's "parent" is its
        peer.
        """
        if self._parent is None:
            with reported(f"look for the parent of {self.link.name}"):
                self._parent = parent_of(self._kernel, self._message, self._host_link)
        return self._parent

    # -- addresses

    def addresses(self) -> tuple[PodAddress, ...]:
        """Return the interface's addresses of both families, link-local ones too."""
        with reported(f"read the addresses of {self.link.name}"):
            messages = self._kernel.dump("address", index=self.link.index)
            return tuple(_pod_address(message) for message in messages if message["index"] == self.link.index)

    def wait_addresses(
        self,
        addresses: Iterable[Address | Interface],
        deadline: float,
        sleep: Callable[[float], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait until none of ``addresses`` is tentative (IPv6 duplicate address detection: 1 to 2 s).

        ``deadline`` is a time of ``clock``, in seconds. ``sleep`` may return true to say that waiting is
        over. ``PodNetworkFailure`` for an address that is not on the interface, is a duplicate, or is
        tentative still.
        """
        wanted = {address.ip if isinstance(address, Interface) else address for address in addresses}
        while True:
            results = {address.interface.ip: address for address in self.addresses()}
            for address in sorted(wanted, key=str):
                if address not in results:
                    raise PodNetworkFailure(
                        f"{address} is not on {self.link.name}", self._why_missing(address)
                    )
                if results[address].duplicate:
                    raise PodNetworkFailure(
                        f"{address} on {self.link.name} is a duplicate: another host answers for it"
                    )
            tentative = sorted(str(address) for address in wanted if results[address].tentative)
            if not tentative:
                return
            if clock() >= deadline or sleep(POLL_SECONDS):
                carrier = "" if self._now().carrier else f"{self.link.name} has no carrier"
                raise PodNetworkFailure(
                    f"{', '.join(tentative)} on {self.link.name} cannot be used yet: tentative", carrier
                )

    def skip_detection(self, addresses: Iterable[Address]) -> None:
        """Make tentative ones of ``addresses`` usable at once, without duplicate address detection.

        Does nothing on a link where detection may find another host, and leaves duplicates as they are.
        ``PodNetworkFailure`` if an address that had to be deleted for it cannot be added again.
        """
        wanted = {address for address in addresses if address.version == 6}
        if wanted and dad.finds_nobody(self._message, self.parent()):
            with reported(f"skip duplicate address detection on {self.link.name}"):
                dad.skip(self._kernel, self.link.index, wanted)

    def other_addresses(self) -> tuple[Interface, ...]:
        """Return the addresses of the pod's other interfaces, without lo and link-local."""
        with reported("read the pod's addresses"):
            hidden = (_LOOPBACK, self.link.index)
            messages = [message for message in self._kernel.dump("address") if message["index"] not in hidden]
        interfaces = (_pod_address(message).interface for message in messages)
        return tuple(interface for interface in interfaces if not interface.ip.is_link_local)

    # -- routes and rules: reading

    def routes(self) -> frozenset[PodRoute]:
        """Return our routes through this interface, in all tables, and all our linkless routes."""
        with reported("read our routes"):
            messages = tables.read_routes(self._kernel, proto=ROUTE_PROTO)
        return frozenset(
            routes.pod_route(message) for message in messages if routes.is_ours(message, self.link.index)
        )

    def rules(self) -> frozenset[PodRule]:
        """Return all our rules in the pod, because not every rule names an interface."""
        with reported("read our rules"):
            return frozenset(
                routes.pod_rule(message)
                for message in tables.read_rules(self._kernel)
                if routes.is_our_rule(message)
            )

    def foreign_routes(self, table: int | None = None) -> tuple[OtherRoute, ...]:
        """Return the foreign routes in ``table`` (None: all but the kernel's local one), of both families.

        They include the kernel's connected routes and those from router advertisements.
        """
        with reported("read the pod's routes"):
            messages = tables.read_routes(self._kernel, table=table)
            hidden = None if table else routes.LOCAL_TABLE
            return tuple(
                self._shown(
                    message
                    for message in messages
                    if message["proto"] != ROUTE_PROTO and routes.table_of(message, "RTA_TABLE") != hidden
                )
            )

    def free_table(self, start: int = 100) -> int:
        """Return the first number from ``start`` up that no route and no rule of either family names."""
        with reported("look for a free routing table"):
            self._rules = tables.read_rules(self._kernel)
            used = {routes.table_of(message, "FRA_TABLE") for message in self._rules}
            table = start
            while (
                table in used
                or table in routes.RESERVED_TABLES
                or tables.read_routes(self._kernel, table=table)
            ):
                table += 1
        self._empty.add(table)
        return table

    # -- routes and rules: changing

    def add(self, wanted: PodRoute | PodRule) -> None:
        """Add a route through this interface, or a rule. Does nothing if an equal one of ours is there.

        A route to the same destination in the same table that differs in anything (next hop, interface,
        mtu, metric, whose it is) is left alone and shown in a ``PodNetworkFailure``; so is somebody else's
        rule for the same source and interface.
        """
        with reported(f"add {wanted} on {self.link.name}"):
            if isinstance(wanted, PodRule):
                known = self._rules if wanted.table in self._empty else None
                tables.add_rule(self._kernel, wanted, known)
            elif in_the_way := tables.add_route(
                self._kernel, wanted, self.link.index, empty=wanted.table in self._empty
            ):
                shown = "; ".join(str(route) for route in self._shown(in_the_way))
                raise PodNetworkFailure(
                    f"cannot add {wanted} dev {self.link.name}: another route is there: {shown}"
                )

    def remove(self, unwanted: PodRoute | PodRule) -> None:
        """Remove a route or rule that carries our mark. Does nothing if it is missing or not ours."""
        with reported(f"remove {unwanted} on {self.link.name}"):
            if isinstance(unwanted, PodRule):
                tables.remove_rules(self._kernel, unwanted.table, unwanted)
            else:
                tables.remove_route(self._kernel, unwanted, self.link.index)

    def remove_all(self, table: int | None) -> None:
        """Remove our routes through this interface, and ``table``'s rules and linkless routes of ours.

        Our routes and rules for another interface of the pod, with another table, stay.
        """
        with reported(f"remove our routes from {self.link.name}"):
            tables.clear(self._kernel, table, self.link.index)

    # -- the kernel's connected route

    def connected(self) -> frozenset[Network]:
        """Return the prefixes that the kernel treats as on-link (main table, not link-local)."""
        with reported(f"read the connected routes of {self.link.name}"):
            messages = tables.read_routes(self._kernel, table=routes.MAIN_TABLE, proto=routes.KERNEL_PROTO)
        return frozenset(
            network
            for message in messages
            if message.get_attr("RTA_OIF") == self.link.index
            and not (network := routes.destination_of(message)).is_link_local
        )

    def remove_connected(self, network: Network) -> None:
        """Remove the kernel's connected route of ``network``. Does nothing if there is none.

        In a VPC nothing of a pattern 1 prefix is on-link: the pod would ask by ARP for a neighbour on another
        node, and nobody would answer. The kernel restores the route when the address or the interface goes
        and comes, not when the parent does.
        """
        fields, attrs = routes.connected_message(network, self.link.index)
        with reported(f"remove the connected route {network} of {self.link.name}"):
            tables.delete_route(self._kernel, fields, attrs)

    def restore_connected(self, interface: Interface) -> None:
        """Put an address's connected route back. Does nothing if it is there, or the address is gone."""
        network = interface.network
        if network.prefixlen == network.max_prefixlen or interface.ip not in {
            a.interface.ip for a in self.addresses()
        }:
            return
        fields, attrs = routes.connected_message(network, self.link.index, interface.ip)
        with reported(f"restore the connected route {network} of {self.link.name}"):
            try:
                self._kernel.create("route", attrs, **fields)
            except Refused as refused:
                if refused.errno != errno.EEXIST:
                    raise

    # -- inside

    def _shown(self, messages: Iterable[Message]) -> list[OtherRoute]:
        names = {message["index"]: message.get_attr("IFLA_IFNAME") for message in self._kernel.dump("link")}
        return [shown for message in messages for shown in routes.other_routes(message, names)]

    def _now(self) -> Link:
        with reported(f"look at {self.link.name}"):
            return link_of(self._kernel.get("link", index=self.link.index))

    def _why_missing(self, address: Address) -> str:
        if address.version == 6:
            with reported(f"look at {self.link.name}"):
                spec = self._kernel.get("link", index=self.link.index).get_attr("IFLA_AF_SPEC")
            ipv6 = spec.get_attr("AF_INET6") if spec else None
            if not ipv6 or ipv6.get_attr("IFLA_INET6_CONF")["disable_ipv6"]:
                return f"IPv6 is disabled (sysctl net.ipv6.conf.{self.link.name}.disable_ipv6)"
        return ""


def _pod_address(message: Message) -> PodAddress:
    flags = message.get_attr("IFA_FLAGS") or message["flags"]  # the header has room for 8 bits
    address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")  # IFA_ADDRESS may be a peer's
    times = message.get_attr("IFA_CACHEINFO")
    interface = ip_interface((address, message["prefixlen"]))
    return PodAddress(
        interface=interface,
        tentative=bool(flags & _TENTATIVE),
        duplicate=bool(flags & _DADFAILED),
        temporary=interface.version == 6 and bool(flags & _TEMPORARY),
        made=times["cstamp"] / 100 if times else 0.0,
    )
