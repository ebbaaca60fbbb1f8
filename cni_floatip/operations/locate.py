"""Locates an attachment: finds the ENI behind the pod's interface, and reads the VPC around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from ..config.netconf import NetConf
from ..model.errors import CniError, InvalidConfig, TryAgain, raise_any
from ..model.values import Eni, Link, Network, NetworkInterface, Node, RouteKey, RouteTable, Subnet
from ..protocol.result import PrevResult
from ..rules import destinations, parents
from ..rules.parents import Backing, BehindIt
from .reads import owner_account, read
from .world import Metadata, PodNet, Vpc, World
from .write_routes import RouteRead

T = TypeVar("T")

CARRIER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class EniSite:
    """This node, and the ENI through which the pod's interface reaches the VPC.

    ``cluster``: the node's primary subnet, where routes of the pod's main table could do harm.
    ``in_pod``: the ENI is the pod's interface itself (host-device), out of the metadata guard's reach.
    """

    node: Node
    eni: Eni
    cluster: tuple[Network, ...] = ()
    in_pod: bool = False


def locate(pod: PodNet, metadata: Metadata, conf: NetConf) -> EniSite:
    """Find the ENI: the one with the interface's own MAC (ipvlan, host-device), else its parent's.

    Raises InvalidConfig for an interface that cannot carry a floating IP. Raises TryAgain without metadata,
    and for a hardware link that metadata does not know yet, because on EC2 only ENIs are hardware.
    """
    link, parent = pod.link, pod.parent()
    below = parent.link if parent and parent.here else None
    _refuse(f"{link.name} ({link.mac})", Backing(link.kind, link.ipvlan_mode))
    mac, behind = _eni_behind(link, below, metadata)
    last = below or link
    if not mac and not last.kind:
        raise TryAgain(f"instance metadata does not list {last.name} ({last.mac}) yet")
    _refuse(f"{link.name} ({link.mac})", Backing(link.kind, link.ipvlan_mode, behind))
    return replace(site_of(mac, metadata, conf), in_pod=below is None)


def _eni_behind(link: Link, below: Link | None, metadata: Metadata) -> tuple[str, BehindIt]:
    if metadata.knows(link.mac):
        return link.mac, "an ENI"
    if below and metadata.knows(below.mac):
        return below.mac, "its parent's ENI"
    return "", "none"


def _refuse(subject: str, backing: Backing) -> None:
    if why := parents.refusal(subject, backing):
        raise InvalidConfig(why)


def site_of(mac: str, metadata: Metadata, conf: NetConf) -> EniSite:
    """Return the site of this instance's ENI with ``mac``. Raises InvalidConfig for the primary one."""
    primary = metadata.primary_mac()
    eni = metadata.eni(mac)
    behind: BehindIt = "the primary ENI" if mac == primary else "an ENI"
    _refuse(f"{eni.id} ({mac})", Backing(eni=behind))
    in_main = conf.pod_routes is not None and conf.pod_routes.source_routing is False
    return EniSite(metadata.node(), eni, metadata.eni(primary).subnet_cidrs if in_main else ())


def evaluate_site(metadata: Metadata, find: Callable[[], EniSite], judge: Callable[[EniSite], T]) -> T:
    """Return what ``judge`` makes of the site that ``find`` finds in ``metadata``. Raises CniError.

    A refusal may rest on metadata that the agent remembers. So metadata is read again before a refusal, and
    if it has changed, ``judge`` gets the new site.
    """
    site: EniSite | None = None
    try:
        site = find()
        return judge(site)
    except TryAgain:
        raise
    except CniError:
        if not metadata.ask_again() or (now := find()) == site:
            raise
    return judge(now)


def bring_up(pod: PodNet, world: World) -> None:
    """Bring the parent up if it is down, as a hot-plugged ENI on AL2023 is. Raises PodNetworkFailure."""
    parent = pod.parent()
    if parent and parent.here:
        world.kernel().set_up(parent.link, world.clock() + CARRIER_SECONDS, world.sleep, world.clock)


@dataclass(frozen=True, slots=True)
class VpcView:
    """The VPC as one ADD read it. ``read_at`` is a time of ``world.clock``.

    ``tables`` hold the routes to ``wants`` alone, because an ADD may wait long for its turn to write.
    ``checks_source``: the source/dest check is on, and policy cares. ``interface``: None where policy does
    not depend on the ENI's tags or check.
    """

    tables: tuple[RouteTable, ...]
    wants: tuple[destinations.WantedDestination, ...]
    occupants: Mapping[str, str]
    checks_source: bool
    interface: NetworkInterface | None
    account: str
    read_at: float

    def route_reads(self, wants: Collection[destinations.WantedDestination]) -> dict[RouteKey, RouteRead]:
        """Return where the routes to ``wants`` lead, in every table."""
        return {
            RouteKey(table.id, want.destination): RouteRead(table.routes.get(want.destination), self.read_at)
            for table in self.tables
            for want in wants
        }


def read_vpc(
    world: World, vpc: Vpc, conf: NetConf, prev: PrevResult, site: EniSite, deadline: float
) -> VpcView:
    """Read tables, subnets and source/dest check in parallel; return the view that this ADD uses.

    Raises CniError: InvalidConfig or PolicyRefused if they show that the claim is impossible.
    """
    eni = site.eni
    filters = destinations.table_filters(conf.route_tables, eni.vpc)
    read_now = partial(read, world, deadline)
    account = read_now("subnet of the ENI", partial(owner_account, vpc, world.policy.roles, eni.subnet))
    read_at = world.clock()
    reads: dict[str, Callable[[], object]] = {
        "tables": partial(read_now, f"route tables of {eni.vpc}", partial(vpc.route_tables, filters, account))
    }
    if destinations.needs_subnets(conf, prev.addresses, eni):
        of_vpc = {"vpc-id": [eni.vpc]}
        reads["subnets"] = partial(read_now, f"subnets of {eni.vpc}", partial(vpc.subnets, of_vpc, account))
    if world.policy.source_dest_check != "ignore" or world.policy.allowed_interfaces:
        what = f"source/dest check and tags of {eni.id}"
        reads["interface"] = partial(read_now, what, partial(vpc.network_interface, eni.id))
    answers: dict[str, Any] = dict(zip(reads, world.run_all(*reads.values()), strict=True))
    raise_any(answers.values())
    subnets: tuple[Subnet, ...] = answers.get("subnets", ())
    interface: NetworkInterface | None = answers.get("interface")
    wants = destinations.destinations(conf, prev.addresses, eni, subnets)

    def choose() -> tuple[RouteTable, ...]:
        """Return the selected tables. Reads them again if this is not the first attempt."""
        tables = answers.pop("tables", None)
        if tables is None:
            tables = vpc.route_tables(filters, account)
        chosen = destinations.select_tables(conf.route_tables, tables, subnets, eni)
        return tuple(table.narrowed([want.destination for want in wants]) for table in chosen)

    # A table's routes are parsed only here, so an answer may turn out to be unreadable.
    chosen = read_now(f"route tables of {eni.vpc}", choose)
    dummies = [want.subnet.id for want in wants if want.subnet]
    occupants: dict[str, str] = {}
    for who in sorted({"", account}) if dummies else ():  # a participant sees its own interfaces only
        occupants |= read_now("interfaces of the subnets", partial(vpc.interfaces_in, dummies, who))
    checks_source = (
        interface is not None and interface.checks_source and world.policy.source_dest_check != "ignore"
    )
    return VpcView(chosen, wants, occupants, checks_source, interface, account, read_at)
