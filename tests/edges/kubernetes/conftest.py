"""A stand-in for the Kubernetes API: two API servers, and a third one at the service's address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.edges.kubernetes.account import ServiceAccount
from cni_floatip.edges.kubernetes.client import CallTimes, KubernetesClient
from cni_floatip.edges.kubernetes.servers import ApiAddress, ApiServers
from lab.kubernetes.standin import StandIn

NAMESPACE = "elections"
LONG = 60.0
"""Seconds that nothing takes here, however busy the machine is."""


class Scene:
    """The stand-in, and clients of it that are closed at the end."""

    def __init__(self, api: StandIn, service: int = 2) -> None:
        """``service``: which of the servers is at the service's address."""
        self.api = api
        self.first, self.second, self.service = api.servers[0], api.servers[1], api.servers[service]
        self.addresses = [ApiAddress(*address) for address in api.addresses]
        self.servers = ApiServers(self.addresses[service], shuffle=lambda _: None)
        self.account = ServiceAccount(api.account)
        self._clients: list[KubernetesClient] = []

    def client(self, *, hedge: float = LONG, whole: float = LONG, knows: bool = True) -> KubernetesClient:
        """Return a client that calls the first server first. ``knows``: it has read where they are."""
        if knows:
            self.open_client(CallTimes(LONG, LONG, LONG)).read_servers()
            self.forget_calls()
        return self.open_client(CallTimes(hedge, whole, whole))

    def open_client(self, times: CallTimes) -> KubernetesClient:
        self._clients.append(KubernetesClient(self.account, self.servers, times))
        return self._clients[-1]

    def forget_calls(self) -> None:
        self._seen = len(self.api.calls)

    def calls(self) -> list[str]:
        """Return the calls since ``client`` or ``forget_calls``, "SERVER: VERB WHAT -> STATUS" each."""
        return [str(call) for call in self.api.calls[self._seen :]]

    def watches(self) -> int:
        """Return how many watches were opened."""
        return sum(call.verb == "watch" for call in self.api.calls)

    def lease(self, name: str = "a", **spec: Any) -> dict[str, Any]:
        """Return a Lease that nobody has created yet."""
        return {
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"leaseDurationSeconds": 2, **spec},
        }

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def api_scene(tmp_path: Path) -> Iterator[Scene]:
    with StandIn(tmp_path / "api", ("127.0.0.1", "127.0.0.2", "127.0.0.3")) as api:
        api.add_namespace(NAMESPACE)
        api.publish_endpoints(api.addresses[:2])
        running = Scene(api)
        yield running
        running.close()


@pytest.fixture
def one_node(api_scene: Scene) -> None:
    api_scene.api.put("nodes", "a1", {})
