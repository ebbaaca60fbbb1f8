"""How EC2 says no: a code, a message, an HTTP status."""

from __future__ import annotations

STATUS = {
    "RequestLimitExceeded": 503,
    "Unavailable": 503,
    "ServiceUnavailable": 503,
    "InternalError": 500,
    "InternalFailure": 500,
    "UnauthorizedOperation": 403,
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "AuthFailure": 401,
    "DryRunOperation": 412,
}
"""HTTP status by code where it is not 400 (Amazon EC2 API Reference, "Error codes")."""


class Refusal(Exception):
    """A call that EC2 does not carry out."""

    def __init__(self, code: str, message: str = "", status: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message or code
        self.status = status or STATUS.get(code, 400)


def invalid_value(message: str) -> Refusal:
    """Return EC2's answer to a parameter whose value cannot be."""
    return Refusal("InvalidParameterValue", message)
