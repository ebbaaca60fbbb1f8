"""An agent that is killed at a chosen moment, or that writes its moments down.

    main DOOM CONSTANTS

It is a fork of a server (``lab.forkserver``) that has imported everything, so that a life costs a fraction of
a second, and is otherwise that of ``floatipctl agent``. ``DOOM`` is ``null`` or what the agent also takes
later, from the file that it is named in ``FLOATIP_DOOM``, at SIGUSR1 (it removes the file when it has read
it)::

    ["record", FILE]              append each moment from now on to FILE as "KIND NUMBER"
    ["before", KIND, NUMBER]      be killed right before the NUMBER-th event of KIND from now on
    ["after", KIND, NUMBER]       be killed right after it

``CONSTANTS`` ({"module.NAME": value}) hastens what takes half a minute.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import boto3  # noqa: F401 (so that no agent has to)

from cni_floatip import cli
from cni_floatip.agent.server import handler
from cni_floatip.edges.ec2 import client
from cni_floatip.edges.podnet import rtnetlink
from lab.agent_warm import set_constants  # with what the command and its calls load
from tests.faults import killed_call  # the same events as in direct mode


class Doom:
    """What is to happen at a moment; can be changed while the agent lives."""

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._count: Counter[str] = Counter()
        self._doom: Sequence[Any] = ()

    def take(self, doom: Sequence[Any]) -> None:
        with self._counting:
            self._count.clear()
            self._doom = doom

    def begin(self, kind: str) -> int:
        with self._counting:
            self._count[kind] += 1
            number = self._count[kind]
        match self._doom:
            case ["record", file]:
                with open(file, "a") as record:  # noqa: PTH123 (the disk is what is watched)
                    record.write(f"{kind} {number}\n")
        self._meet("before", kind, number)
        return number

    def end(self, kind: str, number: int) -> None:
        self._meet("after", kind, number)

    def _meet(self, when: str, kind: str, number: int) -> None:
        if list(self._doom) == [when, kind, number]:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # this thread must not go on until the signal has come


def watch(owner: Any, name: str, doom: Doom, kind: Callable[..., str]) -> None:
    """Let ``doom`` know before and after each call of a function."""
    real = getattr(owner, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        what = kind(*args)
        number = doom.begin(what)
        try:
            return real(*args, **kwargs)
        finally:
            doom.end(what, number)

    setattr(owner, name, watched)


def watch_everything(doom: Doom) -> None:
    for name in killed_call.DISK:
        watch(os, name, doom, lambda *_, name=name: f"disk.{name}")
    for name in ("route_tables", "network_interface", *WRITES):
        watch(client.Vpc, name, doom, lambda *_, name=name: f"ec2.{name}")
    for name in killed_call.POD:  # routes and rules of the pod, and the guard of its ENI
        watch(rtnetlink.Rtnetlink, name, doom, lambda _, subject, *__, name=name: f"{subject}.{name}")
    watch(handler.CallHandler, "answer", doom, lambda *_: "call.answer")


WRITES = ("disable_source_dest_check", "create", "replace", "delete")


def main() -> int:
    doom, constants = map(json.loads, sys.argv[1:])
    set_constants(constants)
    message = Doom()
    message.take(doom or ())
    named, remove = Path(os.environ["FLOATIP_DOOM"]), os.unlink

    def obey(*_: object) -> None:
        message.take(json.loads(named.read_text()))
        remove(named)

    signal.signal(signal.SIGUSR1, obey)
    watch_everything(message)
    return cli.main(["agent"])
