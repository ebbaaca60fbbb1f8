"""The metadata guard on a real link: what it stops, what it lets through, and whom it leaves alone."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import pytest

from cni_floatip.edges import podnet
from cni_floatip.edges.podnet import clsact, forwarding, guard, namespace, nftables
from cni_floatip.edges.podnet.rtnetlink import Refused
from cni_floatip.model.errors import PodNetworkFailure
from lab import netns
from tests.guard.frames import ARP, ENI_MAC, IPV4, IPV6, PAYLOAD, Wire, arriving, ethernet, ipv4, ipv6

pytestmark = pytest.mark.needs("root", "ip", "tc", "nft")

METADATA, METADATA6 = "169.254.169.254", "fd00:ec2::254"
NOPS = b"\x01" * 40  # as many options as fit
HOP_BY_HOP = b"\x11\x00\x01\x04\0\0\0\0"  # then UDP
LATER_FRAGMENT = b"\x11\x00\x00\x08\0\0\0\1"

STOPPED = {
    "TCP": ethernet(IPV4, ipv4(METADATA, proto=6)),
    "UDP": ethernet(IPV4, ipv4(METADATA)),
    "the EKS agent's address": ethernet(IPV4, ipv4("169.254.170.23")),
    "the range's first": ethernet(IPV4, ipv4("169.254.0.0")),
    "the range's last": ethernet(IPV4, ipv4("169.254.255.255")),
    "IPv4 with options": ethernet(IPV4, ipv4(METADATA, options=NOPS)),
    "a first fragment": ethernet(IPV4, ipv4(METADATA, offset=0x2000)),
    "a later fragment": ethernet(IPV4, ipv4(METADATA, offset=100)),
    "a VLAN tag": ethernet(IPV4, ipv4(METADATA), tags=(0x8100,)),
    "two VLAN tags": ethernet(IPV4, ipv4(METADATA), tags=(0x88A8, 0x8100)),
    "a tag of old": ethernet(IPV6, ipv6(METADATA6), tags=(0x9100,)),
    "IPv6": ethernet(IPV6, ipv6(METADATA6)),
    "IPv6, the range's last": ethernet(IPV6, ipv6("fd00:ec2:ffff:ffff::1")),
    "an extension header": ethernet(IPV6, ipv6(METADATA6, header=0, extension=HOP_BY_HOP)),
    "an IPv6 fragment": ethernet(IPV6, ipv6(METADATA6, header=44, extension=LATER_FRAGMENT)),
    "two tags and IPv6": ethernet(IPV6, ipv6(METADATA6), tags=(0x8100, 0x8100)),
}
PASSING = {
    "IPv4": ethernet(IPV4, ipv4("10.10.9.10")),
    "IPv6": ethernet(IPV6, ipv6("fd10:0:9::10")),
    "the address below": ethernet(IPV4, ipv4("169.253.255.255")),
    "the address above": ethernet(IPV4, ipv4("169.255.0.0")),
    "below in IPv6": ethernet(IPV6, ipv6("fd00:ec1:ffff::1")),
    "above in IPv6": ethernet(IPV6, ipv6("fd00:ec3::1")),
    "the VPC router": ethernet(IPV6, ipv6("fe80:ec2::1")),
    "from a link-local address": ethernet(IPV4, ipv4("10.10.9.10", source=METADATA)),
    "a tag": ethernet(IPV4, ipv4("10.10.9.10"), tags=(0x8100,)),
    "ARP for it": ethernet(ARP, bytes.fromhex("0001080006040001") + PAYLOAD),
    "a type of its own": ethernet(0x88B6, ipv4(METADATA)),
    "a header cut off": ethernet(IPV4, b"")[:14] + PAYLOAD[:4],
}
CONTENT = {
    "IPv4": ethernet(IPV4, ipv4("192.168.0.2"))[12:],
    "IPv6": ethernet(IPV6, ipv6("fd00:192:168::2"))[12:],
    "ARP": ethernet(ARP, PAYLOAD)[12:],
    "a VLAN tag": ethernet(IPV4, ipv4("192.168.0.2"), tags=(0x8100,))[12:],
    "a type of its own": ethernet(0x88B6, PAYLOAD)[12:],
}
FROM_ITSELF = {
    **{f"{name} from its own MAC": arriving(item, source=ENI_MAC) for name, item in CONTENT.items()},
    "IPv6 from a group address": arriving(CONTENT["IPv6"], source="33:33:00:00:00:01"),
    "IPv4 from broadcast": arriving(CONTENT["IPv4"], source="ff:ff:ff:ff:ff:ff"),
    "from the smallest group": arriving(CONTENT["IPv4"], source="01:00:00:00:00:00"),
}
FROM_OTHERS = {
    **{f"{name} from the router": arriving(item) for name, item in CONTENT.items()},
    "a MAC that ends otherwise": arriving(CONTENT["IPv4"], source="02:00:00:00:0e:00"),
    "a MAC that begins otherwise": arriving(CONTENT["IPv4"], source="02:00:00:01:0e:01"),
}
STRANGER = ("protocol", "all", "bpf", "da", "bytecode", "1,6 0 0 4294967295")
ACCEPTS = ("protocol", "all", "bpf", "da", "bytecode", "1,6 0 0 0")
DROPS_88B6 = (*STRANGER[:-1], "4,40 0 0 12,21 0 1 34998,6 0 0 2,6 0 0 4294967295")


def filters(wire: Wire, hook: str = "egress") -> list[tuple[int, int]]:
    """Return the filters at a hook of eth1 in their order: priority and handle."""
    lines = [line.split() for line in wire.tc("filter", "show", "dev", "eth1", hook).splitlines()]
    return [
        (int(words[words.index("pref") + 1]), int(words[words.index("handle") + 1], 0))
        for words in lines
        if "handle" in words
    ]


def by_clsact(link: Any, act: Any = clsact.ensure) -> Any:
    with namespace.own() as kernel:
        return act(kernel, link)


def ensured(wire: Wire, ensure: Any = guard.ensure) -> Any:
    return wire.on_node(ensure, wire.eni())


def ruleset(wire: Wire) -> Any:
    return wire.on_node(
        lambda: subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True)
    ).stdout


def nft(wire: Wire, command: Any) -> None:
    wire.on_node(lambda: subprocess.run(["nft", *command.split()], check=True))


# -- what it stops


WAYS = pytest.mark.parametrize(
    "way", [guard.ensure, by_clsact, nftables.ensure], ids=["both", "clsact", "nft"]
)
ONLY_CLSACT = {"two VLAN tags", "a tag of old", "two tags and IPv6"}


@WAYS
def test_every_frame_arrives_without_it_and_those_for_metadata_do_not_with_it(wire: Wire, way: Any) -> None:
    wire.attach()
    frames = STOPPED | PASSING
    assert [name for name, frame in frames.items() if not wire.arrives(frame)] == []
    ensured(wire, way)
    arrived = {name for name, frame in STOPPED.items() if wire.arrives(frame)}
    assert arrived == (ONLY_CLSACT if way is nftables.ensure else set())
    assert [name for name, frame in PASSING.items() if not wire.arrives(frame)] == []


@WAYS
def test_what_has_the_links_own_mac_as_source_does_not_come_in(wire: Wire, way: Any) -> None:
    """ipvlan gives such frames of a pod to the host; here the other end of the veth sends them."""
    wire.attach()

    def come_in(frames: Any) -> list[Any]:
        return [name for name, frame in frames.items() if wire.arrives(frame, sender="reth1", at="net1")]

    assert come_in(FROM_ITSELF | FROM_OTHERS) == list(FROM_ITSELF | FROM_OTHERS)
    ensured(wire, way)
    assert come_in(FROM_ITSELF) == []
    assert come_in(FROM_OTHERS) == list(FROM_OTHERS)


@WAYS
def test_a_link_whose_mac_changes_is_guarded_by_its_new_one(wire: Wire, way: Any) -> None:
    ensured(wire, way)
    new = "02:00:00:00:0e:77"
    netns.ip(wire.node, [f"link set eth1 address {new}"])
    wire.attach()
    own, old = (arriving(CONTENT["IPv6"], source=mac, to=new) for mac in (new, ENI_MAC))
    assert wire.arrives(own, sender="reth1", at="net1")
    changed = wire.on_node(lambda: way(podnet.link_by_mac(new)))
    assert getattr(changed, "changed", changed)
    assert not wire.arrives(own, sender="reth1", at="net1")
    assert wire.arrives(old, sender="reth1", at="net1")


@WAYS
@pytest.mark.parametrize("said", [ARP, 0x88B6, 0x8100, 1])
def test_what_a_packet_socket_says_that_a_frame_is_does_not_count(wire: Wire, said: Any, way: Any) -> None:
    wire.attach()
    assert wire.arrives(STOPPED["UDP"], said)
    ensured(wire, way)
    assert not wire.arrives(STOPPED["UDP"], said)
    assert not wire.arrives(STOPPED["IPv6"], said)
    assert wire.arrives(PASSING["IPv4"], said)


def test_the_host_itself_and_other_links_are_another_matter(wire: Wire) -> None:
    ensured(wire)
    assert not wire.arrives(STOPPED["UDP"], sender="eth1")
    assert wire.arrives(STOPPED["UDP"], sender="eth0", at="reth0")


# -- its life


def test_twice_is_once_and_gone_is_gone(wire: Wire) -> None:
    link = wire.eni()
    assert not wire.on_node(guard.present, link)
    assert ensured(wire) == guard.Guarded(changed=True)
    first = filters(wire), filters(wire, "ingress"), ruleset(wire)
    assert ensured(wire) == guard.Guarded(changed=False)
    assert (filters(wire), filters(wire, "ingress"), ruleset(wire)) == first
    assert first[:2] == ([(1, clsact.HANDLES[0])], [(1, clsact.HANDLES[0])])
    assert ruleset(wire).count(" drop\n") == 6
    assert wire.on_node(guard.present, link)
    for _ in range(2):
        wire.on_node(guard.remove, link)
        assert filters(wire) == filters(wire, "ingress") == []
        assert "drop" not in ruleset(wire)
        assert not wire.on_node(guard.present, link)
    ensured(wire)
    assert wire.on_node(guard.has_table)
    for _ in range(2):  # where nobody is to guard any more
        wire.on_node(guard.remove_table)
        assert ruleset(wire) == ""
    assert not wire.on_node(guard.has_table)


HOOKS = pytest.mark.parametrize("hook", ["egress", "ingress"])
JUDGED: dict[str, tuple[bytes, dict[str, Any]]] = {
    "egress": (STOPPED["UDP"], {"sender": "net1", "at": "reth1"}),
    "ingress": (FROM_ITSELF["IPv6 from its own MAC"], {"sender": "reth1", "at": "net1"}),
}


def passes(wire: Wire, hook: str) -> bool:
    """Say whether what our filter at this hook drops goes through."""
    frame, way = JUDGED[hook]
    return wire.arrives(frame, **way)


@HOOKS
def test_one_with_another_program_is_replaced(wire: Wire, hook: Any) -> None:
    """As an older release leaves it, or somebody who wants to look like us."""
    ensured(wire, by_clsact)
    ours = hex(clsact.HANDLES[0])
    wire.tc("filter", "del", "dev", "eth1", hook)
    wire.tc("filter", "add", "dev", "eth1", hook, "prio", "1", "handle", ours, *ACCEPTS)
    assert not wire.on_node(guard.present, wire.eni())
    assert wire.on_node(guard.is_left, wire.eni())
    assert ensured(wire, by_clsact).changed
    assert filters(wire, hook) == [(1, clsact.HANDLES[1])]
    assert wire.on_node(guard.present, wire.eni())


@HOOKS
@WAYS
def test_one_direction_alone_is_not_a_guard(wire: Wire, way: Any, hook: Any) -> None:
    """As release 0.2 leaves it: it guarded egress alone."""
    wire.attach()
    ensured(wire, way)
    if way is not nftables.ensure:
        wire.tc("filter", "del", "dev", "eth1", hook)
    if way is not by_clsact:
        chain = {"egress": "link", "ingress": "in"}[hook]
        nft(wire, f"delete chain netdev floatip {chain}-{wire.eni().index}")
    assert not wire.on_node(guard.present, wire.eni())
    assert wire.on_node(guard.is_left, wire.eni())
    assert passes(wire, hook)
    ensured(wire, way)
    assert wire.on_node(guard.present, wire.eni())
    assert not passes(wire, hook)
    nft(wire, "flush ruleset")
    wire.tc("filter", "del", "dev", "eth1", hook) if way is not nftables.ensure else None
    ensured(wire, way)
    wire.on_node(guard.remove, wire.eni())
    assert not wire.on_node(guard.is_left, wire.eni())


def test_two_of_ours_become_one(wire: Wire) -> None:
    wire.tc("qdisc", "add", "dev", "eth1", "clsact")
    for handle in clsact.HANDLES:
        for hook in JUDGED:
            wire.tc("filter", "add", "dev", "eth1", hook, "prio", "3", "handle", hex(handle), *ACCEPTS)
    assert ensured(wire, by_clsact).changed
    assert [[priority for priority, _ in filters(wire, hook)] for hook in JUDGED] == [[1], [1]]


@pytest.mark.parametrize(
    "what",
    [
        *("flush ruleset", "flush table netdev floatip"),
        *("add rule netdev floatip link-{} accept", "add rule netdev floatip in-{} accept"),
        *("delete chain netdev floatip link-{}", "delete chain netdev floatip in-{}"),
    ],
)
def test_what_nft_changes_of_it_is_put_right_and_stops_nothing(wire: Wire, what: Any) -> None:
    wire.attach()
    ensured(wire)
    before = ruleset(wire)
    nft(wire, what.format(wire.eni().index))
    assert not passes(wire, "egress")
    assert not passes(wire, "ingress")
    assert ensured(wire) == guard.Guarded(changed=True)
    assert sorted(ruleset(wire).splitlines()) == sorted(before.splitlines())
    assert ensured(wire) == guard.Guarded(changed=False)


def test_a_link_that_goes_to_a_pod_is_guarded_there(wire: Wire) -> None:
    link = wire.eni()
    ensured(wire)
    netns.ip(wire.node, [f"link set eth1 netns {wire.pod}"])
    netns.ip(wire.pod, ["link set eth1 name net1", "link set net1 up"])
    place = str(netns.path(wire.pod))
    assert not guard.present(link, place)
    assert guard.ensure(link, place) == guard.Guarded(changed=True)
    assert not wire.arrives(STOPPED["UDP"])
    assert wire.arrives(PASSING["IPv4"])


@pytest.mark.parametrize("fate", ["link del eth1", "link set eth1 down name ens9"])
def test_a_link_of_the_same_name_is_not_guarded_in_its_place(wire: Wire, fate: str) -> None:
    """Since Linux 6.16 a chain waits for its link's name to appear again."""
    ensured(wire)
    netns.ip(wire.node, [fate, "link set eth0 down", "link set eth0 name eth1", "link set eth1 up"])
    mac = "02:00:00:00:0e:01"
    netns.ip(wire.node, [] if "name" in fate else [f"link add ens9 address {mac} type veth peer name other"])
    ensured(wire)
    assert 'device "eth1"' not in ruleset(wire)
    assert ruleset(wire).count('device "ens9"') == 2
    assert wire.arrives(STOPPED["UDP"], sender="eth1", at="reth0")


