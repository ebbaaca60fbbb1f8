"""``floatipctl validate``: every complaint with its place, a warning for every surprise."""

import io
import json
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip import cli
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.validate.report import examine, node_conf

IPVLAN: dict[str, Any] = {
    "type": "ipvlan",
    "master": "eth1",
    "ipam": {"type": "static", "addresses": [{"address": "192.168.0.2/32"}]},
}
NO_MODE = (
    "what ipvlan makes is ipvlan in mode {}, which cannot carry a floating IP: "
    'use "mode": "l2" in the ipvlan configuration'
)
IS_PRIMARY = (
    "is the primary ENI, which carries the node's own traffic: "
    'use another ENI as "master" of ipvlan or "device" of host-device'
)
FLOATIP: dict[str, Any] = {"type": "floatip", "routeTables": {"tags": {"floatip": "core"}}}
TUNING: dict[str, Any] = {"type": "tuning", "sysctl": {"net.ipv6.conf.IFNAME.accept_ra": "0"}}


def conflist(*plugins: Any, **output: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "vip", "plugins": list(plugins or (IPVLAN, FLOATIP))} | output


def ipvlan(*addresses: str, **output: Any) -> dict[str, Any]:
    return (
        IPVLAN | {"ipam": {"type": "static", "addresses": [{"address": text} for text in addresses]}} | output
    )


def ipam(**output: Any) -> dict[str, Any]:
    return IPVLAN | {"ipam": output}


def said_about(document: Any, **options: Any) -> list[str]:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return [str(finding) for finding in examine("f", text, **options).findings]


def test_a_sound_chain() -> None:
    report = examine("f", json.dumps(conflist()).encode())
    assert (report.judged, report.ignored, report.findings) == ([""], [], [])


CONTROL_CHARACTER = (
    "f: the file: not YAML: unacceptable character #x0001: special characters are not allowed\n"
    '  in "<unicode string>", position 3'
)

