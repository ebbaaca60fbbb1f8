"""Tries out a client as a runtime would run it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import time
from pathlib import Path

from ..model.errors import IoFailure
from ..model.versions import SUPPORTED

TRIAL_SECONDS = 60
"""A node that has just started may be slow."""
BUSY_SECONDS = 5.0
_PAUSE = 0.05


def smoke_test(client: Path) -> None:
    """Run VERSION as a runtime would. Raises IoFailure when the answer is not the one."""
    request = json.dumps({"cniVersion": SUPPORTED[-1]}).encode()
    done = run([str(client)], request, {"CNI_COMMAND": "VERSION"})
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if done.returncode or answer != {"cniVersion": SUPPORTED[-1], "supportedVersions": list(SUPPORTED)}:
        text = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise IoFailure(f"{client} does not work: VERSION gives exit status {done.returncode}: {text}")


def run(command: list[str], stdin: bytes, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end and return what it said. Raises IoFailure when it cannot be run.

    A file that was just written is busy while a process that another thread has just forked still holds it.
    This waits until that has passed, so that no runtime meets it.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return subprocess.run(command, input=stdin, env=env, capture_output=True, timeout=TRIAL_SECONDS)  # noqa: PLW1510
        except subprocess.TimeoutExpired as e:
            raise IoFailure(f"{command[0]} does not end within {TRIAL_SECONDS} s") from e
        except OSError as e:  # not there, not executable, a file system that executes nothing
            if e.errno == errno.ETXTBSY and time.monotonic() < until:
                time.sleep(_PAUSE)
                continue
            raise IoFailure(f"cannot run {command[0]}: {e.strerror}{_remedy(command[0], e)}") from e


def _remedy(program: str, error: OSError) -> str:
    if error.errno != errno.EACCES:
        return ""
    with contextlib.suppress(OSError):
        if os.statvfs(Path(program).parent).f_flag & os.ST_NOEXEC:
            return ": its file system is mounted noexec: mount it with exec"
    return ": if its mode allows it, SELinux may forbid it (ausearch -m avc)"
