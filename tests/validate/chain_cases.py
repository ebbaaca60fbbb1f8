"""Chains with what ``validate`` says of each, and what the plugins themselves answer to an ADD.

Written for ipvlan. The first of a chain has ``eth1``, an ENI of every node of the lab, for its master.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Plugin = dict[str, Any]

FLOATIP: Plugin = {"type": "floatip", "routeTables": {"tags": {"floatip": "lab"}}}
ADDRESS = "$.plugins[0].ipam.addresses[0].address"
ROUTE = "$.plugins[0].ipam.routes[0]"
SUBNET = "$.plugins[0].ipam.subnet"


@dataclass(frozen=True, slots=True)
class Case:
    """``path`` and ``output``: of validate's error. ``plugin`` and ``answer``: of the ADD that fails."""

    name: str
    plugins: tuple[Plugin, ...]
    path: str
    said: str
    plugin: str
    answer: str

    def __str__(self) -> str:
        return self.name

    @property
    def conflist(self) -> dict[str, Any]:
        return {"cniVersion": "1.0.0", "name": "judged", "plugins": [*self.plugins, FLOATIP]}


def ipvlan(*addresses: Any, **output: Any) -> Plugin:
    given = [
        {"address": item} if isinstance(item, str) else item for item in addresses or ("192.168.0.2/32",)
    ]
    ipam = {"type": "static", "addresses": given}
    return {"type": "ipvlan", "mode": "l2", "master": "eth1", "ipam": ipam} | output


def routed(route: Plugin, *addresses: Any, more: Sequence[Plugin] = ()) -> Plugin:
    plugin = ipvlan(*addresses)
    return plugin | {"ipam": plugin["ipam"] | {"routes": [route, *more]}}


def local(**output: Any) -> Plugin:
    return ipvlan(ipam={"type": "host-local"} | output)


def after(*others: Plugin) -> tuple[Plugin, ...]:
    return (ipvlan(), *others)


