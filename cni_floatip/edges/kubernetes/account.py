"""The pod's service account: the token that proves who calls, the authority that vouches for API servers.

The kubelet writes both anew while the pod runs (Kubernetes, "Configure Service Accounts for Pods", token
volume projection), so both are read again each minute, and after a 401.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...model.errors import ApiError, ApiFault

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REREAD_SECONDS = 60.0
_LONGEST = 64 * 1024
"""Bytes of a token; a header of an HTTP server takes less."""


@dataclass(frozen=True, slots=True)
class ApiCredentials:
    """What a call needs: the token, and a TLS context that trusts the cluster's authority and nobody else."""

    token: str
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class _AccountRead:
    """What the files held when they were read, and when that was."""

    at: float
    authority: bytes
    credentials: ApiCredentials


class ServiceAccount:
    """The files ``token`` and ``ca.crt`` of one directory. Several threads may use it: it has no lock."""

    def __init__(
        self, directory: Path = SERVICE_ACCOUNT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._last: _AccountRead | None = None

    def credentials(self) -> ApiCredentials:
        """Return what the files hold, read a minute ago at most.

        While they cannot be read, what was read before stays. Raises ``ApiError`` (REFUSED) if nothing was.
        """
        last = self._last
        if last is None or self._clock() - last.at >= REREAD_SECONDS:
            last = self._read(last)
        return last.credentials

    def after_refusal(self, refused: ApiCredentials) -> ApiCredentials | None:
        """Return others than those that an API server did not accept; ``None`` if there are none."""
        credentials = self._read(self._last).credentials
        return None if credentials.token == refused.token else credentials

    def _read(self, last: _AccountRead | None) -> _AccountRead:
        try:
            token = (self._directory / "token").read_bytes().strip()
            authority = (self._directory / "ca.crt").read_bytes()
            if not token or len(token) > _LONGEST or not _is_printable(token):
                raise ValueError("the file token holds no token")
            context = last.credentials.context if last and last.authority == authority else _trust(authority)
        except (OSError, ValueError) as e:  # what TLS complains of is an OSError
            if last is None:
                text = f"no service account in this pod: {e}"
                raise ApiError(ApiFault.REFUSED, "service account", text) from e
            self._last = _AccountRead(self._clock(), last.authority, last.credentials)
            return self._last
        self._last = _AccountRead(self._clock(), authority, ApiCredentials(token.decode(), context))
        return self._last


def _is_printable(token: bytes) -> bool:
    """Say whether an HTTP header can carry it."""
    return all(0x21 <= byte <= 0x7E for byte in token)


def _trust(authority: bytes) -> ssl.SSLContext:
    """Return a context that verifies certificate and name. It reads nothing of the environment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=authority.decode("ascii"))
    return context
