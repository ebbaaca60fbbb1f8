"""What the lab needs of a machine, looked for before anything is made: a refusal is one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess

from lab import cmdline
from lab.chain import find_plugin
from lab.errors import LabError


def require_root() -> None:
    """Refuse to go on as anybody else."""
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces: run this as root")


def require(plugins: tuple[str, ...] = ()) -> None:
    """Refuse to go on where no lab can be made, or where one of these CNI plugins is missing."""
    require_root()
    if shutil.which("ip") is None:
        raise LabError(f"there is no program ip: `{cmdline.SETUP}` installs it")
    trial = ["unshare", "--net", "--mount", "true"]
    tried = subprocess.run(trial, capture_output=True, text=True, check=False)
    if tried.returncode:
        refused = tried.stderr.strip()
        raise LabError(f"no network namespaces can be made here ({refused}); a container must be privileged")
    for plugin in plugins:
        if find_plugin(plugin) is None:
            raise LabError(f"there is no CNI plugin {plugin}: `{cmdline.SETUP}` installs it")
