"""What only a real ipvlan can show, as scenarios; a program that runs them and tells how each went.

It runs under User Mode Linux (``test_ipvlan.py`` starts it and reports each scenario as a test), or by hand
on a machine whose kernel has ipvlan. The scenarios share one lab, because building it takes longest; each has
addresses of its own and leaves no pod behind. Standard output has one line of JSON per scenario.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.chain import PluginError
    from lab.node import Node
    from lab.pod import Pod
    from lab.world import Lab

SCENARIOS: dict[str, Callable[[Lab], None]] = {}

# The guest is slow and does everything on one CPU: an answer may take its time.
PATIENCE = 5.0


def scenario(function: Callable[[Lab], None]) -> Callable[[Lab], None]:
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


@contextlib.contextmanager
def pods(node: Node, *names: str, **options: Any) -> Iterator[Iterable[Pod]]:
    """Pods that go when the block ends, whatever a plugin has done to them."""
    made = [node.pod(name, **options) for name in names]
    try:
        yield made
    finally:
        for pod in made:
            node.remove_pod(pod)


@contextlib.contextmanager
def siblings(node: Node) -> Iterator[Iterable[Pod]]:
    """Two pods, each with an ipvlan of one ENI, in which detection takes longer than all scenarios."""
    from lab import netns

    with pods(node, "first", "second") as both:
        for pod in both:
            netns.sysctl(pod.ns, {"ipv6/conf/default/dad_transmits": 200})
            for line in (
                f"link add link eth1 name net1 netns {pod.ns} type ipvlan mode l2",
                f"-n {pod.ns} link set net1 up",
            ):
                node.run(["ip", *line.split()])
        yield both


def answers(lab: Lab, pod: str, *addresses: str) -> None:
    """The pod answers at each address, asked from within the VPC and through the transit gateway."""
    for address in addresses:
        for client in lab.clients.values():
            who = client.ask(address, timeout=PATIENCE)
            assert who == pod, f"client {client.name} asked {address}: {who} answered, not {pod}"


def reaches(pod: Pod, other: str, address: str, **options: Any) -> None:
    who = pod.ask(address, timeout=PATIENCE, **options)
    assert who == other, f"{pod} asked {address}: {who} answered, not {other}"


def inside(pod: Pod, function: Callable[..., Any], *arguments: Any) -> Any:
    from lab import netns

    return netns.inside(pod.ns, function, *arguments)


def tentative(pod: Pod, address: str) -> bool:
    """Whether the kernel does not answer for the address yet (/proc/net/if_inet6, flag 0x40)."""

    def look() -> bool:
        with open("/proc/thread-self/net/if_inet6") as table:  # noqa: PTH123 - the thread's own namespace
            rows = {line.split()[0]: line.split() for line in table}
        return bool(int(rows[IPv6Address(address).packed.hex()][4], 16) & 0x40)

    result: bool = inside(pod, look)
    return result


def can_bind(pod: Pod, address: str) -> bool:
    def bind() -> bool:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            try:
                sock.bind((address, 0))
            except OSError:
                return False
        return True

    bound: bool = inside(pod, bind)
    return bound


def truth(lab: Lab) -> dict[str, dict[str, str]]:
    """Every route of every table, as text."""
    return {
        name: {str(cidr): str(route) for cidr, route in lab.ec2.truth(table).items()}
        for name, table in lab.tables.items()
    }


@scenario
def a_pod_behind_ipvlan_answers_in_both_families(lab: Lab) -> None:
    node = lab.nodes["a1"]
    addresses = ["192.168.0.2/32", "fd00:192:168::2/128"]
    chain = lab.conflist(addresses)
    assert (chain["plugins"][0]["type"], chain["plugins"][0]["mode"]) == ("ipvlan", "l2")
    with pods(node, "web") as (web,):
        result = node.add(web, chain)
        assert [i["mac"] for i in result["interfaces"] if i["name"] == "net1"] == [node.eni("eth1").mac]
        assert sorted(ip["address"] for ip in result["ips"]) == sorted(addresses)
        answers(lab, "web", "192.168.0.2", "fd00:192:168::2")
        # Not ipvlan's CHECK, which never finds an IPv4 /32: it looks for the connected route of the prefix.
        node.check(web, {**chain, "plugins": chain["plugins"][1:]})


@scenario
def several_pods_share_one_eni(lab: Lab) -> None:
    node = lab.nodes["a1"]
    first, second = lab.conflist(["192.168.0.3/32"]), lab.conflist(["192.168.0.4/32"])
    with pods(node, "one", "two") as (one, two):
        node.add(one, first)
        node.add(two, second)
        answers(lab, "one", "192.168.0.3")
        answers(lab, "two", "192.168.0.4")
        reaches(one, "two", "192.168.0.4", source="192.168.0.3")
        node.delete(one, first)
        answers(lab, "two", "192.168.0.4")


@scenario
def an_address_moves_to_another_zone(lab: Lab) -> None:
    a, b = lab.nodes["a1"], lab.nodes["b1"]
    chain = lab.conflist(["192.168.0.5/32", "fd00:192:168::5/128"])
    with pods(a, "old") as (old,), pods(b, "new") as (new,):
        a.add(old, chain)
        answers(lab, "old", "192.168.0.5", "fd00:192:168::5")
        b.add(new, chain)  # while the old pod still runs and holds the address
        answers(lab, "new", "192.168.0.5", "fd00:192:168::5")
        a.delete(old, chain)
        answers(lab, "new", "192.168.0.5", "fd00:192:168::5")


@scenario
def two_floating_interfaces_in_one_pod(lab: Lab) -> None:
    node = lab.nodes["b1"]
    with pods(node, "both") as (both,):
        node.add(both, lab.conflist(["192.168.0.6/32"], name="left"), "net1")
        node.add(both, lab.conflist(["192.168.0.7/32"], name="right", eth="ens7"), "net2")
        answers(lab, "both", "192.168.0.6", "192.168.0.7")
        targets = {lab.ec2.truth(lab.tables["client"])[f"192.168.0.{n}/32"].target for n in (6, 7)}
        assert targets == {node.eni("eth1").id, node.eni("ens7").id}


@scenario
def a_parent_that_is_down_is_brought_up(lab: Lab) -> None:
    node = lab.nodes["a1"]
    node.run(["ip", "link", "set", "ens7", "down"])
    with pods(node, "low") as (low,):
        node.add(low, lab.conflist(["192.168.0.8/32"], eth="ens7"))
        answers(lab, "low", "192.168.0.8")


@scenario
def siblings_with_a_short_prefix_reach_each_other_across_nodes(lab: Lab) -> None:
    """With the connected route of the /29 in place they would ask for each other by ARP, in vain."""
    a, b = lab.nodes["a1"], lab.nodes["b1"]
    routes = {"to": ["192.168.0.0/24"], "sourceRouting": False}
    with pods(a, "here") as (here,), pods(b, "there") as (there,):
        a.add(here, lab.conflist(["192.168.0.18/29"], podRoutes=routes))
        b.add(there, lab.conflist(["192.168.0.19/29"], podRoutes=routes))
        reaches(here, "there", "192.168.0.19")
        reaches(there, "here", "192.168.0.18")


@scenario
def of_a_pool_behind_ipvlan_only_the_interfaces_own_addresses_arrive(lab: Lab) -> None:
    node, pool = lab.nodes["a1"], "100.64.8.0/22"
    chain = lab.conflist(["192.168.0.20/32"], destination=[pool])
    policy = lab.node_config()
    node.write_config({**policy, "allowedDestinations": [*policy["allowedDestinations"], {"cidr": pool}]})
    client = lab.clients["vpc"]  # the transit gateway knows the floating range alone
    try:
        with pods(node, "gateway") as (gateway,):
            node.add(gateway, chain)
            for link, number in (("lo", 1), ("net1", 2)):
                node.run(["ip", "-n", gateway.ns, "addr", "add", f"100.64.8.{number}/32", "dev", link])
            answers(lab, "gateway", "192.168.0.20")
            equal(client.ask("100.64.8.2", timeout=PATIENCE), "gateway")
            equal(client.ask("100.64.8.1", timeout=PATIENCE), None)
            reaches(gateway, "gateway", "100.64.8.1", source="100.64.8.2")
            node.delete(gateway, chain)
    finally:
        node.write_config(policy)


@scenario
def no_address_is_tentative_when_add_returns(lab: Lab) -> None:
    """By default without detection, which takes longer here than all scenarios; and with it."""
    from lab import netns

    node = lab.nodes["a1"]
    alone = {
        **lab.conflist([], name="alone"),
        "plugins": [lab.predecessor(addresses=["fd00:192:168::a/128"])],
    }
    chains = {
        3: lab.conflist(["fd00:192:168::b/128"], name="waits", duplicateAddressDetection=True),
        200: lab.conflist(["192.168.0.9/32", "fd00:192:168::9/128"]),
    }
    with pods(node, "early", "waits", "ready") as (early, waits, ready):
        for pod, seconds in (early, 200), (waits, 3), (ready, 200):
            netns.sysctl(pod.ns, {"ipv6/conf/default/dad_transmits": seconds})
        node.add(early, alone)
        assert tentative(early, "fd00:192:168::a")
        assert not can_bind(early, "fd00:192:168::a")
        node.add(waits, chains[3])
        node.add(ready, chains[200])
        for pod, address in (waits, "fd00:192:168::b"), (ready, "fd00:192:168::9"):
            assert not tentative(pod, address)
            assert can_bind(pod, address)
            answers(lab, pod.name, address)
        flags = node.run(["ip", "-n", ready.ns, "-6", "addr", "show", "dev", "net1"]).stdout
        assert "nodad" in flags.partition("fd00:192:168::9/128")[2].splitlines()[0]
        # Link-local addresses are not ours, and are probed as ever: neighbour discovery does not need them.
        assert "tentative" in flags.partition("inet6 fe80:")[2].splitlines()[0]


@scenario
def ipvlan_itself_refuses_the_address_of_a_sibling(lab: Lab) -> None:
    """In both families, with and without detection, also while the first is tentative."""
    node = lab.nodes["a1"]

    def add(pod: Pod, address: str, *options: str) -> str:
        """Return the kernel's refusal, nothing if it took the address."""
        command = ["ip", "-n", pod.ns, "addr", "add", address, "dev", "net1", *options]
        return node.run(command).stderr.strip()

    refusal = "Address already assigned to an ipvlan device."
    with siblings(node) as (first, second):
        for number, (theirs, mine) in enumerate(itertools.product(((), ("nodad",)), repeat=2), 1):
            address = f"fd00:192:168:7::{number}/128"
            equal(add(first, address, *theirs), "")
            equal(tentative(first, address.partition("/")[0]), not theirs)
            assert refusal in add(second, address, *mine), (theirs, mine)
        equal(add(first, "192.168.7.1/32"), "")
        assert refusal in add(second, "192.168.7.1/32")


