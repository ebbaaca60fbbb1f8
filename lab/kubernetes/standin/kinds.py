"""The kinds of objects that the stand-in serves: their paths, and what the API refuses in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.kubernetes.standin.storage import Key, Object


class Refusal(Exception):
    """An error as the API answers it: kind ``Status``."""

    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.headers = headers or {}

    def document(self) -> Object:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.status,
        }


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: ``name`` as objects have it, ``plural`` as paths have it."""

    name: str
    plural: str
    group: str
    version: str
    is_namespaced: bool = True
    fields: tuple[str, ...] = ("metadata.name", "metadata.namespace")

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    @property
    def title(self) -> str:
        """Return how messages call it: "leases.coordination.k8s.io"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS = (
    Kind("Lease", "leases", "coordination.k8s.io", "v1"),
    Kind(
        "Pod",
        "pods",
        "",
        "v1",
        fields=("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase"),
    ),
    Kind("Node", "nodes", "", "v1", is_namespaced=False, fields=("metadata.name",)),
    Kind("Event", "events", "", "v1"),
    Kind("EndpointSlice", "endpointslices", "discovery.k8s.io", "v1"),
    Kind("DaemonSet", "daemonsets", "apps", "v1"),
)
BY_PLURAL = {kind.plural: kind for kind in KINDS}

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
LEASE_FIELDS = ("holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaseTransitions")
DROPPED_FIELDS = ("preferredHolder", "strategy")
"""Accepted, noted in ``managedFields``, and not kept, as long as a feature gate is off."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a path names; ``name`` "" is all objects."""

    kind: Kind
    namespace: str
    name: str
    subresource: str

    @property
    def key(self) -> Key:
        return Key(self.kind.plural, self.namespace, self.name)

    @property
    def resource(self) -> str:
        """Return what a right names: "leases", "pods/status"."""
        return "/".join(part for part in (self.kind.plural, self.subresource) if part)


def place(path: str) -> Place:
    """Return what a path names. Raises ``Refusal`` (404)."""
    for kind in KINDS:
        if not path.startswith(f"{kind.path}/"):
            continue
        parts = path.removeprefix(f"{kind.path}/").split("/")
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 2 and kind.is_namespaced:
            _, namespace, *parts = parts
        if parts[0] == kind.plural and len(parts) <= 3:
            return Place(kind, namespace, *[*parts[1:], "", ""][:2])
    raise Refusal(404, "NotFound", "the server could not find the requested resource")


def parse(body: bytes, kind: Kind) -> Object:
    """Return the object that a request holds. Raises ``Refusal`` (400) for what is none of its kind."""
    try:
        document = json.loads(_without_surrogates(json.dumps(json.loads(body), ensure_ascii=False)))
    except ValueError as e:
        raise Refusal(400, "BadRequest", f"couldn't get version/kind; json parse error: {e}") from e
    if not isinstance(document, dict):
        raise Refusal(400, "BadRequest", f"the object provided is unrecognized (must be of type {kind.name})")
    return document


def _without_surrogates(text: str) -> str:
    """Return a text as Go keeps it: half a pair becomes the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def decode(document: Object, at: Place) -> Object:
    """Return a document as the API keeps it. Raises ``Refusal`` (400) for a wrong type, or another place."""
    kind = at.kind
    parts = document.get("metadata") or {}
    for field in ("annotations", "labels"):
        for value in (parts.get(field) or {}).values():
            if not isinstance(value, str):
                raise _cannot(kind, f"metadata.{field} of type string")
    if at.name and parts.get("name") not in (None, at.name):
        message = f"the name of the object ({parts['name']}) does not match the name on the URL ({at.name})"
        raise Refusal(400, "BadRequest", message)
    if parts.get("namespace", at.namespace) != at.namespace:
        message = "the namespace of the provided object does not match the namespace sent on the request"
        raise Refusal(400, "BadRequest", message)
    kept = {**document, "kind": kind.name, "apiVersion": kind.api_version, "metadata": dict(parts)}
    if kind.name == "Lease":
        kept["spec"] = _decode_lease(document.get("spec") or {}, kind)
        used: Object = {
            f"f:{name}": {} for name in document.get("spec") or {} if name in LEASE_FIELDS + DROPPED_FIELDS
        }
        fields = {"f:spec": used} | ({"f:metadata": {}} if parts.get("annotations") else {})
        managed = {"manager": "unknown", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields}
        kept["metadata"]["managedFields"] = [managed]
    return kept


def _decode_lease(spec: Object, kind: Kind) -> Object:
    for name in ("leaseDurationSeconds", "leaseTransitions"):
        value = spec.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise _cannot(
                kind, f"json: cannot unmarshal number {value} into LeaseSpec.spec.{name} of type int32"
            )
    for name in ("renewTime", "acquireTime"):
        value = spec.get(name)
        if value is not None and not (isinstance(value, str) and _MICRO_TIME.fullmatch(value)):
            raise _cannot(kind, f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00"')
    return {name: value for name, value in spec.items() if name in LEASE_FIELDS and value is not None}


def _cannot(kind: Kind, why: str) -> Refusal:
    text = f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: {why}'
    return Refusal(400, "BadRequest", text)


def validate(document: Object, at: Place) -> None:
    """Raise ``Refusal`` (422) for an object whose types are right and whose values are not."""
    name = document["metadata"].get("name") or ""
    if not name:
        raise invalid(at, name, "metadata.name: Required value: name or generateName is required")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise invalid(
            at, name, f'metadata.name: Invalid value: "{name}": must be no more than 253 characters'
        )
    if at.kind.name == "Lease":
        spec = document["spec"]
        if spec.get("leaseDurationSeconds", 1) <= 0:
            raise invalid(at, name, "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0")
        if spec.get("leaseTransitions", 0) < 0:
            raise invalid(
                at, name, "spec.leaseTransitions: Invalid value: must be greater than or equal to 0"
            )
    if at.kind.name == "Event" and _part(document, "involvedObject", "namespace") != at.namespace:
        raise invalid(at, name, "involvedObject.namespace: Invalid value: does not match event.namespace")


def invalid(at: Place, name: str, why: str) -> Refusal:
    title = f"{at.kind.name}.{at.kind.group}" if at.kind.group else at.kind.name
    return Refusal(422, "Invalid", f'{title} "{name}" is invalid: {why}')


def _part(document: Object, *path: str) -> Any:
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def selector(text: str, labels: str, kind: Kind) -> Mapping[str, tuple[tuple[str, ...], str]]:
    """Return what a selection asks for: where in an object, and which value. Raises ``Refusal`` (400)."""
    wanted = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in kind.fields:
            known = ", ".join(f'"{field}"' for field in kind.fields)
            raise Refusal(400, "BadRequest", f'"{name}" is not a known field selector: only {known}')
        wanted[name] = (tuple(name.split(".")), value.lstrip("="))
    for item in filter(None, labels.split(",")):
        name, _, value = item.partition("=")
        wanted[f"label {name}"] = (("metadata", "labels", name), value.lstrip("="))
    return wanted


def selects(wanted: Mapping[str, tuple[tuple[str, ...], str]], document: Object | None) -> bool:
    return document is not None and all(_part(document, *path) == value for path, value in wanted.values())