ERRORS = [
    pytest.param(
        conflist(IPVLAN, FLOATIP | {"podRoutes": {"to": ["10.9.0.1/24"]}}),
        ["f: $.plugins[1].podRoutes.to[0]: 10.9.0.1/24 has host bits set; write 10.9.0.0/24"],
        id="complaint-of-the-entry-with-the-place-in-the-chain",
    ),
    pytest.param(
        conflist(IPVLAN, FLOATIP | {"routeTable": 1, "destination": "x"}),
        [
            'f: $.plugins[1].destination: "x" is not "auto", "address", "subnet" or a list of CIDRs',
            'f: $.plugins[1].routeTable: unknown key "routeTable" with value 1; did you mean routeTables?',
        ],
        id="C08-C09-all-of-them",
    ),
    pytest.param(
        {"cniVersion": "1.0.0", "plugins": [IPVLAN, FLOATIP]},
        ['f: $.name: missing, for example "vip"'],
        id="C03-no-name",
    ),
    pytest.param(
        {"name": "vip", "plugins": [IPVLAN, FLOATIP]},
        ["f: $.cniVersion: missing, which means 0.1.0; floatip supports 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"],
        id="C04-no-version",
    ),
    pytest.param(
        conflist(cniVersion="0.2.0"),
        ['f: $.cniVersion: "0.2.0"; floatip supports 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0'],
        id="C05-version",
    ),
    pytest.param(
        conflist(cniVersion="4.4.x"),
        ['f: $.cniVersion: "4.4.x"; floatip supports 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0'],
        id="C06-version",
    ),
    pytest.param(
        conflist(FLOATIP),
        ["f: $.plugins[0]: floatip needs a plugin before it that makes the interface: ipvlan or host-device"],
        id="nothing-before-it",
    ),
    pytest.param(
        conflist(IPVLAN, FLOATIP, FLOATIP), ["f: $.plugins[2]: floatip is there twice"], id="floatip-twice"
    ),
    *(
        pytest.param(
            conflist(IPVLAN | {"mode": mode}, FLOATIP),
            [f"f: $.plugins[0].mode: {NO_MODE.format(mode)}"],
            id=f"ipvlan-{mode}",
        )
        for mode in ("l3", "l3s")
    ),
    pytest.param(
        conflist(ipam(), FLOATIP),
        ["f: $.plugins[0].ipam: missing: the interface gets no address that could float"],
        id="no-ipam",
    ),
    pytest.param(
        conflist(IPVLAN | {"type": "tap"}, FLOATIP),
        [
            (
                "f: $.plugins[0]: what tap makes has no ENI of this instance behind it: use ipvlan with an "
                'ENI as "master", or host-device'
            )
        ],
        id="no-eni",
    ),
    pytest.param(
        conflist(IPVLAN | {"master": ""}, FLOATIP),
        [f"f: $.plugins[0]: what ipvlan takes without master {IS_PRIMARY}"],
        id="no-master",
    ),
    pytest.param(
        conflist(ipam(type="dhcp"), FLOATIP),
        [
            (
                "f: $.plugins[0].ipam.type: the VPC's DHCP gives the ENI's own address, which lies in a "
                "subnet with interfaces and never floats; use static"
            )
        ],
        id="dhcp",
    ),
    pytest.param(
        conflist(ipam(type="whereabouts", range="192.168.0.0-24"), FLOATIP),
        [
            (
                'f: $.plugins[0].ipam.range: "192.168.0.0-24" is not a range like 192.168.0.0/28; '
                "whereabouts refuses it"
            )
        ],
        id="whereabouts-no-range",
    ),
    pytest.param(
        conflist(ipam(type="whereabouts", range="192.168.0.0/24", range_start="10.0.0.1"), FLOATIP),
        [
            (
                "f: $.plugins[0].ipam.range: 10.0.0.1 to 192.168.0.254 is no range of 192.168.0.0/24; "
                "whereabouts "
                "gives no address of it"
            )
        ],
        id="whereabouts-start-elsewhere",
    ),
    pytest.param(
        conflist(IPVLAN, {"sysctl": {}}, FLOATIP),
        ["f: $.plugins[1].type: missing: no plugin is run without one"],
        id="a-plugin-without-type",
    ),
    pytest.param(
        conflist(IPVLAN, {"type": "/opt/cni/bin/tuning"}, FLOATIP),
        ['f: $.plugins[1].type: "/opt/cni/bin/tuning" is not the name of a plugin; write it without a path'],
        id="a-plugin-by-path",
    ),
    pytest.param(
        conflist(IPVLAN, FLOATIP, {"type": "CNI-FloatIP"}),
        [
            'f: $.plugins[2].type: "CNI-FloatIP" is not what cni-floatip installs; write floatip',
            (
                "f: $.plugins[2]: warning: CNI-FloatIP comes after floatip and may undo its routes; put "
                "floatip last"
            ),
        ],
        id="our-name-in-other-letters",
    ),
    pytest.param(
        conflist(IPVLAN, FLOATIP | {"type": "FloatIP"}),
        ['f: $.plugins[1].type: "FloatIP" is not what cni-floatip installs; write floatip'],
        id="our-only-entry-in-other-letters",
    ),
    pytest.param(
        conflist(IPVLAN, {"routeTables": {"all": True}}),
        ["f: $.plugins[1].type: null is not what cni-floatip installs; write floatip"],
        id="our-entry-without-type",
    ),
    pytest.param(
        conflist(ipam(type="static", addresses=[{"address": f"239.0.0.{n}/32"} for n in range(60)]), FLOATIP),
        [
            *sorted(
                f"f: $.plugins[0].ipam.addresses[{n}].address: 239.0.0.{n} is multicast: never a floating "
                "address"
                for n in range(60)
            )[:50],
            "f: 10 more",
        ],
        id="more-than-one-would-read",
    ),
    pytest.param(conflist(plugins=[]), [], id="no-plugins-is-not-ours"),
    pytest.param(conflist(plugins="floatip"), ["f: $.plugins: not a list of objects"], id="plugins-no-list"),
    pytest.param(
        b'{"name": "a", "name": "b", "plugins": []}',
        ["f: the file: $.name: the key is there more than once"],
        id="C15-duplicate-key",
    ),
    pytest.param(
        b'{"name": }', ["f: the file: line 1 column 10: not JSON: Expecting value"], id="C01-not-json"
    ),
    pytest.param(
        b"name: a\nname: b\n",
        ["f: the file: line 2 column 1: not YAML: the key name is there more than once"],
        id="C15-duplicate-key-in-yaml",
    ),
    pytest.param(
        b"name: [\n",
        [
            "f: the file: line 2 column 1: not YAML: expected the node content, but found '<stream end>'",
        ],
        id="not-yaml",
    ),
    pytest.param(
        b"metadata:\n  name: {{ .Release.Name }}\n",
        ["f: the file: line 2 column 10: not YAML: found unhashable key"],
        id="a-template-of-helm",
    ),
    pytest.param(
        b"2024-01-01: a\n",
        [
            (
                "f: the file: YAML that JSON has no words for: "
                "keys must be str, int, float, bool or None, not datetime.date"
            )
        ],
        id="yaml-with-a-date-for-a-key",
    ),
    pytest.param(
        b"&a [*a]\n",
        ["f: the file: YAML that JSON has no words for: Circular reference detected"],
        id="yaml-that-holds-itself",
    ),
    pytest.param(b"a: \xff", ["f: the file: not UTF-8"], id="C14-yaml-in-latin-1"),
    pytest.param(b"a: \x01", [CONTROL_CHARACTER], id="yaml-with-a-control-character"),
    pytest.param(b"", ["f: the file is empty"], id="empty"),
    pytest.param(
        {"hello": 1},
        ["f: no NetworkAttachmentDefinition, conflist, plugin entry or node configuration: try --kind"],
        id="unknown-document",
    ),
    pytest.param(
        b"hello",
        ["f: no NetworkAttachmentDefinition, conflist, plugin entry or node configuration: not an object"],
        id="text",
    ),
    pytest.param(
        FLOATIP | {"podRoutes": {"mtu": 1}, "cniVersion": "9.9.9"},
        [
            'f: $.cniVersion: "9.9.9"; floatip supports 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0',
            "f: $.podRoutes.mtu: 1 is less than 1280",
        ],
        id="plugin-entry",
    ),
    pytest.param(
        {"allowedDestinations": [{"cidr": "10.0.0.1/8"}], "allowedRouteTables": {"ids": ["rtb-1"]}},
        ["f: $.allowedDestinations[0].cidr: 10.0.0.1/8 has host bits set; write 10.0.0.0/8"],
        id="node-configuration",
    ),
]