REFUSED = [
    Case(
        "mode in capitals", (ipvlan(mode="L2"),), "$.plugins[0].mode", "write l2", "ipvlan", "unknown .* mode"
    ),
    Case("mtu in quotes", (ipvlan(mtu="1500"),), "$.plugins[0].mtu", "whole number", "ipvlan", "unmarshal"),
    Case("mtu of no link", (ipvlan(mtu=65000),), "$.plugins[0].mtu", "at most 9001", "ipvlan", "invalid MTU"),
    Case(
        "mtu below IPv4's", (ipvlan(mtu=67),), "$.plugins[0].mtu", "at least 68", "ipvlan", "invalid argument"
    ),
    Case(
        "mtu below IPv6's",
        (ipvlan("fd00:192:168::2/128", mtu=1279),),
        "$.plugins[0].mtu",
        "below 1280 the kernel has no IPv6",
        "ipvlan",
        "ipv6",
    ),
    Case(
        "mtu of tuning below IPv4's",
        after({"type": "tuning", "mtu": 67}),
        "$.plugins[1].mtu",
        "at least 68",
        "tuning",
        "invalid argument",
    ),
    Case(
        "mtu of tuning below IPv6's",
        (ipvlan("fd00:192:168::2/128"), {"type": "tuning", "mtu": 1279}),
        "$.plugins[1].mtu",
        "below 1280 the kernel has no IPv6",
        "floatip",
        "103",
    ),
    Case(
        "IPv4-mapped address twice",
        (ipvlan("192.168.0.2/32", "::ffff:192.168.0.2/128"),),
        "$.plugins[0].ipam.addresses[1].address",
        "192.168.0.2/32 is there twice",
        "ipvlan",
        "file exists",
    ),
    Case(
        "IPv4-mapped subnet of host-local",
        (local(subnet="::ffff:192.168.0.0/120"),),
        SUBNET,
        "write 192.168.0.0/24",
        "ipvlan",
        "version mismatch",
    ),
    Case(
        "capability in quotes",
        (ipvlan(capabilities={"ips": "true"}),),
        "$.plugins[0].capabilities.ips",
        "true or false",
        "ipvlan",
        "unmarshal",
    ),
    Case(
        "ipam by name alone",
        (ipvlan(ipam="static"),),
        "$.plugins[0].ipam",
        "not an object",
        "ipvlan",
        "unmarshal",
    ),
    Case(
        "addresses as strings",
        (ipvlan(ipam={"type": "static", "addresses": ["192.168.0.2/32"]}),),
        "$.plugins[0].ipam.addresses[0]",
        "is not an object",
        "ipvlan",
        "unmarshal",
    ),
    Case(
        "address without prefix",
        (ipvlan("192.168.0.2"),),
        ADDRESS,
        "no prefix length.*write 192.168.0.2/32",
        "ipvlan",
        "CIDR notation",
    ),
    Case(
        "address with a mask",
        (ipvlan("192.168.0.2/255.255.255.255"),),
        ADDRESS,
        "no prefix length",
        "ipvlan",
        "CIDR notation",
    ),
    Case(
        "address twice",
        (ipvlan("192.168.0.2/32", "192.168.0.2/32"),),
        "$.plugins[0].ipam.addresses[1].address",
        "twice",
        "ipvlan",
        "file exists",
    ),
    Case(
        "IPv6 address with two prefixes",
        (ipvlan("fd00:192:168::2/128", "fd00:192:168::2/64"),),
        "$.plugins[0].ipam.addresses[1].address",
        "fd00:192:168::2 is there twice",
        "ipvlan",
        "file exists",
    ),
    Case(
        "gateway that is none",
        (ipvlan({"address": "192.168.0.2/32", "gateway": "router"}),),
        "$.plugins[0].ipam.addresses[0].gateway",
        "not an IP address",
        "ipvlan",
        "invalid IP",
    ),
    Case(
        "default route of ipam",
        (routed({"dst": "0.0.0.0/0", "gw": "10.10.1.1"}),),
        ROUTE,
        "network is unreachable.*podRoutes.to",
        "ipvlan",
        "network is unreachable",
    ),
    Case(
        "gateway beside the prefix",
        (routed({"dst": "10.99.0.0/16"}, {"address": "192.168.0.3/32", "gateway": "192.168.0.1"}),),
        ROUTE,
        "no address has 192.168.0.1 in its prefix",
        "ipvlan",
        "network is unreachable",
    ),
    Case(
        "IPv6 gateway elsewhere",
        (routed({"dst": "::/0", "gw": "fd01::1"}, "fd00:192:168::2/128"),),
        ROUTE,
        "no address has fd01::1",
        "ipvlan",
        "no route to host",
    ),
    Case(
        "route with host bits",
        (routed({"dst": "10.9.0.1/16"}),),
        ROUTE,
        "write 10.9.0.0/16",
        "ipvlan",
        "invalid argument",
    ),
    Case(
        "route of the other family",
        (routed({"dst": "fd01::/64", "gw": "10.1.1.1"}),),
        ROUTE,
        "no gateway to fd01::/64",
        "ipvlan",
        "same IP family",
    ),
    Case("route without dst", (routed({"gw": "10.1.1.1"}),), ROUTE, "no dst", "ipvlan", "invalid CIDR"),
    Case(
        "route to a word",
        (routed({"dst": "default"}),),
        f"{ROUTE}.dst",
        "prefix length",
        "ipvlan",
        "invalid CIDR",
    ),
    Case(
        "host-local, one address", (local(subnet="192.168.0.2/32"),), SUBNET, "static", "ipvlan", "too small"
    ),
    Case(
        "host-local, host bits",
        (local(subnet="192.168.0.2/29"),),
        SUBNET,
        "write 192.168.0.0/29",
        "ipvlan",
        "host bits set",
    ),
    Case(
        "host-local, the gateway alone",
        (local(subnet="192.168.0.0/29", rangeStart="192.168.0.1", rangeEnd="192.168.0.1"),),
        SUBNET,
        "no address is left",
        "ipvlan",
        "no IP addresses available",
    ),
    Case(
        "host-local, end before start",
        (local(subnet="192.168.0.0/29", rangeStart="192.168.0.4", rangeEnd="192.168.0.3"),),
        SUBNET,
        "no range",
        "ipvlan",
        "invalid range",
    ),
    Case(
        "host-local, ranges not in sets",
        (local(ranges=[{"subnet": "192.168.0.0/29"}]),),
        "$.plugins[0].ipam.ranges[0]",
        "not a list",
        "ipvlan",
        "unmarshal",
    ),
    Case(
        "host-local, a range without subnet",
        (local(ranges=[[{"rangeStart": "192.168.0.2"}]]),),
        "$.plugins[0].ipam.ranges[0][0].subnet",
        "missing",
        "ipvlan",
        "invalid range set",
    ),
    Case(
        "host-local, an empty set",
        (local(ranges=[[]]),),
        "$.plugins[0].ipam.ranges[0]",
        "empty",
        "ipvlan",
        "empty range set",
    ),
    Case(
        "host-local, two families in a set",
        (local(ranges=[[{"subnet": "192.168.0.0/29"}, {"subnet": "fd00::/64"}]]),),
        "$.plugins[0].ipam.ranges[0][1].subnet",
        "another IP version",
        "ipvlan",
        "mixed address families",
    ),
    Case(
        "host-local, overlapping sets",
        (local(ranges=[[{"subnet": "192.168.0.0/29"}], [{"subnet": "192.168.0.0/28"}]]),),
        "$.plugins[0].ipam.ranges[1][0].subnet",
        "in another range",
        "ipvlan",
        "overlaps",
    ),
    Case("host-local, nothing", (local(),), "$.plugins[0].ipam", "no subnet", "ipvlan", "no IP ranges"),
    Case(
        "link-local address",
        (ipvlan("169.254.169.103/32"),),
        ADDRESS,
        "never a floating address",
        "floatip",
        "102.*never a destination",
    ),
    Case(
        "multicast address",
        (ipvlan("239.1.1.1/32"),),
        ADDRESS,
        "never a floating address",
        "floatip",
        "102.*never a destination",
    ),
    Case("sbr", after({"type": "sbr"}), "$.plugins[1]", "103.*take it out", "floatip", "103.*rule"),
    Case(
        "sysctl as a number",
        after({"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": 1}}),
        '$.plugins[1].sysctl["net.ipv4.conf.IFNAME.arp_filter"]',
        "1 is not a string",
        "tuning",
        "unmarshal",
    ),
    Case(
        "sysctl of the host",
        after({"type": "tuning", "sysctl": {"kernel.pid_max": "9"}}),
        '$.plugins[1].sysctl["kernel.pid_max"]',
        "below net.",
        "tuning",
        "invalid net sysctl",
    ),
    Case(
        "bandwidth",
        after({"type": "bandwidth", "ingressRate": 1000, "ingressBurst": 1000}),
        "$.plugins[1].ingressRate",
        "no veth",
        "bandwidth",
        "no veth peer",
    ),
    Case(
        "tuning first",
        ({"type": "tuning", "sysctl": {}}, ipvlan()),
        "$.plugins[0]",
        "refuses to be the first",
        "tuning",
        "prevResult",
    ),
    Case(
        "sbr first", ({"type": "sbr"}, ipvlan()), "$.plugins[0]", "to be the first", "sbr", "chained plugin"
    ),
    Case(
        "vrf first",
        ({"type": "vrf", "vrfname": "v"}, ipvlan()),
        "$.plugins[0]",
        "to be the first",
        "vrf",
        "prevResult",
    ),
    Case(
        "two interfaces",
        after({"type": "bridge", "bridge": "two", "ipam": ipvlan()["ipam"]}),
        "$.plugins[1]",
        "a second time",
        "bridge",
        "already exists",
    ),
    Case(
        "bridge",
        ({"type": "bridge", "bridge": "no-eni", "ipam": ipvlan()["ipam"]},),
        "$.plugins[0]",
        "no ENI of this instance behind it",
        "floatip",
        "7.*no ENI",
    ),
    Case(
        "macvlan",
        (ipvlan(type="macvlan", mode="bridge"),),
        "$.plugins[0]",
        "EC2 drops frames whose MAC is not the ENI's",
        "floatip",
        "7.*MAC of its own",
    ),
    Case(
        "host-device without a device",
        ({"type": "host-device", "ipam": ipvlan()["ipam"]},),
        "$.plugins[0]",
        "without device",
        "host-device",
        "specify either",
    ),
    Case(
        "no addresses at all",
        ({"type": "host-device", "device": "eth1"},),
        "$.plugins[0].ipam",
        "no address that could float",
        "floatip",
        "7",
    ),
]
"""Every ADD of these fails."""

