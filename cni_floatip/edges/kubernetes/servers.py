"""The API servers' addresses: those of the EndpointSlice ``default/kubernetes``, and the service's."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, MutableSequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from .resources import Document

NAMESPACE, NAME = "default", "kubernetes"
_MOST = 16
"""Addresses that are kept: nobody runs more API servers."""


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """Where an API server, or the service before all of them, is dialled."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ApiServers:
    """The addresses that are known. Several clients may read it: it has no lock."""

    def __init__(
        self, service: ApiAddress, shuffle: Callable[[MutableSequence[Any]], None] = random.shuffle
    ) -> None:
        """``shuffle``: puts addresses into an order, so that not all nodes call the same server first."""
        self.service = service
        self.endpoints: tuple[ApiAddress, ...] = ()
        self._shuffle = shuffle

    @staticmethod
    def of_pod(environ: Mapping[str, str]) -> ApiServers:
        """Return the service that a pod's environment names. Raises ``ValueError`` outside a pod."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise ValueError("this is no pod: there is no KUBERNETES_SERVICE_HOST")
        if not _is_port(port):
            raise ValueError(f"KUBERNETES_SERVICE_PORT {port!r} is no port")
        return ApiServers(ApiAddress(host.strip("[]"), int(port)))

    def update(self, endpoint_slice: Document) -> None:
        """Take the addresses of the EndpointSlice; one without any changes nothing."""
        addresses = _addresses(endpoint_slice)
        kept = [address for address in self.endpoints if address in addresses]
        new = [address for address in addresses if address not in kept]
        self._shuffle(new)
        if addresses:
            self.endpoints = tuple([*kept, *new][:_MOST])


def _addresses(endpoint_slice: Document) -> list[ApiAddress]:
    """Return the addresses of a slice (Kubernetes API, discovery.k8s.io/v1), whatever else it holds."""
    ports = [
        _part(port, "port") for port in _items(endpoint_slice, "ports") if _part(port, "name") == "https"
    ]
    hosts = [
        host
        for endpoint in _items(endpoint_slice, "endpoints")
        if _part(_part(endpoint, "conditions"), "ready") is not False  # absent means ready
        for host in _items(endpoint, "addresses")
        if _is_address(host)
    ]
    return [ApiAddress(host, port) for port in ports if _is_port(port) for host in dict.fromkeys(hosts)]


def _part(value: object, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _items(value: object, key: str) -> list[Any]:
    items = _part(value, key)
    return items if isinstance(items, list) else []


def _is_address(host: object) -> bool:
    try:
        return isinstance(host, str) and bool(ip_address(host))
    except ValueError:
        return False


def _is_port(port: object) -> bool:
    text = str(port)
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536
