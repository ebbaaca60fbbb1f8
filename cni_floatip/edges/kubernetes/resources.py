"""Kinds of objects with their paths, and what a call selects and returns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

Document = dict[str, Any]
"""An object as the API writes it, in JSON: foreign, so every part may be missing or of another type."""

LONGEST_NAME = 253
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
"""What objects' names look like (Kubernetes, "Object Names and IDs", DNS subdomain names)."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of objects: ``group`` is where its paths begin, ``plural`` its name in them."""

    group: str
    plural: str
    is_namespaced: bool = True

    def path(self, namespace: str, name: str, subresource: str = "") -> str:
        """Return the path of an object; ``namespace`` is "" for a kind that has none.

        Raises ``ValueError`` for a text that can name nothing, because names come from other people's
        annotations, and because a request without a name is one for all objects.
        """
        if self.is_namespaced:
            _check(namespace)
        parts = [self.collection(namespace), _check(name), *([subresource] if subresource else [])]
        return "/".join(parts)

    def collection(self, namespace: str = "") -> str:
        """Return the path of all objects, or of those of one namespace. Raises ``ValueError`` as ``path``."""
        scope = ["namespaces", _check(namespace)] if namespace and self.is_namespaced else []
        return "/" + "/".join([self.group, *scope, self.plural])


LEASES = Resource("apis/coordination.k8s.io/v1", "leases")
PODS = Resource("api/v1", "pods")
NODES = Resource("api/v1", "nodes", is_namespaced=False)
EVENTS = Resource("api/v1", "events")
ENDPOINT_SLICES = Resource("apis/discovery.k8s.io/v1", "endpointslices")
DAEMONSETS = Resource("apis/apps/v1", "daemonsets")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a LIST or a watch selects; ``namespace`` "" selects all namespaces.

    ``fields`` and ``labels`` are selectors as the API takes them. ``cached``: LIST what the API server has in
    memory, which may be old and costs it little, also where a selector leaves few of a cluster's pods.
    """

    resource: Resource
    namespace: str = ""
    fields: str = ""
    labels: str = ""
    cached: bool = False

    def path(self, query: Mapping[str, str]) -> str:
        """Return the path with the selectors and ``query``. Raises ``ValueError`` as ``Resource.path``."""
        selectors = {"fieldSelector": self.fields, "labelSelector": self.labels}
        parameters = {key: value for key, value in {**selectors, **query}.items() if value}
        path = self.resource.collection(self.namespace)
        return f"{path}?{urlencode(parameters)}" if parameters else path

    def __str__(self) -> str:
        return "/".join(part for part in (self.resource.plural, self.namespace) if part)


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a selection, and the version that a watch goes on from."""

    items: tuple[Document, ...]
    version: str


def metadata(document: Mapping[str, Any], key: str) -> str:
    """Return a text of an object's metadata, "" where there is none."""
    parts = document.get("metadata")
    value = parts.get(key) if isinstance(parts, dict) else None
    return value if isinstance(value, str) else ""


def _check(name: str) -> str:
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an object")
    return name
