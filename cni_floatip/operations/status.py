"""STATUS: would an ADD have a chance now? Cheap: kubelet may ask every five seconds."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..model.errors import CniError, IoFailure, NotAvailable
from .world import World

STATUS_SECONDS = 0.15

CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_PROFILE",
)
"""Variables in which an AWS SDK finds credentials before it asks instance metadata."""


def status(world: World, environ: Mapping[str, str] = os.environ) -> None:
    """Return when metadata answers, credentials are to be had and the data directory can be used.

    Raises NotAvailable (50) that names everything that is not.
    """
    found: list[str] = []
    try:
        with world.claims.own(alone=False) as shared:
            if not shared:
                found.append("a node agent has the data directory: direct mode is not for this node")
    except IoFailure as e:
        found.append(e.msg)
    metadata = world.metadata(world.clock() + STATUS_SECONDS)
    try:
        metadata.macs()
        if not any(environ.get(name) for name in CREDENTIALS) and not metadata.role():
            found.append("no AWS credentials: no instance profile, and none in the environment")
    except CniError as e:
        found.append(e.msg)
    finally:
        metadata.close()
    if found:
        raise NotAvailable(" | ".join(found))
