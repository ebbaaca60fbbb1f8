"""What Go builds, from a module proxy on loopback that does not have it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.bootstrap.conftest import Checkout
from tests.bootstrap.index import Index, serving
from tests.bootstrap.locks import ROOT

pytestmark = pytest.mark.needs("go")

BUILD = """\
set -euo pipefail
FOR=$1
say() { echo "$*"; }
. "$2/lab/bootstrap/go.sh"
PROGRAMS=cnitool
programs=$(missing_programs)
[ -z "$programs" ] || build_programs
"""


def _build(place: Path, proxy: Index, want: str = "all", **env: str) -> list[str]:
    (place / ".cache").mkdir(exist_ok=True)
    done = subprocess.run(
        ["bash", "-c", BUILD, "build", want, ROOT],
        cwd=place,
        env={
            **Checkout(place / "checkout", proxy).env,
            "GOPROXY": f"http://127.0.0.1:{proxy.port}",
            "GONOSUMDB": "*",
            "GOTOOLCHAIN": "local",
            **env,
        },
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_release_is_gone(tmp_path: Path) -> None:
    """It is said in a sentence, and the next start asks again: nothing passes for built."""
    proxy = Index()
    with serving(proxy):
        for _ in range(2):
            proxy.asked.clear()
            start, failed = _build(tmp_path, proxy)
            assert start == "go install cnitool v1.3.1 into .cache/bin"
            assert failed.startswith("go install cnitool failed: ")
            assert "404" in failed
            assert failed.endswith(" (tests that need it cannot run)")
            assert proxy.asked


def test_the_demo_needs_no_go(tmp_path: Path) -> None:
    proxy = Index()
    with serving(proxy):
        assert _build(tmp_path, proxy, "demo") == []
    assert proxy.asked == []


def _no_go(place: Path) -> str:
    """Return a PATH on which there is what the script runs, and no Go."""
    place.mkdir()
    for name in ("bash", "cat", "paste"):
        (place / name).symlink_to(shutil.which(name) or "")
    return str(place)


def test_without_go_nothing_is_built(tmp_path: Path) -> None:
    texts = _build(tmp_path, Index(), PATH=_no_go(tmp_path / "bin"))
    assert texts == ["no Go here, so no cnitool: tests that need them cannot run"]


def test_what_is_built_is_not_built_again(tmp_path: Path) -> None:
    (tmp_path / ".cache/bin").mkdir(parents=True)
    stamp = tmp_path / ".cache/bin/cnitool.built"
    stamp.write_text("github.com/containernetworking/cni/cnitool@v1.3.1\n")
    assert _build(tmp_path, Index()) == []
    stamp.write_text("github.com/containernetworking/cni/cnitool@v1.0.0\n")
    assert _build(tmp_path, Index(), PATH=_no_go(tmp_path / "bin")) != []
