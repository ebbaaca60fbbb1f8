"""CHECK: compare pod and VPC with the claim. Writes nothing, and reports every difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..config.netconf import NetConf
from ..model.claim import Claim
from ..model.errors import CniError, Ec2Error, NotAsClaimed, short
from ..model.values import RouteKey, RouteTable
from ..protocol.request import Request
from ..protocol.result import PrevResult
from .pod_repair import differences
from .world import Vpc, World
from .write_routes import retry

CHECK_SECONDS = 20.0
SETTLE_SECONDS = 15.0
"""How stale EC2's answers may be after a write; a younger difference is read again."""


def check(request: Request, world: World, *, waited: float = 0.0) -> None:
    """Compare pod and VPC with the claim. Raises NotAsClaimed with every difference found.

    ``waited``: seconds of its time that have already passed.
    """
    NetConf.parse(request.config)
    prev = PrevResult.parse(request.config, request.attachment.ifname)
    claim = world.claims.get(request.attachment)
    if not isinstance(claim, Claim):
        raise NotAsClaimed(
            f"no claim of {short(request.attachment)} is recorded on this node: was it added here?"
        )
    results = [
        *_states(claim, prev),
        *_pod_differences(request, world, claim),
        *_vpc_differences(world, claim, world.clock() + CHECK_SECONDS - waited),
    ]
    if results:
        raise NotAsClaimed(" | ".join(results))


def _states(claim: Claim, prev: PrevResult) -> Iterator[str]:
    for route in () if claim.live or claim.watches else claim.routes:  # a live one may have left a table
        if not route.state.live:
            yield f"{route.key}: recorded as {route.state}"
    for address in prev.addresses:
        if address.ip not in {interface.ip for interface in claim.addresses}:
            yield f"{address.ip}: not among the claimed addresses"


def _pod_differences(request: Request, world: World, claim: Claim) -> Iterator[str]:
    try:
        with world.kernel().open_pod(
            request.netns, request.attachment.ifname, override=request.netns_override
        ) as pod:
            yield from (f"pod: {difference}" for difference in differences(pod, claim))
    except NotAsClaimed:
        raise
    except CniError as e:
        yield f"pod: {e.msg}"


def _vpc_differences(world: World, claim: Claim, deadline: float) -> list[str]:
    """Read until all is well or EC2's answers must be true; right after an ADD they may be stale."""
    vpc = world.vpc(claim.region)
    pause = 0.5
    while True:
        try:
            results = list(_look(world, vpc, claim, deadline))
        except Ec2Error as e:
            raise e.to_cni_error("cannot read the VPC") from e
        settled = world.now() - claim.last_write_at > SETTLE_SECONDS
        if not results or settled or world.clock() + pause > deadline:
            return results
        world.sleep(pause)
        pause = min(pause * 2, 4.0)


def _look(world: World, vpc: Vpc, claim: Claim, deadline: float) -> Iterator[str]:
    tables: dict[str, RouteTable] = {}
    wanted = [route for route in claim.routes if route.state.wants_route]  # a standby's are another pod's
    for account in {route.account for route in wanted}:
        keys = [route.key for route in wanted if route.account == account]
        tables |= {table.id: table for table in _tables(world, vpc, keys, account, deadline)}
    for route in wanted:
        yield from _difference(route.key, claim.eni, tables)
    if claim.source_dest_check != "ignore" and retry(
        world, deadline, lambda: vpc.network_interface(claim.eni).checks_source
    ):
        yield f"source/dest check of {claim.eni} is on: EC2 drops the traffic of the floating IP"


def _tables(
    world: World, vpc: Vpc, keys: Sequence[RouteKey], account: str, deadline: float
) -> list[RouteTable]:
    """Read the tables of ``keys`` with their routes to the destinations of ``keys`` alone."""
    filters = {"route-table-id": sorted({key.table for key in keys})}
    destinations = {key.destination for key in keys}
    return retry(
        world,
        deadline,
        lambda: [table.narrowed(destinations) for table in vpc.route_tables(filters, account)],
    )


def _difference(key: RouteKey, eni: str, tables: Mapping[str, RouteTable]) -> Iterator[str]:
    if key.table not in tables:
        yield f"vpc: route table {key.table} does not exist"
        return
    target = tables[key.table].routes.get(key.destination)
    if target is None:
        yield f"vpc: route {key} -> {eni} is missing"
    elif target.id != eni or not target.active:
        yield f"vpc: route {key} leads to {target}, not to {eni}"
