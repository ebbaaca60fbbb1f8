"""The world of direct mode: this process, its namespace, its credentials. For development and ``cnitool``.

Every edge is made when it is first asked for, so that a call pays for what it uses.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Mapping

from .config.nodeconf import NodeConf
from .edges import host
from .edges.store import Store
from .operations.world import Kernel, Metadata, Vpc, World, in_a_thread


def world(policy: NodeConf, environ: Mapping[str, str]) -> World:
    """Return the world of a call in this process."""
    endpoint = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "")
    region = environ.get("AWS_REGION", "")
    clients: dict[str, Vpc] = {}

    def metadata(deadline: float) -> Metadata:
        from .edges import imds

        return imds.Metadata(deadline, endpoint=endpoint, clock=host.clock)

    def vpc(where: str) -> Vpc:
        from .edges.ec2 import client

        where = region or where
        return clients.setdefault(where, client.Vpc(where, policy.roles))

    def kernel() -> Kernel:
        from .edges import podnet

        return podnet

    return World(
        policy=policy,
        on_delete="keep",  # no keeper here mends what a late delete hits
        claims=Store(policy.data_dir, sleep=time.sleep, clock=host.clock),
        kernel=kernel,
        metadata=metadata,
        vpc=vpc,
        boot=host.boot,
        inode=host.inode,
        namespaces=host,
        clock=host.clock,
        now=time.time,
        sleep=time.sleep,
        jitter=random.random,
        log=log,
        stop=lambda: None,
        later=None,
        spawn=in_a_thread,
    )


def log(sentence: str, *_: object, **__: object) -> None:
    """Write for the operator: the sentence says it all. Nobody may read it, and nothing fails for that."""
    with contextlib.suppress(OSError):
        os.write(2, f"floatip: {sentence}\n".encode(errors="replace"))
