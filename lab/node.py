"""A worker node: a namespace with ENIs and pods, a container runtime's half of CNI, and how it fails."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import agent, direct, netns
from lab.chain import Document, Runtime, plugin_path
from lab.forkserver import run_to_end
from lab.pod import Pod, make_pods, remove_pods
from lab.router import VPC_ROUTER
from lab.vpc import Eni, Instance

if TYPE_CHECKING:
    from lab.world import Lab

Starter = Callable[..., subprocess.Popen[Any]]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
EC2_ENDPOINT = "http://127.0.0.1:8000"
METADATA_ENDPOINT = "http://169.254.169.254"
FIRST_POD = 100
"""Pods have cluster addresses from here on in their node's own subnet, a block of 64 per node."""


class Node:
    """One worker. ``run`` is how anything is done on it; ``add`` ... ``status`` are what its runtime does."""

    def __init__(self, lab: Lab, instance: Instance, number: int, state: Path) -> None:
        self.name = instance.name
        self.az = instance.az
        self.instance_id = instance.id
        self.enis: tuple[Eni, ...] = instance.enis
        self._ec2 = instance.ec2
        self.ns = f"{lab.prefix}{instance.name}"
        self.state = state
        self.data_dir = state / "data"
        self.pods: list[Pod] = []
        self.is_up = True
        self.env = {
            "AWS_ENDPOINT_URL_EC2": EC2_ENDPOINT,
            "AWS_ENDPOINT_URL_STS": EC2_ENDPOINT,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": METADATA_ENDPOINT,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "FLOATIP_CONFIG": str(state / "config.json"),
        }
        self.agent = agent.Agent(self.ns, state)
        self.agent.forked = lab.warm
        self.bin_dir = state / "bin"
        self.runtime = Runtime(self._execute, self.plugin_path)
        self._lab = lab
        self._numbers = itertools.count()
        self._first_pod = FIRST_POD + 40 * (number - 1)
        self._ahead: list[Pod] = []
        self.data_dir.mkdir(parents=True, exist_ok=True)

    @property
    def netns(self) -> str:
        return str(netns.path(self.ns))

    @property
    def primary(self) -> Eni:
        return self.enis[0]

    def eni(self, ifname: str) -> Eni:
        """Return the ENI of this name."""
        return next(eni for eni in self.enis if eni.ifname == ifname)

    def plugin_path(self) -> list[Path]:
        """Return where this node's plugins are: the client, once installed, hides direct mode's script."""
        installed = (self.bin_dir / "floatip").exists()
        return [*([self.bin_dir] if installed else []), *plugin_path()]

    def prepare(self) -> None:
        """Set what must be there before the first link: a node that runs Kubernetes forwards."""
        netns.sysctl(
            self.ns,
            {
                "ipv4/ip_forward": 1,
                "ipv6/conf/all/forwarding": 1,
                "ipv6/conf/default/forwarding": 1,
                "ipv6/conf/default/keep_addr_on_down": 1,
            },
        )

    def finish(self, role: str) -> None:
        """Name the ENIs as install/cloudformation/node/floatip-links does, and give the agent a role of its
        own as IRSA does: by a token of its service account."""
        names = ((eni.ifname, f"floatip{eni.device}") for eni in self.enis[1:])
        netns.ip(self.ns, [f"link property add dev {ifname} altname {name}" for ifname, name in names])
        token = self.state / "token"
        token.write_text("header.claims.signature")
        self.env |= {"AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": str(token)}

    def boot_lines(self) -> Iterator[str]:
        """Configure eth0 as DHCP does, bring eth1 up as a node template does. Unless the lab is prepared,
        leave the third ENI alone: AL2023 leaves a hot-plugged one down."""
        yield "link set lo up"
        for eni in self.enis if self._lab.prepared else self.enis[:2]:
            yield f"link set {eni.ifname} up"
        v4, v6 = self.primary.addresses
        yield f"addr replace {v4}/{self.primary.subnet.cidr.prefixlen} dev eth0"
        yield f"addr replace {v6}/64 dev eth0 nodad"
        yield f"route replace 0.0.0.0/0 via {self.primary.gateway} dev eth0"
        yield f"route replace ::/0 via {VPC_ROUTER} dev eth0"
        yield from (f"route replace {pod.address}/32 dev {pod.host_link}" for pod in self.pods)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002 - named as in subprocess.run
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        start: Starter | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on this node: in its namespace, with a clean environment and where to find AWS.

        ``start`` says how, else ``starter``: ``lab.direct.start`` makes a call in direct mode by a fork.
        """
        process = netns.inside(
            self.ns,
            start or self.starter(argv[0]),
            list(argv),
            env={**self._basics, **(env or {})},
            cwd="/",
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return run_to_end(process, input or "", timeout)

    def starter(self, program: str) -> Starter:
        """Say how a program is started: in a warm lab one of ours by a fork (``lab.forkserver``)."""
        forks: dict[str, Starter] = {
            str(direct.SCRIPT): direct.start,
            str(agent.PROGRAM): agent.start_program,
            str(self.bin_dir / "floatip"): agent.start_client,
        }
        return forks.get(str(program), subprocess.Popen) if self._lab.warm else subprocess.Popen

    @property
    def _basics(self) -> dict[str, str]:
        """The environment of everything on this node."""
        return {"PATH": PATH, "HOME": str(self.state), "LANG": "C.UTF-8", **self.env}

    def install_client(self) -> None:
        """Install the client that hands calls to the agent; from now on the node's runtime uses it."""
        agent.install_client(self.run, self.bin_dir)

    def start_agent(
        self, *, env: Mapping[str, str] | None = None, sees: Sequence[str] = (), wait: bool = True
    ) -> None:
        """Start the node's agent (again); see ``lab.agent`` for ``sees``."""
        self.agent.start({**self._basics, **(env or {})}, sees=sees, wait=wait)

    def stop_agent(self) -> None:
        """End the agent as a rollout does. The client stays: its calls find nobody."""
        self.agent.stop()

    def _execute(
        self, argv: list[str], stdin: str, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        return self.run(argv, input=stdin, env=env, timeout=timeout)

    def write_config(self, document: Document) -> Path:
        """Write the node configuration; its directories are this node's unless the document names others."""
        own = {
            "dataDir": str(self.data_dir),
            "socketPath": str(self.agent.socket),
            "spoolDir": str(self.agent.spool),
        }
        path = Path(self.env["FLOATIP_CONFIG"])
        path.write_text(json.dumps({**own, **document}, indent=2) + "\n")
        return path

    def pod(self, name: str, *, namespace: str = "default", serve: bool = True) -> Pod:
        """Make a pod sandbox with its cluster interface. ``serve``: it answers datagrams with its name."""
        if self._ahead:
            pod = self._ahead.pop(0)
            pod.name, pod.namespace = name, namespace
        else:
            pod = self._new_pod(name, namespace)
            make_pods([pod])
        self.pods.append(pod)
        if serve:
            pod.serve()
        return pod

    def pods_ahead(self, count: int) -> None:
        """Make sandboxes for ``pod`` side by side, cheaper than one by one; none while one is left."""
        if not self._ahead:
            self._ahead = [self._new_pod("ahead", "default") for _ in range(count)]
            make_pods(self._ahead)

    def _new_pod(self, name: str, namespace: str) -> Pod:
        number = next(self._numbers)
        return Pod(
            name=name,
            namespace=namespace,
            container_id=hashlib.sha256(f"{self.ns} {name} {number}".encode()).hexdigest(),
            ns=f"{self.ns}-{name}-{number}",
            host_ns=self.ns,
            host_link=f"pod{number}",
            address=self._pod_address(number),
        )

    def _pod_address(self, number: int) -> IPv4Address:
        return self.primary.subnet.cidr[self._first_pod + number % 40]

    def remove_pod(self, *pods: Pod) -> None:
        """End pods and their sandboxes, with no word to any plugin.

        Their interfaces go first: a namespace goes some time after its name, and until then its macvlan keeps
        the ENI from the next pod.
        """
        netns.delete_links({pod.ns: self.runtime.forget_interfaces(pod) for pod in pods})
        remove_pods(pods)
        for pod in pods:
            self.pods.remove(pod)

    def add(self, pod: Pod, conflist: Document, ifname: str = "net1", **options: Any) -> dict[str, Any]:
        """Attach: run the chain, return its result or raise ``PluginError``."""
        return self.runtime.add(pod, conflist, ifname, **options)

    def delete(
        self,
        pod: Pod,
        conflist: Document,
        ifname: str = "net1",
        *,
        prev_result: bool = True,
        netns: bool = True,
        **options: Any,
    ) -> None:
        """Detach: run the chain backwards."""
        self.runtime.delete(pod, conflist, ifname, prev_result=prev_result, netns=netns, **options)

    def check(self, pod: Pod, conflist: Document, ifname: str = "net1", **options: Any) -> None:
        """CHECK with the result of the last ADD."""
        self.runtime.check(pod, conflist, ifname, **options)

    def gc(self, conflist: Document, valid: Iterable[tuple[Pod, str]] | None = (), **options: Any) -> None:
        """GC: everything but the ``valid`` attachments is to be cleaned up."""
        self.runtime.gc(conflist, valid, **options)

    def status(self, conflist: Document, **options: Any) -> None:
        """STATUS of every plugin of the chain."""
        self.runtime.status(conflist, **options)

    def cut_network(self) -> None:
        """Take every ENI's link down, as seen from the node: nothing arrives, nothing leaves."""
        netns.ip(self.ns, [f"link set {eni.ifname} down" for eni in self.enis])

    def mend_network(self) -> None:
        """Bring back what was up at boot."""
        netns.ip(self.ns, self.boot_lines())

    def fail(self) -> None:
        """Lose the node as an AZ failure does: no packets, no EC2, and EC2 sees the instance stopped.

        Its agent goes on, cut off like everything else that runs there.
        """
        self.cut_network()
        self._lab.ec2.faults.cut(self.name)
        self._ec2.stop_instances(InstanceIds=[self.instance_id])
        self.is_up = False

    def recover(self) -> None:
        """The node is back, with everything that was on it, as after a network partition."""
        self._ec2.start_instances(InstanceIds=[self.instance_id])
        self._lab.ec2.faults.heal(self.name)
        self.mend_network()
        self.is_up = True

    def crash(self) -> None:
        """Lose the node as a power cut does: its pods and its agent end with no word to anybody."""
        self.agent.kill()
        self.fail()
        for pod in list(self.pods):
            self.remove_pod(pod)
        self.agent.socket.unlink(missing_ok=True)  # /run does not outlive a boot

    def boot(self, *, agent: bool = True) -> None:
        """Start a crashed node: its disk is as it was, its boot id is another."""
        (self.state / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self.recover()
        if agent:
            self.start_agent()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Az:
    """An Availability Zone: the nodes that fail together."""

    name: str
    nodes: tuple[Node, ...]

    def fail(self) -> None:
        """Lose every node; the links go first, all of them."""
        for node in self.nodes:
            node.cut_network()
        for node in self.nodes:
            node.fail()

    def recover(self) -> None:
        """Bring every node back."""
        for node in self.nodes:
            node.recover()