@scenario
def an_address_that_a_sibling_takes_during_the_add_is_an_error(lab: Lab) -> None:
    """The sibling takes it in the moment in which it is on no interface. Nothing is taken twice."""
    from cni_floatip.edges.podnet import dad, namespace
    from cni_floatip.edges.podnet.rtnetlink import Refused, Rtnetlink

    node, address = lab.nodes["a1"], "fd00:192:168:7::8"
    with siblings(node) as (first, second):
        take = ["ip", "-n", second.ns, "addr", "add", f"{address}/128", "dev", "net1", "nodad"]
        node.run(["ip", "-n", first.ns, "addr", "add", f"{address}/128", "dev", "net1"])

        class Interrupted:
            """The kernel, with the sibling between the two requests of a renewal."""

            def __init__(self, kernel: Rtnetlink) -> None:
                self._kernel = kernel

            def __getattr__(self, name: str) -> Any:
                return getattr(self._kernel, name)

            def renew(self, subject: Any, key: Any, attrs: Any, **fields: int) -> Any:
                self._kernel.delete(subject, key, **fields)
                equal(node.run(take).stderr, "")
                return None, self._kernel.renew(subject, key, attrs, **fields)[1]

        with namespace.enter(first.netns) as kernel:
            index = kernel.get("link", [("IFLA_IFNAME", "net1")])["index"]
            try:
                dad.skip(Interrupted(kernel), index, {IPv6Address(address)})  # type: ignore[arg-type]
            except Refused as refused:
                why = refused.text
            else:
                why = ""
        wanted = (
            f"{address} cannot be added again: Address already assigned to an ipvlan device;"
            " the interface is left without it"
        )
        equal(why, wanted)
        equal([can_bind(pod, address) for pod in (first, second)], [False, True])


