"""A stand-in for a Kubernetes API: some kinds of objects over HTTPS, where no kube-apiserver is at hand.

    with StandIn(directory) as api:              two API servers on 127.0.0.1, one storage behind them
        api.account                              a service account's directory: token and ca.crt
        api.servers[0].swallow()                 the first answers nothing any more

It is not Kubernetes: there are no controllers, no admission, no priorities, and only the verbs and kinds that
the product uses. What it answers is held against a kube-apiserver by the same tests (``tests/kubernetes``).

    storage   objects, versions, history; it stands for etcd
    kinds     kinds of objects, and what is refused in them
    verbs     get, list, create, update, patch, delete
    server    one API server: HTTPS, watches, and how it fails
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.errors import LabError
from lab.kubernetes.pki import NAMES, Authority
from lab.kubernetes.standin.kinds import BY_PLURAL
from lab.kubernetes.standin.server import ApiCall, ApiServer, Cluster, Oddity
from lab.kubernetes.standin.storage import Key, Object, Storage
from lab.webserver import open_socket

__all__ = ["ApiCall", "ApiServer", "Key", "Oddity", "StandIn"]

TOKEN = "a-token-of-the-stand-in"


class StandIn:
    """API servers that listen on addresses of a namespace, and share a storage."""

    def __init__(
        self,
        place: Path,
        addresses: Sequence[str] = ("127.0.0.1", "127.0.0.2"),
        inside: Callable[..., Any] | None = None,
        *,
        names: Sequence[str] = NAMES,
        certified: Sequence[str] | None = None,
    ) -> None:
        """``place``: a directory that is made. ``inside``: calls a function in the servers' namespace.

        ``names``, ``certified``: names and addresses in the certificates, if not those of API servers.
        """
        self._cluster = Cluster()
        self.authority = Authority(place)
        self.account = place / "serviceaccount"
        self.account.mkdir()
        (self.account / "ca.crt").write_bytes(self.authority.certificate.read_bytes())
        self._inside = inside or _call
        self._names = names
        self._certified = certified
        self.servers: list[ApiServer] = []
        self.addresses: list[tuple[str, int]] = []
        for number, (host, listener) in enumerate(zip(addresses, self._listen(addresses), strict=True), 1):
            self._add_server(f"api{number}", host, listener)
        self.allow(TOKEN)
        self.rotate(TOKEN)
        self.publish_endpoints()

    def _listen(self, addresses: Sequence[str]) -> list[socket.socket]:
        """Listen on one port of all addresses, as API servers do; a port is free that another one took."""
        for _ in range(20):
            listeners = [self._inside(open_socket, addresses[0], 0)]
            port = listeners[0].getsockname()[1]
            try:
                return listeners + [self._inside(open_socket, host, port) for host in addresses[1:]]
            except OSError:
                listeners[0].close()
        raise LabError(f"no port is free on all of {', '.join(addresses)}")

    def _add_server(self, name: str, host: str, listener: socket.socket) -> None:
        port = listener.getsockname()[1]
        waiting = [listener]

        def open_listener() -> socket.socket:
            return waiting.pop() if waiting else self._inside(open_socket, host, port)

        files = self.authority.issue(name, self._certified or [host], self._names)
        self.servers.append(ApiServer(name, self._cluster, open_listener, files))
        self.addresses.append((host, port))

    def __enter__(self) -> StandIn:
        for server in self.servers:
            server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all servers and whoever waits for the storage."""
        self._cluster.storage.close()
        for server in self.servers:
            server.stop()

    @property
    def storage(self) -> Storage:
        return self._cluster.storage

    @property
    def calls(self) -> list[ApiCall]:
        """What was called, in order of the answers."""
        with self._cluster.lock:
            return list(self._cluster.calls)

    def allow(self, token: str, rights: Iterable[str] | None = None, user: str = "agent") -> None:
        """Accept a token, with these rights ("get leases", "patch pods/status"); ``None``: with all."""
        self._cluster.users[token] = (user, None if rights is None else frozenset(rights))

    def refuse(self, token: str) -> None:
        """Accept a token no more."""
        self._cluster.users.pop(token, None)

    def rotate(self, token: str) -> None:
        """Write a token where the service account's pods read it, as a kubelet does."""
        fresh = self.account / ".token"
        fresh.write_text(token)
        fresh.replace(self.account / "token")

    def add_namespace(self, name: str) -> None:
        self._cluster.namespaces.add(name)

    def put(self, plural: str, name: str, document: Object, namespace: str = "") -> Object:
        """Create or replace an object as a controller would, past all rights."""
        kind = BY_PLURAL[plural]
        whole = {"kind": kind.name, "apiVersion": kind.api_version, **document}
        return self.storage.put(Key(plural, namespace, name), whole)

    def remove(self, plural: str, name: str, namespace: str = "") -> None:
        self.storage.remove(Key(plural, namespace, name))

    def bookmark_each(self, seconds: float) -> None:
        """Send a BOOKMARK so often to watches that allow it."""
        self._cluster.bookmark_seconds = seconds

    def publish_endpoints(self, addresses: Iterable[tuple[str, int]] | None = None) -> None:
        """Write the EndpointSlice ``default/kubernetes``, of these addresses or of all."""
        chosen = list(self.addresses if addresses is None else addresses)
        document = {
            "addressType": "IPv6" if any(":" in host for host, _ in chosen) else "IPv4",
            "endpoints": [{"addresses": [host], "conditions": {"ready": True}} for host, _ in chosen],
            "ports": [
                {"name": "https", "protocol": "TCP", "port": port} for port in {port for _, port in chosen}
            ],
        }
        self.put("endpointslices", "kubernetes", document, "default")


def _call(function: Callable[..., Any], *arguments: object) -> Any:
    return function(*arguments)
