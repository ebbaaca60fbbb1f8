"""Two kube-apiservers and an etcd in a namespace of their own, without nodes: ready in a few seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import netns
from lab.kubernetes.build import Programs
from lab.kubernetes.controlplane import ADMIN, MULTUS, ControlPlane
from lab.stopping import stop_process
from tests.support.api_facts import Https
from tests.support.waiting import until

ADDRESSES = {"api1": "10.10.9.11", "api2": "10.10.9.12"}
KINDS = {"leases": "coordination.k8s.io", "pods": "", "pods/status": ""}


@dataclass(frozen=True, slots=True)
class Machine:
    """All of them are one namespace, which has all addresses."""

    namespace: str
    addresses: Sequence[str]


class RealApi:
    """The API servers as facts see them, and ways to stop them."""

    namespace = "facts"

    def __init__(self, control: ControlPlane, name: str) -> None:
        self.control = control
        self.name = name
        self._starter = ThreadPoolExecutor(1)
        self._tokens = {"admin": control.tokens[ADMIN], "user": control.tokens[MULTUS]}
        endpoint = control.endpoints[0]
        self._https = Https(endpoint.address, endpoint.port, control.authority.certificate)

    def prepare(self, account: Path) -> None:
        """Create what the facts need, and the directory of a service account with all rights."""
        account.mkdir()
        (account / "token").write_text(self._tokens["admin"])
        (account / "ca.crt").write_bytes(self.control.authority.certificate.read_bytes())
        self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        self.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        until(lambda: self._registered() == len(ADDRESSES))

    def _registered(self) -> int:
        path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
        return len(self.ask("GET", path)[1].get("endpoints") or [])

    def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        content_type: str = "application/json",
        user: str = "admin",
    ) -> tuple[int, dict[str, Any]]:
        status, text = self._ask(method, path, document, content_type, user)
        return status, json.loads(text) if text.strip() else {}

    def watch(self, path: str) -> list[dict[str, Any]]:
        status, text = self._ask("GET", path, None, "", "admin")
        assert status == 200, text
        return [json.loads(line) for line in text.splitlines()]

    def allow(self, *rights: str) -> None:
        """Give ``user`` these rights, and wait until the API servers know."""
        rules = [
            {"apiGroups": [KINDS[resource]], "resources": [resource], "verbs": [verb]}
            for verb, resource in (right.split() for right in rights)
        ]
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        subject = {"kind": "User", "name": MULTUS, "apiGroup": "rbac.authorization.k8s.io"}
        role = {"kind": "ClusterRole", "name": "facts", "apiGroup": "rbac.authorization.k8s.io"}
        for plural, body in (
            ("clusterroles", {"rules": rules}),
            ("clusterrolebindings", {"roleRef": role, "subjects": [subject]}),
        ):
            self.ask("DELETE", f"{rbac}/{plural}/facts")
            status, answer = self.ask("POST", f"{rbac}/{plural}", {"metadata": {"name": "facts"}, **body})
            assert status == 201, answer
        until(lambda: all(self._may(*right.split()) for right in rights))

    def _may(self, verb: str, resource: str) -> bool:
        plural, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "resource": plural, "subresource": subresource, "group": KINDS[resource]}
        review = {"spec": {"user": MULTUS, "resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(self.ask("POST", path, review)[1]["status"]["allowed"])

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Let a program stand still: "etcd", "api1", "api2"."""
        process = self.control.processes[name].pid
        stop_process(process)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)

    def restart(self, name: str) -> None:
        """Restart an API server and wait until it is ready.

        A thread that lives as long as the server starts it, because the server ends with that thread.
        """
        self._starter.submit(self._restart, name).result()

    def _restart(self, name: str) -> None:
        self.control.processes[name].kill()
        self.control.processes[name].start()
        self.control.wait()

    def _ask(self, method: str, path: str, document: Any, content_type: str, user: str) -> tuple[int, bytes]:
        body = None if document is None else json.dumps(document).encode()
        token = self._tokens.get(user, "no-token")
        return netns.inside(self.name, self._https.ask, method, path, token, body, content_type)


@contextmanager
def running(programs: Programs, state: Path) -> Iterator[RealApi]:
    """Start all of it, and end all of it."""
    name = f"fl-{os.getpid()}-facts"
    netns.make([name])
    control = None
    try:
        netns.inside(name, _configure)
        machines = {machine: Machine(name, [address]) for machine, address in ADDRESSES.items()}
        control = ControlPlane(state, programs, machines, [])
        control.start()
        control.wait()
        api = RealApi(control, name)
        api.prepare(state / "account")
        yield api
    finally:
        if control is not None:
            control.close()
        netns.remove([name])


def _configure() -> None:
    commands = ["link set lo up", *(f"addr add {address}/32 dev lo" for address in ADDRESSES.values())]
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)
