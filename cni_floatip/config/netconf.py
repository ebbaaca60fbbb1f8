"""Parses and validates the network configuration, once; later code trusts the result.

``NetConf.parse`` reports every complaint at once, each with its JSON path. DEL and GC never parse, because
the claim has what they need and an upgrade must not make a DEL fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from ..model import cidr
from ..model.claim import Claim
from ..model.errors import short
from ..model.recorded_config import RecordedConfig
from ..model.values import METADATA_NETWORKS, Address, Network
from . import election, schemas, strict_json
from .election import ElectionConf
from .strict_json import Complaint, Step

Path = tuple[Step, ...]

ANY_DESTINATION: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
TIMEOUT_SECONDS = 90
KERNEL_TABLES = (0, 253, 254, 255)
"""unspec, default, main and local: where routes of the whole pod live."""


def timeout_of(config: Mapping[str, Any]) -> float:
    """Return how long an ADD with this configuration may take; works before validation."""
    raw = config.get("timeoutSeconds")
    sound = isinstance(raw, int | float) and not isinstance(raw, bool) and 5 <= raw <= 110
    return float(raw) if sound else TIMEOUT_SECONDS  # type: ignore[arg-type]


REPLACES_DEFAULT = "would replace the pod's cluster default route; use sourceRouting"


@dataclass(frozen=True, slots=True)
class RouteTableSelector:
    """Which route tables a network wants: exactly one of the four is set."""

    ids: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    subnets: tuple[str, ...] = ()
    all: bool = False

    def __str__(self) -> str:
        if self.all:
            return "all"
        tags = [f"{key}={value}" for key, value in self.tags.items()]
        kind = "ids" if self.ids else "tags" if tags else "subnets"
        return f"{kind} {', '.join(self.ids or tags or self.subnets)}"

    def document(self) -> dict[str, Any]:
        """Return the selector as it is written in the configuration (and kept in a claim)."""
        if self.ids or self.subnets:
            return {"ids": list(self.ids)} if self.ids else {"subnets": list(self.subnets)}
        return {"tags": dict(self.tags)} if self.tags else {"all": True}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> RouteTableSelector:
        """Return the selector of a document that was validated before."""
        return cls(
            ids=_unique(document.get("ids") or ()),
            tags=dict(document.get("tags") or {}),
            subnets=_unique(document.get("subnets") or ()),
            all=bool(document.get("all")),
        )


def tags_match(wanted: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    """Return whether ``tags`` has every wanted tag; ``"*"`` alone is any value, else values are literal."""
    return all(key in tags and value in ("*", tags[key]) for key, value in wanted.items())


@dataclass(frozen=True, slots=True)
class PodRoutesConf:
    """The configured pod routes. ``source_routing``: True for a free table, a table's number, or False."""

    to: tuple[Network, ...] = ANY_DESTINATION
    gateways: tuple[Address, ...] = ()
    source_routing: bool | int = True
    mtu: int | None = None

    def gateway(self, version: int) -> Address | None:
        """Return the configured next hop of this family; None: the VPC router."""
        return next((gateway for gateway in self.gateways if gateway.version == version), None)

    @property
    def table(self) -> int | None:
        """The routing table that is configured by number (which may be 1, and 1 == True)."""
        return None if isinstance(self.source_routing, bool) else self.source_routing

    def document(self) -> dict[str, Any]:
        """Return these routes as written in the configuration."""
        return {
            "to": [str(network) for network in self.to],
            "gateway": [str(gateway) for gateway in self.gateways] or "auto",
            "sourceRouting": self.source_routing,
        } | ({"mtu": self.mtu} if self.mtu else {})


