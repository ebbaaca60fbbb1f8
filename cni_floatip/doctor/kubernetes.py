"""Two daemonsets of the cluster, read with the pod's own service account. Nothing else is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..edges.kubernetes.account import SERVICE_ACCOUNT, ServiceAccount
from ..edges.kubernetes.client import CallTimes, KubernetesClient
from ..edges.kubernetes.resources import DAEMONSETS
from ..edges.kubernetes.servers import ApiServers
from ..model.errors import ApiError, ApiFault, CniError

_TIMES = CallTimes(hedge=2.5, whole=5.0)


class NotReadable(CniError):
    """The Kubernetes API cannot be asked from here, or does not tell."""


def daemonset(
    name: str, environ: Mapping[str, str], account: Path = SERVICE_ACCOUNT, namespace: str = "kube-system"
) -> Mapping[str, Any] | None:
    """Return a daemonset as the API shows it, None when there is none. Raises NotReadable."""
    try:
        servers = ApiServers.of_pod(environ)
    except ValueError as e:
        raise NotReadable(str(e)) from e
    client = KubernetesClient(ServiceAccount(account), servers, _TIMES)
    try:
        return client.get(DAEMONSETS, name, namespace)
    except ApiError as e:
        if e.fault is ApiFault.NOT_FOUND:
            return None
        raise NotReadable(_explain(e, servers)) from e
    finally:
        client.close()


def _explain(e: ApiError, servers: ApiServers) -> str:
    if e.status >= 300:
        return f"the Kubernetes API refuses (status {e.status}): {e.message}"
    if e.fault is ApiFault.REFUSED:
        return e.message  # the service account's files
    where = "" if e.fault is ApiFault.UNANSWERED else f"{servers.service}: "
    return f"the Kubernetes API at {where}{e.message}"
