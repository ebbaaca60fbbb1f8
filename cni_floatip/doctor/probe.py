"""Reads the facts that several checks share, each once, when the first check needs it.

A failed read fails for every check that needs it. One of them says why as its own finding; the others are
"not checked".
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

from ..config import nodeconf
from ..config.netconf import tags_match
from ..config.nodeconf import NO_MANAGE, NodeConf
from ..edges import agent_socket
from ..edges.host import clock
from ..edges.imds import Metadata
from ..edges.kubernetes.account import SERVICE_ACCOUNT
from ..edges.podnet import link_by_mac, link_names
from ..model import cidr
from ..model.claim_state import State
from ..model.errors import CniError, Ec2Error, TryAgain
from ..model.values import Eni, Network, Node, RouteKey, RouteTable, Subnet
from ..operations.reads import owner_account
from . import host
from .cached_probe import ProbeResults, cached_probe
from .causes import explained_by
from .ec2_reads import Ec2Reads
from .facts import Choice, ClaimedPod, Ec2Interface, EndpointAnswer, FloatingLink, Identity, KnownRoutes, slot
from .link_names import is_primary, named_by_index

T = TypeVar("T")

METADATA_SECONDS = 3.0
AGENT_SECONDS = 5.0
PRIMARY = "the primary ENI"
LIVE = frozenset(state for state in State if state.live)
SETTLED = frozenset(state for state in State if state.settled)
SAYS_WHY = {"policy": "policy", "status": "agent", "node": "metadata", "_described": "metadata"}
"""The check that reports the failure of each of these reads as its own finding."""


class Probe:
    """The facts around the node. A property raises the error of its read: CniError, Ec2Error.

    ``only``: names of the ENIs that are meant for floating IPs, where an administrator gave any.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        config: str = "",
        bin_dir: str = "",
        only: Collection[str] = (),
        service_account: Path = SERVICE_ACCOUNT,
    ) -> None:
        self.environ = environ
        self.policy_path = config or nodeconf.path(environ)
        self.bin_dir = Path(bin_dir or environ.get("FLOATIP_BIN_DIR") or "/opt/cni/bin")
        self.only = tuple(dict.fromkeys(only))
        self.service_account = service_account
        self.results = ProbeResults()

    def explained_by(self, error: Exception) -> tuple[str, ...]:
        """Return the check whose own finding says why a read raised this; none where no check does."""
        raised = self.results.raised(error)
        for look, check in SAYS_WHY.items():
            if look in raised:
                return (check,)
        return explained_by(error) if isinstance(error, Ec2Error) else ()

    # -- this node ----------------------------------------------------------------------------------------

    @cached_probe
    def policy(self) -> NodeConf:
        """The node configuration."""
        return NodeConf.load(self.policy_path)

    @cached_probe
    def status(self) -> Mapping[str, Any]:
        """The agent's status, with its claims."""
        return agent_socket.status(self.policy.socket_path, AGENT_SECONDS)

    @cached_probe
    def claims(self) -> tuple[ClaimedPod, ...]:
        """The live claims of this node."""
        return tuple(
            ClaimedPod(
                pod="/".join(filter(None, (claim["pod"]["namespace"], claim["pod"]["name"])))
                or claim["containerId"][:12],
                ifname=claim["ifname"],
                netns=claim["netns"],
                eni=claim["eni"],
                addresses=tuple(text.split("/")[0] for text in (*claim["addresses"], *claim["watched"])),
                routes=tuple(_place(route) for route in claim["routes"] if route["state"] in SETTLED),
            )
            for claim in self.status["claims"]
            if claim["state"] in LIVE
        )

    @cached_probe
    def known(self) -> KnownRoutes:
        """The routes in the records of this node's agent."""
        claims = self.status["claims"]
        return KnownRoutes(
            frozenset(_place(route) for claim in claims for route in claim["routes"]),
            frozenset(claim["eni"] for claim in claims if claim["routesUnknown"]),
            self.status["agent"].get("spooled", 0),
        )

    @cached_probe
    def node(self) -> Node:
        """This instance, by its metadata."""
        metadata = self._metadata()
        try:
            return metadata.node()
        finally:
            metadata.close()

    @cached_probe
    def enis(self) -> tuple[Eni, ...]:
        """Every ENI that metadata describes, the primary one first; there is one at least."""
        return self._described[0]

    @property
    def undescribed(self) -> tuple[str, ...]:
        """Why metadata does not describe the other ENIs: VPC CNI may be attaching one at this moment."""
        return self._described[1]

    @cached_probe
    def _described(self) -> tuple[tuple[Eni, ...], tuple[str, ...]]:
        metadata = self._metadata()
        described: list[Eni] = []
        not_yet: list[TryAgain] = []
        try:
            for mac in metadata.macs():
                try:
                    described.append(metadata.eni(mac))
                except TryAgain as e:
                    not_yet.append(e)
        finally:
            metadata.close()
        if not described:
            raise not_yet[0] if not_yet else TryAgain("instance metadata names no network interface")
        in_order = sorted(described, key=lambda eni: (eni.network_card, eni.device_number))
        return tuple(in_order), tuple(e.msg for e in not_yet)

    def _metadata(self) -> Metadata:
        endpoint = self.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "")
        return Metadata(clock() + METADATA_SECONDS, endpoint=endpoint, clock=clock)

    @property
    def vpc(self) -> str:
        """The VPC that this node is in."""
        return self.enis[0].vpc

    @property
    def vpc_cidrs(self) -> tuple[Network, ...]:
        """The CIDRs of that VPC."""
        return self.enis[0].vpc_cidrs

    @cached_probe
    def choices(self) -> tuple[Choice, ...]:
        """Every ENI that metadata describes, with its use."""
        never: dict[str, str] = {}
        with contextlib.suppress(Ec2Error):  # not allowed to see: then floating IPs may use it
            never = {eni.id: eni.never for eni in self.interfaces if eni.never}
        lacking = {eni.id for eni in self.lacking}
        in_use = {claim.eni for claim in self.claims_if_told} if self.only or lacking else frozenset()
        never |= dict.fromkeys(lacking - in_use, self.lack)
        return tuple(
            Choice(
                eni.id,
                slot(eni.device_number, eni.network_card),
                self._names(eni) if self.only else frozenset(),
                PRIMARY if is_primary(eni) else never.get(eni.id, ""),
                eni.id in in_use,
            )
            for eni in self.enis
        )

    @cached_probe
    def lacking(self) -> tuple[Ec2Interface, ...]:
        """The ENIs that floating IPs could use if they had the tags of ``allowedInterfaces``.

        Not for the default tag, because a check reports ENIs without it, whatever policy says.
        """
        wanted: Mapping[str, str] = {}
        with contextlib.suppress(CniError):
            wanted = self.policy.allowed_interfaces
        if not wanted or wanted == NO_MANAGE:
            return ()
        primary = {eni.id for eni in self.enis if is_primary(eni)}
        with contextlib.suppress(Ec2Error):
            return tuple(
                eni
                for eni in self.interfaces
                if not eni.never and eni.id not in primary and not tags_match(wanted, eni.tags)
            )
        return ()

    @property
    def lack(self) -> str:
        """The missing tags of the ENIs that policy does not allow."""
        wanted = " and ".join(f"{key}={value}" for key, value in self.policy.allowed_interfaces.items())
        return f"without the tags of allowedInterfaces ({wanted})"

    def _names(self, eni: Eni) -> frozenset[str]:
        link = link_by_mac(eni.mac)
        if link:
            return frozenset({eni.id, *link_names(link.index)})
        # A pod has taken it (host-device), or it is missing: its device index says which one was meant.
        return frozenset({eni.id, *(name for name in self.only if named_by_index(name, eni))})

    @cached_probe
    def floating(self) -> tuple[Eni, ...]:
        """The ENIs that are judged: those that floating IPs can use, as far as they were chosen."""
        judged = {choice.eni for choice in self.choices if choice.is_judged(self.only)}
        return tuple(eni for eni in self.enis if eni.id in judged)

    @cached_probe
    def links(self) -> tuple[FloatingLink, ...]:
        """The link of each of these, as the kernel has it now."""
        return tuple(map(self._link, self.floating))

    def _link(self, eni: Eni) -> FloatingLink:
        link = link_by_mac(eni.mac)
        in_use = any(claim.eni == eni.id for claim in self.claims_if_told)
        where = slot(eni.device_number, eni.network_card)
        if link is None:
            return FloatingLink(eni.id, eni.mac, where, in_use=in_use)
        return FloatingLink(
            eni.id,
            eni.mac,
            where,
            link.name,
            link.index,
            link.up,
            link.carrier,
            host.mtu(link.name),
            in_use,
            any(named_by_index(name, eni) for name in link_names(link.index)),
        )

    @property
    def claims_if_told(self) -> tuple[ClaimedPod, ...]:
        """The live claims; none while the agent does not answer (its own check says so)."""
        try:
            return self.claims
        except CniError:
            return ()

    # -- EC2 ----------------------------------------------------------------------------------------------

    @property
    def region(self) -> str:
        """The region that this node is in."""
        return self.environ.get("AWS_REGION") or self.node.region

    @cached_probe
    def audit(self) -> Ec2Reads:
        """EC2 in this region; works mostly without a node configuration."""
        roles: Mapping[str, str] = {}
        with contextlib.suppress(CniError):
            roles = self.policy.roles
        return Ec2Reads(self.region, roles)

    @cached_probe
    def endpoint_answer(self) -> EndpointAnswer:
        """How EC2 answers."""
        return self.audit.time_answer()

    @cached_probe
    def identity(self) -> Identity:
        """Who we are to AWS."""
        return self.audit.identity()

    @cached_probe
    def interfaces(self) -> tuple[Ec2Interface, ...]:
        """This instance's ENIs as EC2 has them."""
        return self.audit.interfaces(self.node.instance)

    @cached_probe
    def owner(self) -> str:
        """The account whose role reads the route tables ("": our own identity), as an ADD finds it."""
        return owner_account(self.audit.vpc, self.policy.roles, self.enis[-1].subnet)

    @cached_probe
    def tables(self) -> tuple[RouteTable, ...]:
        """Every route table of the VPC."""
        return self.audit.vpc.route_tables({"vpc-id": [self.vpc]}, self.owner)

    @cached_probe
    def attached_to(self) -> Mapping[str, str]:
        """To which instance the ENIs of others are attached that routes of live claims lead to."""
        wanted = {key for claim in self.claims for key in claim.routes}
        targets = {
            target.id
            for table in self.tables
            for net, target in table.routes.items()
            if target.is_eni and target.active and RouteKey(table.id, net) in wanted
        }
        others = sorted(targets - {eni.id for eni in self.enis})
        return self.audit.vpc.attachments(others, self.owner) if others else {}

    @cached_probe
    def allowed(self) -> tuple[RouteTable, ...]:
        """The tables that policy allows to write."""
        return tuple(table for table in self.tables if self.policy.allows_table(table))

    @cached_probe
    def subnets(self) -> tuple[Subnet, ...]:
        """Every subnet of the VPC."""
        return self.audit.vpc.subnets({"vpc-id": [self.vpc]}, self.owner)

    @cached_probe
    def occupants(self) -> Mapping[str, str]:
        """One network interface for each subnet that allowed ranges overlap and that has any."""
        near = [
            subnet.id
            for subnet in self.subnets
            if any(overlap(net, range_) for net in subnet.cidrs for range_ in self.ranges)
        ]
        results: dict[str, str] = {}
        for first in range(0, len(near), 100):  # a filter takes 200 values
            for who in sorted({"", self.owner}):
                results |= self.audit.vpc.interfaces_in(near[first : first + 100], who)
        return results

    @property
    def ranges(self) -> tuple[Network, ...]:
        """The ranges that policy allows destinations in, each once."""
        return tuple(dict.fromkeys(entry.cidr for entry in self.policy.allowed_destinations))


def _place(route: Mapping[str, Any]) -> RouteKey:
    return RouteKey(route["table"], ip_network(route["destination"]))


def overlap(one: Network, other: Network) -> bool:
    """Whether the two have an address in common."""
    return cidr.within(one, other) or cidr.within(other, one)