@dataclass(frozen=True, slots=True)
class NetConf:
    """What a network asks for. ``pod_routes`` None: none. ``on_delete`` None: the transport's default."""

    cni_version: str
    name: str
    route_tables: RouteTableSelector
    destination: Literal["auto", "address", "subnet"] = "auto"
    extra_destinations: tuple[Network, ...] = ()
    pod_routes: PodRoutesConf | None = PodRoutesConf()
    on_delete: Literal["release", "keep"] | None = None
    watch_addresses: tuple[Network, ...] = ()
    duplicate_address_detection: bool = False
    timeout_seconds: float = TIMEOUT_SECONDS
    activate: Literal["add", "ready"] = "add"
    election: ElectionConf = field(default_factory=ElectionConf)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> NetConf:
        """Return the configuration, or raise UnsupportedField or InvalidConfig with all that is wrong.

        The pods of a network share one parse, because no key that differs between them is read here.
        """
        if isinstance(document, dict):  # else it is refused
            document = {key: value for key, value in document.items() if key not in _unread()}
        config = RecordedConfig(document)
        return _parse(config) if config.is_short else _parse.__wrapped__(config)

    def document(self) -> dict[str, Any]:
        """Return the configuration with every default written out; parsing it gives the same again."""
        raw: dict[str, Any] = {
            "cniVersion": self.cni_version,
            "name": self.name,
            "routeTables": self.route_tables.document(),
            "destination": [str(network) for network in self.extra_destinations] or self.destination,
            "podRoutes": self.pod_routes.document() if self.pod_routes else False,
            "watchAddresses": [str(network) for network in self.watch_addresses],
            "duplicateAddressDetection": self.duplicate_address_detection,
            "timeoutSeconds": self.timeout_seconds,
            "activate": self.activate,
        }
        raw |= {"election": self.election.document()} if self.activate == "ready" else {}
        return raw | ({"onDelete": self.on_delete} if self.on_delete else {})


def conf_of(claim: Claim) -> NetConf:
    """Return the configuration on record of a claim. Raises CniError for one of another release."""
    return _parse(claim.config or RecordedConfig({}))


@lru_cache(maxsize=256)
def _parse(config: RecordedConfig) -> NetConf:
    conf, complaints = examine(config.document)
    if complaints:
        raise strict_json.refusal(complaints)
    return conf


@cache
def _unread() -> frozenset[str]:
    """Return the keys that are accepted with whatever value: the runtime's, and those of other plugins."""
    return frozenset(schemas.load("netconf")["properties"]) - {*OWN_KEYS, "cniVersion", "type"}


def examine(document: Mapping[str, Any]) -> tuple[NetConf, list[Complaint]]:
    """Return the configuration and all complaints. Do not use a configuration with complaints."""
    wrong, sound = schemas.examine("netconf", document)
    sound = sound if isinstance(sound, dict) else {}
    own = {key: sound[key] for key in OWN_KEYS if sound.get(key) is not None}
    wrong += strict_json.control_characters(own, ())

    destination = own.get("destination", "auto")
    extra = _networks(destination, ("destination",), wrong) if isinstance(destination, list) else ()
    wrong += _never(extra, ("destination",))
    watched = _networks(own.get("watchAddresses", []), ("watchAddresses",), wrong)
    wrong += _never_watched(watched)
    activate, how = own.get("activate", "add"), ElectionConf.of(own.get("election", {}))
    wrong += election.contradictions(activate, own)
    wrong += election.unfit_group(how.group)
    conf = NetConf(
        cni_version=sound.get("cniVersion") or "0.1.0",
        name=sound.get("name") or "",
        route_tables=RouteTableSelector.of(own.get("routeTables", {})),
        destination="auto" if isinstance(destination, list) else destination,
        extra_destinations=_unique(extra),
        pod_routes=_pod_routes(own.get("podRoutes", {}), wrong),
        on_delete=own.get("onDelete"),
        watch_addresses=_unique(watched),
        duplicate_address_detection=own.get("duplicateAddressDetection", False),
        timeout_seconds=own.get("timeoutSeconds", TIMEOUT_SECONDS),
        activate=activate,
        election=how,
    )
    return conf, sorted(wrong, key=str)


OWN_KEYS = (
    "name",
    "routeTables",
    "destination",
    "podRoutes",
    "onDelete",
    "watchAddresses",
    "duplicateAddressDetection",
    "timeoutSeconds",
    "activate",
    "election",
)


def _pod_routes(raw: Mapping[str, Any] | bool, wrong: list[Complaint]) -> PodRoutesConf | None:
    if isinstance(raw, bool):
        if raw:
            wrong.append(
                Complaint(("podRoutes",), "true has no meaning; leave the key out, or write false for none")
            )
        return None
    given = {key: value for key, value in raw.items() if value is not None}
    to = _networks(given["to"], ("podRoutes", "to"), wrong) if "to" in given else ANY_DESTINATION
    source_routing = given.get("sourceRouting", True)
    if "to" in given or "to" not in raw:  # else what was written is refused already
        wrong += _destinations_of_the_pod(to, source_routing)
    if not isinstance(source_routing, bool) and source_routing in KERNEL_TABLES:
        text = f"table {source_routing} is one of the kernel's own (0, 253, 254, 255); write another, or true"
        wrong.append(Complaint(("podRoutes", "sourceRouting"), text))
    return PodRoutesConf(
        to=_unique(to),
        gateways=_gateways(given.get("gateway", "auto"), wrong),
        source_routing=source_routing if isinstance(source_routing, bool) else int(source_routing),
        mtu=int(given["mtu"]) if "mtu" in given else None,
    )