@pytest.mark.parametrize(("document", "said"), ERRORS)
def test_errors_of_a_chain(document: Any, said: list[str]) -> None:
    assert said_about(document) == said


WARNINGS = [
    pytest.param(
        conflist(ipvlan("192.168.0.2/29"), FLOATIP | {"destination": "address"}),
        "$.plugins[0].ipam.addresses[0].address",
        "192.168.0.2/29: write /32; the VPC knows no /29 "
        "around the address, and ADD removes its connected route",
        id="short-prefix",
    ),
    pytest.param(
        conflist(ipvlan("192.168.0.2/32", "192.168.0.3/29"), FLOATIP),
        "$.plugins[0].ipam.addresses[1].address",
        "192.168.0.3/29: if this is outside every VPC CIDR, write /32 (--vpc-cidr tells); "
        "the VPC knows no /29 around the address, and ADD removes its connected route",
        id="short-prefix-of-unknown-pattern",
    ),
    pytest.param(
        conflist(ipvlan("2001:db8::2/64"), TUNING, FLOATIP | {"destination": "address"}),
        "$.plugins[0].ipam.addresses[0].address",
        "2001:db8::2/64: write /128; the VPC knows no /64 "
        "around the address, and ADD removes its connected route",
        id="short-prefix-v6",
    ),
    pytest.param(
        conflist(ipam(type="host-local", subnet="10.10.254.0/28"), FLOATIP | {"destination": "subnet"}),
        "$.plugins[0].ipam.subnet",
        "host-local counts on each node by itself: of 14 addresses two nodes give away the same one",
        id="host-local",
    ),
    pytest.param(
        conflist(
            ipam(
                type="host-local",
                ranges=[
                    [{"subnet": "10.10.254.0/28", "rangeStart": "10.10.254.4", "rangeEnd": "10.10.254.5"}]
                ],
            ),
            FLOATIP | {"destination": "subnet"},
        ),
        "$.plugins[0].ipam.ranges[0][0].subnet",
        "host-local counts on each node by itself: of 2 addresses two nodes give away the same one",
        id="host-local-ranges",
    ),
    pytest.param(
        conflist(
            ipam(type="whereabouts", range="192.168.0.4-192.168.0.6/28"), FLOATIP | {"destination": "subnet"}
        ),
        "$.plugins[0].ipam.range",
        "one of 3 addresses: whereabouts keeps the address for a dead node until it is cleaned up, and a pod "
        "that moves gets another one; static needs no allocation",
        id="whereabouts",
    ),
    pytest.param(
        conflist(
            ipam(type="whereabouts", ipRanges=[{"range": "192.168.0.0/28", "range_end": "192.168.0.2"}]),
            FLOATIP | {"destination": "subnet"},
        ),
        "$.plugins[0].ipam.ipRanges[0].range",
        "one of 2 addresses: whereabouts keeps the address for a dead node until it is cleaned up, and a pod "
        "that moves gets another one; static needs no allocation",
        id="whereabouts-ranges",
    ),
    pytest.param(
        conflist(cniVersion="0.3.1"),
        "$.cniVersion",
        "with 0.3.1 a DEL gets no result of the ADD, and there is no CHECK; write 1.0.0",
        id="old-version",
    ),
    pytest.param(
        conflist(IPVLAN | {"type": "macvlan", "mode": "passthru"}, FLOATIP),
        "$.plugins[0]",
        "macvlan in mode passthru takes the ENI for one pod, as a stand-in for ipvlan in a test: "
        "use ipvlan in mode l2, or host-device",
        id="macvlan",
    ),
    pytest.param(
        conflist(
            ipam(
                type="host-local",
                subnet="192.168.0.0/29",
                rangeStart="192.168.0.2",
                rangeEnd="192.168.0.2",
            ),
            FLOATIP | {"destination": "subnet"},
        ),
        "$.plugins[0].ipam.subnet",
        "host-local with one address: a crashed node keeps its reservation, and no pod there gets the "
        "address; "
        "write static",
        id="host-local-with-one-address",
    ),
    pytest.param(
        conflist(
            ipam(
                type="whereabouts",
                range="192.168.0.0/24",
                range_start="192.168.0.2",
                range_end="192.168.0.2",
            ),
            FLOATIP | {"destination": "subnet"},
        ),
        "$.plugins[0].ipam.range",
        "whereabouts keeps the address for a dead node until it is cleaned up, and the pod that takes over "
        "gets "
        "none; static needs no allocation",
        id="whereabouts-with-one-address",
    ),
    pytest.param(
        conflist(ipam(type="static", routes=[]), FLOATIP),
        "$.plugins[0].ipam.addresses",
        "missing: only a pod whose annotation has an address in cni-args starts; write addresses, or "
        '"capabilities": {"ips": true}',
        id="static-without-addresses",
    ),
    pytest.param(
        conflist(
            ipam(
                type="static",
                addresses=[{"address": "192.168.0.3/29", "gateway": "192.168.0.1"}],
                routes=[{"dst": "10.99.0.0/16"}],
            ),
            FLOATIP | {"destination": "subnet"},
        ),
        "$.plugins[0].ipam.routes[0]",
        "the route to 10.99.0.0/16 through 192.168.0.1 is put into the pod's main table, and leads "
        "nowhere: no "
        "VPC subnet has that gateway; write podRoutes.to in the floatip entry instead",
        id="route-through-a-gateway-that-is-none",
    ),
    pytest.param(
        conflist(ipam(**IPVLAN["ipam"], routes=[{"dst": "10.99.0.0/16"}]), FLOATIP),
        "$.plugins[0].ipam.routes[0]",
        "the route to 10.99.0.0/16 leads onto the link, where the VPC answers for nobody; write podRoutes.to "
        "in the floatip entry instead",
        id="route-onto-the-link",
    ),
    pytest.param(
        conflist(
            IPVLAN
            | {"capabilities": {"ips": True}}
            | {"ipam": {**IPVLAN["ipam"], "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.1.1"}]}},
            FLOATIP,
        ),
        "$.plugins[0].ipam.routes[0]",
        "the route to 0.0.0.0/0 through 10.10.1.1 is put into the pod's main table, and leads nowhere: no "
        "VPC "
        "subnet has that gateway; write podRoutes.to in the floatip entry instead",
        id="route-through-what-a-pod's-own-prefix-may-hold",
    ),
    pytest.param(
        conflist(
            ipam(type="static", addresses=[{"address": "2001:db8::2/128", "gateway": "fe80:ec2::1"}]),
            TUNING,
            FLOATIP,
        ),
        "$.plugins[0].ipam.addresses[0].address",
        "with the gateway fe80:ec2::1 the plugin waits for duplicate address detection itself, up to 10 s; "
        "leave the gateway out",
        id="an-ipv6-gateway-that-nobody-needs",
    ),
    pytest.param(
        conflist(IPVLAN | {"master": "eth0"}, FLOATIP),
        "$.plugins[0].master",
        f"eth0, on most nodes, {IS_PRIMARY}",
        id="master-that-is-primary",
    ),
    pytest.param(
        conflist({"type": "host-device", "device": "ens5", "ipam": IPVLAN["ipam"]}, FLOATIP),
        "$.plugins[0].device",
        f"ens5, on most nodes, {IS_PRIMARY}",
        id="device-that-is-primary",
    ),
    pytest.param(
        conflist(IPVLAN, {"type": "vrf", "vrfname": "red"}, FLOATIP),
        "$.plugins[1]",
        "vrf takes the interface's routes into a table of its own, beside floatip's rules: take it out; "
        "podRoutes.sourceRouting is the default",
        id="vrf",
    ),
    pytest.param(
        conflist(IPVLAN, {"type": "route-override", "addroutes": [{"dst": "10.0.0.0/8"}]}, FLOATIP),
        "$.plugins[1].addroutes",
        "changes the pod's main table, which floatip leaves to the cluster's network; write podRoutes.to in "
        "the floatip entry instead",
        id="route-override",
    ),
    pytest.param(
        conflist(IPVLAN, {"type": "tuning", "mac": "02:00:00:00:00:01"}, FLOATIP),
        "$.plugins[1].mac",
        "EC2 drops frames whose MAC is not the ENI's: take it out",
        id="tuning-a-mac",
    ),
    pytest.param(
        conflist(IPVLAN, FLOATIP | {"destination": ["100.64.8.0/22"]}),
        "$.plugins[1].destination[0]",
        "behind ipvlan no pool: of 100.64.8.0/22 only addresses arrive that are on the interface itself; use "
        "host-device",
        id="a-pool-behind-ipvlan",
    ),
    pytest.param(
        conflist(
            {"type": "host-device", "device": "eth1", "ipam": IPVLAN["ipam"]},
            FLOATIP | {"destination": ["2001:db8:64::/56"]},
        ),
        "$.plugins[1].destination[0]",
        "the interface has no IPv6 address, so what comes from 2001:db8:64::/56 leaves through the cluster's "
        "network",
        id="a-pool-of-a-family-without-address",
    ),
    pytest.param(
        conflist(
            IPVLAN
            | {"capabilities": {"ips": True}}
            | {"ipam": {"type": "static", "addresses": [{"address": "127.0.0.2/32"}]}},
            FLOATIP,
        ),
        "$.plugins[0].ipam.addresses[0].address",
        "for a pod that names no address: 127.0.0.2 is loopback: never a floating address",
        id="never-but-a-pod-may-bring-another",
    ),
    pytest.param(
        conflist(IPVLAN | {"capabilities": {"ips": True}, "mtu": 1279}, FLOATIP),
        "$.plugins[0].mtu",
        "with 1279 a pod that brings an IPv6 address is refused: below 1280 the kernel has no IPv6 on a link",
        id="a-pod-may-bring-ipv6-to-a-small-mtu",
    ),
    pytest.param(
        conflist(ipvlan("::ffff:192.168.0.2/128"), FLOATIP),
        "$.plugins[0].ipam.addresses[0].address",
        "static makes 192.168.0.2/32 of ::ffff:192.168.0.2/128; write 192.168.0.2/32",
        id="ipv4-mapped",
    ),
    pytest.param(
        conflist(IPVLAN, FLOATIP, {"type": "sbr"}),
        "$.plugins[2]",
        "sbr comes after floatip and may undo its routes; put floatip last",
        id="not-last",
    ),
    pytest.param(
        conflist(ipvlan("2001:db8::2/128"), FLOATIP),
        "$.plugins[1]",
        "IPv6 without tuning net.ipv6.conf.IFNAME.accept_ra=0 before floatip: router "
        "advertisements may give the pod a second default route",
        id="accept-ra",
    ),
    pytest.param(
        conflist(IPVLAN, FLOATIP | {"podRoutes": {"to": ["10.0.0.0/8", "2001:db8::/32"]}}),
        "$.plugins[1].podRoutes.to[1]",
        "2001:db8::/32 is passed over: the interface has no IPv6 address",
        id="to-of-a-family-without-address",
    ),
    pytest.param(
        conflist(IPVLAN, FLOATIP | {"podRoutes": {"gateway": "fe80:ec2::1"}}),
        "$.plugins[1].podRoutes.gateway",
        "fe80:ec2::1 is not used: the interface has no IPv6 address",
        id="gateway-of-a-family-without-address",
    ),
    pytest.param(
        conflist(IPVLAN, FLOATIP | {"routeTables": {"tags": {"Name": "core-*"}}}),
        "$.plugins[1].routeTables.tags.Name",
        '"core-*" is taken literally; only * alone stands for any value',
        id="star-inside-a-tag-value",
    ),
    pytest.param(
        conflist(IPVLAN, FLOATIP | {"ipam": {"type": "static"}}),
        "$.plugins[1].ipam",
        "not read: addresses come from the plugin before floatip",
        id="ipam-at-the-wrong-plugin",
    ),
    pytest.param(
        {"allowedRouteTables": {"ids": ["rtb-1"]}},
        "$.allowedDestinations",
        "empty: no pod gets a floating IP",
        id="node-nothing-allowed",
    ),
    pytest.param(
        {"allowedDestinations": [{"cidr": "10.0.0.0/8"}]},
        "$.allowedRouteTables",
        "empty: no route table may be written",
        id="node-no-tables",
    ),
    pytest.param(
        {"allowedDestinations": [{"cidr": "0.0.0.0/0"}], "allowedRouteTables": {"ids": ["rtb-1"]}},
        "$.allowedDestinations[0].cidr",
        "0.0.0.0/0 allows every address of the family, also others' ones on-premises",
        id="node-everything-allowed",
    ),
]


