"""The network configuration: each refusal with its exact message, and what is accepted as what."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.config import netconf, schemas
from cni_floatip.config.election import ElectionConf
from cni_floatip.config.netconf import NetConf, PodRoutesConf, RouteTableSelector, tags_match
from cni_floatip.model import cidr
from cni_floatip.model.errors import CniError, InvalidConfig, UnsupportedField
from cni_floatip.model.recorded_config import RecordedConfig
from tests.config.json_strategies import like

LEAST: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "vip",
    "type": "floatip",
    "routeTables": {"all": True},
}


def complaints(document: Any) -> list[str]:
    with pytest.raises(InvalidConfig) as refused:
        NetConf.parse(document)
    return refused.value.msg.split(" | ")


def routes(**output: Any) -> dict[str, Any]:
    return LEAST | {"podRoutes": output}


def elected(**output: Any) -> dict[str, Any]:
    return LEAST | {"activate": "ready", "election": output}


REFUSED = [
    pytest.param(
        LEAST | {"routeTables": {}},
        "$.routeTables: {} is empty; write one of ids, tags, subnets, all",
        id="C09-no-selector",
    ),
    pytest.param(
        LEAST | {"routeTables": {"ids": ["rtb-1"], "all": True}},
        "$.routeTables: has ids and all; write exactly one of ids, tags, subnets, all",
        id="C09-two-selectors",
    ),
    pytest.param(
        {"name": "vip"},
        '$.routeTables: missing, for example {"tags": {"floatip": "core"}}',
        id="C09-route-tables-missing",
    ),
    pytest.param(
        LEAST | {"routeTables": {"all": False}}, "$.routeTables.all: false is not true", id="C09-all-false"
    ),
    pytest.param(
        LEAST | {"routeTables": {"all": 1}}, "$.routeTables.all: 1 is not true", id="C09-one-is-not-true"
    ),
    pytest.param(
        LEAST | {"routeTables": {"ids": ["rtb_1"]}},
        '$.routeTables.ids[0]: "rtb_1" is not a route table id such as "rtb-0a1b2c3d4e5f60718"',
        id="C09-table-id",
    ),
    pytest.param(
        LEAST | {"routeTables": {"ids": ["rtb-1\n"]}},
        '$.routeTables.ids[0]: "rtb-1\\n" contains a control character',
        id="C09-table-id-with-newline",
    ),
    pytest.param(
        LEAST | {"routeTables": {"subnets": ["10.0.0.0/24"]}},
        '$.routeTables.subnets[0]: "10.0.0.0/24" is not a subnet id such as "subnet-0a1b2c3d4e5f60718"',
        id="C09-subnet-by-cidr",
    ),
    pytest.param(
        LEAST | {"routeTables": {"tags": {"floatip": True}}},
        "$.routeTables.tags.floatip: true is not a string",
        id="C09-tag-value",
    ),
    pytest.param(
        LEAST | {"routeTables": {"tags": {"": "x"}}}, '$.routeTables.tags[""]: "" is empty', id="C09-tag-key"
    ),
    pytest.param(
        LEAST | {"routeTables": {"tags": {"floatip": "x" * 257}}},
        "$.routeTables.tags.floatip: has 257 characters; at most 256",
        id="C09-long-tag-value",
    ),
    pytest.param(
        {"cniVersion": "1.0.0", "routeTables": {"all": True}},
        '$.name: missing, for example "vip"',
        id="C03-name-missing",
    ),
    pytest.param(LEAST | {"name": "a/b"}, '$.name: "a/b" is not a network name such as "vip"', id="C03-name"),
    pytest.param(
        LEAST | {"name": "vip\n"}, '$.name: "vip\\n" contains a control character', id="C03-name-with-newline"
    ),
    pytest.param(
        LEAST | {"destination": "host"},
        '$.destination: "host" is not "auto", "address", "subnet" or a list of CIDRs',
        id="C09-destination-word",
    ),
    pytest.param(LEAST | {"destination": []}, "$.destination: [] is empty", id="C09-destination-empty"),
    pytest.param(
        LEAST | {"destination": ["10.9.0.1/24"]},
        "$.destination[0]: 10.9.0.1/24 has host bits set; write 10.9.0.0/24",
        id="destination-host-bits",
    ),
    pytest.param(
        LEAST | {"destination": ["10.9.0.1"]},
        "$.destination[0]: 10.9.0.1 has no prefix length; write 10.9.0.1/32",
        id="destination-without-prefix",
    ),
    pytest.param(
        LEAST | {"destination": ["10.9.0.0/255.255.0.0"]},
        "$.destination[0]: 10.9.0.0/255.255.0.0 is not written as address/prefix length; write 10.9.0.0/16",
        id="destination-netmask",
    ),
    pytest.param(
        LEAST | {"destination": ["fe80::%eth0/64"]},
        "$.destination[0]: fe80::%eth0/64 names an interface; write the network alone",
        id="destination-scope",
    ),
    pytest.param(
        LEAST | {"destination": ["vip.example"]},
        '$.destination[0]: "vip.example" is not a CIDR',
        id="destination-name",
    ),
    *(
        pytest.param(
            LEAST | {"destination": [network]},
            f"$.destination[0]: {network} {what}: never a destination",
            id=f"destination-never-{network}",
        )
        for network, what in {
            "0.0.0.0/0": "is the default route",
            "::/0": "is the default route",
            "0.0.0.0/1": "contains 127.0.0.0/8, which is loopback",
            "128.0.0.0/1": "contains 169.254.0.0/16, which is link-local (instance metadata, DNS, time)",
            "fc00::/7": "contains fd00:ec2::/32, which is AWS's own (instance metadata, DNS, time)",
            "127.0.0.1/32": "is loopback",
            "::1/128": "is loopback",
            "169.254.168.0/22": "is link-local (instance metadata, DNS, time)",
            "169.254.169.254/32": "is link-local (instance metadata, DNS, time)",
            "fe80::/64": "is link-local",
            "224.0.0.18/32": "is multicast",
            "ff02::/16": "is multicast",
            "fd00:ec2::254/128": "is AWS's own (instance metadata, DNS, time)",
            "0.0.0.0/32": "is unspecified",
            "::/128": "is unspecified",
        }.items()
    ),
    pytest.param(
        LEAST | {"podRoutes": True},
        "$.podRoutes: true has no meaning; leave the key out, or write false for none",
        id="pod-routes-true",
    ),
    pytest.param(
        LEAST | {"podRoutes": None}, "$.podRoutes: null is not an object or true or false", id="C09-null"
    ),
    pytest.param(
        routes(to=["10.9.0.1/24"]),
        "$.podRoutes.to[0]: 10.9.0.1/24 has host bits set; write 10.9.0.0/24",
        id="to-host-bits",
    ),
    pytest.param(routes(to=[]), "$.podRoutes.to: [] is empty", id="C09-to-empty"),
    pytest.param(
        routes(to=["169.254.169.254/32"]),
        "$.podRoutes.to[0]: 169.254.169.254/32 holds instance metadata; no floating interface reaches it",
        id="to-metadata-v4",
    ),
    pytest.param(
        routes(to=["10.0.0.0/8", "fd00:ec2::/64"]),
        "$.podRoutes.to[1]: fd00:ec2::/64 holds instance metadata; no floating interface reaches it",
        id="to-metadata-v6",
    ),
    pytest.param(
        routes(to=["127.0.0.0/8"]),
        "$.podRoutes.to[0]: 127.0.0.0/8 is loopback: not reached through a gateway",
        id="to-loopback",
    ),
    pytest.param(
        routes(to=["10.0.0.0/8", "0.0.0.0/0"], sourceRouting=False),
        "$.podRoutes.to[1]: 0.0.0.0/0 would replace the pod's cluster default route; use sourceRouting",
        id="default-route-in-main",
    ),
    pytest.param(
        routes(sourceRouting=False),
        "$.podRoutes: without to it means 0.0.0.0/0 and ::/0, which would replace the pod's cluster default "
        "route; use sourceRouting",
        id="default-of-to-in-main",
    ),
    *(
        pytest.param(
            routes(to=["10.0.0.0/8", network], sourceRouting=False),
            f"$.podRoutes.to[1]: {network} contains {metadata}, instance metadata; name smaller networks, "
            "or use sourceRouting",
            id=f"metadata-in-main-{network}",
        )
        for network, metadata in {
            "169.0.0.0/8": "169.254.0.0/16",
            "128.0.0.0/1": "169.254.0.0/16",
            "fd00::/8": "fd00:ec2::/32",
        }.items()
    ),
    pytest.param(
        routes(gateway="10.10.1.1/24"),
        '$.podRoutes.gateway: "10.10.1.1/24" is neither "auto" nor an IP address',
        id="gateway-cidr",
    ),
    pytest.param(
        routes(gateway=["10.10.1.1", "10.10.2.1"]),
        "$.podRoutes.gateway[1]: 10.10.2.1 is a second IPv4 gateway; at most one for each family",
        id="two-gateways-of-one-family",
    ),
    pytest.param(
        routes(gateway="169.254.1.1"),
        "$.podRoutes.gateway: 169.254.1.1 is link-local (instance metadata, DNS, time): not a gateway",
        id="gateway-link-local-v4",
    ),
    pytest.param(
        routes(gateway="0.0.0.0"),
        "$.podRoutes.gateway: 0.0.0.0 is unspecified: not a gateway",
        id="gateway-zero",
    ),
    pytest.param(
        routes(gateway="fe80::1%eth0"),
        "$.podRoutes.gateway: fe80::1%eth0 names an interface; write the address alone",
        id="gateway-scope",
    ),
    *(
        pytest.param(
            routes(sourceRouting=number),
            f"$.podRoutes.sourceRouting: table {number} is one of the kernel's own (0, 253, 254, 255); "
            "write another, or true",
            id=f"table-{number}",
        )
        for number in (253, 254, 255)
    ),
    pytest.param(routes(sourceRouting=0), "$.podRoutes.sourceRouting: 0 is less than 1", id="C09-table-0"),
    pytest.param(
        routes(sourceRouting=2**32),
        "$.podRoutes.sourceRouting: 4294967296 is more than 4294967295",
        id="C09-table-number-too-large",
    ),
    pytest.param(routes(mtu=1279), "$.podRoutes.mtu: 1279 is less than 1280", id="C09-mtu-small"),
    pytest.param(routes(mtu=9002), "$.podRoutes.mtu: 9002 is more than 9001", id="C09-mtu-large"),
    pytest.param(routes(mtu="1500"), '$.podRoutes.mtu: "1500" is not a whole number', id="C09-mtu-string"),
    pytest.param(
        LEAST | {"onDelete": "delete"}, '$.onDelete: "delete" is not "release" or "keep"', id="C09-on-delete"
    ),
    pytest.param(
        LEAST | {"watchAddresses": ["fe80::/64"]},
        "$.watchAddresses[0]: fe80::/64 is link-local: its addresses are never claimed",
        id="watch-link-local",
    ),
    pytest.param(
        LEAST | {"duplicateAddressDetection": "no"},
        '$.duplicateAddressDetection: "no" is not true or false',
        id="C09-detection-string",
    ),
    pytest.param(LEAST | {"timeoutSeconds": 4}, "$.timeoutSeconds: 4 is less than 5", id="C09-timeout-short"),
    pytest.param(
        LEAST | {"timeoutSeconds": 111}, "$.timeoutSeconds: 111 is more than 110", id="C09-timeout-long"
    ),
    pytest.param(
        LEAST | {"timeoutSeconds": True}, "$.timeoutSeconds: true is not a number", id="C09-timeout-bool"
    ),
    pytest.param(
        LEAST | {"activate": "Ready"}, '$.activate: "Ready" is not "add" or "ready"', id="C09-activate"
    ),
    pytest.param(
        LEAST | {"activate": None}, '$.activate: null is not "add" or "ready"', id="C09-activate-null"
    ),
    *(
        pytest.param(
            LEAST | more | {"election": {"group": "core"}},
            '$.election: has no effect without "activate": "ready"; write that too, or leave election out',
            id=f"election-{name}",
        )
        for name, more in {"alone": {}, "with-add": {"activate": "add"}}.items()
    ),
    pytest.param(
        LEAST | {"election": {}},
        '$.election: has no effect without "activate": "ready"; write that too, or leave election out',
        id="election-empty-and-alone",
    ),
    pytest.param(
        elected() | {"watchAddresses": ["192.168.0.0/24"]},
        '$.watchAddresses: with "activate": "ready" the agents choose the pod that has the address, with '
        "watchAddresses the pods do; leave one of the two out",
        id="two-elections",
    ),
    pytest.param(
        elected(group=""), '$.election.group: "" is not a group such as "core"', id="C09-group-empty"
    ),
    *(
        pytest.param(
            elected(group=name),
            f'$.election.group: "{name}" is not a group such as "core"',
            id=f"group-{name}",
        )
        for name in ("Core", "-core", "core-", ".core", "core.", "a_b", "a/b", "fd00::2")
    ),
    *(
        pytest.param(
            elected(group=name),
            f'$.election.group: "{name}" has "{what}" in it, and a Lease is named after it; put a letter or '
            "digit between",
            id=f"group-{name}",
        )
        for name, what in {"a..b": "..", "a.-b": ".-", "a-.b": "-."}.items()
    ),
    pytest.param(
        elected(group="core\n"),
        '$.election.group: "core\\n" contains a control character',
        id="group-newline",
    ),
    pytest.param(
        elected(group="a" * 64), "$.election.group: has 64 characters; at most 63", id="C09-group-too-long"
    ),
    pytest.param(
        elected(zones="eu-central-1a"), '$.election.zones: "eu-central-1a" is not a list', id="C09-zones"
    ),
    pytest.param(
        elected(zones=["eu-central-1a", "b c"]),
        '$.election.zones[1]: "b c" is not an availability zone such as "eu-central-1a"',
        id="C09-zone",
    ),
    pytest.param(
        elected(failbackSeconds=-1), "$.election.failbackSeconds: -1 is less than 0", id="C09-failback"
    ),
    pytest.param(
        elected(unreadySeconds="2s"), '$.election.unreadySeconds: "2s" is not a number', id="C09-unready"
    ),
    pytest.param(["not", "an object"], '$: ["not", "an object"] is not an object', id="C09-list"),
]


@pytest.mark.parametrize(("document", "message"), REFUSED)
def test_refused_with_the_place_and_what_to_write(document: Any, message: str) -> None:
    assert complaints(document) == [message]


def test_ipv4_mapped_is_never_a_destination() -> None:
    [message] = complaints(LEAST | {"destination": ["::ffff:10.0.0.0/104"]})
    assert message.endswith("is IPv4-mapped: never a destination")


UNKNOWN = [
    pytest.param(
        LEAST | {"eni": "eni-1"}, '$.eni: unknown key "eni" with value "eni-1"', id="C08-at-the-top"
    ),
    pytest.param(
        LEAST | {"RouteTables": {"all": True}},
        '$.RouteTables: unknown key "RouteTables" with value {"all": true}; did you mean routeTables?',
        id="C08-other-case",
    ),
    pytest.param(
        routes(source_routing=1),
        '$.podRoutes.source_routing: unknown key "source_routing" with value 1; did you mean sourceRouting?',
        id="C08-nested",
    ),
    pytest.param(
        LEAST | {"routeTables": {"id": "rtb-1"}},
        '$.routeTables.id: unknown key "id" with value "rtb-1"; did you mean ids?',
        id="C08-selector",
    ),
    pytest.param(
        elected(zone="a"),
        '$.election.zone: unknown key "zone" with value "a"; did you mean zones?',
        id="C08-election",
    ),
    pytest.param(
        LEAST | {"cni.devx": 1},
        '$["cni.devx"]: unknown key "cni.devx" with value 1',
        id="C08-nearly-reserved",
    ),
]


@pytest.mark.parametrize(("document", "message"), UNKNOWN)
def test_an_unknown_key_is_error_2_with_key_and_value(document: Any, message: str) -> None:
    with pytest.raises(UnsupportedField) as refused:
        NetConf.parse(document)
    assert refused.value.msg == message
    assert refused.value.code == 2


def test_all_complaints_come_at_once_and_code_2_goes_before_7() -> None:
    document = {
        "name": "vip",
        "routeTables": {"ids": ["rtb-1", "x"]},
        "destination": ["10.0.0.1/8", 5, "::/0"],
        "podRoutes": {
            "to": ["10.9.0.1/24", None],
            "mtu": "big",
            "gateway": ["a", 7, "10.0.0.1"],
            "via": "eth0",
        },
        "timeoutSeconds": 1,
    }
    with pytest.raises(UnsupportedField) as refused:
        NetConf.parse(document)
    assert refused.value.msg.split(" | ") == [
        "$.destination[0]: 10.0.0.1/8 has host bits set; write 10.0.0.0/8",
        "$.destination[1]: 5 is not a string",
        "$.destination[2]: ::/0 is the default route: never a destination",
        '$.podRoutes.gateway[0]: "a" is neither "auto" nor an IP address',
        "$.podRoutes.gateway[1]: 7 is not a string",
        '$.podRoutes.mtu: "big" is not a whole number',
        "$.podRoutes.to[0]: 10.9.0.1/24 has host bits set; write 10.9.0.0/24",
        "$.podRoutes.to[1]: null is not a string",
        '$.podRoutes.via: unknown key "via" with value "eth0"',
        '$.routeTables.ids[1]: "x" is not a route table id such as "rtb-0a1b2c3d4e5f60718"',
        "$.timeoutSeconds: 1 is less than 5",
    ]


FOREIGN = {
    "cniVersions": ["1.0.0"],
    "capabilities": {"ips": True},
    "runtimeConfig": {"ips": ["192.168.0.2/32"]},
    "args": {"cni": {"routeTables": {"all": False}, "anything": 1}},
    "prevResult": {"cniVersion": "1.0.0", "ips": []},
    "ipam": {},
    "dns": {"nameservers": ["10.0.0.2"]},
    "ipMasq": False,
    "deviceID": "0000:00:06.0",
    "pciBusID": "0000:00:06.0",
    "disableCheck": True,
    "disableGC": True,
    "cni.dev/valid-attachments": [],
    "cni.dev/attachments": None,
    "cni.dev/made-up": 1,
}


@pytest.mark.parametrize("key", FOREIGN)
def test_c07_c11_what_runtimes_add_is_accepted_and_changes_nothing(key: str) -> None:
    assert NetConf.parse(LEAST | {key: FOREIGN[key]}) == NetConf.parse(LEAST)


def test_the_least_configuration() -> None:
    assert NetConf.parse({"name": "vip", "routeTables": {"all": True}}) == NetConf(
        cni_version="0.1.0",
        name="vip",
        route_tables=RouteTableSelector(all=True),
        destination="auto",
        extra_destinations=(),
        pod_routes=PodRoutesConf(
            to=(ip_network("0.0.0.0/0"), ip_network("::/0")), gateways=(), source_routing=True, mtu=None
        ),
        on_delete=None,
        watch_addresses=(),
        duplicate_address_detection=False,
        timeout_seconds=90,
        activate="add",
        election=ElectionConf(group=None, zones=(), failback_seconds=0, unready_seconds=2),
    )


def test_every_key_of_netconf_is_parsed() -> None:
    conf = NetConf.parse(
        LEAST
        | {
            "routeTables": {"tags": {"floatip": "*", "env": "a*b"}},
            "destination": ["100.64.0.0/22", "2001:DB8::/48", "100.64.0.0/22"],
            "podRoutes": {
                "to": ["10.0.0.0/8"],
                "gateway": ["fe80:ec2::1", "10.10.1.1"],
                "sourceRouting": False,
                "mtu": 8500.0,
            },
            "onDelete": "keep",
            "watchAddresses": ["192.168.0.0/24", "::/0"],
            "duplicateAddressDetection": True,
            "timeoutSeconds": 7.5,
        }
    )
    assert conf.route_tables == RouteTableSelector(tags={"floatip": "*", "env": "a*b"})
    assert (conf.destination, conf.extra_destinations) == (
        "auto",
        (ip_network("100.64.0.0/22"), ip_network("2001:db8::/48")),
    )
    assert conf.pod_routes is not None
    assert conf.pod_routes.gateway(4) == ip_address("10.10.1.1")
    assert conf.pod_routes.gateway(6) == ip_address("fe80:ec2::1")
    assert conf.pod_routes.source_routing is False
    assert isinstance(conf.pod_routes.mtu, int)
    assert (conf.on_delete, conf.timeout_seconds) == ("keep", 7.5)
    assert conf.watch_addresses == (ip_network("192.168.0.0/24"), ip_network("::/0"))
    assert conf.duplicate_address_detection is True


def test_every_key_of_an_election_is_parsed() -> None:
    conf = NetConf.parse(
        elected(group="a.b-1", zones=["b", "a", "b"], failbackSeconds=300, unreadySeconds=0.5)
    )
    assert (conf.activate, conf.election) == ("ready", ElectionConf("a.b-1", ("b", "a"), 300, 0.5))
    assert conf.document()["election"] == {
        "group": "a.b-1",
        "zones": ["b", "a"],
        "failbackSeconds": 300,
        "unreadySeconds": 0.5,
    }
    least = NetConf.parse(LEAST | {"activate": "ready", "watchAddresses": []})
    assert (least.activate, least.election) == ("ready", ElectionConf())
    assert least.document()["election"] == {"zones": [], "failbackSeconds": 0, "unreadySeconds": 2}
    assert "election" not in NetConf.parse(LEAST).document()


def test_a_family_without_a_gateway_stays_auto() -> None:
    conf = NetConf.parse(routes(gateway="10.10.1.1"))
    assert conf.pod_routes is not None
    assert conf.pod_routes.gateway(6) is None


def test_table_one_is_not_true() -> None:
    chosen = [NetConf.parse(routes(sourceRouting=output)).pod_routes for output in (1, True)]
    assert [conf.table for conf in chosen if conf] == [1, None]


def test_no_pod_routes() -> None:
    assert NetConf.parse(LEAST | {"podRoutes": False}).pod_routes is None


def test_a_selector_prints_as_a_person_would_write_it() -> None:
    assert [
        str(RouteTableSelector.of(output))
        for output in (
            {"ids": ["rtb-1", "rtb-2"]},
            {"tags": {"a": "b", "c": "*"}},
            {"subnets": ["subnet-1"]},
            {"all": True},
        )
    ] == ["ids rtb-1, rtb-2", "tags a=b, c=*", "subnets subnet-1", "all"]


@pytest.mark.parametrize(
    ("wanted", "found", "answer"),
    [
        pytest.param({"a": "1"}, {"a": "1", "b": "2"}, True, id="one-of-several"),
        pytest.param({"a": "1", "b": "2"}, {"a": "1"}, False, id="all-must-match"),
        pytest.param({"a": "*"}, {"a": "anything"}, True, id="star-alone"),
        pytest.param({"a": "*"}, {"b": "1"}, False, id="star-needs-the-tag"),
        pytest.param({"a": "x*"}, {"a": "xy"}, False, id="star-inside-is-literal"),
        pytest.param({"a": "x*"}, {"a": "x*"}, True, id="literal-star"),
    ],
)
def test_tags_of_route_tables(wanted: dict[str, str], found: dict[str, str], answer: bool) -> None:
    assert tags_match(wanted, found) is answer


@given(st.data())
def test_what_was_parsed_and_written_out_parses_to_the_same(data: st.DataObject) -> None:
    try:
        conf = NetConf.parse(data.draw(like(schemas.load("netconf"), odd=60)))
    except CniError:
        return
    assert NetConf.parse(conf.document()) == conf
    assert RouteTableSelector.of(conf.route_tables.document()) == conf.route_tables


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 128))
def test_any_network_is_read_back_and_host_bits_never_pass(address: Any, prefix: int) -> None:
    prefix = min(prefix, address.max_prefixlen)
    network = ip_network((address, prefix), strict=False)
    assert cidr.parse(str(network)) == network
    if network.network_address != address:
        with pytest.raises(ValueError, match=f"write {network}"):
            cidr.parse(f"{address}/{prefix}")


def test_a_long_configuration_is_not_remembered() -> None:
    """A tenant writes it: a thousand refused ADDs with other ones would fill the agent's memory."""
    long = LEAST | {"destination": [f"10.{n // 250}.{n % 250}.1/32" for n in range(500)]}
    before = netconf._parse.cache_info().currsize
    assert NetConf.parse(long) == NetConf.parse(long)
    assert NetConf.parse(long) is not NetConf.parse(long)
    assert RecordedConfig.of(long) is not RecordedConfig.of(long)
    assert netconf._parse.cache_info().currsize == before


def test_the_pods_of_a_network_share_one_parse() -> None:
    """What a runtime adds for a pod is not part of it, and an unknown key is refused all the same."""
    pods = [
        LEAST | {"prevResult": {"ips": []}, "args": {"cni": {"ips": [pod]}}, "runtimeConfig": {"mac": pod}}
        for pod in ("one", "another")
    ]
    assert NetConf.parse(pods[0]) is NetConf.parse(pods[1])
    assert NetConf.parse(pods[0] | {"timeoutSeconds": 60}).timeout_seconds == 60
    for _ in range(2):
        with pytest.raises(CniError, match="unknown"):
            NetConf.parse(pods[0] | {"unknown": 1})
