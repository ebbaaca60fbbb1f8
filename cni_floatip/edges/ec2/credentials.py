"""Keeps credentials fresh, and does not ask again at once after a failure to get them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from ...model.errors import Ec2Error

REMEMBER_SECONDS = 2.0
"""How long not to ask again after a failure to get credentials."""
RENEW_SECONDS = 300
"""Credentials with less time left are renewed; if that fails, they stay in use."""
LAST_SECONDS = 10
"""Credentials with less time left are not used, because a request might come too late."""


class Failure:
    """Remembers for two seconds that credentials were unavailable, so that callers meanwhile fail at once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = -REMEMBER_SECONDS
        self._why: Exception | None = None

    def recent(self) -> bool:
        """Return whether the last attempt failed a moment ago."""
        return self._why is not None and self._clock() - self._at < REMEMBER_SECONDS

    def once(self, find: Callable[[], Any]) -> Any:
        """Return the result of ``find``, unless it failed a moment ago."""
        if self._why is not None and self.recent():
            raise again(self._why)
        try:
            result = find()
        except Exception as e:  # whatever a provider raises, callers meanwhile get the same
            self._at, self._why = self._clock(), e
            raise
        self._why = None
        return result


def again(e: Exception) -> Exception:
    """Return an equal exception, because one that is raised twice carries its first traceback."""
    if isinstance(e, Ec2Error):
        return Ec2Error(e.fault, e.action, e.code, e.message)
    if isinstance(e, ClientError):
        return ClientError(e.response, e.operation_name)
    if isinstance(e, BotoCoreError):  # of its own kind: whether somebody was out of reach is told by that
        return type(e)(**e.kwargs)
    return CredentialRetrievalError(provider="our own", error_msg=str(e))


class Credentials:
    """Credentials of one identity that clients sign with: ``renew`` renews them, never a signature.

    The SDK renews its own while it signs a request, after the request was decided. In the last ten minutes it
    does not use credentials that it cannot renew, and tries to renew them for one caller after the other.
    """

    def __init__(self, result: Any, failed: Failure) -> None:
        self._found = result
        self._failed = failed
        self._good: Any = None
        if self._ends():
            refresh = result._refresh_using
            result._refresh_using = lambda: failed.once(refresh)
            result._advisory_refresh_timeout = RENEW_SECONDS
            result._mandatory_refresh_timeout = LAST_SECONDS

    @property
    def method(self) -> str:
        """How they were found, in the SDK's word."""
        return str(self._found.method)

    def renew(self) -> None:
        """Renew credentials that expire soon. Keeps those that cannot be renewed as long as they are good."""
        if not (self._good and self._failed.recent() and not self._over()):
            self._good = self._found.get_frozen_credentials()

    def get_frozen_credentials(self) -> Any:
        """Return the credentials that sign a request now."""
        if self._good is None or self._over():
            self.renew()
        return self._good

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """Return how to find one part of them, as the SDK asks."""
        return lambda: getattr(self.get_frozen_credentials(), name, None)

    def _ends(self) -> bool:
        return hasattr(self._found, "refresh_needed")

    def _over(self) -> bool:
        return self._ends() and bool(self._found.refresh_needed(LAST_SECONDS))


class Provider:
    """The provider that a session asks for credentials."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        return self._credentials