# -- others


def test_filters_of_others_survive_and_still_see_what_passes(wire: Wire) -> None:
    wire.attach()
    nft(wire, "add table netdev other")
    nft(wire, "add chain netdev other c { type filter hook egress device eth1 priority 5 ; }")
    nft(wire, "add rule netdev other c accept")
    other = ruleset(wire)
    wire.tc("qdisc", "add", "dev", "eth1", "clsact")
    wire.tc("filter", "add", "dev", "eth1", "ingress", "prio", "1", "handle", "5", *STRANGER)
    wire.tc("filter", "add", "dev", "eth1", "ingress", "prio", "9", "handle", "8", *DROPS_88B6)
    wire.tc("filter", "add", "dev", "eth1", "egress", "prio", "1", "handle", "6", *STRANGER)
    wire.tc("filter", "add", "dev", "eth1", "egress", "prio", "9", "handle", "7", *DROPS_88B6)
    ensured(wire)
    assert filters(wire) == [(1, clsact.HANDLES[0]), (1, 6), (9, 7)]
    assert filters(wire, "ingress") == [(1, clsact.HANDLES[0]), (1, 5), (9, 8)]
    assert other in ruleset(wire)
    assert wire.arrives(PASSING["IPv4"])
    assert not wire.arrives(PASSING["a type of its own"])
    others: dict[str, Any] = {"sender": "reth1", "at": "net1"}
    assert wire.arrives(FROM_OTHERS["IPv4 from the router"], **others)
    assert not wire.arrives(FROM_OTHERS["a type of its own from the router"], **others)
    wire.on_node(guard.remove, wire.eni())
    assert filters(wire) == [(1, 6), (9, 7)]
    assert filters(wire, "ingress") == [(1, 5), (9, 8)]
    assert other in ruleset(wire)


