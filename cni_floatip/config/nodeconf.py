"""The node configuration: the cluster administrator's policy, and how this node works.

It allows nothing by default: without a file, no destination and no route table is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from ..model import cidr
from ..model.errors import CniError, DecodeFailure, InvalidConfig
from ..model.values import Network, NetworkInterface, RouteTable
from . import election, schemas, strict_json
from .election import Elections
from .netconf import tags_match
from .strict_json import Complaint

DEFAULT_PATH = "/etc/floatip/config.json"

MINIMAL = (
    '{"allowedDestinations": [{"cidr": "192.168.0.0/24", "namespaces": ["core-*"]}], '
    '"allowedRouteTables": {"tags": {"floatip": "*"}}}'
)

NO_MANAGE = {"node.k8s.amazonaws.com/no_manage": "true"}
"""VPC CNI leaves ENIs with this tag alone."""

SHORTEST = {4: 16, 6: 48}
"""A destination with a shorter prefix needs an exact entry, because it takes the traffic of many."""


@dataclass(frozen=True, slots=True)
class AllowedDestination:
    """A range in which pods of some namespaces (none named: of all) may have destinations."""

    cidr: Network
    namespaces: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.cidr} for {', '.join(self.namespaces) or 'all namespaces'}"

    def lists(self, namespace: str) -> bool:
        """Return whether ``namespace`` ("" outside Kubernetes) is one of this entry's."""
        return not self.namespaces or any(namespace and _fits(namespace, glob) for glob in self.namespaces)

    def exact(self, network: Network) -> bool:
        """Return whether the entry names ``network`` itself, not only a range around it."""
        return self.cidr == network