@scenario
def the_guard_keeps_pods_of_an_eni_from_metadata_and_from_nothing_else(lab: Lab) -> None:
    """Several on one ENI, all of which have removed their unreachable routes."""
    from cni_floatip.edges.podnet import forwarding, guard, link_by_mac
    from lab import netns
    from lab.router import METADATA

    node = lab.nodes["b1"]
    mac = node.eni("ens7").mac
    first, second = (
        lab.conflist([f"192.168.0.{n}/32", f"fd00:192:168::{n}/128"], eth="ens7") for n in (12, 13)
    )

    def on_eni(act: Callable[[Any], Any]) -> Any:
        return netns.inside(node.ns, lambda: act(link_by_mac(mac)))

    def reached(pod: Pod, number: int) -> list[str]:
        sources = (f"192.168.0.{number}", f"fd00:192:168::{number}")
        pairs = zip(sources, map(str, METADATA), strict=True)
        return [target for source, target in pairs if inside(pod, connects, source, target)]

    with pods(node, "one", "two") as (one, two):
        node.add(one, first)
        node.add(two, second)
        for pod in (one, two):
            for family in ("-4", "-6"):
                flush = ["route", "flush", "type", "unreachable", "table", "all"]
                node.run(["ip", "-n", pod.ns, family, *flush])
        assert reached(one, 12) == [str(address) for address in METADATA]
        assert on_eni(guard.ensure).changed
        assert on_eni(forwarding.stop)
        assert (reached(one, 12), reached(two, 13)) == ([], [])
        assert not on_eni(guard.ensure).changed
        answers(lab, "one", "192.168.0.12", "fd00:192:168::12")
        reaches(one, "two", "192.168.0.13", source="192.168.0.12")
        on_eni(guard.remove)
        netns.inside(node.ns, forwarding.resume)
        assert reached(two, 13) == [str(address) for address in METADATA]