@HOOKS
def test_what_accepts_in_traffic_control_or_in_other_tables_does_not_pass_nftables_by(
    wire: Wire, hook: Any
) -> None:
    wire.attach()
    nft(wire, "add table netdev other")
    nft(wire, f"add chain netdev other c {{ type filter hook {hook} device eth1 priority -500 ; }}")
    nft(wire, "add rule netdev other c accept")
    ensured(wire)
    wire.tc("filter", "add", "dev", "eth1", hook, "prio", "1", "handle", "6", *ACCEPTS)
    assert not passes(wire, hook)
    wire.tc("qdisc", "del", "dev", "eth1", "clsact")
    assert not passes(wire, hook)


@HOOKS
def test_a_filter_that_comes_later_and_accepts_everything_is_got_in_front_of(wire: Wire, hook: Any) -> None:
    wire.attach()
    ensured(wire, by_clsact)
    wire.tc("filter", "add", "dev", "eth1", hook, "prio", "1", "handle", "6", *ACCEPTS)
    assert passes(wire, hook)
    assert ensured(wire, by_clsact) == clsact.Placed(changed=True)
    assert filters(wire, hook) == [(1, clsact.HANDLES[1]), (1, 6)]
    assert not passes(wire, hook)
    assert ensured(wire, by_clsact) == clsact.Placed(changed=False)


