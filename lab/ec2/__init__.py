"""The simulated EC2: moto's cloud, corrected where it is kinder or poorer than AWS, with faults on demand.

Names are looked up when they are used: importing moto takes more than a second, and a command's --help or the
metadata service alone need not wait for it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.ec2.faults import Faults as Faults
    from lab.ec2.journal import Call as Call
    from lab.ec2.journal import Journal as Journal
    from lab.ec2.simulated import SimulatedEC2 as SimulatedEC2
    from lab.ec2.views import RouteView as RouteView

HOME = {
    "Call": "lab.ec2.journal",
    "Faults": "lab.ec2.faults",
    "Journal": "lab.ec2.journal",
    "RouteView": "lab.ec2.views",
    "SimulatedEC2": "lab.ec2.simulated",
}
OF_MOTO = ("RouteView", "SimulatedEC2")


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with contextlib.nullcontext() if "moto.ec2" in sys.modules or name not in OF_MOTO else _files_read_once():
        return getattr(importlib.import_module(HOME[name]), name)


@contextlib.contextmanager
def _files_read_once() -> Iterator[None]:
    """Import moto in two thirds of the time: each of three sessions that it asks reads all endpoints."""
    from botocore.loaders import JSONFileLoader

    loader: Any = JSONFileLoader
    read = loader.load_file
    once = functools.cache(lambda path: read(loader(), path))
    loader.load_file = lambda _, path: once(path)
    try:
        yield
    finally:
        loader.load_file = read