def _destinations_of_the_pod(to: tuple[Network | None, ...], source_routing: bool | int) -> list[Complaint]:
    if to is ANY_DESTINATION and source_routing is False:
        text = f"without to it means 0.0.0.0/0 and ::/0, which {REPLACES_DEFAULT}"
        return [Complaint(("podRoutes",), text)]
    reasons = [
        (index, _unfit_destination(network, source_routing)) for index, network in enumerate(to) if network
    ]
    return [Complaint(("podRoutes", "to", index), reason) for index, reason in reasons if reason]


def _unfit_destination(network: Network, source_routing: bool | int) -> str | None:
    if any(cidr.within(network, metadata) for metadata in METADATA_NETWORKS):
        return f"{network} holds instance metadata; no floating interface reaches it"
    inside = [metadata for metadata in METADATA_NETWORKS if cidr.within(metadata, network)]
    if inside and source_routing is False and network.prefixlen:
        return (
            f"{network} contains {inside[0]}, instance metadata; name smaller networks, or use sourceRouting"
        )
    if network.prefixlen == 0:
        return f"{network} {REPLACES_DEFAULT}" if source_routing is False else None
    if network.is_loopback or (network.version == 6 and network.is_link_local):
        return f"{cidr.never(network)}: not reached through a gateway"
    return None


def _gateways(raw: str | list[str | None], wrong: list[Complaint]) -> tuple[Address, ...]:
    if raw == "auto":
        return ()
    at: Path = ("podRoutes", "gateway")
    texts: list[tuple[Path, str | None]] = (
        [(at, raw)] if isinstance(raw, str) else [((*at, index), text) for index, text in enumerate(raw)]
    )
    addresses: list[Address] = []
    for path, text in texts:
        if text is None:
            continue
        complaint: str | None = None
        try:
            address = ip_address(text)
        except ValueError:
            complaint = f'"{short(text)}" is neither "auto" nor an IP address'
        else:
            complaint = _unfit_gateway(address)
            if not complaint and any(other.version == address.version for other in addresses):
                complaint = (
                    f"{short(text)} is a second IPv{address.version} gateway; at most one for each family"
                )
            addresses.append(address)
        if complaint:
            wrong.append(Complaint(path, complaint))
    return tuple(sorted(addresses, key=lambda address: address.version))


def _unfit_gateway(address: Address) -> str | None:
    if address.version == 6 and address.is_link_local:
        return f"{short(address)} names an interface; write the address alone" if address.scope_id else None
    reason = cidr.never_address(address)
    return f"{reason}: not a gateway" if reason else None


def _networks(raw: list[str | None], path: Path, wrong: list[Complaint]) -> tuple[Network | None, ...]:
    """Return one network (or None, with a complaint) for each item, in order."""
    networks: list[Network | None] = []
    for index, text in enumerate(raw):
        try:
            networks.append(None if text is None else cidr.parse(text))
        except ValueError as e:
            wrong.append(Complaint((*path, index), str(e)))
            networks.append(None)
    return tuple(networks)


def _never(networks: tuple[Network | None, ...], path: Path) -> list[Complaint]:
    reasons = [(index, cidr.never(network)) for index, network in enumerate(networks) if network]
    return [
        Complaint((*path, index), f"{reason}: never a destination") for index, reason in reasons if reason
    ]


def _never_watched(networks: tuple[Network | None, ...]) -> list[Complaint]:
    """A wide range is fine, because policy narrows it; one without possible addresses is a mistake."""
    return [
        Complaint(("watchAddresses", index), f"{cidr.never(network)}: its addresses are never claimed")
        for index, network in enumerate(networks)
        if network and any(cidr.within(network, range_) for _, range_ in cidr.NEVER)
    ]


def _unique(items: Any) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(item for item in items if item is not None))
