"""The VPC's router: a namespace whose kernel routes follow the simulated route tables.

It is no kinder than a VPC. Each ENI has a link of its own; what arrives on it is looked up in the table of
*its* subnet; what is sent to an ENI carries the ENI's MAC, by permanent
neighbour entries, so nobody is ever asked by ARP who holds a floating IP. ARP and neighbour discovery are
answered for the gateway and for interfaces of the same subnet, nothing else. Source/dest check drops in both
directions, a blackhole drops in silence, frames with a foreign source MAC are dropped, no redirect is sent.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

from cni_floatip.model import values
from cni_floatip.model.values import Address, Network, RouteTarget
from lab import netns
from lab.vpcview import EniView, VpcView

VPC_ROUTER = IPv6Address("fe80:ec2::1")
METADATA: tuple[Address, ...] = (IPv4Address("169.254.169.254"), IPv6Address("fd00:ec2::254"))
ANY = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}

FIRST_VPC_TABLE = 101
FIRST_LINK_TABLE = 10_001
# Rules in the order in which the kernel asks them. Metadata stands before "local" because source/dest check
# applies to it as well; the gateway's own addresses stand in "local" and answer whatever the check says.
METADATA_RULE, METADATA_DENY, LOCAL_RULE, OWN_LINK_RULE = 10, 11, 100, 200
LOOKUP_RULE, LOOKUP_ANY_RULE, DENY_RULE = 1000, 1500, 2000

host_route = cache(values.host_route)  # the router draws up the same few hundred routes after every EC2 call

Routes = dict[tuple[int, Network], str]
Rule = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Port:
    """The router's end of a link: an ENI's, or (with no ENI) that of a network behind the transit gateway."""

    link: str
    number: int
    eni: str
    mac: str
    subnet: str
    gateways: tuple[Address, ...]
    addresses: tuple[Address, ...]


@cache
def link_local(mac: str) -> IPv6Address:
    """Return the address that an interface with this MAC gives itself (modified EUI-64)."""
    b = bytes.fromhex(mac.replace(":", ""))
    low = bytes([b[0] ^ 2]) + b[1:3] + b"\xff\xfe" + b[3:]
    return IPv6Network("fe80::/64")[int.from_bytes(low, "big")]


@cache
def next_hop(port: Port, version: int) -> str:
    """Return what follows the destination: a next hop whose permanent neighbour entry is the ENI's MAC."""
    if version == 6:
        return f"via {link_local(port.mac)} dev {port.link}"
    first = next(a for a in port.addresses if a.version == 4)
    return f"via {first} dev {port.link} onlink"


