"""What the stand-in does for each verb, as a kube-apiserver 1.34 does it. The same tests are run on both."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from lab.kubernetes.standin import kinds
from lab.kubernetes.standin.kinds import Place, Refusal
from lab.kubernetes.standin.storage import Object, Storage

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def read(storage: Storage, at: Place, query: Mapping[str, str]) -> Object:
    with storage.transaction(cached=query.get("resourceVersion") == "0"):
        return _existing(storage, at)


def list_all(storage: Storage, at: Place, query: Mapping[str, str]) -> Object:
    is_cached = query.get("resourceVersion") == "0"
    wanted = kinds.selector(query.get("fieldSelector", ""), query.get("labelSelector", ""), at.kind)
    with storage.transaction(cached=is_cached):
        if int(query.get("resourceVersion") or 0) > storage.version:
            message = (
                f"Timeout: Too large resource version: {query['resourceVersion']}, current: {storage.version}"
            )
            raise Refusal(504, "Timeout", message, {"Retry-After": "1"})
        version, start = _continued(storage, query)
        chosen = [
            (key, item)
            for key, item in storage.all(at.kind.plural, at.namespace)
            if kinds.selects(wanted, item)
        ]
    chosen = [pair for pair in chosen if [pair[0].namespace, pair[0].name] > start]
    parts: Object = {"resourceVersion": str(version)}
    limit = 0 if is_cached else int(query.get("limit") or 0)
    if limit and len(chosen) > limit:
        last = chosen[limit - 1][0]
        token = json.dumps({"rv": version, "start": [last.namespace, last.name]}).encode()
        parts["continue"] = base64.urlsafe_b64encode(token).decode()
        parts["remainingItemCount"] = len(chosen) - limit
        chosen = chosen[:limit]
    items = [
        {name: value for name, value in item.items() if name not in ("kind", "apiVersion")}
        for _, item in chosen
    ]
    return {
        "kind": f"{at.kind.name}List",
        "apiVersion": at.kind.api_version,
        "metadata": parts,
        "items": items,
    }


def create(storage: Storage, at: Place, body: bytes, namespaces: set[str]) -> Object:
    document = kinds.decode(kinds.parse(body, at.kind), at)
    with storage.transaction():
        if at.namespace and at.namespace not in namespaces:
            raise Refusal(404, "NotFound", f'namespaces "{at.namespace}" not found')
        kinds.validate(document, at)
        at = Place(at.kind, at.namespace, document["metadata"]["name"], "")
        if storage.get(at.key) is not None:
            raise Refusal(409, "AlreadyExists", f'{at.kind.title} "{at.name}" already exists')
        _forget_identity(document)
        return storage.put(at.key, document)


def replace(storage: Storage, at: Place, body: bytes) -> tuple[int, Object]:
    """Return the status and the object: a PUT creates what is not there, unless it names a uid."""
    document = kinds.decode(kinds.parse(body, at.kind), at)
    document["metadata"].setdefault("name", at.name)
    uid, version = (document["metadata"].get(key) or "" for key in ("uid", "resourceVersion"))
    if version and not version.isdigit():
        raise Refusal(500, "", f'strconv.ParseUint: parsing "{version}": invalid syntax')
    with storage.transaction():
        before = storage.get(at.key)
        kept = before["metadata"] if before else {}
        if uid and uid != kept.get("uid"):
            why = (
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {kept.get('uid', '')}"
            )
            raise _conflict(at, f"StorageError: invalid object, Code: 4, AdditionalErrorMsg: {why}")
        if before is None:
            kinds.validate(document, at)
            _forget_identity(document)
            return 201, storage.put(at.key, document)
        if not version:
            text = "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
            raise kinds.invalid(at, at.name, text)
        if version != kept["resourceVersion"]:
            raise _conflict(at, MODIFIED)
        kinds.validate(document, at)
        return 200, storage.put(at.key, document)


def merge(storage: Storage, at: Place, body: bytes, content_type: str) -> Object:
    if content_type != "application/merge-patch+json":
        raise Refusal(415, "UnsupportedMediaType", "415: Unsupported Media Type")
    patch = kinds.parse(body, at.kind)
    with storage.transaction():
        before = _existing(storage, at)
        after = _merged(before, patch)
        if after["metadata"].get("uid") != before["metadata"]["uid"]:
            raise kinds.invalid(at, at.name, "metadata.uid: Invalid value: field is immutable")
        if after["metadata"].get("resourceVersion") != before["metadata"]["resourceVersion"]:
            raise _conflict(at, MODIFIED)
        if at.subresource == "status":
            after["spec"] = before.get("spec", {})
        after = kinds.decode(after, at)
        kinds.validate(after, at)
        return storage.put(at.key, after)


def delete(storage: Storage, at: Place, body: bytes) -> Object:
    options = kinds.parse(body, at.kind) if body else {}
    only = options.get("preconditions") or {}
    with storage.transaction():
        parts = _existing(storage, at)["metadata"]
        for key, name in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if only.get(key) not in (None, parts[key]):
                recorded = f"the {name} in record ({parts[key]})"
                raise _conflict(at, f"the {name} in the precondition ({only[key]}) does not match {recorded}")
        storage.remove(at.key)
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"uid": parts["uid"]},
    }


def _existing(storage: Storage, at: Place) -> Object:
    document = storage.get(at.key)
    if document is None:
        raise Refusal(404, "NotFound", f'{at.kind.title} "{at.name}" not found')
    return document


def _conflict(at: Place, why: str) -> Refusal:
    return Refusal(409, "Conflict", f'Operation cannot be fulfilled on {at.kind.title} "{at.name}": {why}')


def _forget_identity(document: Object) -> None:
    for key in ("uid", "resourceVersion", "creationTimestamp"):
        document["metadata"].pop(key, None)


def _continued(storage: Storage, query: Mapping[str, str]) -> tuple[int, list[str]]:
    """Return the version of a LIST and where its page begins. Raises ``Refusal`` (400, 410)."""
    if not (token := query.get("continue")):
        return storage.version, []
    try:
        read = json.loads(base64.urlsafe_b64decode(token))
        version, start = int(read["rv"]), [str(part) for part in read["start"]]
    except (ValueError, KeyError, TypeError) as e:
        message = f"invalid continue token: continue key is not valid: {e}"
        raise Refusal(400, "BadRequest", message) from e
    if version < storage.oldest:
        message = "The provided continue parameter is too old to display a consistent list result."
        raise Refusal(410, "Expired", message)
    return version, start


def _merged(document: Any, patch: Any) -> Any:
    """Return a document with a merge patch applied (RFC 7396)."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
