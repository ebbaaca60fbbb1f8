"""The node agent, loaded: what the fork server of ``lab.agent`` imports, and what it runs."""

from __future__ import annotations

import os

import lab.direct_warm  # noqa: F401 (what its calls load)
from cni_floatip import cli
from cni_floatip.agent import main as agent  # noqa: F401 (what the command loads)


def main() -> int:
    """Be ``floatipctl``, in a session of its own."""
    os.setsid()
    return cli.main()
