"""Run one call of the plugin that is killed at a chosen moment, or that writes its moments down.

    killed_call.py record FILE           run to the end; append each moment to FILE as "KIND NUMBER"
    killed_call.py before KIND NUMBER    be killed right before the NUMBER-th event of KIND
    killed_call.py after KIND NUMBER     be killed right after it
    killed_call.py full                  find the disk full: no file can grow
    killed_call.py collect               do what ``floatipctl gc`` does; print what it tells, as JSON

An event is a call to EC2, a change of the disk or a change of the pod's network. They are counted where the
plugin meets the library, so that one which is added later is found by recording. Nothing of the plugin
knows of this.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from cni_floatip import direct, operations, plugin
from cni_floatip.agent import recovery
from cni_floatip.config import nodeconf
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.edges.ec2 import client
from cni_floatip.edges.podnet import rtnetlink

DISK = ("fsync", "replace", "rename", "unlink", "mkdir")
NO_WRITE = ("dump", "get", "close")


def public(owner: type) -> list[str]:
    """Return the names of the methods that others call: what is added later is watched too."""
    return [name for name, member in vars(owner).items() if callable(member) and name[0] != "_"]


POD = [name for name in public(rtnetlink.Rtnetlink) if name not in NO_WRITE]


def watch(owner: Any, name: str, kind: str, tell: Callable[[str, str, int], None]) -> None:
    """Let ``tell`` know before and after each call of a function, with its number."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def watched(*args: Any, **kwargs: Any) -> Any:
        with _counting:
            _count[kind] += 1
            number = _count[kind]
        tell("before", kind, number)
        try:
            return real(*args, **kwargs)
        finally:
            tell("after", kind, number)

    setattr(owner, name, watched)


def watch_everything(tell: Callable[[str, str, int], None]) -> None:
    for name in DISK:
        watch(os, name, f"disk.{name}", tell)
    for name in public(client.Vpc):
        watch(client.Vpc, name, f"ec2.{name}", tell)
    for name in POD:
        watch(rtnetlink.Rtnetlink, name, f"pod.{name}", tell)


def killer(when: str, kind: str, number: int) -> Callable[[str, str, int], None]:
    def tell(*moment: object) -> None:
        if moment == (when, kind, number):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # this thread must not go on until the signal has come

    return tell


def recorder(path: str) -> Callable[[str, str, int], None]:
    def tell(when: str, kind: str, number: int) -> None:
        if when == "before":
            with open(path, "a") as file:  # noqa: PTH123 (the disk is what we watch)
                file.write(f"{kind} {number}\n")

    return tell


def collect() -> int:
    with direct.locked(NodeConf.load(nodeconf.path(os.environ)), os.environ, 10) as core:
        recovery.end_unanswered(core.world)
        sys.stdout.write(json.dumps(operations.collect(core.world)))
    return 0


_count: Counter[str] = Counter()
_counting = threading.Lock()


def main() -> int:
    match sys.argv[1:]:
        case ["collect"]:
            return collect()
        case ["full"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        case ["record", file]:
            watch_everything(recorder(file))
        case ["before" | "after" as when, kind, number]:
            watch_everything(killer(when, kind, int(number)))
        case _:
            sys.exit(__doc__)
    return plugin.main()


if __name__ == "__main__":
    sys.exit(main())