@HOOKS
def test_a_filter_that_cannot_be_got_in_front_of_is_named_and_left_alone(wire: Wire, hook: Any) -> None:
    wire.attach()
    wire.tc("qdisc", "add", "dev", "eth1", "clsact")
    only = ("protocol", "ip", "bpf", "da", "bytecode", "1,6 0 0 4294967295")
    wire.tc("filter", "add", "dev", "eth1", hook, "prio", "1", "handle", "6", *only)
    behind = f"bpf filter 0x6 of priority 1 on {hook}"
    for changed in (True, False):
        assert ensured(wire, by_clsact) == clsact.Placed(changed, behind)
    assert not passes(wire, hook)
    assert ensured(wire) == guard.Guarded(changed=True), "nftables is not behind it"
    no_nftables(wire)
    assert ensured(wire) == guard.Guarded(changed=False, behind=behind)
    wire.tc("filter", "del", "dev", "eth1", hook, "prio", "1")
    assert ensured(wire) == guard.Guarded(changed=False)


# -- where it cannot be


def no_nftables(wire: Wire) -> None:
    """Have a chain where ours belongs, that looks elsewhere: as good as a kernel without the hook."""
    chain = f"link-{wire.eni().index}"
    nft(wire, "add table netdev floatip")
    nft(wire, "delete table netdev floatip")
    nft(wire, "add table netdev floatip")
    nft(wire, f"add chain netdev floatip {chain} {{ type filter hook ingress device eth1 priority 0 ; }}")


