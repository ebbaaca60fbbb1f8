"""Debian packages, by real apt and dpkg in a root of their own, from an archive on loopback that moves on."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bootstrap.conftest import Checkout, replace
from tests.bootstrap.index import serving

pytestmark = pytest.mark.needs("root", "apt-get", "dpkg-deb", "unshare", "flock")

CONFIGURATION = """\
Dir "{root}";
Dir::State::status "{root}/var/lib/dpkg/status";
DPkg::Options {{ "--root={root}"; "--force-not-root"; "--log=/dev/null"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
"""
ABOUT = """\
Package: floatip-made
Version: {version}
Architecture: all
Maintainer: nobody
Description: made by a test
"""


class Archive:
    """A flat archive with at most one release of the package floatip-made, which holds the file /made."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = 0
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}
        self.offer(None)

    def offer(self, version: str | None) -> None:
        packages = ""
        self.files = {}
        if version:
            deb = self._build(version)
            self.files[f"/floatip-made_{version}.deb"] = deb
            packages = (
                f"{ABOUT.format(version=version)}Filename: ./floatip-made_{version}.deb\n"
                f"Size: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n"
            )
        self.files["/Packages"] = packages.encode()
        digest = hashlib.sha256(packages.encode()).hexdigest()
        self.files["/Release"] = f"Suite: made\nSHA256:\n {digest} {len(packages)} Packages\n".encode()

    def _build(self, version: str) -> bytes:
        tree = self.place / version
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "made").write_text(version)
        (tree / "DEBIAN/control").write_text(ABOUT.format(version=version))
        subprocess.run(["dpkg-deb", "--build", tree, f"{tree}.deb"], check=True, capture_output=True)
        return Path(f"{tree}.deb").read_bytes()

    def answer(self, path: str) -> tuple[int, bytes]:
        path = path.replace("/./", "/")
        self.asked.append(path)
        return (200, self.files[path]) if path in self.files else (404, b"")


class Machine:
    """A checkout whose demo needs one made-up package, and the root that apt installs it into."""

    def __init__(self, checkout: Checkout, archive: Archive, root: Path) -> None:
        self.checkout, self.archive, self.root = checkout, archive, root
        for item in (
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "var/lib/dpkg/updates",
            "var/log/apt",
            "var/lib/dpkg/info",
            "var/cache/apt/archives/partial",
        ):
            (root / item).mkdir(parents=True)
        for item in ("lists/partial", "lists/auxfiles"):
            (root / "var/lib/apt" / item).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] http://127.0.0.1:{archive.port} ./\n")
        self.configuration = root.with_name("apt.conf")
        self.configuration.write_text(CONFIGURATION.format(root=root))
        need = f'DEMO_NEEDS="\n{root}/made floatip-made\n"'
        replace(checkout.path / "lab/bootstrap/debian.sh", r'^DEMO_NEEDS=".*?"$', need)

    def start(self, *around: str) -> tuple[int, list[str]]:
        """Start the bootstrap, and return its exit status and what it says."""
        self.archive.asked.clear()
        went = self.checkout.bootstrap("demo", around=around, APT_CONFIG=str(self.configuration))
        return went.returncode, (went.stdout + went.stderr).replace("bootstrap: ", "").splitlines()

    def update(self) -> None:
        env = {**os.environ, "APT_CONFIG": str(self.configuration)}
        subprocess.run(["apt-get", "-qq", "update"], check=True, env=env, capture_output=True)

    @property
    def installed(self) -> str | None:
        made = self.root / "made"
        return made.read_text() if made.exists() else None


@pytest.fixture
def machine(checkout: Checkout, tmp_path: Path) -> Iterator[Machine]:
    archive = Archive(tmp_path)
    with serving(archive):
        yield Machine(checkout, archive, tmp_path / "root")


FETCHES = "fetches 1 Debian packages (up to 10 MB): about a minute"
LACKS = "the demo needs what these Debian packages hold (see above): floatip-made"


def test_what_is_missing_is_installed_once(machine: Machine) -> None:
    machine.archive.offer("1.0")
    assert machine.start() == (0, [FETCHES, "apt-get update", "apt-get install floatip-made"])
    assert machine.installed == "1.0"
    assert machine.start("unshare", "--net") == (0, [])


@pytest.mark.thorough(sample="test_what_the_archive_does_not_have_is_not_asked_for_at_every_start")
def test_the_archive_no_longer_has_what_the_lists_name(machine: Machine) -> None:
    machine.archive.offer("1.0")
    machine.update()
    machine.archive.offer("2.0")
    assert machine.start() == (0, [FETCHES, "apt-get install floatip-made", "apt-get update"])
    assert machine.installed == "2.0"


def test_what_the_archive_does_not_have_is_not_asked_for_at_every_start(machine: Machine) -> None:
    unavailable = "this system cannot have floatip-made: its package lists do not have it"
    assert machine.start() == (1, [FETCHES, "apt-get update", unavailable, LACKS])
    assert machine.start() == (1, [LACKS])
    assert machine.archive.asked == []
    # It is when apt has been told or has learnt something since.
    machine.archive.offer("1.0")
    os.utime(machine.checkout.path / ".cache/unavailable", (0, 0))
    assert machine.start() == (0, [FETCHES, "apt-get update", "apt-get install floatip-made"])
    assert machine.start() == (0, [])


@pytest.mark.thorough(sample="test_what_the_archive_does_not_have_is_not_asked_for_at_every_start")
def test_without_a_network_it_is_asked_for_again(machine: Machine) -> None:
    machine.archive.offer("1.0")
    status, texts = machine.start("unshare", "--net")
    assert status == 1
    assert texts[0] == FETCHES
    assert texts[2].startswith("apt-get update failed: Failed to fetch http://127.0.0.1")
    assert texts[3:] == ["no floatip-made: the package lists at hand do not have it", LACKS]
    assert machine.start() == (0, [FETCHES, "apt-get update", "apt-get install floatip-made"])


@pytest.mark.thorough(sample="test_what_the_archive_does_not_have_is_not_asked_for_at_every_start")
def test_a_download_breaks(machine: Machine) -> None:
    """What arrives is not what the lists name, also after they were fetched again."""
    machine.archive.offer("1.0")
    machine.archive.files["/floatip-made_1.0.deb"] = (
        machine.archive.files["/floatip-made_1.0.deb"][:-1] + b"!"
    )
    status, texts = machine.start()
    assert status == 1
    assert texts[3].startswith("apt-get install failed: Failed to fetch http://127.0.0.1")
    assert texts[4:] == [LACKS]
    machine.archive.offer("1.1")
    assert machine.start()[0] == 0