SAMPLE = ("mode in capitals", "address without prefix", "default route of ipam", "sbr", "multicast address")
"""Those that ``make test`` runs for real, too."""

ACCEPTED: dict[str, tuple[Plugin, ...]] = {
    "the usual": (ipvlan(),),
    "keys in other letters": (
        {
            "type": "ipvlan",
            "Mode": "l2",
            "MASTER": "eth1",
            "IPAM": {"Type": "static", "Addresses": [{"ADDRESS": "192.168.0.2/32"}]},
        },
    ),
    "an empty gateway": (ipvlan({"address": "192.168.0.2/32", "gateway": ""}),),
    "nulls": (ipvlan(mtu=None, dns=None, capabilities=None),),
    "a gateway of the other family": (
        local(subnet="192.168.0.0/29", rangeStart="192.168.0.2", gateway="fd00::1"),
    ),
    "IPv4-mapped address": (ipvlan("::ffff:192.168.0.2/128"),),
    "IPv4-mapped gateway and route": (
        routed(
            {"dst": "::ffff:172.31.0.0/112"},
            {"address": "192.168.0.2/24", "gateway": "::ffff:192.168.0.1"},
        ),
    ),
    "the least mtu of IPv4": (ipvlan(mtu=68),),
    "the least mtu of IPv6": (ipvlan("fd00:192:168::2/128", mtu=1280),),
    "mtu of the master": (ipvlan(mtu=0),),
    "tuning between": after({"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}),
    "bandwidth without rates": after({"type": "bandwidth"}),
    "address by args": (ipvlan(ipam={"type": "static"}, args={"cni": {"ips": ["192.168.0.2/32"]}}),),
    "address with two prefixes": (ipvlan("192.168.0.2/32", "192.168.0.2/24"),),
    "IPv6 route with host bits": (
        routed({"dst": "fd01::1/64", "gw": "fd00:192:168::1"}, "fd00:192:168::2/64"),
    ),
    "IPv6 gateway that a route puts on the link": (
        routed({"dst": "fd09::1/128"}, "fd00:192:168::2/128", more=[{"dst": "fd08::/64", "gw": "fd09::1"}]),
    ),
    "default route over IPv6's own gateway": (
        routed({"dst": "::/0", "gw": "fe80:ec2::1"}, "192.168.0.2/32", "fd00:192:168::2/128"),
    ),
}
"""ADDs of these succeed, and nothing that ``validate`` says is an error."""
