"""The lab's network is no kinder than a VPC: each test would pass on EC2, or names what EC2 would do."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import netns
from lab.client import PORT
from lab.router import METADATA
from lab.world import Lab

pytestmark = pytest.mark.needs("root", "ip", "macvlan-plugin", "static-plugin")

V4, V6 = "192.168.0.2", "fd00:192:168::2"


def check(lab: Any, eni: Any, on: Any) -> None:
    lab.ec2.client().modify_network_interface_attribute(
        NetworkInterfaceId=eni.id, SourceDestCheck={"Value": on}
    )


def write(lab: Any, table: Any, destination: Any, eni: Any) -> None:
    """Point a destination at an ENI in one table, whatever was there."""
    erase(lab, table, destination)
    key = "DestinationIpv6CidrBlock" if ":" in destination else "DestinationCidrBlock"
    lab.ec2.client().create_route(
        RouteTableId=lab.tables[table], NetworkInterfaceId=eni.id, **{key: destination}
    )


def erase(lab: Any, table: Any, destination: Any) -> None:
    key = "DestinationIpv6CidrBlock" if ":" in destination else "DestinationCidrBlock"
    if destination in lab.ec2.truth(lab.tables[table]):
        lab.ec2.client().delete_route(RouteTableId=lab.tables[table], **{key: destination})


def own_routes(pod: Any, eni: Any, addresses: Any) -> None:
    """What floatip would do in the pod, by hand: these tests are about the network alone."""
    bare = [address.partition("/")[0] for address in addresses]
    detected = [address for address in addresses if ":" in address]
    netns.ip(
        pod.ns,
        [
            *(f"addr del {address} dev net1" for address in detected),
            *(f"addr add {address} dev net1 nodad" for address in detected),
            f"route replace 0.0.0.0/0 via {eni.gateway} dev net1 onlink table 100",
            "route replace ::/0 via fe80:ec2::1 dev net1 table 100",
            *(f"rule add from {a} lookup 100" for a in bare if ":" not in a),
        ],
    )
    for address in bare:
        if ":" in address:
            netns.inside(pod.ns, rule6, address)


def rule6(address: Any) -> None:
    import subprocess

    subprocess.run(["ip", "-6", "rule", "add", "from", address, "lookup", "100"], check=True)


@contextlib.contextmanager
def attached(
    lab: Any,
    node: Any,
    name: Any,
    *,
    ifname: str = "eth1",
    addresses: Any = (f"{V4}/32", f"{V6}/128"),
    **predecessor: Any,
) -> Iterator[Any]:
    """A pod behind one ENI, with its routes, and with source/dest check off as floatip would leave it."""
    chain = {
        "cniVersion": "1.0.0",
        "name": "alone",
        "plugins": [{**lab.predecessor(ifname, addresses), **predecessor}],
    }
    eni = node.eni(ifname)
    pod = node.pod(name)
    node.run(["ip", "link", "set", ifname, "up"])
    check(lab, eni, False)
    try:
        node.add(pod, chain)
        own_routes(pod, eni, addresses)
        yield pod
    finally:
        node.remove_pod(pod)
        check(lab, eni, True)


@pytest.fixture
def web(lab: Lab) -> Iterator[Any]:
    """A pod on a1 with both floating addresses, and routes to it in every table."""
    node = lab.nodes["a1"]
    with attached(lab, node, "web") as pod:
        for table in lab.tables:
            for destination in (f"{V4}/32", f"{V6}/128"):
                write(lab, table, destination, node.eni("eth1"))
        yield pod
        for table in lab.tables:
            for destination in (f"{V4}/32", f"{V6}/128"):
                erase(lab, table, destination)


def test_nodes_have_the_enis_that_ec2_says(lab: Lab) -> None:
    for node in lab.nodes.values():
        links = node.run(["ip", "-br", "link"]).stdout
        for eni in node.enis:
            line = next(line for line in links.splitlines() if line.startswith(eni.ifname))
            assert eni.mac in line
            flags = line.partition("<")[2].rstrip("> ").split(",")
            assert ("UP" in flags) == (eni.ifname != "ens7")


def test_everybody_inside_the_vpc_reaches_everybody(lab: Lab) -> None:
    here, *others = (node.primary.addresses for node in lab.nodes.values())
    for address in (*others[0], *others[-1], *lab.clients["vpc"].addresses, *lab.clients["tgw"].addresses):
        assert lab.nodes["a1"].run(["ping", "-c1", "-W1", str(address)]).returncode == 0, address
    for client in lab.clients.values():
        assert [client.ping(address) for address in here] == [3, 3]


@pytest.mark.parametrize("address", [V4, V6])
def test_a_routed_address_is_answered_by_its_pod(lab: Lab, web: Any, address: Any) -> None:
    assert {name: c.ask(address) for name, c in lab.clients.items()} == {"vpc": "web", "tgw": "web"}
    assert lab.clients["vpc"].ping(address) == 3


@pytest.mark.parametrize("address", [V4, V6])
@pytest.mark.parametrize(("table", "client"), [("client", "vpc"), ("tgw", "tgw")])
def test_the_subnet_s_own_table_decides(lab: Lab, web: Any, address: Any, table: str, client: str) -> None:
    destination = f"{address}/{128 if ':' in address else 32}"
    erase(lab, table, destination)
    reached = {name: c.ask(address, 0.3) for name, c in lab.clients.items()}
    assert reached == {"vpc": "web", "tgw": "web"} | {client: None}
    write(lab, table, destination, lab.nodes["a1"].eni("eth1"))
    assert lab.clients[client].ask(address) == "web"


@pytest.mark.parametrize("address", [V4, V6])
def test_source_dest_check_drops_what_is_not_the_eni_s_own(lab: Lab, web: Any, address: Any) -> None:
    eni = lab.nodes["a1"].eni("eth1")
    client = lab.clients["vpc"]
    check(lab, eni, True)
    assert client.ask(address, 0.3) is None
    check(lab, eni, False)
    assert client.ask(address) == "web"


@pytest.mark.parametrize("address", [V4, V6])
def test_source_dest_check_works_in_each_direction_by_itself(lab: Lab, web: Any, address: Any) -> None:
    node, client = lab.nodes["a1"], lab.clients["vpc"]
    theirs = str(client.addresses[":" in address])
    check(lab, node.eni("eth1"), True)
    with heard(web.ns, address) as inbound, heard(client.namespace, theirs) as outbound:
        send(client.namespace, theirs, address)
        send(web.ns, address, theirs)
        assert (inbound(), outbound()) == (None, None)
    check(lab, node.eni("eth1"), False)
    with heard(web.ns, address) as inbound, heard(client.namespace, theirs) as outbound:
        send(client.namespace, theirs, address)
        send(web.ns, address, theirs)
        assert (inbound(), outbound()) == (theirs, address)


@contextlib.contextmanager
def heard(namespace: Any, address: Any, port: int = 7100) -> Iterator[Callable[..., Any]]:
    """Listen, and tell where a datagram came from."""

    def bind() -> Any:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, port))
        sock.settimeout(0.3)
        return sock

    with netns.inside(namespace, bind) as sock:

        def sender() -> Any:
            try:
                return sock.recvfrom(100)[1][0]
            except TimeoutError:
                return None

        yield sender


def send(namespace: Any, source: Any, destination: Any, port: int = 7100) -> None:
    def go() -> None:
        with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((source, 0))
            sock.sendto(b"hello", (destination, port))

    netns.inside(namespace, go)


@pytest.mark.parametrize("address", [V4, V6])
def test_a_blackhole_drops_in_silence(lab: Lab, web: Any, address: Any) -> None:
    """No ICMP unreachable: the client waits, as it would on AWS."""
    lab.ec2.client().stop_instances(InstanceIds=[lab.nodes["a1"].instance_id])
    try:
        assert (
            netns.inside(lab.clients["vpc"].namespace, what_a_connected_socket_learns, address) == "nothing"
        )
    finally:
        lab.ec2.client().start_instances(InstanceIds=[lab.nodes["a1"].instance_id])
    assert lab.clients["vpc"].ask(address) == "web"


def what_a_connected_socket_learns(address: Any) -> Any:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        sock.connect((address, PORT))
        sock.send(b"x" * 16)
        try:
            sock.recv(100)
        except TimeoutError:
            return "nothing"
        except OSError as e:
            return errno.errorcode[e.errno or 0]
    return "an answer"


def test_without_a_route_there_is_silence_too(lab: Lab) -> None:
    assert (
        netns.inside(lab.clients["vpc"].namespace, what_a_connected_socket_learns, "192.168.0.77")
        == "nothing"
    )


def test_macvlan_in_bridge_mode_does_not_work(lab: Lab, web: Any) -> None:
    """As on EC2: the network delivers to the ENI's MAC, and the pod has another."""
    address = "192.168.0.9"
    node = lab.nodes["b1"]
    with attached(
        lab, node, "bridged", addresses=(f"{address}/32",), type="macvlan", mode="bridge"
    ) as bridged:
        for table in lab.tables:
            write(lab, table, f"{address}/32", node.eni("eth1"))
        assert lab.clients["vpc"].ask(address, 0.3) is None
        with heard(lab.clients["vpc"].namespace, str(lab.clients["vpc"].addresses[0])) as outbound:
            send(bridged.ns, address, str(lab.clients["vpc"].addresses[0]))
            assert outbound() is None or lab.router.source_mac_filter != "on"
        for table in lab.tables:
            erase(lab, table, f"{address}/32")


