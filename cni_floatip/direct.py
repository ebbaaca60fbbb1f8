"""The world of direct mode: this process, its namespace, its credentials. For development and ``cnitool``.

Every edge is made when it is first asked for, so that a call pays for what it uses.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path

from .documents import load_json
from .errors import CniError
from .nodeconf import DEFAULT_PATH, NodeConf
from .store import Store
from .world import Kernel, Metadata, Vpc, World, in_a_thread


def policy_path(environ: Mapping[str, str]) -> str:
    """Return where the node configuration is: ``FLOATIP_CONFIG``, or the default."""
    return environ.get("FLOATIP_CONFIG") or DEFAULT_PATH


def forgiving_policy(environ: Mapping[str, str]) -> NodeConf:
    """Return the node configuration for DEL, which no fault in it may stop.

    Of a file with faults only ``dataDir`` is believed: it says where the claims are.
    """
    path = policy_path(environ)
    try:
        return NodeConf.load(path)
    except CniError as e:
        log(str(e))
    try:
        found = load_json(Path(path).read_bytes(), path)["dataDir"]
    except (OSError, CniError, KeyError, TypeError):
        return NodeConf()
    return NodeConf(data_dir=found) if isinstance(found, str) else NodeConf()


def world(policy: NodeConf, environ: Mapping[str, str]) -> World:
    """Return the world of a call in this process."""
    endpoint = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "")
    region = environ.get("AWS_REGION", "")
    clients: dict[str, Vpc] = {}

    def metadata(deadline: float) -> Metadata:
        from . import imds

        return imds.Metadata(deadline, endpoint=endpoint, clock=clock)

    def vpc(where: str) -> Vpc:
        from . import vpc

        where = region or where
        return clients.setdefault(where, vpc.Vpc(where, policy.roles))

    def kernel() -> Kernel:
        from . import podnet

        return podnet

    return World(
        policy=policy,
        on_delete="keep",  # nobody here mends what a late delete hits (DESIGN 6)
        claims=Store(policy.data_dir, sleep=time.sleep, clock=clock),
        kernel=kernel,
        metadata=metadata,
        vpc=vpc,
        boot=boot,
        inode=inode,
        clock=clock,
        now=time.time,
        sleep=time.sleep,
        jitter=random.random,
        log=log,
        stop=lambda: "",
        later=None,
        spawn=in_a_thread,
    )


def log(sentence: str, *_: object, **__: object) -> None:
    """Write for the operator: the sentence says it all. Nobody may read it, and nothing fails for that."""
    with contextlib.suppress(OSError):
        os.write(2, f"floatip: {sentence}\n".encode(errors="replace"))


def clock() -> float:
    """Seconds since boot, also those that the machine slept: a decision ages in its sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot() -> str:
    """The kernel's id of this boot: namespaces of another one are gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def inode(netns: str) -> int:
    """The identity of the namespace at a path, 0 when there is none: a path may come to lead to another."""
    try:
        return os.stat(netns).st_ino if netns else 0  # noqa: PTH116 (the path may be /proc/PID/ns/net)
    except (OSError, ValueError):  # ValueError: no path can be written so
        return 0