@pytest.mark.parametrize(("document", "path", "said"), WARNINGS)
def test_warnings_of_a_chain(document: Any, path: str, said: str) -> None:
    report = examine("f", json.dumps(document).encode())
    assert [str(finding) for finding in report.findings] == [f"f: {path}: warning: {said}"]
    assert report.errors == 0


SILENT = [
    pytest.param(
        conflist(ipvlan("10.10.254.2/28"), FLOATIP | {"destination": "subnet"}), id="pattern-2-prefix"
    ),
    pytest.param(
        conflist(ipvlan("192.168.0.2/32", "2001:db8::2/128"), TUNING, FLOATIP), id="dual-stack-with-tuning"
    ),
    pytest.param(
        conflist(
            ipvlan("2001:db8::2/128"),
            {"type": "tuning", "sysctl": {"net/ipv6/conf/net1/accept_ra": "0"}},
            FLOATIP,
        ),
        id="tuning-with-slashes",
    ),
    pytest.param(
        conflist(
            {"type": "ipvlan", "master": "eth1", "capabilities": {"ips": True}, "ipam": {"type": "static"}},
            FLOATIP | {"podRoutes": {"to": ["2001:db8::/32"]}},
        ),
        id="addresses-brought-by-the-pod",
    ),
    pytest.param(conflist(ipam(type="calico-ipam"), FLOATIP), id="unknown-ipam"),
    pytest.param(conflist(ipam(**IPVLAN["ipam"], routes=[]), FLOATIP), id="no-routes"),
    pytest.param(
        conflist({"type": "host-device", "device": "eth1", "ipam": IPVLAN["ipam"]}, FLOATIP), id="host-device"
    ),
]