@dataclass(frozen=True, slots=True)
class AllowedRouteTables:
    """The tables that may be written: those listed, and those that carry all the tags."""

    ids: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)

    def allows(self, table: RouteTable) -> bool:
        """Return whether ``table`` may be written."""
        return table.id in self.ids or (bool(self.tags) and tags_match(self.tags, table.tags))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one ADD may claim: every destination is a route in each of its tables, which hold 50."""

    destinations: int = 16


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """What the watched addresses of one interface may cost, because a pod that flaps drains the account."""

    addresses: int = 16
    seconds_per_change: float = 5
    burst: int = 4


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class NodeConf:
    """The policy. Defaults are here and, for the reader, in the schema; a test compares them."""

    allowed_destinations: tuple[AllowedDestination, ...] = ()
    allowed_route_tables: AllowedRouteTables = AllowedRouteTables()
    roles: Mapping[str, str] = field(default_factory=dict)
    source_dest_check: Literal["disable", "require", "ignore"] = "disable"
    fixed_addresses: bool = False
    limits: Limits = Limits()
    allowed_interfaces: Mapping[str, str] = field(default_factory=lambda: dict(NO_MANAGE))
    allow_host_device: bool = False
    elections: Elections | None = None
    release_grace_seconds: float = 60
    reconcile_seconds: float = 60
    watch_limits: WatchLimits = WatchLimits()
    socket_path: str = "/run/floatip/agent.sock"
    data_dir: str = "/var/lib/cni/floatip"
    spool_dir: str = "/var/lib/cni/floatip/spool"
    metrics_address: SocketAddress | None = SocketAddress("127.0.0.1", 9818)
    health_address: SocketAddress | None = SocketAddress("127.0.0.1", 9819)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"

    @classmethod
    def load(cls, path: str = DEFAULT_PATH) -> NodeConf:
        """Return the policy in the file at ``path``. Raises InvalidConfig that names the file."""
        try:
            return cls.parse(strict_json.load_object(Path(path).read_bytes(), path))
        except FileNotFoundError as e:
            text = f"{path} does not exist, so no destination and no route table is allowed"
            raise InvalidConfig(text, f"a minimal one: {MINIMAL}") from e
        except OSError as e:
            raise InvalidConfig(f"{path} cannot be read: {e.strerror}") from e
        except DecodeFailure as e:
            raise InvalidConfig(e.msg) from e
        except InvalidConfig as e:
            raise InvalidConfig(f"{path}: {e.msg}") from e

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> NodeConf:
        """Return the policy in ``document``. Raises InvalidConfig with every complaint."""
        conf, complaints = examine(document)
        if complaints:  # always code 7: code 2 speaks of the network configuration
            raise InvalidConfig(" | ".join(str(complaint) for complaint in complaints))
        return conf

    def entry_for(self, network: Network, namespace: str) -> AllowedDestination | None:
        """Return the entry that allows ``network``: the exact one before the narrowest around it."""
        entries = [
            entry
            for entry in self.allowed_destinations
            if cidr.within(network, entry.cidr) and entry.lists(namespace)
        ]
        return max(entries, key=lambda entry: entry.cidr.prefixlen, default=None)

    def allows_destination(self, network: Network, namespace: str) -> bool:
        """Return whether ``network`` lies inside an entry that lists ``namespace``."""
        return self.entry_for(network, namespace) is not None

    def allows_interface(self, interface: NetworkInterface) -> bool:
        """Return whether pods may use this ENI: it has all the tags."""
        return tags_match(self.allowed_interfaces, interface.tags)

    def allows_table(self, table: RouteTable) -> bool:
        """Return whether ``table`` may be written at all."""
        return self.allowed_route_tables.allows(table)


def path(environ: Mapping[str, str]) -> str:
    """Return the path of the node configuration: ``FLOATIP_CONFIG``, or the default."""
    return environ.get("FLOATIP_CONFIG") or DEFAULT_PATH


def load_forgivingly(environ: Mapping[str, str], tell: Callable[[str], object]) -> NodeConf:
    """Return the node configuration for DEL, which no fault in it may stop; ``tell`` the fault.

    Of a faulty file only ``dataDir`` and ``spoolDir`` are used, because they say where the claims are and
    where a DEL may wait.
    """
    file = path(environ)
    try:
        return NodeConf.load(file)
    except CniError as e:
        tell(str(e))
    try:
        raw = strict_json.load_json(Path(file).read_bytes(), file)
    except (OSError, CniError):
        return NodeConf()
    raw = raw if isinstance(raw, dict) else {}
    policy = NodeConf()
    if isinstance(data := raw.get("dataDir"), str):
        policy = replace(policy, data_dir=data)
    if isinstance(spool := raw.get("spoolDir"), str):
        policy = replace(policy, spool_dir=spool)
    return policy


def needs_exact_entry(network: Network, vpc_cidrs: Iterable[Network]) -> bool:
    """Return whether ``network`` is so wide that only an entry that names it exactly may allow it."""
    return network.prefixlen < SHORTEST[network.version] or any(
        cidr.within(vpc, network) for vpc in vpc_cidrs
    )


def examine(document: Mapping[str, Any]) -> tuple[NodeConf, list[Complaint]]:
    """Return the policy and all complaints. Do not use a policy with complaints."""
    wrong, sound = schemas.examine("nodeconf", document)
    sound = sound if isinstance(sound, dict) else {}
    wrong += strict_json.control_characters(sound, ())
    raw = {name: sound[key] for key, name in FIELDS.items() if _was_said(sound, key)}
    for name, parse in PARSED.items():
        if name in raw:
            raw[name] = parse(raw[name], wrong)
    wrong += _long_socket_path(raw.get("socket_path", ""))
    return NodeConf(**raw), sorted(wrong, key=str)


def camel(name: str) -> str:
    """Return the key of a field: ``data_dir`` is written ``dataDir``."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


FIELDS = {camel(name): name for name in NodeConf.__dataclass_fields__}
MAY_BE_NULL = ("metricsAddress", "healthAddress")


def _was_said(sound: Mapping[str, Any], key: str) -> bool:
    return key in sound and (sound[key] is not None or key in MAY_BE_NULL)