@pytest.mark.needs("nft")
def test_a_frame_with_a_foreign_source_mac_is_dropped(lab: Lab) -> None:
    assert lab.router.source_mac_filter == "on"
    node, client = lab.nodes["a2"], lab.clients["vpc"]
    theirs = str(client.addresses[0])
    mac = bytes.fromhex(node.primary.mac.replace(":", ""))
    for source, arrives in ((mac, str(node.primary.addresses[0])), (b"\x02\x00\x00\x00\x00\x01", None)):
        with heard(client.namespace, theirs) as outbound:
            frame = udp_frame(source, gateway_mac(node), str(node.primary.addresses[0]), theirs, 7100)
            netns.inside(node.ns, send_frame, "eth0", frame)
            assert outbound() == arrives


def gateway_mac(node: Any) -> Any:
    node.run(["ping", "-c1", "-W1", str(node.primary.gateway)])
    result = node.run(["ip", "neigh", "show", str(node.primary.gateway)]).stdout.split()
    return bytes.fromhex(result[result.index("lladdr") + 1].replace(":", ""))


def udp_frame(source_mac: Any, target_mac: Any, source: Any, target: Any, port: Any) -> Any:
    udp = struct.pack("!HHHH", port, port, 8, 0)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28, 1, 0, 64, 17, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    total = sum(struct.unpack("!10H", head))
    total = (total >> 16) + (total & 0xFFFF)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
    return target_mac + source_mac + b"\x08\x00" + head + udp


