"""STATUS: whether an ADD could succeed now. Cheap, because kubelet may ask every five seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..model.errors import CniError, NotAvailable
from .world import Metadata

STATUS_SECONDS = 0.15

CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_PROFILE",
)
"""Variables in which an AWS SDK finds credentials before it asks instance metadata."""


def status(
    connect: Callable[[float], Metadata], environ: Mapping[str, str], problems: Sequence[str] = ()
) -> None:
    """Return if metadata answers within the time of ``connect``, and credentials are available.

    Raises NotAvailable (50) that names everything that is missing, ``problems`` too.
    """
    missing = list(problems)
    metadata = connect(STATUS_SECONDS)
    try:
        metadata.macs()
        if not any(environ.get(name) for name in CREDENTIALS) and not metadata.role():
            missing.append("no AWS credentials: no instance profile, and none in the environment")
    except CniError as e:
        missing.append(e.msg)
    finally:
        metadata.close()
    if missing:
        raise NotAvailable(" | ".join(missing))
