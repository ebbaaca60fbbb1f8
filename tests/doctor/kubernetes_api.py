"""The Kubernetes API as far as the doctor asks it: two daemonsets over TLS, for who has the right token."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from lab import netns
from lab.kubernetes.pki import Authority

TOKEN = "a-service-account's-token"

AWS_NODE: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "aws-node", "namespace": "kube-system", "labels": {"k8s-app": "aws-node"}},
    "spec": {
        "selector": {"matchLabels": {"k8s-app": "aws-node"}},
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "aws-node",
                        "env": [
                            {"name": "AWS_VPC_ENI_MTU", "value": "9001"},
                            {"name": "AWS_VPC_K8S_CNI_EXTERNALSNAT", "value": "false"},
                            {
                                "name": "MY_NODE_NAME",
                                "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}},
                            },
                            {
                                "name": "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
                                "value": "10.99.0.0/16,192.168.0.0/16",
                            },
                        ],
                    },
                    {"name": "aws-eks-nodeagent", "args": ["--enable-network-policy=false"]},
                ]
            }
        },
    },
    "status": {"desiredNumberScheduled": 4, "numberReady": 4},
}
"""VPC CNI's, with the exclusion that pattern 1 wants."""

MULTUS: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "kube-multus-ds", "namespace": "kube-system"},
    "spec": {
        "selector": {"matchLabels": {"name": "multus"}},
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "kube-multus",
                        "image": "registry.example/eks/multus-cni:v4.1.4-eksbuild.3_thick",
                        "command": ["/usr/src/multus-cni/bin/multus-daemon"],
                        "resources": {
                            "limits": {"cpu": "100m", "memory": "256Mi"},
                            "requests": {"cpu": "100m", "memory": "50Mi"},
                        },
                    }
                ]
            }
        },
    },
    "status": {"desiredNumberScheduled": 4, "numberReady": 4},
}
"""EKS's thick Multus, with more memory than the 50 Mi that it comes with."""


class KubernetesApi:
    """The API server of one node's namespace. ``daemonsets`` may be changed at any time."""

    def __init__(self, ns: str, directory: Path) -> None:
        self.account = directory / "serviceaccount"
        self.account.mkdir()
        (self.account / "token").write_text(f"{TOKEN}\n")
        authority = Authority(directory / "authority")
        (self.account / "ca.crt").write_bytes(authority.certificate.read_bytes())
        self.reset()
        self._server = netns.inside(ns, http.server.ThreadingHTTPServer, ("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("api", ["127.0.0.1"]))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    @property
    def env(self) -> dict[str, str]:
        port = self._server.server_address[1]
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}

    def reset(self) -> None:
        self.daemonsets = {"aws-node": deepcopy(AWS_NODE), "kube-multus-ds": deepcopy(MULTUS)}
        self.allowed = True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, authorization: str) -> tuple[int, dict[str, Any]]:
        name = path.removeprefix("/apis/apps/v1/namespaces/kube-system/daemonsets/")
        if authorization != f"Bearer {TOKEN}":
            return 401, {"kind": "Status", "message": "Unauthorized"}
        if not self.allowed or "/" in name:
            text = f'daemonsets.apps "{name}" is forbidden: User "x" cannot get resource "daemonsets"'
            return 403, {"kind": "Status", "message": text}
        results = self.daemonsets.get(name)
        return (200, results) if results else (404, {"kind": "Status", "message": f'"{name}" not found'})

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        cluster = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, document = cluster.answer(self.path, self.headers.get("Authorization", ""))
                body = json.dumps(document).encode()
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def running(ns: str, directory: Path) -> Iterator[KubernetesApi]:
    cluster = KubernetesApi(ns, directory)
    try:
        yield cluster
    finally:
        cluster.close()
