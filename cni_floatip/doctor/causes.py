"""Finds the check whose finding explains another check's failed read: out of reach, unsigned, or refused."""

from __future__ import annotations

from ..model.errors import Ec2Error, Ec2Fault

NO_CREDENTIALS = ("NoCredentialsError", "CredentialRetrievalError")
"""What botocore raises without credentials; for a missing token file it raises OSError."""


def is_unsigned(error: Ec2Error) -> bool:
    """Whether nothing was sent because there are no credentials."""
    cause = error.__cause__
    missing = isinstance(cause, FileNotFoundError | PermissionError)
    return not error.code and (type(cause).__name__ in NO_CREDENTIALS or missing)


def is_out_of_reach(error: Ec2Error) -> bool:
    """Whether no answer came at all (no way, no time, a certificate that is not AWS's), not a refusal.

    A call without credentials does not count, because nothing is sent.
    """
    return not error.code and error.fault is not Ec2Fault.DENIED and not is_unsigned(error)


def explained_by(error: Ec2Error) -> tuple[str, ...]:
    """Return the check whose finding explains why this call failed; none if the call is its own cause."""
    if is_out_of_reach(error):
        return ("endpoint",)
    return ("identity",) if is_unsigned(error) else ()


def whom(error: Ec2Error, otherwise: str) -> str:
    """Return the URL that gave no answer; a call to EC2 may have failed at STS, for credentials."""
    request = getattr(error.__cause__, "kwargs", {}).get("endpoint_url") or otherwise
    return str(request).rstrip("/")
