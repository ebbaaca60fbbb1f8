"""A Kubernetes API on loopback, as far as helm asks it: discovery, and objects, kept as they are sent.

Helm installs and upgrades against it, with its releases in secrets, so that ``lookup`` in the chart finds
what an earlier release has made. A patch merges objects and replaces lists: enough for what tests look at.
"""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

KINDS = {
    "v1": {
        "secrets": "Secret",
        "configmaps": "ConfigMap",
        "serviceaccounts": "ServiceAccount",
    },
    "apps/v1": {"daemonsets": "DaemonSet"},
    "rbac.authorization.k8s.io/v1": {"roles": "Role", "rolebindings": "RoleBinding"},
}
PROTOBUF = b"k8s\0"
VERSION = {"major": "1", "minor": "35", "gitVersion": "v1.35.1"}


class ApiServer:
    """What the API holds: objects by their path. ``kubeconfig`` leads helm to it."""

    def __init__(self, directory: Path) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.kubeconfig = directory / "kubeconfig"
        where = {"server": f"http://127.0.0.1:{self._server.server_port}"}
        context = {"cluster": "c", "user": "u"}
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "clusters": [{"name": "c", "cluster": where}],
                    "contexts": [{"name": "c", "context": context}],
                    "users": [{"name": "u", "user": {}}],
                }
            )
        )

    def daemon_set(self, name: str = "cni-floatip", namespace: str = "kube-system") -> dict[str, Any]:
        with self.lock:
            return deepcopy(self.objects[f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"])

    @contextmanager
    def serving(self) -> Iterator[ApiServer]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def discovered(self, path: str) -> dict[str, Any] | None:
        """Return what discovery says at this path."""
        if path == "/version":
            return dict(VERSION)
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [version.split("/") for version in KINDS if "/" in version]
            named = [(group, {"groupVersion": f"{group}/{v}", "version": v}) for group, v in groups]
            listed = [{"name": group, "versions": [v], "preferredVersion": v} for group, v in named]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        for version, kinds in KINDS.items():
            if path == _root(version):
                verbs = ["get", "list", "create", "update", "patch", "delete"]
                results = [
                    {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": verbs}
                    for name, kind in kinds.items()
                ]
                return {"kind": "APIResourceList", "groupVersion": version, "resources": results}
        return None


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _merged(there: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    made = dict(there)
    for key, value in patch.items():
        if key.startswith("$"):  # directives about lists
            continue
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict):
            made[key] = _merged(made.get(key) or {}, value)
        else:
            made[key] = value
    return made


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field of a protocol buffer: secrets have numbers and bytes."""
    at = 0

    def number() -> int:
        nonlocal at
        result, bits = 0, 0
        while True:
            byte = message[at]
            at += 1
            result |= (byte & 127) << bits
            bits += 7
            if byte < 128:
                return result

    while at < len(message):
        tag = number()
        value: Any = number()
        if tag & 7 == 2:
            at, value = at + value, message[at : at + value]
        yield tag >> 3, value


def _map(message: bytes, field: int) -> dict[str, bytes]:
    entries = (dict(_fields(value)) for number, value in _fields(message) if number == field)
    return {entry[1].decode(): entry[2] for entry in entries}


def _secret(sent: bytes) -> dict[str, Any]:
    """Read a secret, which helm sends as a protocol buffer (generated.proto of k8s.io/api/core/v1)."""
    message = dict(_fields(sent.removeprefix(PROTOBUF)))[2]
    secret = dict(_fields(message))
    metadata = dict(_fields(secret[1]))
    labels = {key: value.decode() for key, value in _map(secret[1], 11).items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": metadata[1].decode(), "namespace": metadata[3].decode(), "labels": labels},
        "data": {key: base64.b64encode(value).decode() for key, value in _map(message, 2).items()},
        "type": secret[3].decode(),
    }


def _handler(cluster: ApiServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            results = cluster.discovered(url.path)
            if results is None:
                with cluster.lock:
                    results = cluster.objects.get(url.path)
                    if results is None and _is_collection(url.path):
                        results = _listed(cluster.objects, url.path, parse_qs(url.query))
            self._answer(results)

        def do_POST(self) -> None:
            path, made = urlsplit(self.path).path, self._body()
            at = f"{path}/{made['metadata']['name']}"
            with cluster.lock:
                if at in cluster.objects:
                    return self._answer(made, 409)
                cluster.objects[at] = made
            return self._answer(made, 201)

        def do_PUT(self) -> None:
            path, made = urlsplit(self.path).path, self._body()
            with cluster.lock:
                cluster.objects[path] = made
            self._answer(made)

        def do_PATCH(self) -> None:
            path, patch = urlsplit(self.path).path, self._body()
            with cluster.lock:
                there = cluster.objects.get(path)
                if there is not None:
                    there = cluster.objects[path] = _merged(there, patch)
            self._answer(there)

        def _body(self) -> dict[str, Any]:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            if sent.startswith(PROTOBUF):
                return _secret(sent)
            results: dict[str, Any] = json.loads(sent)
            return results

        def _answer(self, results: dict[str, Any] | None, status: int = 200) -> None:
            if results is None or status == 409:
                status, reason = (409, "AlreadyExists") if results else (404, "NotFound")
                results = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason}
                results |= {"code": status, "message": f"{self.path}: {reason}"}
            text = json.dumps(results).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _is_collection(path: str) -> bool:
    return any(path.startswith(_root(v)) and path.split("/")[-1] in kinds for v, kinds in KINDS.items())


def _listed(objects: dict[str, dict[str, Any]], path: str, query: dict[str, list[str]]) -> dict[str, Any]:
    wanted = dict(pair.split("=") for item in query.get("labelSelector", []) for pair in item.split(","))
    kind, version = next((k[path.split("/")[-1]], v) for v, k in KINDS.items() if path.split("/")[-1] in k)
    items = [
        item
        for at, item in objects.items()
        if at.rpartition("/")[0] == path and wanted.items() <= item["metadata"].get("labels", {}).items()
    ]
    return {"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": items}