@scenario
def what_a_pod_sends_to_its_eni_reaches_neither_host_nor_metadata(lab: Lab) -> None:
    """ipvlan l2 hands a frame whose destination MAC is its source MAC to the host, past every egress hook."""
    from cni_floatip.edges.podnet import forwarding, guard, link_by_mac
    from lab import netns
    from lab.router import METADATA, VPC_ROUTER

    node = lab.nodes["b1"]
    eni, own = node.eni("ens7"), [str(address) for address in node.primary.addresses]
    agent, metadata = ["169.254.170.23", "fd00:ec2::23"], [str(address) for address in METADATA]
    targets = {**dict.fromkeys(own, KUBELET), **dict.fromkeys([*agent, *metadata], 80)}
    sources = {4: "192.168.0.15", 6: "fd00:192:168::15"}
    chain = lab.conflist([f"{sources[4]}/32", f"{sources[6]}/128"], eth="ens7")

    def on_eni(act: Callable[[Any], Any]) -> Any:
        return netns.inside(node.ns, lambda: act(link_by_mac(eni.mac)))

    with pods(node, "near") as (near,), contextlib.ExitStack() as opened:
        node.add(near, chain)
        for address in agent:
            netns.ip(node.ns, [f"addr add {address} dev lo"])
            opened.callback(netns.ip, node.ns, [f"addr del {address} dev lo"])
        netns.sysctl(node.ns, {"ipv4/conf/all/rp_filter": 0, "ipv4/conf/ens7/rp_filter": 0})
        # Who hears what: a socket on each address of the host; on eth0, what is forwarded to metadata.
        ears = {to: netns.inside(node.ns, packets, "eth0") for to in metadata}
        ears |= {to: netns.inside(node.ns, hearing, to, targets[to]) for to in own + agent}
        for ear in ears.values():
            opened.enter_context(ear)

        def heard(send: Callable[[bytes], object]) -> list[str]:
            """Send, then have the host send to each target: what has not come before that does not come."""
            mark = next(MARKS)
            send(mark)
            results = []
            for to, port in targets.items():
                netns.inside(node.ns, say, to, port, b"last" + mark)
                while not (got := ears[to].recv(2048)).endswith(b"last" + mark):
                    if got.endswith(mark) and (to not in metadata or ip_address(to).packed in got):
                        results.append(to)
            return results

        def as_net_admin(mark: bytes) -> None:
            for to, port in targets.items():
                inside(near, say, to, port, mark, sources[ip_address(to).version])

        def as_net_raw(mac: str, mark: bytes) -> None:
            packets = [udp(sources[ip_address(to).version], to, port, mark) for to, port in targets.items()]
            inside(near, send_raw, [ethernet(mac, packet) for packet in packets])

        by_own_mac, by_broadcast = (partial(as_net_raw, mac) for mac in (eni.mac, "ff:ff:ff:ff:ff:ff"))
        equal(heard(by_own_mac), list(targets))  # the pod's unreachable routes are no hindrance
        equal(heard(by_broadcast), own + agent)  # which the host takes in, and does not forward
        assert on_eni(guard.ensure).changed
        equal(heard(by_own_mac), [])
        equal(heard(by_broadcast), [])
        flush = ["route", "flush", "type", "unreachable", "table", "all"]
        for family, gateway in (("-4", eni.subnet.gateway), ("-6", VPC_ROUTER)):
            node.run(["ip", "-n", near.ns, family, *flush])
            netns.ip(near.ns, [f"neigh replace {gateway} lladdr {eni.mac} dev net1 nud permanent"])
        equal(heard(as_net_admin), [])
        assert not on_eni(guard.ensure).changed
        on_eni(guard.remove)
        equal(heard(as_net_admin), list(targets))
        assert on_eni(forwarding.stop)
        equal(heard(as_net_admin), own + agent)  # what comes in is not sent on to metadata
        netns.inside(node.ns, forwarding.resume)
        node.delete(near, chain)


