"""Direct mode by a fork: a call of ``floatip`` without the start of an interpreter (``lab.forkserver``).

It runs ``plugin.main``, as the script ``floatip`` does, in a process of its own. What a call loads on its way
is loaded already (``direct_warm``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lab.forkserver import Forked, ForkServer

SCRIPT = Path(sys.executable).with_name("floatip")
MAIN = "cni_floatip.plugin:main"
MODULES = ("lab.direct_warm",)


@cache
def server() -> ForkServer:
    """Return the one server of this process."""
    return ForkServer(MODULES)


def start(argv: Sequence[str | Path] = (SCRIPT,), *, entry: str = MAIN, **options: Any) -> Forked:
    """Start a call in the network namespace of this thread; ``options`` are those of ``subprocess.Popen``.

    ``entry`` is another function that wraps ``plugin.main``.
    """
    return Forked(server(), entry, [str(item) for item in argv], **options)
