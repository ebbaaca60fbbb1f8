"""Installing on a disk that is full, and where nothing can be written or run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cni_floatip import __version__, installer
from tests.installer.plugin_directories import OLDER, Mounts, bundle, command, config, release, tree

pytestmark = pytest.mark.needs("root", "unshare", "nsenter", "mount")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of about the real one's size would be slow here; this one is large to a small disk."""
    return bundle(tmp_path_factory.mktemp("large") / "bundle", b"x" * 100_000)


def install(
    mounts: Mounts, bin_dir: Path, *options: object, number: str = __version__
) -> subprocess.CompletedProcess[str]:
    path = config(bin_dir.parent)
    return mounts.run(command("install-client", bin_dir, "--config", path, *options, release=number))


def works(mounts: Mounts, bin_dir: Path) -> bool:
    done = mounts.run([bin_dir / "floatip"], {"CNI_COMMAND": "VERSION"})
    return done.returncode == 0 and "supportedVersions" in done.stdout


FIRST = pytest.param(
    False, id="first", marks=pytest.mark.thorough(sample="test_a_full_disk_changes_nothing[upgrade]")
)


@pytest.mark.parametrize("upgrade", [FIRST, pytest.param(True, id="upgrade")])
def test_a_full_disk_changes_nothing(mounts: Mounts, bin_dir: Path, large: Path, upgrade: Any) -> None:
    """However much room there is: for a file's name, for half the interpreter, for all but the last page."""
    whole = (large / "python").stat().st_size // 1024
    mounts.mount("-t", "tmpfs", "-o", f"size={whole + 1024}k", "tmpfs", bin_dir)
    path = mounts.outside(bin_dir)
    if upgrade:
        assert install(mounts, bin_dir, number=OLDER).returncode == 0
    before = tree(path)
    refused, ballast = 0, path / "ballast"
    for kib in (0, 4, 40, *(whole + more for more in (-16, -4, 4, 16, 32, 48, 64, 284))):
        room(path, kib)
        done = install(mounts, bin_dir, "--bundle", large)
        ballast.unlink()
        if done.returncode == 0:
            break
        assert "No space left on device" in done.stderr, done.stderr
        assert "free some space and install again" in done.stderr
        assert tree(path) == before
        assert not upgrade or works(mounts, bin_dir)
        refused += 1
    assert done.returncode == 0
    assert refused >= 4
    assert works(mounts, bin_dir)
    assert not [name for name in tree(path) if name.endswith((".new", ".former"))]


def room(directory: Path, kib: int) -> None:
    """Leave so much room on the file system."""
    there = os.statvfs(directory)
    (directory / "ballast").write_bytes(b"x" * (there.f_bavail * there.f_frsize - kib * 1024))


@pytest.mark.parametrize("bundled", [True, False], ids=["bundle", "interpreter"])
def test_a_directory_mounted_noexec(
    mounts: Mounts, bin_dir: Path, bundles: tuple[Path, Path], bundled: bool
) -> None:
    mounts.mount("-t", "tmpfs", "-o", "noexec", "tmpfs", bin_dir)
    done = install(mounts, bin_dir, *(["--bundle", bundles[0]] if bundled else []))
    assert done.returncode == 1
    assert f"cannot install {bin_dir}/floatip: its file system is mounted noexec" in done.stderr
    assert "mount it with exec" in done.stderr
    assert tree(mounts.outside(bin_dir)) == {}


def test_a_client_that_was_installed_before_its_disk_was_mounted_noexec(
    mounts: Mounts, bin_dir: Path, bundles: tuple[Path, Path]
) -> None:
    mounts.mount("-t", "tmpfs", "tmpfs", bin_dir)
    assert install(mounts, bin_dir, "--bundle", bundles[0]).returncode == 0
    mounts.mount("-o", "remount,noexec", bin_dir)
    done = install(mounts, bin_dir, "--bundle", bundles[0])
    assert (done.returncode, "noexec" in done.stderr) == (1, True)


def test_a_directory_that_is_read_only(mounts: Mounts, bin_dir: Path, bundles: tuple[Path, Path]) -> None:
    mounts.mount("--bind", bin_dir, bin_dir)
    mounts.mount("-o", "remount,bind,ro", bin_dir)
    done = install(mounts, bin_dir, "--bundle", bundles[0])
    assert done.returncode == 1
    assert f"cannot install {bin_dir}/floatip: Read-only file system: mount it writable" in done.stderr
    assert tree(bin_dir) == {}


def test_uninstalling_from_a_directory_that_is_read_only(
    mounts: Mounts, bin_dir: Path, bundles: tuple[Path, Path]
) -> None:
    mounts.mount("--bind", bin_dir, bin_dir)
    assert install(mounts, bin_dir, "--bundle", bundles[0]).returncode == 0
    before = tree(bin_dir)
    mounts.mount("-o", "remount,bind,ro", bin_dir)
    done = mounts.run(command("uninstall", bin_dir, "--config", bin_dir.parent / "config.json"))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot remove {bin_dir}/floatip: Read-only file system: mount it writable" in done.stderr
    assert tree(bin_dir) == before


def test_what_is_there_already_needs_no_writable_directory(
    mounts: Mounts, bin_dir: Path, bundles: tuple[Path, Path]
) -> None:
    mounts.mount("--bind", bin_dir, bin_dir)
    assert install(mounts, bin_dir, "--bundle", bundles[0]).returncode == 0
    mounts.mount("-o", "remount,bind,ro", bin_dir)
    assert install(mounts, bin_dir, "--bundle", bundles[0]).returncode == 0
    assert release(bin_dir) == __version__
    assert installer.read_installed(bin_dir).version