KUBELET = 10250
MARKS = (f"mark {number}".encode() for number in itertools.count())


def equal(got: object, wanted: object) -> None:
    assert got == wanted, f"{got}, not {wanted}"


def hearing(address: str, port: int) -> socket.socket:
    sock = datagrams(address)
    sock.bind((address, port))
    sock.settimeout(4 * PATIENCE)
    return sock


def packets(link: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL: what leaves, too
    sock.bind((link, 3))
    sock.settimeout(4 * PATIENCE)
    return sock


def say(to: str, port: int, what: bytes, source: str = "") -> None:
    with datagrams(to) as sock:
        if source:
            sock.bind((source, 0))
        sock.sendto(what, (to, port))


def datagrams(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)


def ethernet(mac: str, packet: bytes) -> bytes:
    """Return a frame from this MAC to itself."""
    kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    return 2 * bytes.fromhex(mac.replace(":", "")) + struct.pack("!H", kind) + packet


def udp(source: str, to: str, port: int, payload: bytes) -> bytes:
    """Return an IP packet with a datagram."""
    addresses = ip_address(source).packed + ip_address(to).packed
    length = 8 + len(payload)
    head = struct.pack("!HHH", 5555, port, length)
    total = checksum(addresses + struct.pack("!II", length, 17) + head + b"\0\0" + payload)
    datagram = head + total + payload
    if len(addresses) == 32:
        return struct.pack("!IHBB", 6 << 28, length, 17, 64) + addresses + datagram
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 1, 0, 64, 17)
    return start + checksum(start + addresses) + addresses + datagram


