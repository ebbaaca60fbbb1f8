"""Plans an ADD: checks everything before anything is written, and returns the claim to record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import election
from ..config.netconf import OWN_KEYS, NetConf, tags_match
from ..config.strict_json import show
from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute, State
from ..model.errors import CniError, InvalidConfig, PolicyRefused, RouteConflict, raise_any
from ..model.recorded_config import RecordedConfig
from ..model.values import MAIN_TABLE, RouteKey
from ..protocol.request import Request
from ..protocol.result import PrevResult
from ..rules import destinations
from ..rules.pod_routes import pod_plan, refuse_cluster_routes
from .locate import EniSite, VpcView
from .world import PodNet, World

KEPT = ("cniVersion", "type", *OWN_KEYS)
"""Keys of a configuration that are read after the call; others are dropped, as they may be of any size."""


@dataclass(frozen=True, slots=True)
class AddRequest:
    """The request of an ADD, and the pod's namespace at that time (a path can come to lead elsewhere)."""

    request: Request
    conf: NetConf
    prev: PrevResult
    netns_inode: int

    @classmethod
    def read(cls, request: Request, world: World) -> AddRequest:
        """Parse the request's configuration. Raises CniError, also where nobody elects what it wants."""
        conf = NetConf.parse(request.config)
        election.refuse_network(conf.activate, world.policy.elections)
        if conf.activate == "ready" and (refusal := world.election.refusal()):
            raise refusal
        prev = PrevResult.parse(request.config, request.attachment.ifname)
        return cls(request, conf, prev, world.inode(request.netns))


def plan(
    call: AddRequest, world: World, pod: PodNet, site: EniSite, view: VpcView, before: Claim | None
) -> Claim:
    """Return the claim to record; ``before`` is what an earlier call for the attachment recorded.

    Raises CniError with every reason against it. Writes nothing.
    """
    request, conf, prev = call.request, call.conf, call.prev
    namespace, occupants = request.pod.namespace, view.occupants
    judges: tuple[Callable[[], None], ...] = (
        lambda: refuse_too_many(world, call),
        lambda: refuse_chosen_addresses(world, request),
        lambda: destinations.refuse_destinations(view.wants, site.eni, world.policy, namespace, occupants),
        lambda: destinations.refuse_tables(view.tables, view.wants, world.policy),
        lambda: refuse_elected(world, conf, view),
        lambda: refuse_cluster_routes(conf, pod.other_addresses, site.cluster),
        lambda: refuse_source_check(world, site, view),
        lambda: refuse_host_device(world, site),
        lambda: refuse_interface(world, site, view),
    )
    errors: list[CniError] = []
    for judge in judges:
        try:
            judge()
        except CniError as e:
            errors.append(e)
    raise_any(errors)
    _refuse_missing_addresses(world, pod, prev)
    table = _table(call, world, pod, before)
    given = pod_plan(conf, prev.addresses, view.wants, site.eni, table, request.attachment.ifname)
    return Claim(
        attachment=request.attachment,
        eni=site.eni.id,
        region=site.node.region,
        netns=request.netns,
        netns_inode=call.netns_inode,
        boot=world.boot(),
        pod=request.pod,
        on_delete=conf.on_delete or world.on_delete,
        routes=_routes(conf, site, view, before),
        pod_routes=given.routes,
        pod_rules=given.rules,
        connected=given.connected,
        addresses=prev.addresses,
        table=given.table,
        vpc=site.eni.vpc,
        mac=site.eni.mac,
        config=_recorded(request.config),
        source_dest_check=world.policy.source_dest_check,
        created_at=max(world.now(), before.deleted_at if before else 0.0),  # so that it counts as new
        last_write_at=world.now() + conf.timeout_seconds,
        group=(conf.election.group or "") if conf.activate == "ready" else None,
    )


def _routes(conf: NetConf, site: EniSite, view: VpcView, before: Claim | None) -> tuple[ClaimedRoute, ...]:
    """Return the routes to claim, and those to release that the ADD before this one claimed through this ENI.

    A pod that is elected already stays so.
    """
    known = before.routes if before and before.eni == site.eni.id else ()
    elected = {r.key: r for r in known if conf.activate == "ready" and r.state is State.ACTIVE}
    keys = [RouteKey(table.id, want.destination) for table in view.tables for want in view.wants]
    routes = [elected.get(key) or ClaimedRoute.begin(key, view.account) for key in keys]
    if before and known:
        routes += [route for route in before.drop().routes if route.key not in keys]
    return tuple(routes)


def _recorded(config: Mapping[str, Any]) -> RecordedConfig:
    """Return what later calls read of ``config``.

    Without ``"activate": "add"``, the default, because release 0.3 does not know the key and would not keep
    the claim of a plain network after a roll-back.
    """
    return RecordedConfig.of(
        {key: value for key, value in config.items() if key in KEPT and (key, value) != ("activate", "add")}
    )


