"""A VPC on one machine: Availability Zones with worker nodes, a router, clients, EC2 and instance metadata.

``with Lab() as lab:`` builds everything in namespaces of its own and removes everything, whatever happens in
between. It never touches the machine's own network.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import string
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_interface
from types import TracebackType
from typing import Any

from cni_floatip.model.values import Address
from lab import leftovers, needs, netns, vpcview
from lab.client import Client
from lab.ec2 import SimulatedEC2
from lab.errors import LabError
from lab.imds import Imds
from lab.node import Az, Node
from lab.router import METADATA, Port, Router
from lab.vpc import FLOATING, FLOATING6, REMOTE_CIDR, REMOTE_CIDR6, TAG, VPC_CIDR, VPC_CIDR6, Eni, Vpc

EC2_PORT = 8000
CLIENT_HOST = 10

_running = threading.Lock()


class Lab:
    """The whole world. See the attributes set in ``__init__`` for what there is to use."""

    vpc_cidr, vpc_cidr6 = VPC_CIDR, VPC_CIDR6
    floating, floating6 = FLOATING, FLOATING6

    def __init__(
        self,
        azs: int = 2,
        nodes_per_az: int = 2,
        prefix: str | None = None,
        *,
        owner: int | None = None,
        guests: Mapping[str, str] | None = None,
        agents: bool = False,
        policy: Mapping[str, Any] | None = None,
        prepared: bool = False,
        seed: int = 0,
        packets: bool = True,
        warm: bool = False,
        machines: Sequence[str] = (),
    ) -> None:
        """``guests``: node -> account, for nodes of accounts that merely take part in the VPC (a shared VPC).
        ``agents``: every node runs the agent, and its runtime the client; else plugins run in direct mode.
        ``policy``: more keys of every node's configuration. ``seed``: ids and MAC addresses follow from it.
        ``prepared``: a node template and an administrator have done what install/ says; otherwise an ENI is
        down and named by its slot, no security group lets floating IPs in, agents act in the node's name.
        ``packets``: the router does what EC2 says after each write, which is most of what a write costs;
        False where no VPC packet is sent. ``warm``: our own programs run by forks (``Node.starter``).
        ``machines``: names of more machines in the client's subnet that are no nodes (``self.machines``).
        """
        self.prefix = prefix or f"fl-{os.getpid()}-"
        self._seed = seed
        self._packets = packets
        self.warm = warm
        self.nodes: dict[str, Node] = {}
        self.imds: dict[str, Imds] = {}
        self.azs: dict[str, Az] = {}
        self.clients: dict[str, Client] = {}
        self.machines: dict[str, Client] = {}
        self.followed: list[float] = []
        self._owner = owner or os.getpid()
        self._shape = (azs, nodes_per_az)
        self._machines = tuple(machines)
        self._guests = dict(guests or {})
        self.agents = agents
        self._policy = dict(policy or {})
        self.prepared = prepared
        self._things_to_close = contextlib.ExitStack()

    def __enter__(self) -> Lab:
        if not _running.acquire(blocking=False):
            raise LabError("this process runs a lab already, and the simulated EC2 exists once per process")
        self._things_to_close.callback(_running.release)
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, where: TracebackType | None
    ) -> None:
        self._remove()

    def _build(self) -> None:
        needs.require()
        leftovers.sweep()
        self.state = leftovers.register(self.prefix, self._owner)
        self._things_to_close.callback(leftovers.remove, self.prefix)
        self.ec2 = SimulatedEC2(seed=self._seed)
        self._things_to_close.callback(self.ec2.reset)
        self._things_to_close.callback(self.ec2.close)
        azs, per_az = self._shape
        self.vpc = Vpc(self.ec2.client(), string.ascii_lowercase[:azs])
        self.vpc.build()
        self.tables = self.vpc.tables
        self.dummy_subnets = self.vpc.dummy_subnets
        self._build_network(per_az)
        for node in self.nodes.values():
            node.write_config(self.node_config())
        if self.prepared:
            self.vpc.let_in(entry["cidr"] for entry in self.node_config()["allowedDestinations"])
            for node in self.nodes.values():
                node.finish(f"arn:aws:iam::{self.ec2.account}:role/cni-floatip")
        if self.agents:
            self._start_agents()

    def _start_agents(self) -> None:
        """Start every node's agent and install its client, all side by side."""
        for node in self.nodes.values():
            node.start_agent(wait=False)
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(Node.install_client, self.nodes.values()))
        for node in self.nodes.values():
            node.agent.wait()

    def _build_network(self, per_az: int) -> None:
        launched = [
            (self.vpc.instance(f"{az}{number}", az, number, self._client_for(f"{az}{number}")), number)
            for az in self.vpc.azs
            for number in range(1, per_az + 1)
        ]
        for instance, number in launched:
            self.nodes[instance.name] = Node(self, instance, number, self.state / instance.name)
        for az in self.vpc.azs:
            self.azs[az] = Az(az, tuple(node for node in self.nodes.values() if node.az == az))
        client = self.vpc.eni(self.vpc.subnets["client"], CLIENT_HOST, "eth0", 0, "client")
        plugged = {f"{self.prefix}client": client}
        for number, name in enumerate(self._machines, CLIENT_HOST + 1):
            eni = self.vpc.eni(self.vpc.subnets["client"], number, "eth0", 0, name)
            self.machines[name] = Client(name, f"{self.prefix}{name}", eni.addresses)
            plugged[self.machines[name].namespace] = eni
        remote: tuple[Address, ...] = (REMOTE_CIDR[CLIENT_HOST], REMOTE_CIDR6[CLIENT_HOST])
        self.clients["vpc"] = Client("vpc", f"{self.prefix}client", client.addresses)
        self.clients["tgw"] = Client("tgw", f"{self.prefix}remote", remote)
        self.router = Router(f"{self.prefix}rt")

        namespaces = [self.router.netns, *(n.ns for n in self.nodes.values())]
        others = (*self.clients.values(), *self.machines.values())
        netns.make([*namespaces, *(c.namespace for c in others)])
        self.router.start()
        self._things_to_close.callback(self.router.close)
        for node in self.nodes.values():
            node.prepare()
        self.router.plug(dict(self._ports(plugged, remote)))
        netns.ip_each(
            {node.ns: node.boot_lines() for node in self.nodes.values()}
            | {c.namespace: _client_lines(c) for c in others}
        )
        if self._packets:
            self.ec2.subscribe(self.follow)
        self.follow()
        self._serve()

    def _client_for(self, node: str) -> Any:
        """Return a client of the account that is to have the node; the VPC is shared with a guest's."""
        account = self._guests.get(node)
        if account:
            self.ec2.share_vpc(self.vpc.id, account)
        return self.ec2.client(account=account)

    def _ports(
        self, others: Mapping[str, Eni], remote: Sequence[Address]
    ) -> Iterator[tuple[Port, tuple[str, str]]]:
        """Yield the router's ports: of the nodes' ENIs, of other machines' by namespace, and the far one."""
        number = 0
        for owner, ns, eni in [
            *((node.name, node.ns, eni) for node in self.nodes.values() for eni in node.enis),
            *((ns.removeprefix(self.prefix), ns, eni) for ns, eni in others.items()),
        ]:
            number += 1
            gateways = (eni.subnet.gateway, eni.subnet.gateway6)
            port = Port(
                f"{owner}-{eni.ifname}", number, eni.id, eni.mac, eni.subnet.id, gateways, eni.addresses
            )
            yield port, (ns, eni.ifname)
        far = (REMOTE_CIDR[1], REMOTE_CIDR6[1])
        port = Port("tgw", number + 1, "", "02:00:99:00:00:0a", "remote", far, tuple(remote))
        yield port, (self.clients["tgw"].namespace, "eth0")

    def _serve(self) -> None:
        """Open EC2's door in every node, and instance metadata's on every link of it."""
        for node in self.nodes.values():
            sock = netns.inside(node.ns, _listen, "127.0.0.1", EC2_PORT)
            self.ec2.listen(sock, node.name)
            imds = Imds(lambda instance=node.instance_id: self.ec2.instance(instance))  # type: ignore[misc]
            for eni in node.enis:
                for address in METADATA:
                    link = f"{node.name}-{eni.ifname}"
                    imds.listen(netns.inside(self.router.netns, _listen, str(address), 80, link))
            self.imds[node.name] = imds
            self._things_to_close.callback(imds.close)

    def follow(self) -> None:
        """Make the router hold what EC2 holds. EC2 calls this after every change, before it answers."""
        began = time.perf_counter()
        self.router.follow(lambda: vpcview.look(self.ec2, self.vpc.id, self.vpc.tgw_table))
        self.followed.append(time.perf_counter() - began)

    def predecessor(
        self, eth: str = "eth1", addresses: Sequence[str] = ("192.168.0.2/32",)
    ) -> dict[str, Any]:
        """Return the entry that makes the interface: ipvlan l2, or macvlan passthru where there is no ipvlan.

        Passthru is like EC2 in that the pod's frames carry the ENI's MAC; its price is one pod per ENI.
        """
        how = {"type": "ipvlan", "mode": "l2"} if self.has_ipvlan else {"type": "macvlan", "mode": "passthru"}
        return {
            **how,
            "master": eth,
            "ipam": {"type": "static", "addresses": [{"address": a} for a in addresses]},
        }

    @property
    def has_ipvlan(self) -> bool:
        """Say whether this kernel has ipvlan."""
        if not hasattr(self, "_has_ipvlan"):
            self._has_ipvlan = _kernel_has_ipvlan(self.router.netns)
        return self._has_ipvlan

    def floatip_entry(self, **overrides: Any) -> dict[str, Any]:
        """Return the ``floatip`` entry that claims in every route table of this lab's clients and nodes."""
        return {"type": "floatip", "routeTables": {"tags": dict(TAG)}, **overrides}

    def conflist(
        self,
        addresses: Sequence[str] = ("192.168.0.2/32",),
        *,
        eth: str = "eth1",
        name: str = "floating",
        version: str = "1.0.0",
        **overrides: Any,
    ) -> dict[str, Any]:
        """Return a whole chain: the predecessor with these addresses, then ``floatip``."""
        plugins = [self.predecessor(eth, addresses), self.floatip_entry(**overrides)]
        return {"cniVersion": version, "name": name, "plugins": plugins}

    def node_config(self) -> dict[str, Any]:
        """Return the policy that every node starts with: the floating ranges, and the lab's own tables."""
        dummies = [str(net) for subnet in self.dummy_subnets for net in (subnet.cidr, subnet.cidr6)]
        allowed = [{"cidr": cidr} for cidr in (str(FLOATING), str(FLOATING6), *dummies)]
        return {"allowedDestinations": allowed, "allowedRouteTables": {"tags": dict(TAG)}, **self._policy}

    def _remove(self) -> None:
        with undisturbed():
            for node in self.nodes.values():
                node.agent.close()
                for pod in node.pods:
                    pod.stop()
            self._things_to_close.close()


def _client_lines(client: Client) -> Iterator[str]:
    v4, v6 = client.addresses
    assert isinstance(v4, IPv4Address)
    assert isinstance(v6, IPv6Address)
    yield "link set lo up"
    yield "link set eth0 up"
    yield f"addr add {v4}/24 dev eth0"
    yield f"addr add {v6}/64 dev eth0 nodad"
    yield f"route add 0.0.0.0/0 via {ip_interface(f'{v4}/24').network[1]} dev eth0"
    yield "route add ::/0 via fe80:ec2::1 dev eth0"


def _listen(address: str, port: int, link: str = "") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if link:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
    sock.bind((address, port))
    sock.listen(64)
    return sock


def _kernel_has_ipvlan(ns: str) -> bool:
    """Try it: a namespace of the lab is the place where a failed experiment hurts nobody."""
    try:
        netns.ip(
            ns,
            [
                "link add trial type veth peer name trial2",
                "link add link trial name trial3 type ipvlan mode l2",
            ],
        )
    except LabError:
        return False
    finally:
        netns.ip(ns, ["link del trial"])
    return True


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep a second Ctrl-C from stopping the clean-up half way (only the main thread hears signals)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
