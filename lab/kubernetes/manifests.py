"""Objects of the API: what a cluster with Multus has from the start, and the workloads that tests create."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lab.kubernetes import podimage
from lab.kubernetes.controlplane import MULTUS

Manifest = dict[str, Any]

NETWORKS_CRD = "network-attachment-definitions.k8s.cni.cncf.io"
READY_PORT = 7008
"""Where the pod's program accepts connections once it answers."""


def multus() -> list[Manifest]:
    """Return what Multus' manifest creates besides its daemon set: the kind of networks, its rights."""
    group = "k8s.cni.cncf.io"
    spec = {"type": "object", "properties": {"config": {"type": "string"}}}
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": NETWORKS_CRD},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {
                    "plural": "network-attachment-definitions",
                    "singular": "network-attachment-definition",
                    "kind": "NetworkAttachmentDefinition",
                    "shortNames": ["net-attach-def"],
                },
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
                    }
                ],
            },
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": MULTUS},
            "rules": [
                {"apiGroups": [group], "resources": ["*"], "verbs": ["*"]},
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "update"]},
                {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["get", "update"]},
                {
                    "apiGroups": ["", "events.k8s.io"],
                    "resources": ["events"],
                    "verbs": ["create", "patch", "update"],
                },
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": MULTUS},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": MULTUS},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": MULTUS}],
        },
    ]


def network(conflist: Mapping[str, Any], namespace: str = "default") -> Manifest:
    """Return the NetworkAttachmentDefinition of a chain, under the chain's name."""
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": conflist["name"], "namespace": namespace},
        "spec": {"config": json.dumps(conflist)},
    }


def pod_template(
    name: str, *, networks: str = "", starts_after: float = 0.0, tolerates: int = 5, **spec: Any
) -> Manifest:
    """Return the template of a pod that answers datagrams with its name.

    ``networks``: what Multus attaches. ``starts_after``: seconds until it answers and is ready.
    ``tolerates``: seconds on a node that is not ready. ``spec``: more of the pod's specification.
    """
    return {
        "metadata": {
            "labels": {"app": name},
            "annotations": {"k8s.v1.cni.cncf.io/networks": networks} if networks else {},
        },
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [
                {
                    "key": f"node.kubernetes.io/{state}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": tolerates,
                }
                for state in ("not-ready", "unreachable")
            ],
            "containers": [
                {
                    "name": "app",
                    "image": podimage.NAME,
                    "imagePullPolicy": "Never",
                    "args": ["answer", f"{starts_after:g}"],
                    "readinessProbe": {"tcpSocket": {"port": READY_PORT}, "periodSeconds": 1},
                }
            ],
            **spec,
        },
    }


def pod(name: str, namespace: str = "default", **template: Any) -> Manifest:
    """Return a pod of ``pod_template``."""
    made = pod_template(name, **template)
    made["metadata"] |= {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", **made}


def deployment(
    name: str,
    *,
    replicas: int = 1,
    strategy: Mapping[str, Any] | None = None,
    namespace: str = "default",
    **template: Any,
) -> Manifest:
    """Return a Deployment of ``pod_template``, one pod a node, because an ENI of the lab has one pod."""
    apart = {"labelSelector": {"matchLabels": {"app": name}}, "topologyKey": "kubernetes.io/hostname"}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            **({"strategy": dict(strategy)} if strategy else {}),
            "template": pod_template(name, **{"affinity": affinity, **template}),
        },
    }


def as_list(manifests: Sequence[Manifest]) -> Manifest:
    return {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