def send_frame(ifname: Any, frame: Any) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((ifname, 0))
        sock.send(frame)


@pytest.mark.needs("arping")
def test_arp_is_answered_for_the_subnet_and_for_nothing_else(lab: Lab, web: Any) -> None:
    node, sibling = lab.nodes["a1"], lab.nodes["a2"]
    request = {
        str(node.primary.gateway): True,
        str(sibling.primary.addresses[0]): True,
        "10.10.101.99": False,
        V4: False,
        str(lab.nodes["b1"].primary.addresses[0]): False,
        "10.99.0.10": False,
    }
    got = {a: node.run(["arping", "-c1", "-w1", "-I", "eth0", a]).returncode == 0 for a in request}
    assert got == request


def test_nd_is_answered_for_the_subnet_and_the_vpc_router_and_nothing_else(lab: Lab) -> None:
    node = lab.nodes["a1"]
    subnet = node.primary.subnet
    request = {
        "fe80:ec2::1%eth0": True,
        str(subnet.gateway6): True,
        str(lab.nodes["a2"].primary.addresses[1]): True,
        str(subnet.cidr6[0x99]): False,
        "fe80::1%eth0": False,
    }
    got = {a: node.run(["ping", "-c1", "-W1", a], timeout=10).returncode == 0 for a in request}
    assert got == request


def test_a_route_that_equals_a_subnet_carries_all_of_it(lab: Lab) -> None:
    """Pattern 2."""
    subnet = lab.dummy_subnets[0]
    node = lab.nodes["b2"]
    addresses = (f"{subnet.cidr[5]}/28", f"{subnet.cidr6[5]}/64")
    with attached(lab, node, "two", addresses=addresses):
        for net in (subnet.cidr, subnet.cidr6):
            for table in lab.tables:
                write(lab, table, str(net), node.eni("eth1"))
            for client in lab.clients.values():
                assert client.ask(net[5]) == "two"
                assert client.ask(net[6], 0.2) is None
            for table in lab.tables:
                erase(lab, table, str(net))
            assert lab.clients["vpc"].ask(net[5], 0.2) is None


def test_one_pod_reaches_another_through_the_vpc(lab: Lab, web: Any) -> None:
    node, address = lab.nodes["a2"], "192.168.0.3"
    with attached(lab, node, "peer", addresses=(f"{address}/32",)) as peer:
        for table in lab.tables:
            write(lab, table, f"{address}/32", node.eni("eth1"))
        assert peer.ask(V4, source=address) == "web"
        assert web.ask(address, source=V4) == "peer"
        for table in lab.tables:
            erase(lab, table, f"{address}/32")


