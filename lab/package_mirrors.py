"""How this machine reaches Debian's and Python's packages, for what is built of them; long programs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lab.errors import LabError

SLOW = 900.0


def debian_sources(release: str) -> list[str]:
    """Return where this machine has Debian from, if that is the release which is wanted."""
    for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        if path.exists() and release in (text := path.read_text()) and "deb" in text:
            return [str(path)]
    return []


def apt_configuration() -> str:
    """Return how apt fetches, as a file for ``apt.conf.d``."""
    return run(["apt-config", "dump", "Acquire"]) if shutil.which("apt-config") else ""


def pip_configuration() -> str:
    """Return where pip fetches from, as a ``pip.conf``."""
    listed = run([sys.executable, "-m", "pip", "config", "list"])
    options = re.findall(r"(?m)^(?:global|:env:)\.(index-url|extra-index-url|proxy)='(.*)'$", listed)
    return "".join(["[global]\n", *(f"{name} = {value}\n" for name, value in options)])


def certificates() -> Path | None:
    """Return the authorities that this machine believes, as one file."""
    named = (
        os.environ.get("PIP_CERT"),
        os.environ.get("SSL_CERT_FILE"),
        "/etc/ssl/certs/ca-certificates.crt",
    )
    return next((Path(item) for item in named if item and Path(item).is_file()), None)


def run(command: list[str], env: Mapping[str, str] | None = None, seconds: float = SLOW) -> str:
    """Run a program to its end and return its output; one that fails, or takes longer, is an error."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    failed = ""
    try:
        text, complained = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        failed = f" is not done after {seconds:.0f} s; is what it fetches from slow?"
        end(process)
        text, complained = process.communicate()
    except BaseException:
        end(process)
        raise
    if failed or process.returncode:
        raise LabError(f"{' '.join(command)}{failed}: {text[-3000:]}{complained[-3000:]}")
    return text


def end(process: subprocess.Popen[str]) -> None:
    """End a program with all that it runs."""
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
