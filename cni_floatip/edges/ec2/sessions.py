"""Makes botocore clients with a cut-down service model, one attempt per request, and short timeouts.

``client`` knows the requests to EC2, this module the identities, and ``credentials`` keeps those fresh. boto3
is not imported, because it would add a third to the start-up time and every name used is botocore's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore
import botocore.session
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.loaders import Loader

from ... import __version__
from ...model.errors import Ec2Error, Ec2Fault
from . import route_sets
from .credentials import Credentials, Failure, Provider

CONNECT_SECONDS = 1.0
READ_SECONDS = 4.0
_MODEL = Path(__file__).parent / "service_model"

Assumed = Callable[[Callable[[], Any]], Any]
"""Carries out one AssumeRole call and sorts its errors (``client.Vpc`` does)."""


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
        self._own: Any = None
        self._held: dict[str, Credentials] = {}
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._making = threading.RLock()
        self._finding: dict[str, threading.Lock] = {}
        self._failed: dict[str, Failure] = {}

    def client(
        self, region: str, account: str, assumed: Assumed, service: str = "ec2", *, as_it_is: bool = False
    ) -> Any:
        """Return the client that acts for ``account`` ("": our own identity), credentials renewed in time.

        ``as_it_is``: credentials that are still good are not renewed, because the caller may not wait.
        """
        result = self._clients.get((service, region, account))
        if result is not None and as_it_is:
            return result
        held = self.ready(region, account, assumed)
        return result if result is not None else self._client(service, region, account, held)

    def ready(self, region: str, account: str, assumed: Assumed) -> Credentials:
        """Get credentials for ``account`` that stay good for a while, if they are available.

        No client is made without credentials, because botocore would never look for any again.
        """
        held = self._held.get(account) or self._find(region, account, assumed)
        held.renew()
        return held

    def identity(self) -> str:
        """Return how our own credentials were found, "" for none; renews them if it is time."""
        try:
            return str(self.ready("", "", lambda call: call()).method)
        except NoCredentialsError:
            return ""

    def endpoint(self, region: str, service: str = "ec2") -> str:
        """Return the URL of a service as the SDK resolves it, for which it needs no credentials."""
        nobody = {"aws_access_key_id": "-", "aws_secret_access_key": "-"}
        try:
            client = self._new_session(None).create_client(service, region_name=region, **nobody)
        except ValueError as e:
            raise _no_url(service, e) from e
        return str(client.meta.endpoint_url)

    def _client(self, service: str, region: str, account: str, held: Credentials) -> Any:
        with self._making:
            result = self._clients.get((service, region, account))
            if result is None:
                try:
                    result = self._new_session(held).create_client(service, region_name=region)
                except ValueError as e:
                    raise _no_url(service, e) from e
                if service == "ec2":
                    result.meta.events.register(route_sets.EVENT, route_sets.cut)
                self._clients[service, region, account] = result
            return result

    def _find(self, region: str, account: str, assumed: Assumed) -> Credentials:
        """Find credentials for the first time. Waiting callers share a failure, as they would repeat it."""
        with self._making:
            lock = self._finding.setdefault(account, threading.Lock())
            failed = self._failed.setdefault(account, Failure(self._clock))
        with lock:
            if account not in self._held:
                result = self._role(region, account, assumed) if account else failed.once(self._our_own)
                self._held[account] = Credentials(result, failed)
            return self._held[account]

    def _our_own(self) -> Any:
        """Return the credentials of the SDK's provider chain (environment, IRSA, Pod Identity, instance)."""
        if self._own is None:
            self._own = self._new_session(None)
        if result := self._own.get_credentials():
            return result
        raise NoCredentialsError

    def _role(self, region: str, account: str, assumed: Assumed) -> Any:
        first = self._failed[account].once(lambda: self._assume(region, account, assumed))
        return RefreshableCredentials(
            first["access_key"],
            first["secret_key"],
            first["token"],
            datetime.fromisoformat(first["expiry_time"]),
            refresh_using=lambda: self._assume(region, account, assumed),
            method="assume-role",
            time_fetcher=self._now,
        )

    def _assume(self, region: str, account: str, assumed: Assumed) -> Mapping[str, str]:
        """Return fresh credentials of the account's role, as botocore wants them. Raises Ec2Error."""
        role = self._roles.get(account)
        if role is None:
            text = f"no role for account {account}: add it to roles of the node configuration"
            raise Ec2Error(Ec2Fault.DENIED, "AssumeRole", "", text)
        answer = assumed(
            lambda: self.client(region, "", assumed, "sts").assume_role(
                RoleArn=role, RoleSessionName="floatip"
            )
        )
        result = answer["Credentials"]
        return {
            "access_key": result["AccessKeyId"],
            "secret_key": result["SecretAccessKey"],
            "token": result["SessionToken"],
            "expiry_time": result["Expiration"].isoformat(),
        }

    def _new_session(self, credentials: Any) -> Any:
        """Return a session with our models (see ``service_model``): 4 times quicker to make a client."""
        session = botocore.session.Session()
        if self._loader is None:
            self._loader = _our_models(self._models)
        session.register_component("data_loader", self._loader)
        session.set_default_client_config(_config(self._connections))  # also for clients that botocore makes
        if credentials is not None:
            session.register_component("credential_provider", Provider(credentials))
        return session


def _config(connections: int) -> Any:
    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=connections,
        tcp_keepalive=True,
        # Every call would pay for both: our own code passes the parameters, and the name is built twice.
        parameter_validation=False,
        user_agent=f"cni-floatip/{__version__} Botocore/{botocore.__version__}",
    )


def _our_models(where: Sequence[Path]) -> Any:
    class OurModels(Loader):  # type: ignore[misc,unused-ignore]
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
