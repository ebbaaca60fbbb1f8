"""botocore as we use it: a cut-down service model, one attempt, short waits, credentials that stay fresh.

Beside ``vpc`` the only module that imports botocore: ``vpc`` knows what to ask EC2, this one in whose name.
boto3 itself is not imported: it would add a third to the start-up time, and every name used is botocore's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import Ec2Error, Ec2Fault

CONNECT_SECONDS = 1.0
READ_SECONDS = 4.0
REMEMBER_SECONDS = 2.0
"""How long a role that could not be assumed is not tried again."""
RENEW_SECONDS = 300
"""A role is assumed again when its credentials have less than this left; one that cannot be is kept."""
LAST_SECONDS = 10
"""With less left, a request might come too late: no credentials are better than these."""
_MODEL = Path(__file__).parent / "ec2model"

Assumed = Callable[[Callable[[], Any]], Any]
"""Carries out one AssumeRole call and sorts its errors (``Vpc`` does)."""


def _now() -> datetime:
    return datetime.now(UTC)


class Sdk:
    """botocore's clients, one per service, region and account, each made once. For many threads.

    ``roles`` maps an account to the role to assume for it. ``connections`` are kept per client. ``models``:
    directories with service descriptions that come before our own (the doctor's, which describe more).
    """

    def __init__(
        self,
        roles: Mapping[str, str],
        *,
        connections: int = 20,
        models: Sequence[Path] = (),
        now: Callable[[], datetime] = _now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roles = roles
        self._connections = connections
        self._models = [*models, _MODEL]
        self._now = now
        self._clock = clock
        self._loader: Any = None
        self._sessions: dict[str, Any] = {}
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._failed: dict[str, tuple[float, Ec2Error]] = {}
        self._making = threading.RLock()
        self._assuming: dict[str, threading.Lock] = {}

    def client(self, region: str, account: str, assumed: Assumed, service: str = "ec2") -> Any:
        """Return the client that acts for ``account`` ("": our own identity)."""
        found = self._clients.get((service, region, account))
        if found is not None:
            return found
        if account:
            self._become(region, account, assumed)
        return self._client(service, region, account)

    def identity(self) -> str:
        """Return how our own credentials were found, "" for none; they are renewed if it is time."""
        with self._making:
            found = self._session("").get_credentials()
        if found is None:
            return ""
        found.get_frozen_credentials()
        return str(found.method)

    def _client(self, service: str, region: str, account: str) -> Any:
        with self._making:
            found = self._clients.get((service, region, account))
            if found is None:
                try:
                    found = self._session(account).create_client(service, region_name=region)
                except ValueError as e:
                    raise _no_url(service, e) from e
                self._clients[service, region, account] = found
            return found

    def _become(self, region: str, account: str, assumed: Assumed) -> None:
        """Assume the account's role once. A failure is that of all who wait: they would only repeat it."""
        from botocore.credentials import RefreshableCredentials

        with self._making:
            lock = self._assuming.setdefault(account, threading.Lock())
        with lock:
            if account in self._sessions:
                return
            first = self._assume(region, account, assumed)
            credentials = RefreshableCredentials(
                first["access_key"],
                first["secret_key"],
                first["token"],
                datetime.fromisoformat(first["expiry_time"]),
                refresh_using=lambda: self._assume(region, account, assumed),
                method="assume-role",
                time_fetcher=self._now,
                advisory_timeout=RENEW_SECONDS,
                mandatory_timeout=LAST_SECONDS,
            )
            with self._making:
                self._sessions[account] = self._new_session(credentials)

    def _assume(self, region: str, account: str, assumed: Assumed) -> Mapping[str, str]:
        """Return fresh credentials of the account's role, as botocore wants them. Raises Ec2Error."""
        role = self._roles.get(account)
        if role is None:
            text = f"no role for account {account}: add it to roles of the node configuration"
            raise Ec2Error(Ec2Fault.DENIED, "AssumeRole", "", text)
        at, e = self._failed.get(account, (0.0, None))
        if e and self._clock() - at < REMEMBER_SECONDS:
            raise Ec2Error(e.fault, e.action, e.code, e.message)  # its own: it carries where it was raised
        try:
            answer = assumed(
                lambda: self._client("sts", region, "").assume_role(RoleArn=role, RoleSessionName="floatip")
            )
        except Ec2Error as e:
            self._failed[account] = self._clock(), e
            raise
        found = answer["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }

    def _session(self, account: str) -> Any:
        if account not in self._sessions:
            self._sessions[account] = self._new_session(None)
        return self._sessions[account]

    def _new_session(self, credentials: Any) -> Any:
        """Return a session with our models (see ``ec2model``): 4 times quicker to make a client."""
        import botocore.session

        session = botocore.session.Session()
        if self._loader is None:
            self._loader = _our_models(self._models)
        session.register_component("data_loader", self._loader)
        session.set_default_client_config(_config(self._connections))  # also for clients that botocore makes
        if credentials is not None:
            session.register_component("credential_provider", _Given(credentials))
        return session


class _Given:
    """What a session asks for credentials."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        return self._credentials


def _config(connections: int) -> Any:
    import botocore
    from botocore.config import Config

    from . import __version__

    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=connections,
        tcp_keepalive=True,
        # What every call would pay for: what we pass is our own code's, and the name is put together twice.
        parameter_validation=False,
        user_agent=f"cni-floatip/{__version__} Botocore/{botocore.__version__}",
    )


def _our_models(where: Sequence[Path]) -> Any:
    from botocore.loaders import Loader

    class OurModels(Loader):
        def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 (the SDK's signature)
            return ["ec2", "sts"]  # the SDK lists 400 directories to find the same

    return OurModels(extra_search_paths=[str(path) for path in where])


def _no_url(service: str, e: ValueError) -> Ec2Error:
    """Return the error that names where an endpoint that is no URL was read from."""
    for name in (f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL"):
        if value := os.environ.get(name):
            text = f"{name}={value!r} is not a URL like https://{service}.eu-central-1.amazonaws.com"
            return Ec2Error(Ec2Fault.REFUSED, service.upper(), "", text)
    return Ec2Error(Ec2Fault.REFUSED, service.upper(), "", str(e))
