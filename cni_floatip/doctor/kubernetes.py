"""Two daemonsets of the cluster, read with the pod's own service account. Nothing else is read."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..model.errors import CniError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SECONDS = 5.0


class NotReadable(CniError):
    """The Kubernetes API cannot be asked from here, or does not tell."""


def daemonset(
    name: str, environ: Mapping[str, str], account: Path = SERVICE_ACCOUNT, namespace: str = "kube-system"
) -> Mapping[str, Any] | None:
    """Return a daemonset as the API shows it, None when there is none. Raises NotReadable."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise NotReadable("this is no pod: there is no KUBERNETES_SERVICE_HOST")
    try:
        token = (account / "token").read_text().strip()
        context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        # From Python 3.13 on the default; authorities of older EKS clusters lack what it asks for (key ids).
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    except (OSError, ssl.SSLError) as e:
        raise NotReadable(f"no service account in this pod: {e}") from e
    try:
        status, body = _get(host, int(port), context, token, f"{namespace}/daemonsets/{name}")
        if status == 404:
            return None
        document = json.loads(body)
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise NotReadable(f"the Kubernetes API at {host}:{port}: {e or type(e).__name__}") from e
    if status != 200 or not isinstance(document, dict):
        raw = document.get("message", "") if isinstance(document, dict) else ""
        raise NotReadable(f"the Kubernetes API refuses (status {status}): {raw}")
    return document


def _get(host: str, port: int, context: ssl.SSLContext, token: str, what: str) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
    try:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        connection.request("GET", f"/apis/apps/v1/namespaces/{what}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