def test_where_nftables_cannot_clsact_is_enough(wire: Wire) -> None:
    wire.attach()
    no_nftables(wire)
    assert ensured(wire) == guard.Guarded(changed=True)
    assert ensured(wire) == guard.Guarded(changed=False)
    assert not wire.arrives(STOPPED["TCP"])
    wire.on_node(guard.remove, wire.eni())
    assert wire.arrives(STOPPED["TCP"])


def test_where_clsact_cannot_nftables_is_enough(wire: Wire) -> None:
    wire.attach()
    wire.tc("qdisc", "add", "dev", "eth1", "ingress")
    assert ensured(wire) == guard.Guarded(changed=True)
    assert ensured(wire) == guard.Guarded(changed=False)
    assert not wire.arrives(STOPPED["TCP"])
    with pytest.raises(Refused, match=r"the qdisc 'ingress' is where clsact belongs"):
        ensured(wire, by_clsact)


def test_where_neither_can_the_error_names_both_reasons(wire: Wire) -> None:
    wire.tc("qdisc", "add", "dev", "eth1", "ingress")
    no_nftables(wire)
    with pytest.raises(PodNetworkFailure, match=r"guard eth1 .*: the qdisc 'ingress' .*; nftables: E"):
        ensured(wire)
    assert not wire.on_node(guard.present, wire.eni())
    assert "ingress" in wire.tc("qdisc", "show", "dev", "eth1")


