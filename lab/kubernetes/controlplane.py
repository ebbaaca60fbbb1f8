"""The control plane: etcd, two API servers on it with an address each, controller manager, scheduler.

Each API server has a machine of its own in the VPC (a namespace with one ENI, as EKS's have an ENI in each
zone); the rest lives beside the first. Both register in ``default/kubernetes`` (the lease reconciler). Users
are known by static tokens, which saves all client certificates.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab import netns
from lab.errors import LabError
from lab.kubernetes.build import Programs
from lab.kubernetes.pki import Authority
from lab.kubernetes.process import Process

MACHINES = ("api1", "api2")
PORT = 6443
SERVICE_ADDRESS, SERVICE_PORT = "10.96.0.1", 443
SERVICES = "10.96.0.0/16"
ETCD = 2379
READY_WITHIN = 120.0
ADMIN = "admin"
MULTUS = "multus"
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API server as a client knows it: the name of its machine, and where it listens."""

    name: str
    address: str
    port: int = PORT

    def __str__(self) -> str:
        return f"https://{self.address}:{self.port}"


class Machine(Protocol):
    """Where an API server runs."""

    @property
    def namespace(self) -> str: ...
    @property
    def addresses(self) -> Sequence[object]: ...


class ControlPlane:
    """``start``, ``wait``, ``start_controllers``; ``close`` ends it all. Files are in ``place``."""

    def __init__(
        self, state: Path, programs: Programs, machines: Mapping[str, Machine], nodes: Iterable[str]
    ) -> None:
        """``state``: the lab's directory. ``nodes``: the names of the nodes that will join."""
        self.place = state / "control-plane"
        self._state = state
        self._programs = programs
        self._machines = machines
        self.endpoints = tuple(
            Endpoint(name, str(machine.addresses[0])) for name, machine in machines.items()
        )
        self.processes: dict[str, Process] = {}
        self.authority = Authority(self.place)
        users = {ADMIN: "system:masters", MULTUS: "", **{f"system:{name}": "" for name in CONTROLLERS}}
        users |= {f"system:node:{name}": "system:nodes" for name in nodes}
        self.tokens = {user: secrets.token_hex(16) for user in users}
        rows = (f'{self.tokens[user]},{user},{user},"{group}"' for user, group in users.items())
        tokens = self.place / "tokens.csv"
        tokens.touch(0o600)
        tokens.write_text("\n".join(rows) + "\n")

    def start(self) -> None:
        """Start etcd and the API servers; they are not ready yet."""
        first = next(iter(self._machines))
        self._start("etcd", first, self._etcd())
        for endpoint in self.endpoints:
            self._start(endpoint.name, endpoint.name, self._api_server(endpoint))

    def wait(self) -> None:
        """Wait until every API server is ready and has registered. Raises ``LabError`` if one is not."""
        end = time.monotonic() + READY_WITHIN
        waiting = list(self.endpoints)
        while waiting:
            if not self._is_ready(waiting[0]):
                for name, process in self.processes.items():
                    if not process.is_running:
                        raise LabError(f"{name} has ended:\n{process}")
                if time.monotonic() > end:
                    name = waiting[0].name
                    raise LabError(f"{name} is not ready after {READY_WITHIN:g} s:\n{self.processes[name]}")
                time.sleep(0.05)
            else:
                waiting.pop(0)

    def start_controllers(self, flags: Sequence[str] = ()) -> None:
        """Start controller manager (with more ``flags``) and scheduler; the API must be ready."""
        first = self.endpoints[0]
        for name in CONTROLLERS:
            path = str(self.kubeconfig(f"system:{name}", str(first)))
            argv = [f"--{option}kubeconfig={path}" for option in ("", "authentication-", "authorization-")]
            argv += ["--leader-elect=false", "--bind-address=127.0.0.1"]
            if name == "kube-controller-manager":
                argv += [
                    f"--service-account-private-key-file={self.authority.service_account_key}",
                    f"--root-ca-file={self.authority.certificate}",
                    "--use-service-account-credentials",
                    *flags,
                ]
            self._start(name, first.name, [str(self._programs[name]), *argv])

    def kubeconfig(self, user: str, server: str) -> Path:
        """Write the kubeconfig of a user for this server's URL; return where it is."""
        path = self.place / f"{user.rpartition(':')[2]}.kubeconfig"
        path.touch(0o600)
        path.write_text(json.dumps(self.kubeconfig_document(user, server), indent=1) + "\n")
        return path

    def kubeconfig_document(self, user: str, server: str) -> dict[str, object]:
        """Return the kubeconfig of a user as a document: it needs no other file."""
        authority = self.authority.certificate.read_bytes()
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "lab",
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": base64.b64encode(authority).decode(),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            "current-context": "lab",
        }

    def close(self) -> None:
        """End everything at once, what was started last first: nothing of it is to be kept."""
        for process in reversed(self.processes.values()):
            process.kill()
        self.processes.clear()

    def _start(self, name: str, machine: str, argv: Sequence[str]) -> None:
        process = Process(name, self._machines[machine].namespace, argv, self._state)
        self.processes[name] = process
        process.start()

    def _etcd(self) -> list[str]:
        peer = "http://127.0.0.1:2380"
        address = self.endpoints[0].address
        return [
            str(self._programs["etcd"]),
            f"--data-dir={self.place / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{ETCD},http://{address}:{ETCD}",
            f"--advertise-client-urls=http://{address}:{ETCD}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # a lab that crashes begins anew
            "--log-level=warn",
        ]

    def _api_server(self, endpoint: Endpoint) -> list[str]:
        certificate, key = self.authority.issue(
            endpoint.name, [endpoint.address, SERVICE_ADDRESS, "127.0.0.1"]
        )
        accounts = self.authority.service_account_key
        return [
            str(self._programs["kube-apiserver"]),
            f"--etcd-servers=http://{self.endpoints[0].address}:{ETCD}",
            f"--bind-address={endpoint.address}",
            f"--advertise-address={endpoint.address}",
            f"--secure-port={endpoint.port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--cert-dir={self.place}",
            f"--token-auth-file={self.place / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            "--endpoint-reconciler-type=lease",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged",
            "--profiling=false",
        ]

    def _is_ready(self, endpoint: Endpoint) -> bool:
        """Ask from its own machine, over TLS that this cluster's authority vouches for."""

        def ask() -> bool:
            context = ssl.create_default_context(cafile=str(self.authority.certificate))
            connection = http.client.HTTPSConnection(
                endpoint.address, endpoint.port, context=context, timeout=5
            )
            try:
                connection.request(
                    "GET", "/readyz", headers={"Authorization": f"Bearer {self.tokens[ADMIN]}"}
                )
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()

        return netns.inside(self._machines[endpoint.name].namespace, ask)