@pytest.mark.parametrize("document", SILENT)
def test_nothing_to_say(document: Any) -> None:
    assert said_about(document) == []


SHORT = (
    "f: {path}: warning: 192.168.0.2/29: write /32; the VPC knows no /29 around the address, "
    "and ADD removes its connected route"
)


@pytest.mark.parametrize(
    ("address", "destination", "said"),
    [
        pytest.param("10.10.254.2/28", "auto", [], id="pattern-2"),
        pytest.param("192.168.0.2/32", "auto", [], id="pattern-1"),
        pytest.param(
            "192.168.0.2/29",
            "auto",
            [SHORT.format(path="$.plugins[0].ipam.addresses[0].address")],
            id="pattern-1-short",
        ),
        pytest.param(
            "10.10.254.2/28",
            "address",
            ["f: $.plugins[1].destination: 10.10.254.2 is inside the VPC: whole subnets only; use auto"],
            id="host-route-inside-the-vpc",
        ),
        pytest.param(
            "192.168.0.2/32",
            "subnet",
            ["f: $.plugins[1].destination: 192.168.0.2 is in no subnet of the VPC; use auto"],
            id="subnet-outside-the-vpc",
        ),
    ],
)
def test_the_vpcs_cidrs_tell_the_patterns_apart(address: str, destination: str, said: list[str]) -> None:
    document = conflist(ipvlan(address), FLOATIP | {"destination": destination})
    assert said_about(document, vpc_cidrs=[ip_network("10.10.0.0/16")]) == said


MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: vip
  namespace: core
spec:
  config: |
    {
      "cniVersion": "1.0.0",
      "plugins": [
        {"type": "ipvlan", "master": "eth1",
         "ipam": {"type": "static", "addresses": [{"address": "192.168.0.2/32"}]}},
        {"type": "floatip", "routeTables": {"all": true}, "podRoutes": {"to": ["10.9.0.1/24"]}}
      ]
    }
---
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: broken}
spec:
  config: '{"plugins": ['
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: alone}
spec: {config: '{"cniVersion": "1.0.0", "type": "floatip", "routeTables": {"all": true}}'}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: other}
spec: {config: '{"cniVersion": "1.0.0", "type": "macvlan"}'}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: on-disk}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: floatip, namespace: kube-system}
data:
  config.json: '{"allowedDestinations": [{"cidr": "10.0.0.1/8"}], "allowedRouteTables": {"ids": ["rtb-1"]}}'
  torn.json: '{"allowedDestinations": ['
  script.sh: echo
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Service, metadata: {name: s}}
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: other}, data: {a: b}}
---
{type: sbr}
"""


def test_a_manifest_of_many_documents() -> None:
    report = examine("nad.yaml", MANIFEST.encode())
    assert [(finding.document, finding.path, finding.text) for finding in report.findings] == [
        (
            "NetworkAttachmentDefinition core/vip",
            "$.plugins[1].podRoutes.to[0]",
            "10.9.0.1/24 has host bits set; write 10.9.0.0/24",
        ),
        (
            "NetworkAttachmentDefinition broken",
            "",
            "spec.config: line 1 column 14: not JSON: Expecting value",
        ),
        (
            "NetworkAttachmentDefinition alone",
            "$",
            "floatip needs a plugin before it that makes the interface: write a chain with plugins",
        ),
        (
            "ConfigMap kube-system/floatip config.json",
            "$.allowedDestinations[0].cidr",
            "10.0.0.1/8 has host bits set; write 10.0.0.0/8",
        ),
        (
            "ConfigMap kube-system/floatip",
            "",
            'data["torn.json"]: line 1 column 26: not JSON: Expecting value',
        ),
    ]
    assert str(report.findings[0]) == (
        "nad.yaml: NetworkAttachmentDefinition core/vip: $.plugins[1].podRoutes.to[0]: "
        "10.9.0.1/24 has host bits set; write 10.9.0.0/24"
    )
    assert report.ignored == [
        "Deployment web",
        "NetworkAttachmentDefinition other (without floatip)",
        "NetworkAttachmentDefinition on-disk (no spec.config: Multus reads a file of the node)",
        "Service s",
        "ConfigMap other",
        "a plugin entry of type sbr",
    ]


def test_the_network_is_named_after_the_definition() -> None:
    nad = {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "vip"},
        "spec": {"config": json.dumps({"cniVersion": "1.0.0", "plugins": [IPVLAN, FLOATIP]})},
    }
    assert said_about(nad) == []


OTHERS = {
    "app.json": json.dumps({"logLevel": "debug", "port": 8080, "roles": ["admin"]}),
    "torn.json": '{"logLevel": "debug", ',
}


def test_another_programs_configuration_is_not_ours() -> None:
    """Level of the log, roles, a directory for data: such keys others have as well."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": OTHERS}
    report = examine("f", json.dumps(config).encode())
    assert (report.findings, report.ignored) == ([], ["ConfigMap app"])