def checksum(data: bytes) -> bytes:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


RAW = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
    sock.bind(("net1", 0))
    for frame in sys.argv[1:]:
        sock.send(bytes.fromhex(frame))
"""


def send_raw(frames: list[bytes]) -> None:
    """Send from net1 as one who has NET_RAW and nothing else."""
    caps = [f"--{kind}=-all,+net_raw" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
    program = [sys.executable, "-ISc", RAW, *(frame.hex() for frame in frames)]
    subprocess.run(["setpriv", *caps, "--reuid", "1000", "--clear-groups", *program], check=True)


def connects(source: str, target: str) -> bool:
    try:
        socket.create_connection((target, 80), timeout=PATIENCE / 2, source_address=(source, 0)).close()
    except OSError:
        return False
    return True


def refusal(node: Node, pod: Pod, chain: dict[str, Any]) -> PluginError:
    from lab.chain import PluginError

    try:
        node.add(pod, chain)
    except PluginError as e:
        return e
    raise AssertionError("ADD accepted it")


def refused(lab: Lab, mode: str, address: str) -> None:
    """Error 7 says what to do, and neither EC2 nor the pod nor the disk has anything of ours."""
    node = lab.nodes["b1"]
    chain = lab.conflist([address], eth="ens7")
    chain["plugins"][0]["mode"] = mode
    before = truth(lab)
    claims = sorted(p.name for p in node.data_dir.rglob("*.json"))
    with pods(node, "wrong") as (wrong,):
        error = refusal(node, wrong, chain)
        assert (error.plugin, error.code) == ("floatip", 7), str(error)
        assert "l2" in f"{error.msg} {error.details}", str(error)
        assert truth(lab) == before
        assert sorted(p.name for p in node.data_dir.rglob("*.json")) == claims
        rules = node.run(["ip", "-n", wrong.ns, "rule", "show"]).stdout
        assert address.partition("/")[0] not in rules
        node.delete(wrong, chain)


@scenario
def ipvlan_l3_is_refused(lab: Lab) -> None:
    refused(lab, "l3", "192.168.0.10/32")


@scenario
def ipvlan_l3s_is_refused(lab: Lab) -> None:
    refused(lab, "l3s", "192.168.0.11/32")


def main(wanted: list[str]) -> int:
    from lab.world import Lab

    began = time.monotonic()
    with Lab(azs=2, nodes_per_az=1) as lab:
        tell(lab=True, seconds=time.monotonic() - began, ipvlan=lab.has_ipvlan)
        for name in wanted or SCENARIOS:
            began, failure = time.monotonic(), ""
            try:
                SCENARIOS[name](lab)
            except Exception:  # noqa: BLE001 - a scenario's failure is what is told
                failure = traceback.format_exc()
            tell(scenario=name, seconds=time.monotonic() - began, failure=failure)
    return 0


def tell(**what: Any) -> None:
    if "seconds" in what:
        what["seconds"] = round(what["seconds"], 1)
    print(json.dumps(what), flush=True)  # noqa: T201 - this is what standard output is for


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
