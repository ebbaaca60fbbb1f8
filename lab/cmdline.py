"""What the lab prints to be typed: it works as it stands, in any shell and from any directory."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

PROGRAM = f"{shlex.quote(sys.executable)} -m lab"
CHECKOUT = Path(__file__).parents[1]
SETUP = f"make -C {shlex.quote(str(CHECKOUT))} setup"
"""Installs what is missing."""


def lab(*words: str) -> str:
    """Return a command of the lab, for the lab that this process knows."""
    place = os.environ.get("FLOATIP_LAB")
    where = [f"FLOATIP_LAB={shlex.quote(place)}"] if place else []
    return " ".join([*where, PROGRAM, *words])