class Router:
    """The namespace, its links, and what it holds now; ``follow`` makes the kernel hold what EC2 says."""

    def __init__(self, name: str) -> None:
        self.netns = name
        self.ports: list[Port] = []
        self.source_mac_filter = "off: no link yet"
        # ip takes "rule add" for an IPv4 rule unless told the family: each family has a process of its own.
        self._consoles: dict[int, netns.Console] = {}
        self._tables: dict[str, int] = {}
        self._routes: Routes = {}
        self._rules: set[Rule] = set()
        self._view: VpcView | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Make an existing namespace a router; before any link, because links inherit ``default``."""
        netns.sysctl(self.netns, _SYSCTLS)
        self._consoles = {version: netns.Console(self.netns, f"-{version}") for version in ANY}
        for version, console in self._consoles.items():
            addresses = [f"addr add {a}/{a.max_prefixlen} dev lo" for a in METADATA if a.version == version]
            local = [f"rule add pref {LOCAL_RULE} lookup local", "rule del pref 0 lookup local"]
            console.do(["link set lo up", *local, *addresses])

    def plug(self, ports: Mapping[Port, tuple[str, str]]) -> None:
        """Create the links: for each port the namespace and the interface name at its other end."""
        self._consoles[4].do(
            f"link add {port.link} mtu 9001 type veth"
            f" peer name {ifname} mtu 9001 address {port.mac} netns {other}"
            for port, (other, ifname) in ports.items()
        )
        self.ports += ports
        for version, console in self._consoles.items():
            console.do(line for port in ports for line in self._link_lines(port, version))
        delays = [f"ip{v}/neigh/{port.link}/proxy_delay" for port in ports for v in ("v4", "v6")]
        netns.sysctl(self.netns, dict.fromkeys(delays, 0))
        self.source_mac_filter = self._filter_source_macs()

    def _link_lines(self, port: Port, version: int) -> Iterator[str]:
        """Give a link its addresses, say which MAC is behind it, answer there for its subnet's other ENIs."""
        own = [a for a in port.addresses if a.version == version]
        siblings = [p for p in self.ports if p.subnet == port.subnet and p is not port]
        yield f"link set {port.link} up"
        for address in (*port.gateways, *METADATA, VPC_ROUTER):
            if address.version == version:
                yield f"addr add {address}/{address.max_prefixlen} dev {port.link}"
        for address in (*own, *([link_local(port.mac)] if version == 6 else [])):
            yield f"neigh replace {address} lladdr {port.mac} dev {port.link} nud permanent"
        for address in own:
            yield f"route replace {host_route(address)} dev {port.link}"
        for address in (a for sibling in siblings for a in sibling.addresses if a.version == version):
            yield f"neigh replace proxy {address} dev {port.link}"
        table = FIRST_LINK_TABLE + port.number
        yield f"route add {ANY[version]} {next_hop(port, version)} table {table}"
        yield f"rule add oif {port.link} pref {OWN_LINK_RULE} lookup {table}"

    def _filter_source_macs(self) -> str:
        """Drop frames that do not carry the ENI's MAC; say so where the kernel has no nftables (UML)."""
        chains = "\n".join(
            f"chain c{port.number} {{\n type filter hook ingress device {port.link} priority 0\n"
            f" ether saddr != {port.mac} counter drop\n}}"
            for port in self.ports
            if port.eni
        )
        script = f"table netdev lab\ndelete table netdev lab\ntable netdev lab {{\n{chains}\n}}\n"
        try:
            done = netns.inside(
                self.netns, subprocess.run, ["nft", "-f", "-"], input=script, capture_output=True, text=True
            )
        except FileNotFoundError:
            return "off: no nft program"
        return "on" if done.returncode == 0 else f"off: {done.stderr.splitlines()[0]}"

    def follow(self, look: Callable[[], VpcView]) -> None:
        """Make the kernel's routes and rules those that EC2 holds now; only what differs is written."""
        with self._lock:
            view = look()  # under the lock: of two changes at once the later look must be the later write
            for table in view.tables:
                self._tables.setdefault(table, FIRST_VPC_TABLE + len(self._tables))
            routes, rules = self._wanted_routes(view), self._wanted_rules(view)
            for version, console in self._consoles.items():
                lines = list(self._route_lines(routes, version))
                # New rules before old ones go: in between, both together drop more, never less.
                lines += [f"rule add {text}" for v, text in sorted(rules - self._rules) if v == version]
                lines += [f"rule del {text}" for v, text in sorted(self._rules - rules) if v == version]
                if lines:
                    console.do(lines)
            self._routes, self._rules, self._view = routes, rules, view

    def _route_lines(self, wanted: Routes, version: int) -> Iterator[str]:
        for (table, net), way in wanted.items():
            if net.version == version and self._routes.get((table, net)) != way:
                yield f"route replace {_route(net, way)} table {table}"
        for (table, net), way in self._routes.items():
            if net.version == version and (table, net) not in wanted:
                yield f"route del {_route(net, way)} table {table}"

    def _wanted_routes(self, view: VpcView) -> Routes:
        """Draw up every table; those that nothing has changed for are taken over as they are."""
        before = self._view if self._view and self._view.enis == view.enis else None
        wanted: Routes = {}
        for table, held in view.tables.items():
            number = self._tables[table]
            if before and before.tables.get(table) == held:
                wanted |= {at: way for at, way in self._routes.items() if at[0] == number}
            else:
                wanted |= {(number, net): way for net, way in self._table(view, table, held)}
        return wanted

    def _table(
        self, view: VpcView, table: str, held: Mapping[Network, RouteTarget]
    ) -> Iterator[tuple[Network, str]]:
        """Yield one table's routes; a later one for the same destination counts."""
        yield from ((everything, "blackhole") for everything in ANY.values())
        yield from ((net, self._way(view, net, target)) for net, target in held.items())
        for port in self.ports:
            eni = view.enis.get(port.eni)
            for address in eni.addresses if eni else ():
                if view.is_local(table, address):
                    yield host_route(address), next_hop(port, address.version)

    def _way(self, view: VpcView, net: Network, target: RouteTarget) -> str:
        """Return where to send what a VPC route matches. A checked ENI receives only what is its own."""
        if target.id.startswith("tgw-"):
            remote = next((port for port in self.ports if not port.eni), None)
            return next_hop(remote, net.version) if remote else "blackhole"
        port = next((port for port in self.ports if target.is_eni and port.eni == target.id), None)
        eni = view.enis.get(target.id)
        if port and eni and target.active and (not eni.checked or net in map(host_route, eni.addresses)):
            return next_hop(port, net.version)
        return "blackhole"

    def _wanted_rules(self, view: VpcView) -> set[Rule]:
        before = self._view
        if before and before.without_routes() == view.without_routes():
            return self._rules
        return {
            (version, rule)
            for port in self.ports
            for version in ANY
            for rule in self._port_rules(port, view, version)
        }

    def _port_rules(self, port: Port, view: VpcView, version: int) -> Iterator[str]:
        eni = view.enis.get(port.eni)
        if eni:
            yield from self._eni_rules(port, eni, view, version)
        elif not port.eni:
            yield from self._transit_rules(port, view, version)
        yield f"iif {port.link} pref {DENY_RULE} blackhole"

    def _eni_rules(self, port: Port, eni: EniView, view: VpcView, version: int) -> Iterator[str]:
        """For what an ENI sends: its subnet's table; with source/dest check on, for own addresses."""
        table = self._tables[view.table_of(eni.subnet)]
        if not eni.checked:
            # A priority of its own: for the kernel a rule without "from" is a duplicate of one that has it.
            yield f"iif {port.link} pref {LOOKUP_ANY_RULE} lookup {table}"
            return
        own = [host_route(a) for a in eni.addresses if a.version == version]
        yield from (f"from {source} iif {port.link} pref {LOOKUP_RULE} lookup {table}" for source in own)
        for address in METADATA:
            if address.version == version:
                to = f"to {host_route(address)} iif {port.link}"
                yield from (f"from {source} {to} pref {METADATA_RULE} lookup local" for source in own)
                yield f"{to} pref {METADATA_DENY} blackhole"

    def _transit_rules(self, port: Port, view: VpcView, version: int) -> Iterator[str]:
        """For what a transit gateway sends: its own route table first, then the attachment subnet's."""
        for net, subnet in view.transit.items():
            if net.version == version:
                way = f"lookup {self._tables[view.table_of(subnet)]}" if subnet else "blackhole"
                pref = LOOKUP_RULE + net.max_prefixlen - net.prefixlen  # longest prefix first
                yield f"to {net} iif {port.link} pref {pref} {way}"

    def close(self) -> None:
        for console in self._consoles.values():
            console.close()


def _route(destination: Network, way: str) -> str:
    return f"blackhole {destination}" if way == "blackhole" else f"{destination} {way}"


_V4 = {"rp_filter": 0, "send_redirects": 0, "accept_redirects": 0, "arp_ignore": 1, "proxy_arp": 0}
_V6 = {"forwarding": 1, "accept_dad": 0, "accept_ra": 0, "accept_redirects": 0, "proxy_ndp": 1}
_SYSCTLS: dict[str, int | str] = {
    "ipv4/ip_forward": 1,
    **{f"ipv4/conf/{where}/{key}": value for where in ("all", "default") for key, value in _V4.items()},
    **{f"ipv6/conf/{where}/{key}": value for where in ("all", "default") for key, value in _V6.items()},
    "ipv6/conf/default/addr_gen_mode": 1,  # fe80:ec2::1 is the router's only link-local address
}