def test_a_link_that_is_gone_is_an_error(wire: Wire) -> None:
    link = wire.eni()
    netns.ip(wire.node, ["link del eth1"])
    with pytest.raises(PodNetworkFailure, match="guard eth1"):
        wire.on_node(guard.ensure, link)


@pytest.mark.needs("setpriv")
def test_the_capability_that_is_needed_is_net_admin_alone(wire: Wire) -> None:
    code = (
        "from cni_floatip.edges.podnet import guard, links;"
        f"print(guard.ensure(links.link_by_mac({wire.eni().mac!r})).changed)"
    )

    def run(caps: Any) -> Any:
        argv = ["setpriv", f"--bounding-set={caps}", "--inh-caps=-all", sys.executable, "-c", code]
        return wire.on_node(lambda: subprocess.run(argv, capture_output=True, text=True))

    assert "EPERM" in run("-all").stderr
    assert run("-all,+net_admin").stdout == "True\n"


# -- forwarding


GATEWAYS = {4: "10.10.0.1", 6: "fd10::1"}
GONE = {
    4: arriving(ethernet(IPV4, ipv4("192.168.0.9", source="10.10.9.10"))[12:]),
    6: arriving(ethernet(IPV6, ipv6("fd00:192:168::9", source="fd10:9::10"))[12:]),
}
"""Packets for a pod that has gone."""


@pytest.fixture
def router(wire: Wire) -> Wire:
    """The node as it is under Kubernetes: it forwards both families, by way of eth0."""
    forwards = {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1}
    netns.sysctl(wire.node, forwards | {"ipv4/conf/all/rp_filter": 0, "ipv4/conf/eth1/rp_filter": 0})
    netns.ip(wire.node, ["addr add 10.10.0.10/24 dev eth0", "addr add fd10::10/64 dev eth0 nodad"])
    for gateway in GATEWAYS.values():
        lines = [f"neigh add {gateway} lladdr 02:00:00:00:0e:09 dev eth0 nud permanent"]
        netns.ip(wire.node, [*lines, f"route add default via {gateway} dev eth0"])
    return wire


def forwarded(wire: Wire, sender: str = "reth1") -> set[Any]:
    """Return the families of which the node sends on what arrives for nobody who is here."""
    return {version for version, frame in GONE.items() if wire.arrives(frame, sender=sender, at="reth0")}


def rules(wire: Wire) -> list[Any]:
    """Return the rules of both families as ``ip`` shows them."""
    shown = wire.on_node(
        lambda: [
            subprocess.run(["ip", item, "rule"], capture_output=True, text=True) for item in ("-4", "-6")
        ]
    )
    return [line.strip().replace("\t", " ") for item in shown for line in item.stdout.splitlines()]