def test_a_list_may_be_empty() -> None:
    """``kubectl get net-attach-def -A -o yaml`` on a cluster without any."""
    report = examine("f", b"apiVersion: v1\nitems: []\nkind: List\n")
    assert (report.findings, report.ignored) == ([], ["an empty list"])


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    status = cli.main(["validate", *argv])
    return status, capsys.readouterr().out


def test_exit_status_and_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, surprising, bad = (tmp_path / name for name in ("good", "surprising", "bad"))
    good.write_text(json.dumps(conflist()))
    surprising.write_text(json.dumps(conflist(ipvlan("192.168.0.3/32"), FLOATIP, cniVersion="0.3.1")))
    bad.write_text(json.dumps(conflist(FLOATIP)))
    assert run(capsys, str(good)) == (0, f"{good}: ok\n")
    status, out = run(capsys, str(good), str(surprising))
    assert (status, out.count("\n"), "warning: " in out) == (0, 2, True)
    status, out = run(capsys, str(good), str(bad), str(tmp_path / "absent"))
    assert status == 1
    assert out.splitlines()[0] == f"{good}: ok"
    assert out.splitlines()[-1] == f"{tmp_path / 'absent'}: cannot be read: No such file or directory"


def test_a_file_with_nothing_of_ours_is_no_error_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "web.yaml"
    file.write_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n")
    assert run(capsys, str(file)) == (0, f"{file}: nothing of floatip in it (Deployment web)\n")


