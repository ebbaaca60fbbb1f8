"""EC2's routes in memory: keeps state, prints it, fails as it is told.

Methods as in ``cni_floatip.edges.ec2.client``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cni_floatip.config.nodeconf import NO_MANAGE
from cni_floatip.model.errors import Ec2Error, Ec2Fault
from cni_floatip.model.values import Network, NetworkInterface, RouteKey, RouteTable, RouteTarget, Subnet


class Routes(dict[Network, RouteTarget]):
    """A table's routes. With ``unreadable``, EC2's text of them cannot be read."""

    def __init__(self, routes: Mapping[Network, RouteTarget], *, unreadable: bool = False) -> None:
        super().__init__(routes)
        self.unreadable = unreadable

    def get(self, key: Network, default: Any = None) -> Any:
        self._parse()
        return super().get(key, default)

    def items(self) -> Any:
        self._parse()
        return super().items()

    def _parse(self) -> None:
        if self.unreadable:
            raise Ec2Error(Ec2Fault.UNANSWERED, "DescribeRouteTables", "", "a route that cannot be read")


@dataclass
class FakeVpc:
    """``script`` holds what becomes of the next mutating calls: None (works), a fault, or ("lost", fault).

    The next ``unreadable`` reads answer with routes that cannot be read; ``reads`` counts all.
    """

    tables: dict[str, dict[Network, RouteTarget]]
    script: list[Ec2Fault | tuple[str, Ec2Fault] | None] = field(default_factory=list)
    stale: list[dict[str, dict[Network, RouteTarget]]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    unreadable: int = 0
    reads: int = 0

    def route_tables(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[RouteTable, ...]:
        state = self.stale.pop(0) if self.stale else self.tables
        wanted = filters.get("route-table-id", list(state))
        self.reads += 1
        unreadable, self.unreadable = self.unreadable > 0, max(0, self.unreadable - 1)
        return tuple(
            RouteTable(t, "vpc-1", "1", Routes(state[t], unreadable=unreadable)) for t in wanted if t in state
        )

    def subnets(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[Subnet, ...]:
        return ()

    def interfaces_in(self, subnets: Sequence[str], account: str = "") -> dict[str, str]:
        return {}

    def network_interface(self, eni: str) -> NetworkInterface:
        return NetworkInterface(checks_source=False, tags=NO_MANAGE)

    def disable_source_dest_check(self, eni: str) -> None:
        self.calls.append(f"disable {eni}")

    def wait_turn(self, action: str, place: RouteKey, account: str, deadline: float) -> None:
        pass

    def create(self, key: RouteKey, eni: str, account: str = "") -> None:
        def apply() -> None:
            if key.destination in self._table(key):
                raise Ec2Error(Ec2Fault.ROUTE_EXISTS, "CreateRoute", "RouteAlreadyExists", str(key))
            self.tables[key.table][key.destination] = RouteTarget(eni, is_eni=True)

        self._call(f"create {key} -> {eni}", apply)

    def replace(self, key: RouteKey, eni: str, account: str = "") -> None:
        def apply() -> None:
            if key.destination not in self._table(key):
                raise Ec2Error(Ec2Fault.NO_ROUTE, "ReplaceRoute", "InvalidParameterValue", str(key))
            self.tables[key.table][key.destination] = RouteTarget(eni, is_eni=True)

        self._call(f"replace {key} -> {eni}", apply)

    def delete(self, key: RouteKey, account: str = "") -> None:
        def apply() -> None:
            if self._table(key).pop(key.destination, None) is None:
                raise Ec2Error(Ec2Fault.NO_ROUTE, "DeleteRoute", "InvalidRoute.NotFound", str(key))

        self._call(f"delete {key}", apply)

    def try_create(self, key: RouteKey, eni: str, account: str = "") -> None:
        self._call(f"try-create {key} -> {eni}", lambda: None)

    def try_replace(self, key: RouteKey, eni: str, account: str = "") -> None:
        self._call(f"try-replace {key} -> {eni}", lambda: None)

    def _table(self, key: RouteKey) -> dict[Network, RouteTarget]:
        if key.table not in self.tables:
            raise Ec2Error(Ec2Fault.NO_TABLE, "CreateRoute", "InvalidRouteTableID.NotFound", key.table)
        return self.tables[key.table]

    def _call(self, what: str, apply: Any) -> None:
        self.calls.append(what)
        verdict = self.script.pop(0) if self.script else None
        if isinstance(verdict, tuple):
            apply()
            verdict = verdict[1]
        elif verdict is None:
            apply()
        if verdict is not None:
            raise Ec2Error(verdict, what.split()[0], "Planted", "as the test says")

    def __str__(self) -> str:
        return "\n".join(
            f"vpc {table} {network} -> {target}"
            for table, routes in sorted(self.tables.items())
            for network, target in sorted(routes.items(), key=lambda item: str(item[0]))
        )


class FakeTime:
    """A clock that only sleeping moves. Fits wherever ``clock``, ``sleep`` and ``jitter`` are asked for."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds

    @staticmethod
    def jitter() -> float:
        return 1.0