def stop_forwarding(wire: Wire) -> Any:
    return ensured(wire, forwarding.stop)


OUR_RULE = "110: from all iif eth1 blackhole proto 241"


def test_what_comes_in_through_the_eni_is_not_sent_on_in_either_family(router: Wire) -> None:
    assert forwarded(router) == {4, 6}
    before = rules(router)
    assert stop_forwarding(router)
    assert forwarded(router) == set()
    assert sorted(rules(router)) == sorted([*before, OUR_RULE, OUR_RULE])
    assert not stop_forwarding(router)
    netns.sysctl(router.node, {"ipv4/ip_forward": 0})
    netns.sysctl(router.node, {"ipv4/ip_forward": 1})
    assert forwarded(router) == set(), "no write to a setting changes it"
    assert router.on_node(forwarding.stopped, "eth1") == {4, 6}
    router.on_node(forwarding.resume, {"eth0"})
    assert forwarded(router) == set()
    router.on_node(forwarding.resume, {"eth1"})
    assert forwarded(router) == {4, 6}
    assert rules(router) == before


def test_what_is_for_the_host_itself_still_comes_in(router: Wire) -> None:
    netns.ip(router.node, ["addr add 10.10.1.10/24 dev eth1", "addr add fd10:1::10/64 dev eth1 nodad"])
    stop_forwarding(router)

    def hears(to: Any) -> Any:
        content = ethernet(IPV6, ipv6(to, header=253)) if ":" in to else ethernet(IPV4, ipv4(to, proto=253))
        with router.on_node(raw_socket, to) as ear:
            router.arrives(arriving(content[12:]), sender="reth1", at="reth0")
            return ear.recv(2048).endswith(PAYLOAD)

    assert all(map(hears, ("10.10.0.10", "10.10.1.10", "fd10::10", "fd10:1::10")))


def raw_socket(address: Any) -> Any:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_RAW, 253)  # for experiments (RFC 3692)
    sock.bind((address, 0))
    sock.settimeout(10)
    return sock


def test_local_where_cilium_puts_it_is_early_enough(router: Wire) -> None:
    for family in ("-4", "-6"):
        for rule in ("add pref 100 lookup local", "del pref 0"):
            subprocess.run(["ip", "-n", router.node, family, "rule", *rule.split()], check=True)
    assert stop_forwarding(router)
    assert forwarded(router) == set()


@pytest.mark.parametrize("late", ["pref 110 lookup local", "pref 50 from 10.0.0.0/8 lookup local"])
def test_where_local_is_looked_up_later_there_is_no_rule_and_it_is_said(router: Wire, late: str) -> None:
    netns.ip(router.node, [f"rule add {late}", "rule add pref 200 lookup local"])
    assert stop_forwarding(router)
    netns.ip(router.node, ["rule del pref 0"])
    for _ in range(2):  # the rule that was there goes
        with pytest.raises(
            PodNetworkFailure, match=r"IPv4 from eth1: .* before 110 .* table local .* 100 or"
        ):
            stop_forwarding(router)
        assert forwarded(router) == {4}, "IPv6 has its rule"
    netns.ip(router.node, ["rule add pref 0 lookup local"])
    assert stop_forwarding(router)
    assert forwarded(router) == set()


def test_rules_of_others_stay_and_ours_become_one(router: Wire) -> None:
    others = ["rule add pref 110 iif eth1 lookup 77", "rule add iif eth1 pref 110 type blackhole"]
    old = [
        "rule add iif eth1 pref 9 type blackhole protocol 241",
        "rule add from 10.1.0.0/16 lookup 9 protocol 241",
    ]
    netns.ip(router.node, [*others, *old])
    before = rules(router)
    assert stop_forwarding(router)
    kept = [line for line in before if not line.startswith("9:")]
    assert sorted(rules(router)) == sorted([*kept, OUR_RULE, OUR_RULE])
    router.on_node(forwarding.resume)
    assert rules(router) == kept