def test_standard_input_and_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps(conflist(IPVLAN | {"mode": "l3"}, FLOATIP, cniVersion="0.3.1")).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    status, out = run(capsys, "--json", "-")
    assert (status, json.loads(out)) == (
        1,
        {
            "files": [
                {
                    "file": "standard input",
                    "documents": [""],
                    "ignored": [],
                    "notJudged": {},
                    "findings": [
                        {
                            "document": "",
                            "path": "$.plugins[0].mode",
                            "severity": "error",
                            "message": NO_MODE.format("l3"),
                        },
                        {
                            "document": "",
                            "path": "$.cniVersion",
                            "severity": "warning",
                            "message": "with 0.3.1 a DEL gets no result of the ADD, and there is no CHECK; "
                            "write 1.0.0",
                        },
                    ],
                }
            ],
            "errors": 1,
        },
    )


def test_kind_and_vpc_cidr_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"allowedDestination": []}')
    status, out = run(capsys, "--kind", "node", str(file))
    assert (status, "did you mean allowedDestinations?" in out) == (1, True)
    file.write_text(json.dumps(conflist(ipvlan("10.10.254.2/28"), FLOATIP)))
    assert run(capsys, "--vpc-cidr", "10.10.0.0/16", str(file)) == (0, f"{file}: ok\n")
    with pytest.raises(SystemExit) as refused:
        run(capsys, "--vpc-cidr", "10.10.0.1/16", str(file))
    assert refused.value.code == 2


WORDS = (
    "ipvlan",
    "host-device",
    "host-local",
    "whereabouts",
    "tuning",
    "::1/64",
    "fe80::1",
    "192.168.0.2/32",
)
KEYS = (
    "subnet",
    "ranges",
    "rangeStart",
    "routes",
    "dst",
    "gw",
    "gateway",
    "exclude",
    "master",
    "mtu",
    "delegates",
)
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["floatip", "static", "10.0.0.1/8", "l3", "x", *WORDS]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "ipam",
                    "addresses",
                    "address",
                    "capabilities",
                    "ips",
                    "sysctl",
                    "range",
                    "mode",
                    *KEYS,
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


POLICY = NodeConf.parse(
    {"allowedDestinations": [{"cidr": "192.168.0.0/24"}], "allowedRouteTables": {"ids": ["rtb-1"]}}
)


@given(
    st.lists(ANY, max_size=3),
    ANY,
    st.sampled_from(["cniVersion", "name", "spec", "metadata", "data", "kind"]),
)
def test_anything_is_judged_without_an_exception(plugins: list[Any], value: Any, key: str) -> None:
    examine("f", json.dumps(conflist(*plugins, FLOATIP) | {key: value}).encode(), policy=POLICY)
    anywhere = dict.fromkeys(("podRoutes", "routeTables", "destination", "watchAddresses"), value)
    examine("f", json.dumps(conflist(*plugins, FLOATIP | anywhere)).encode(), policy=POLICY)
    for kind in ("NetworkAttachmentDefinition", "ConfigMap", "List"):
        document = {"apiVersion": "v1", "kind": kind, "spec": {"config": json.dumps(value)}, key: value}
        text = json.dumps(document | ({"kind": kind} if key == "kind" else {})).encode()
        examine("f", text, policy=POLICY)
        node_conf("f", text)


@given(st.text(max_size=40))
def test_any_text_is_judged_without_an_exception(text: str) -> None:
    examine("f", text.encode(errors="replace"))
    node_conf("f", text.encode(errors="replace"))
