"""The node agent, loaded: what the fork server of ``lab.agent`` imports, and what it runs.

That is the agent or another command of ``floatipctl``, or the client that hands calls to the agent.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import lab.direct_warm  # noqa: F401 (what its calls load)
from cni_floatip import cli
from cni_floatip.agent import main as agent  # noqa: F401 (what the command loads)
from lab.agent import HASTENED


def main() -> int:
    """Be ``floatipctl``, in a session of its own and with the constants that ``HASTENED`` gives."""
    os.setsid()
    set_constants(json.loads(os.environ.pop(HASTENED, "{}")))
    return cli.main()


def set_constants(constants: Mapping[str, Any]) -> None:
    """Set {"module.CONSTANT": value} in this process; refuse a name that does not exist."""
    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        owner = importlib.import_module(module)
        assert hasattr(owner, constant), name
        setattr(owner, constant, value)


def client() -> NoReturn:
    """Be the installed client."""
    program = Path(sys.argv[0])
    exec(compile(program.read_bytes(), program, "exec"), {"__name__": "__main__"})  # noqa: S102 (its own file)
    raise AssertionError(f"{program} has not ended")
