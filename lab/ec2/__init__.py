"""The simulated EC2: moto's cloud, corrected where it is kinder or poorer than AWS, with faults on demand.

Names are looked up when they are used: importing moto takes more than a second, and a command's --help or the
metadata service alone need not wait for it.
"""

from __future__ import annotations

import importlib
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


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOME[name]), name)