@pytest.mark.needs("curl")
@pytest.mark.parametrize("eni", ["eth0", "eth1"])
def test_metadata_answers_on_every_eni_as_that_instance(lab: Lab, eni: str) -> None:
    node = lab.nodes["b1"]
    if eni != "eth0":
        node.run(["ip", "addr", "add", f"{node.eni(eni).addresses[0]}/24", "dev", eni])
        node.run(["ip", "route", "add", "169.254.169.254", "via", str(node.eni(eni).gateway), "dev", eni])
    try:
        assert instance_id(node.run) == node.instance_id
    finally:
        node.run(["ip", "route", "del", "169.254.169.254"])
        node.run(["ip", "addr", "flush", "dev", "eth1", "scope", "global"])


def test_metadata_answers_a_floating_ip_unless_source_dest_check_is_on(lab: Lab, web: Any) -> None:
    """That EC2 does so is why floatip puts an unreachable route into every pod."""
    node = lab.nodes["a1"]
    assert netns.inside(web.ns, connects, V4, str(METADATA[0]))
    assert netns.inside(web.ns, connects, V6, str(METADATA[1]))
    check(lab, node.eni("eth1"), True)
    assert not netns.inside(web.ns, connects, V4, str(METADATA[0]))
    assert not netns.inside(web.ns, connects, V6, str(METADATA[1]))


def connects(source: Any, target: Any) -> bool:
    try:
        socket.create_connection((target, 80), timeout=0.5, source_address=(source, 0)).close()
    except OSError:
        return False
    return True


def instance_id(run: Any) -> Any:
    base = "http://169.254.169.254/latest"
    ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60"
    token = run(["curl", "-sSf", "-m2", "-X", "PUT", "-H", ttl, f"{base}/api/token"]).stdout
    header = f"X-aws-ec2-metadata-token: {token}"
    return run(["curl", "-sSf", "-m2", "-H", header, f"{base}/meta-data/instance-id"]).stdout


@pytest.mark.parametrize(("client", "address"), [("vpc", V4), ("vpc", V6), ("tgw", V4), ("tgw", V6)])
def test_a_replaced_route_moves_traffic_without_loss(lab: Lab, web: Any, client: str, address: Any) -> None:
    there = lab.nodes["b1"]
    destination = f"{address}/{128 if ':' in address else 32}"
    with attached(lab, there, "there"), lab.clients[client].probe(address) as probe:
        assert probe.wait_answer("web")
        for table in lab.tables:
            write_over(lab, table, destination, there.eni("eth1"))
        assert probe.wait_answer("there")
    assert set(probe.report.by) == {"web", "there"}
    assert probe.report.lost == 0, str(probe.report)
    assert probe.report.max_gap < 0.5, str(probe.report)


def write_over(lab: Any, table: Any, destination: Any, eni: Any) -> None:
    key = "DestinationIpv6CidrBlock" if ":" in destination else "DestinationCidrBlock"
    lab.ec2.client().replace_route(
        RouteTableId=lab.tables[table], NetworkInterfaceId=eni.id, **{key: destination}
    )


@pytest.mark.needs("curl")
def test_an_az_that_fails_is_gone_and_comes_back(lab: Lab, web: Any) -> None:
    node, client = lab.nodes["a1"], lab.clients["vpc"]
    with client.probe(V4) as probe:
        probe.wait_answer("web")
        began = time.monotonic()
        lab.azs["a"].fail()
        probe.wait_silence(0.2)
        states = {lab.ec2.truth(table)[f"{V4}/32"].state for table in lab.tables.values()}
        assert states == {"blackhole"}
        assert node.run(["curl", "-sS", "-m1", "http://127.0.0.1:8000/"]).returncode != 0
        assert instance_id(node.run) == ""
        assert lab.nodes["b1"].run(["ping", "-c1", "-W1", str(node.primary.addresses[0])]).returncode != 0
        lab.azs["a"].recover()
        probe.wait_answer("web")
    silent_from, silent_until = probe.report.longest_silence
    assert began - 0.1 < silent_from < silent_until
    assert instance_id(node.run) == node.instance_id
    assert node.run(["ping", "-c1", "-W1", str(lab.nodes["b1"].primary.addresses[0])]).returncode == 0
    assert node.run(["ping", "-c1", "-W1", str(lab.nodes["b1"].primary.addresses[1])]).returncode == 0


def test_the_router_keeps_up(lab: Lab, web: Any) -> None:
    """An ADD waits for it in every call; the bound is generous because the machine is shared."""
    assert sorted(lab.followed)[len(lab.followed) // 2] < 0.05
