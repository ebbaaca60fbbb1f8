"""Kinds of objects with their paths, and what a call selects and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
"""An object as the API writes it, in JSON: foreign, whose every part may be missing or of another type."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of objects: ``group`` is the path's begin, ``plural`` the kind's name in paths."""

    group: str
    plural: str
    is_namespaced: bool = True


LEASES = Resource("apis/coordination.k8s.io/v1", "leases")
PODS = Resource("api/v1", "pods")
NODES = Resource("api/v1", "nodes", is_namespaced=False)
EVENTS = Resource("api/v1", "events")
ENDPOINT_SLICES = Resource("apis/discovery.k8s.io/v1", "endpointslices")
DAEMONSETS = Resource("apis/apps/v1", "daemonsets")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a LIST or a watch selects. ``fields`` and ``labels``: selectors as the API takes them.

    ``namespace`` "" selects all namespaces.
    """

    resource: Resource
    namespace: str = ""
    fields: str = ""
    labels: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a selection, and the version that a watch goes on from."""

    items: tuple[Document, ...]
    version: str