def refuse_too_many(world: World, request: AddRequest) -> None:
    """Raise PolicyRefused where one interface asks for more than its share of the tables."""
    most = world.policy.limits.destinations
    count = len(request.prev.addresses) + len(request.conf.extra_destinations)
    if count > most:
        raise PolicyRefused(
            f"{count} destinations (floating addresses and listed CIDRs): the node configuration allows"
            f" {most} for one interface (limits.destinations)"
        )


def refuse_chosen_addresses(world: World, request: Request) -> None:
    """Raise PolicyRefused where the pod's author chose the addresses and policy leaves that to networks."""
    if not world.policy.fixed_addresses:
        return
    args = request.config.get("args")
    of_pod = args.get("cni") if isinstance(args, dict) else None
    raw = {"args.cni.ips": of_pod, "runtimeConfig.ips": request.config.get("runtimeConfig")}
    for key, chosen in raw.items():
        if isinstance(chosen, dict) and chosen.get("ips"):
            raise PolicyRefused(
                f"$.{key}: {show(chosen['ips'])}: the pod chose its addresses, which the node configuration"
                ' forbids ("fixedAddresses": true): let the network set them'
            )


def refuse_source_check(world: World, site: EniSite, view: VpcView) -> None:
    """Raise PolicyRefused where EC2 checks sources and we may not turn that off."""
    if view.checks_source and world.policy.source_dest_check == "require":
        raise PolicyRefused(
            f"source/dest check of {site.eni} is on, so EC2 drops the traffic of a floating IP, and the node"
            ' configuration says "sourceDestCheck": "require": turn it off, or let us ("disable")'
        )


def refuse_elected(world: World, conf: NetConf, view: VpcView) -> None:
    """Raise RouteConflict where the last ADD would take a destination that a group elects who has.

    The agent knows the groups from a list that it has in any case; while it has none, nothing is refused.
    """
    if conf.activate == "ready":
        return
    for want in view.wants:
        if group := world.election.group_of(want.destination):
            raise RouteConflict(
                f"{want.because}: the group {group} elects who has {want.destination}: scale its pods to zero"
                ' before you go back to "activate": "add", or write "activate": "ready"'
            )


def refuse_interface(world: World, site: EniSite, view: VpcView) -> None:
    """Raise PolicyRefused for an ENI that is not ours to use: VPC CNI's, say."""
    if view.interface is None or world.policy.allows_interface(view.interface):
        return
    wanted, present = world.policy.allowed_interfaces, view.interface.tags
    missing = {k: "" if v == "*" else v for k, v in wanted.items() if not tags_match({k: v}, present)}
    text = ", ".join(f"{k}={v or '*'}" for k, v in missing.items())
    tags = " ".join(f"'Key={k},Value={v}'" for k, v in missing.items())
    raise PolicyRefused(
        f"{site.eni} has no tag {text}, without which it may be VPC CNI's or somebody else's"
        f' ("allowedInterfaces" of the node configuration); if nothing else uses it, run: aws ec2 create-tags'
        f" --resources {site.eni.id} --tags {tags}"
    )


def refuse_host_device(world: World, site: EniSite) -> None:
    """Raise PolicyRefused for an ENI that is itself in the pod, unless policy trusts such pods."""
    if site.in_pod and not world.policy.allow_host_device:
        raise PolicyRefused(
            f"{site.eni} is itself in the pod (host-device), where no filter of the node keeps the pod from"
            " instance metadata: use ipvlan, or, for pods that are trusted with the node's role, set"
            ' "allowHostDevice": true in the node configuration'
        )


def _refuse_missing_addresses(world: World, pod: PodNet, prev: PrevResult) -> None:
    """Raise PodNetworkFailure for an address that the interface lacks, because waiting would not help."""
    present = {address.interface.ip for address in pod.addresses()}
    missing = [interface.ip for interface in prev.addresses if interface.ip not in present]
    if missing:
        pod.wait_addresses(missing, world.clock(), world.sleep, world.clock)  # it knows why


def _table(request: AddRequest, world: World, pod: PodNet, before: Claim | None) -> int:
    """The table for source routing: the configured one, the one from the last ADD, or a free one."""
    conf = request.conf.pod_routes
    if conf is None or conf.source_routing is False:
        return MAIN_TABLE
    had = before.table if before and before.table != MAIN_TABLE else None
    if conf.table is None:
        return had or pod.free_table()
    if conf.table != had:
        _refuse_used_table(request, world, pod, conf.table)
    return conf.table


def _refuse_used_table(request: AddRequest, world: World, pod: PodNet, table: int) -> None:
    """Raise InvalidConfig when a table has foreign routes or serves another interface of this pod."""
    own = request.request.attachment
    others = [
        claim.attachment.ifname
        for claim in world.claims.all()[0]
        if (claim.netns_inode, claim.table) == (request.netns_inode, table) and claim.attachment != own
    ]
    foreign = pod.foreign_routes(table)
    if others:
        who = f"the pod's interface {others[0]} has it"
    elif foreign:
        who = str(foreign[0])
    elif pod.free_table(table) != table and not any(route.table == table for route in pod.routes()):
        who = "a rule or a route names it"
    else:
        return
    raise InvalidConfig(
        f"$.podRoutes.sourceRouting: table {table} is in use: {who}; write another number, or true"
    )