def _allowed_destinations(raw: list[Any], wrong: list[Complaint]) -> tuple[AllowedDestination, ...]:
    destinations = []
    for index, entry in enumerate(raw):
        if not entry or entry.get("cidr") is None:
            continue
        path = ("allowedDestinations", index, "cidr")
        try:
            range_ = cidr.parse(entry["cidr"])
        except ValueError as e:
            wrong.append(Complaint(path, str(e)))
            continue
        if range_.prefixlen and any(cidr.within(range_, never) for _, never in cidr.NEVER):
            wrong.append(Complaint(path, f"{cidr.never(range_)}: never a destination"))
        destinations.append(
            AllowedDestination(range_, tuple(glob for glob in entry.get("namespaces") or () if glob))
        )
    return tuple(destinations)


def _allowed_route_tables(raw: Mapping[str, Any], _: list[Complaint]) -> AllowedRouteTables:
    return AllowedRouteTables(frozenset(raw.get("ids") or ()), dict(raw.get("tags") or {}))


def _roles(raw: Mapping[str, Any], wrong: list[Complaint]) -> dict[str, str]:
    for account, role in raw.items():
        if role and role.split(":")[4] != account:
            text = f"{role} is a role of account {role.split(':')[4]}; the route tables' owner is {account}"
            wrong.append(Complaint(("roles", account), text))
    return {account: role for account, role in raw.items() if role}


def _limits(raw: Mapping[str, Any], _: list[Complaint]) -> Limits:
    return Limits(**_fields(Limits, raw))


def _watch_limits(raw: Mapping[str, Any], _: list[Complaint]) -> WatchLimits:
    return WatchLimits(**_fields(WatchLimits, raw))


def _elections(raw: Mapping[str, Any], wrong: list[Complaint]) -> Elections:
    """Return how to elect; times are compared only where each is sound by itself."""
    given = _fields(Elections, raw)
    for name in {"lease_seconds", "veto_seconds"} & given.keys():
        given[name] = int(given[name])  # 2.0 is whole, too, but no API server reads it so
    elections = Elections(**given)
    if not any(complaint.path[:1] == ("elections",) for complaint in wrong):
        wrong += election.unfit_times(elections, raw)
    return elections


def _fields(of: type[Limits | WatchLimits | Elections], raw: Mapping[str, Any]) -> dict[str, Any]:
    names = {camel(name): name for name in of.__dataclass_fields__}
    return {names[key]: value for key, value in raw.items() if key in names and value is not None}


def _socket_address(key: str, raw: str | None, wrong: list[Complaint]) -> SocketAddress | None:
    if raw is None:
        return None
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([0-9.]+)):([0-9]{1,5})", raw, re.ASCII)
    try:
        if match is None or not 0 < int(match[3]) < 65536:
            raise ValueError
        return SocketAddress(str(ip_address(match[1] or match[2])), int(match[3]))
    except ValueError:
        text = f"{strict_json.show(raw)} is not IP:port, such as 127.0.0.1:9818 or [::]:9818"
        wrong.append(Complaint((key,), text))
        return None


PARSED: dict[str, Callable[[Any, list[Complaint]], Any]] = {
    "allowed_destinations": _allowed_destinations,
    "allowed_route_tables": _allowed_route_tables,
    "allowed_interfaces": lambda raw, _: dict(raw.get("tags") or {}),
    "roles": _roles,
    "limits": _limits,
    "watch_limits": _watch_limits,
    "elections": _elections,
    "metrics_address": lambda raw, wrong: _socket_address("metricsAddress", raw, wrong),
    "health_address": lambda raw, wrong: _socket_address("healthAddress", raw, wrong),
}


def _long_socket_path(path: str) -> list[Complaint]:
    size = len(path.encode(errors="replace"))
    text = f"has {size} bytes; the kernel takes at most 107"
    return [Complaint(("socketPath",), text)] if size > 107 else []


def _fits(namespace: str, glob: str) -> bool:
    """Return whether ``glob`` matches ``namespace``: ``*`` any characters, ``?`` one.

    ``fnmatch`` looks for each part once, however many stars there are. Brackets have no meaning here.
    """
    return fnmatchcase(namespace, glob.replace("[", "[[]"))
