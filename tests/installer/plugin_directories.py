"""Plugin directories on file systems of every kind, node bundles, and installers of several releases.

A bundle here is a copy of the interpreter that runs the tests: it finds its library where that has it, so it
runs from any path. What is appended to it makes it another one to whoever looks at digests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cni_floatip import __version__, installer
from cni_floatip.model.versions import SUPPORTED

NEWER, OLDER = "9.9.0", "0.0.1"
AS = """
import sys, cni_floatip
cni_floatip.__version__ = sys.argv.pop(1)
from cni_floatip.cli import main
sys.exit(main())
"""


def bundle(directory: Path, extra: bytes = b"") -> Path:
    """Return a new bundle."""
    directory.mkdir(parents=True)
    path = directory / "python"
    shutil.copyfile(installer.default_interpreter(), path)
    with path.open("ab") as file:
        file.write(extra)
    path.chmod(0o755)
    done = subprocess.run([path, "-IS", "-c", "print('here')"], env={}, capture_output=True, text=True)
    assert done.stdout == "here\n", f"a copy of this interpreter does not run elsewhere: {done.stderr}"
    return directory


def command(verb: str, bin_dir: Path, *options: object, release: str = __version__) -> list[str]:
    """Return the command line of a ``floatipctl`` of some release."""
    return [sys.executable, "-c", AS, release, verb, "--bin-dir", str(bin_dir), *map(str, options)]


def config(directory: Path, **output: object) -> Path:
    """Write a node configuration whose directories are below ``directory``."""
    path = directory / "config.json"
    own = {
        "dataDir": str(directory / "data"),
        "spoolDir": str(directory / "data" / "spool"),
        "socketPath": str(directory / "run" / "agent.sock"),
    }
    path.write_text(json.dumps({**own, **output}))
    return path


def release(bin_dir: Path) -> str:
    """Return which release answers VERSION there."""
    client = bin_dir / "floatip"
    done = subprocess.run([client], env={"CNI_COMMAND": "VERSION"}, input=b"", capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["supportedVersions"] == list(SUPPORTED)
    return installer.read_installed(bin_dir).release


def tree(directory: Path) -> dict[str, tuple[int, int]]:
    """Return every path below ``directory`` with its mode and size."""
    paths = sorted(directory.rglob("*"))
    return {
        str(path.relative_to(directory)): (path.lstat().st_mode, 0 if path.is_dir() else path.lstat().st_size)
        for path in paths
    }


class Mounts:
    """A mount namespace of its own; ``root`` is how it is seen from outside."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdin
        assert self._holder.stdout
        self._holder.stdin.write("made\n")
        self._holder.stdin.flush()
        assert self._holder.stdout.readline() == "made\n"
        self.root = Path(f"/proc/{self._holder.pid}/root")

    def close(self) -> None:
        self._holder.communicate()

    def run(
        self, argv: Sequence[object], env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "--mount", "--target", str(self._holder.pid), *map(str, argv)]
        return subprocess.run(enter, env=env or os.environ, capture_output=True, text=True, timeout=60)

    def mount(self, *argv: object) -> None:
        done = self.run(["mount", *argv])
        assert done.returncode == 0, done.stderr

    def outside(self, path: Path) -> Path:
        """Return ``path`` of this namespace as it is reached from outside."""
        return self.root / path.relative_to("/")
