"""A node on which nothing is wrong, and the doctor on it: what a test plants is all that it may find."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.doctor.checks import CHECKS
from cni_floatip.doctor.finding import Finding, Severity
from cni_floatip.doctor.probe import Probe
from cni_floatip.doctor.runner import examine
from cni_floatip.edges import agent_socket
from lab import netns
from lab.ec2.cloud import access_key
from lab.pod import Pod
from lab.world import Lab
from tests.doctor.kubernetes_api import KubernetesApi
from tests.support.waiting import until

OWN = ("192.168.0.2", "fd00:192:168::2")


class Scene:
    """One lab node with an agent, a pod with floating IPs, and a cluster to ask."""

    def __init__(self, lab: Lab, cluster: KubernetesApi, env: pytest.MonkeyPatch) -> None:
        self.lab = lab
        self.cluster = cluster
        self.env = env
        self.node = lab.nodes["a1"]
        self.ec2: Any = lab.ec2.client()
        self.eth1, self.ens7 = self.node.eni("eth1"), self.node.eni("ens7")
        self.config = Path(self.node.env["FLOATIP_CONFIG"])
        self.bin_dir = self.node.bin_dir
        self.only: tuple[str, ...] = ()
        self.pod: Pod
        self.group = self.interface(self.eth1.id)["Groups"][0]["GroupId"]
        self.prepare()

    def prepare(self) -> None:
        """Do what a good node template and a good administrator do."""
        for key in [key for key in os.environ if key.startswith(("AWS_", "FLOATIP_", "KUBERNETES_"))]:
            self.env.delenv(key)
        for key, value in {**self.node.env, **self.cluster.env, **self.keys}.items():
            self.env.setenv(key, value)
        self.ip("link set ens7 up", "link property add dev ens7 altname floatip2")
        self.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[self.permission])
        self.pod = self.node.pod("db")
        self.node.add(self.pod, self.lab.conflist([f"{OWN[0]}/32", f"{OWN[1]}/128"]))
        self.restart_agent()

    def restart_agent(
        self, rests: Callable[[], bool] | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """Have an agent that has looked once and rests: it knows of no ADD to look again after."""
        self.node.stop_agent()
        for path in (self.node.data_dir / "claims").glob("*.json"):
            claim = json.loads(path.read_text())
            for route in claim["routes"]:
                route["since"] = 0.0
            path.write_text(json.dumps(claim))
        looked = len(self.lab.ec2.journal.of("DescribeNetworkInterfaces"))
        self.node.start_agent(env=env)
        self.node.agent.wait_ready()
        until(rests or (lambda: self.has_looked(looked)), self.status)

    def has_looked(self, before: int) -> bool:
        """Whether the agent has seen each of its routes, and asked for its ENI (``before``: so often)."""
        if len(self.lab.ec2.journal.of("DescribeNetworkInterfaces")) == before:
            return False
        return all(route["seen"] and route["seen"]["at"] for route in self.routes())

    def warns_of_every_route(self) -> bool:
        """Whether the agent has tried to see each of its routes, in vain."""
        return all(route["error"] for route in self.routes())

    def routes(self) -> list[dict[str, Any]]:
        """Return the routes of the node's claims as the agent tells of them."""
        return [route for claim in self.status()["claims"] for route in claim["routes"]]

    def status(self) -> dict[str, Any]:
        """Return what the agent tells."""
        return netns.inside(self.node.ns, agent_socket.status, str(self.node.agent.socket))

    @property
    def keys(self) -> dict[str, str]:
        """The agent's own identity, which is not the node's."""
        return {"AWS_ACCESS_KEY_ID": access_key(self.lab.ec2.account), "AWS_SECRET_ACCESS_KEY": "lab"}

    @property
    def permission(self) -> dict[str, Any]:
        nets = [entry["cidr"] for entry in self.lab.node_config()["allowedDestinations"]]
        return {
            "IpProtocol": "-1",
            "IpRanges": [{"CidrIp": net} for net in nets if ":" not in net],
            "Ipv6Ranges": [{"CidrIpv6": net} for net in nets if ":" in net],
        }

    def ip(self, *lines: str) -> None:
        netns.ip(self.node.ns, lines)

    def interface(self, eni: str) -> dict[str, Any]:
        result = self.ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"]
        return dict(result[0])

    @contextlib.contextmanager
    def policy(self, **changes: Any) -> Iterator[None]:
        """Another node configuration for a while (the agent keeps the one that it started with)."""
        before = self.config.read_text()
        document = {**json.loads(before), **changes}
        self.config.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
        try:
            yield
        finally:
            self.config.write_text(before)

    @contextlib.contextmanager
    def environment(self, **changes: str | None) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as env:
            for key, value in changes.items():
                env.delenv(key, raising=False) if value is None else env.setenv(key, value)
            yield

    @contextlib.contextmanager
    def asked_for(self, *names: str) -> Iterator[None]:
        """The doctor is called with these as ``--interface`` for a while."""
        self.only = names
        try:
            yield
        finally:
            self.only = ()

    def sysctl(self, **values: object) -> None:
        netns.sysctl(self.node.ns, {key.replace("__", "/"): str(value) for key, value in values.items()})

    def looks(self) -> Probe:
        return Probe(
            dict(os.environ),
            bin_dir=str(self.bin_dir),
            only=self.only,
            service_account=self.cluster.account,
        )

    def findings(self, *checks: str) -> dict[str, Sequence[Finding]]:
        """Run these checks (none named: all) on the node, and return what each found."""
        chosen = [check for check in CHECKS if not checks or check.id in checks]
        report = netns.inside(self.node.ns, examine, self.looks(), chosen)
        return {check.id: findings for check, findings in report.results}

    def complaints(self, check: str) -> list[Finding]:
        return [finding for finding in self.findings(check)[check] if finding.severity is not Severity.OK]
