"""A checkout with locks of its own, beside a package index on loopback, and prepared for the demo once."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.bootstrap.index import Index, installed_wheel, serving, wheel
from tests.bootstrap.locks import ROOT

COPIED = ("Makefile", "LICENSE", "README.md", "pyproject.toml", "setup.cfg", "cni_floatip", "lab")
LOCKED = {
    "boto3": "1.40.0",
    "pyroute2": "0.9.4",
    "jsonschema": "4.23.0",
    "PyYAML": "6.0",
    "prometheus-client": "0.22.0",
    "urllib3": "2.5.0",
}
NEWER = {"boto3": "1.99.0", "pyroute2": "0.9.9", "rich": "99.0", "moto": "5.99.0"}


@dataclass
class Checkout:
    """A copy of this checkout at ``path``; what it installs comes from ``index``."""

    path: Path
    index: Index
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        """A user's environment, without this machine's ways to its packages."""
        return {
            "HOME": str(self.path.parent / "home"),
            "PATH": os.environ["PATH"],
            "PYTHON": str(
                Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_python_version()}"
            ),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.index.url,
            "PIP_RETRIES": "1",
            "LC_ALL": "C.UTF-8",
        }

    def start(self, *words: str, around: Sequence[str] = (), **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*around, "lab/bootstrap.sh", *words],
            cwd=self.path,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what a test that failed has left running."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        self.started.clear()

    def bootstrap(
        self, *words: str, around: Sequence[str] = (), **env: str
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, around=around, **env)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def lock(self) -> Path:
        return self.path / "install/requirements-lab.txt"

    @property
    def stamp(self) -> Path:
        return self.path / ".venv/locked"

    def versions(self) -> dict[str, str]:
        """Return what .venv holds: distribution -> version."""
        site = next((self.path / ".venv/lib").glob("python*/site-packages"))
        results = (re.fullmatch(r"(.+)-([^-]+)\.dist-info", path.name) for path in site.iterdir())
        return {match[1].lower().replace("_", "-"): match[2] for match in results if match}

    def runs(self) -> bool:
        """Tell whether the installed command works."""
        command = [str(self.path / ".venv/bin/floatipctl"), "--help"]
        return subprocess.run(command, capture_output=True).returncode == 0


def replace(path: Path, pattern: str, by: str) -> None:
    changed, times = re.subn(pattern, by, path.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert times == 1, (path, pattern)
    path.write_text(changed)


def pin_anew(checkout: Checkout) -> None:
    """Change the lock, though not what it names."""
    checkout.lock.write_text(checkout.lock.read_text() + "# pinned anew\n")


@pytest.fixture(scope="package")
def first(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Checkout, subprocess.CompletedProcess[str]]]:
    """A fresh clone in which the demo was prepared, and how that went; the index has newer releases."""
    place = tmp_path_factory.mktemp("clone")
    checkout = Checkout(place / "checkout", Index())
    for item in COPIED:
        source, target = ROOT / item, checkout.path / item
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    offer = checkout.index.offer
    version = importlib.metadata.version
    lines = [offer(name, old, wheel(name, old)) for name, old in LOCKED.items()]
    # What rotted once: an extra is asked for that the lock does not name.
    lines.append(offer("rich", "13.0", wheel("rich", "13.0", extras=["notebook"])))
    lines.append(offer("moto", "5.2.5", wheel("moto", "5.2.5", ["rich[notebook]>=13"], ["ec2"])))
    lines.append(offer("setuptools", version("setuptools"), installed_wheel("setuptools")))
    for name, newer in NEWER.items():
        offer(name, newer, wheel(name, newer, extras=["ec2", "notebook"]))
    offer("pip", version("pip"), installed_wheel("pip"))
    checkout.lock.parent.mkdir()
    text = "# to fetch: 2 MB\n" + "\n".join(lines) + "\n"
    checkout.lock.write_text(text)
    more = offer("pytest", "8.0", wheel("pytest", "8.0"))
    checkout.lock.with_name("requirements-dev.txt").write_text(f"{text}{more}\n")
    # The tests' Debian packages and Go programs have tests of their own.
    replace(checkout.path / "lab/bootstrap/debian.sh", r'^TEST_NEEDS=".*?"$', 'TEST_NEEDS=""')
    replace(checkout.path / "lab/bootstrap/go.sh", r'^PROGRAMS=".*?"$', 'PROGRAMS=""')
    with serving(checkout.index):
        yield checkout, checkout.bootstrap("demo")


@pytest.fixture
def checkout(first: tuple[Checkout, subprocess.CompletedProcess[str]]) -> Iterator[Checkout]:
    """A clone in which the demo was prepared; what a test makes of it is undone."""
    prepared, went = first
    assert went.returncode == 0, went.stderr
    kept = prepared.path.with_name("kept")
    if not kept.exists():
        _copy(prepared.path, kept)
    files, request = dict(prepared.index.files), list(prepared.index.asked)
    prepared.index.asked.clear()
    yield prepared
    prepared.end()
    prepared.index.files, prepared.index.asked = files, request
    prepared.index.gone.clear()
    shutil.rmtree(prepared.path)
    _copy(kept, prepared.path)


def _copy(source: Path, target: Path) -> None:
    """Copy a checkout; its .venv, where files are replaced and never written into, by hard links."""
    target.mkdir()
    others = [path for path in source.iterdir() if path.name != ".venv"]
    subprocess.run(["cp", "-a", *others, target], check=True)
    subprocess.run(["cp", "-al", source / ".venv", target], check=True)
