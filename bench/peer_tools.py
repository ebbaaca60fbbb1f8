"""The peers' programs for the race, below ``.cache/peers``: nothing of them is installed on the machine.

ClusterLabs' resource agents come as Debian's package, fetched by apt in the pinned version, checked by its
hash, and only unpacked. The AWS CLI comes from the Python package index, locked by hash
(``peer_programs/requirements.txt``, made by ``make lock``), in a virtual environment of its own with our
interpreter. What is there is not fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figure import say

STORE = Path(__file__).parents[1] / ".cache" / "peers"
LOCK = Path(__file__).parent / "peer_programs" / "requirements.txt"
SECONDS = 600


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned Debian package."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}={self.version}"


RESOURCE_AGENTS = {
    "amd64": Package(
        "resource-agents", "1:4.12.0-2", "8e4194dc833f7fa83ea976516774a8ad1cbb4a362037d1efbf217e97b1f27b43"
    ),
}
"""By Debian's name of the machine: what Debian 12 has."""


class Unavailable(Exception):
    """A peer cannot be had here; the message says why."""


def resource_agents() -> Path:
    """Return ``OCF_ROOT``, the directory of the resource agents. Raises Unavailable."""
    for program in ("apt-get", "dpkg", "dpkg-deb", "curl", "ip"):
        if shutil.which(program) is None:
            raise Unavailable(f"there is no {program} here")
    machine = _run(["dpkg", "--print-architecture"])
    package = RESOURCE_AGENTS.get(machine)
    if package is None:
        raise Unavailable(f"no resource-agents are pinned for {machine}")
    return unpacked(package) / "usr" / "lib" / "ocf"


def unpacked(package: Package, store: Path = STORE) -> Path:
    """Return where a Debian package is unpacked; fetch it if it is not. Raises Unavailable."""
    where = store / f"{package.name}-{package.sha256[:12]}"
    if where.exists():
        return where
    say(f"fetching {package} into {store}")
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store) as directory:
        fetched = _download(package, Path(directory))
        if (digest := hashlib.sha256(fetched.read_bytes()).hexdigest()) != package.sha256:
            raise Unavailable(f"what apt has as {package} is not the pinned file: sha256 {digest}")
        made = Path(directory, "root")
        _run(["dpkg-deb", "--extract", str(fetched), str(made)])
        made.rename(where)
    return where


def _download(package: Package, directory: Path) -> Path:
    """Fetch by apt, with its lists anew where those at hand do not do."""
    argv = ["apt-get", "-q", "download", str(package)]
    try:
        _run(argv, directory)
    except Unavailable:
        _run(["apt-get", "-q", "update"], directory)
        _run(argv, directory)
    return next(directory.glob("*.deb"))


def aws_cli() -> Path:
    """Return the AWS CLI's program, ``aws``. Raises Unavailable."""
    return environment(LOCK) / "bin" / "aws"


def environment(lock: Path, store: Path = STORE) -> Path:
    """Return a virtual environment with the packages of a lock; make it if it is not there."""
    where = store / f"aws-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    whole = where / "whole"
    if not whole.exists():
        say(f"installing the AWS CLI of {lock.name} into {where}")
        shutil.rmtree(where, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(where)])
        install = "install -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all:"
        _run([str(where / "bin" / "python"), "-Im", "pip", *install.split(), "-r", str(lock)])
        whole.touch()
    return where


def _run(argv: Sequence[str], directory: Path | None = None) -> str:
    try:
        done = subprocess.run(
            argv, cwd=directory, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(argv[:3])} has not ended after {SECONDS} s") from None
    if done.returncode:
        last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-1:]
        raise Unavailable(f"{' '.join(argv[:3])}: {''.join(last)}")
    return done.stdout.strip()
