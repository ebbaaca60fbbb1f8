"""Reads JSON as the reference plugins do: keys in any case, every value of one type.

They are written in Go, whose ``encoding/json`` takes ``"Master"`` for ``master`` and refuses a number where
it wants a string. They ignore unknown keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, TypeGuard

from ..config.strict_json import Remark, Step, show
from ..model.cidr import CIDR

Path = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that holds no others: what it is called, and whether a value is one."""

    words: str
    fits: Callable[[Any], bool]


Shape = Leaf | Mapping[str, Any] | list[Any]
"""A Leaf, an object by its keys (``*``: any), or a list of one shape."""


def is_address(value: Any) -> TypeGuard[str]:
    """Whether Go's ``net.ParseIP`` takes ``value``; an empty string is none, and no error."""
    with suppress(ValueError):
        return isinstance(value, str) and "%" not in value and (value == "" or bool(ip_address(value)))
    return False


def is_cidr(value: Any) -> TypeGuard[str]:
    """Whether Go's ``net.ParseCIDR`` takes ``value``: a prefix length, no mask."""
    with suppress(ValueError):
        return isinstance(value, str) and bool(CIDR.fullmatch(value) and ip_network(value, strict=False))
    return False


def as_read(text: str) -> str:
    """Return an address, with or without a prefix length, as the plugins take it: IPv4-mapped IPv6 is IPv4.

    Go's ``net.IP`` does not tell the two apart, and of a prefix length it leaves out the leading 96 bits:
    ``::ffff:192.168.0.2/128`` comes out of ``static`` as ``192.168.0.2/32``, and ``/64`` as ``/0``.
    """
    address, slash, length = text.partition("/")
    mapped = ip_address(address).ipv4_mapped if ":" in address else None  # type: ignore[union-attr]
    if mapped is None:
        return text
    return f"{mapped}/{max(0, int(length) - 96)}" if slash else str(mapped)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


TEXT = Leaf("a string", lambda value: isinstance(value, str))
WHOLE = Leaf("a whole number", _is_whole)
YES_NO = Leaf("true or false", lambda value: isinstance(value, bool))
ADDRESS = Leaf("an IP address", is_address)
NETWORK = Leaf("an address with its prefix length, like 10.0.0.0/8", is_cidr)

DNS = {"nameservers": [TEXT], "domain": TEXT, "search": [TEXT], "options": [TEXT]}
ROUTE = {"dst": NETWORK, "gw": ADDRESS, "mtu": WHOLE, "table": WHOLE, "scope": WHOLE}
RANGE = {"subnet": NETWORK, "rangeStart": ADDRESS, "rangeEnd": ADDRESS, "gateway": ADDRESS}
POOL = {"range": TEXT, "range_start": ADDRESS, "range_end": ADDRESS, "exclude": [NETWORK]}

EVERY_PLUGIN: Mapping[str, Any] = {
    "cniVersion": TEXT,
    "name": TEXT,
    "type": TEXT,
    "capabilities": {"*": YES_NO},
    "ipam": {"type": TEXT},
    "dns": DNS,
}
PLUGINS: Mapping[str, Mapping[str, Any]] = {
    "ipvlan": {"master": TEXT, "mode": TEXT, "mtu": WHOLE},
    "macvlan": {"master": TEXT, "mode": TEXT, "mtu": WHOLE, "mac": TEXT},
    "host-device": {"device": TEXT, "hwaddr": TEXT, "kernelpath": TEXT, "pciBusID": TEXT},
    "tuning": {"sysctl": {"*": TEXT}, "mac": TEXT, "mtu": WHOLE, "promisc": YES_NO, "allmulti": YES_NO},
    "bandwidth": dict.fromkeys(("ingressRate", "ingressBurst", "egressRate", "egressBurst"), WHOLE),
    "sbr": {},
    "vrf": {"vrfname": TEXT, "table": WHOLE},
    "route-override": {
        **dict.fromkeys(("flushroutes", "flushgateway"), YES_NO),
        "addroutes": [ROUTE],
        "delroutes": [ROUTE],
    },
}
IPAMS: Mapping[str, Mapping[str, Any]] = {
    "static": {"addresses": [{"address": TEXT, "gateway": ADDRESS}], "routes": [ROUTE], "dns": DNS},
    "host-local": {**RANGE, "ranges": [[RANGE]], "routes": [ROUTE], "dataDir": TEXT, "resolvConf": TEXT},
    "whereabouts": {**POOL, "ipRanges": [POOL], "gateway": ADDRESS, "routes": [ROUTE]},
}


def plugin(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a plugin with its keys spelled as its documentation has them."""
    plain: dict[str, Any] = _spell(document, EVERY_PLUGIN)
    ipam = plain.get("ipam")
    kind = _text(ipam.get("type")) if isinstance(ipam, dict) else ""
    shape = {**EVERY_PLUGIN, **PLUGINS.get(_text(plain.get("type")), {})}
    spelled: dict[str, Any] = _spell(plain, {**shape, "ipam": {"type": TEXT, **IPAMS.get(kind, {})}})
    return spelled


def find_mistyped(document: Mapping[str, Any], path: Path) -> Iterator[Remark]:
    """Yield every value that ``document``, a plugin's configuration, may not have where it stands."""
    kind, ipam = _text(document.get("type")), document.get("ipam")
    yield from _find_mistyped(document, {**EVERY_PLUGIN, **PLUGINS.get(kind, {})}, path, kind or "libcni")
    if isinstance(ipam, dict):
        kind = _text(ipam.get("type"))
        yield from _find_mistyped(ipam, IPAMS.get(kind, {}), (*path, "ipam"), kind)


def _find_mistyped(value: Any, shape: Shape, path: Path, reader: str) -> Iterator[Remark]:
    if value is None:
        return  # as if it were not there
    if isinstance(shape, Leaf):
        if not shape.fits(value):
            yield Remark(path, f"{show(value)} is not {shape.words}; {reader} refuses it")
    elif isinstance(shape, list):
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from _find_mistyped(item, shape[0], (*path, index), reader)
        else:
            yield Remark(path, f"{show(value)} is not a list; {reader} refuses it")
    elif isinstance(value, dict):
        for key, item in value.items():
            if inner := shape.get(key, shape.get("*")):
                yield from _find_mistyped(item, inner, (*path, key), reader)
    else:
        yield Remark(path, f"{show(value)} is not an object; {reader} refuses it")


def _spell(value: Any, shape: Shape) -> Any:
    if isinstance(value, list) and isinstance(shape, list):
        return [_spell(item, shape[0]) for item in value]
    if not isinstance(value, dict) or not isinstance(shape, Mapping):
        return value
    known: dict[str, str] = {key.casefold(): key for key in shape}
    raw: dict[str, Any] = {}
    for key, item in value.items():
        spelling = known.get(key.casefold())
        name = key if spelling is None or spelling in value else spelling
        raw[name] = _spell(item, shape.get(name, TEXT))
    return raw


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
