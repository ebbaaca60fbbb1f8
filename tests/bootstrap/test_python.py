"""lab/bootstrap.sh installs what is locked, whatever the index offers, and completes what died half way."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bootstrap.conftest import LOCKED, NEWER, Checkout, pin_anew, replace
from tests.bootstrap.index import wheel
from tests.support.samples import sampled
from tests.support.waiting import until

pytestmark = pytest.mark.needs("root", "ip", "nft", "/usr/lib/cni/static", "unshare", "flock")


def test_the_lock_s_releases_are_installed_and_nothing_else_is_asked_for(
    first: tuple[Checkout, subprocess.CompletedProcess[str]],
) -> None:
    checkout, went = first
    assert went.returncode == 0, went.stderr
    assert went.stderr == ""
    assert [line.partition(" with ")[0] for line in went.stdout.splitlines()] == [
        "bootstrap: fetches 9 Python packages (2 MB): about a minute",
        "bootstrap: creating .venv",
        "bootstrap: fetching 9 locked Python packages",
        "bootstrap: installing them into .venv",
        "bootstrap: installing cni-floatip itself (editable)",
    ]
    locked = dict(line.split(" ")[0].split("==") for line in checkout.lock.read_text().splitlines()[1:])
    installed = checkout.versions()
    assert {name: installed[name] for name in locked} == locked
    assert set(installed) - set(locked) <= {"cni-floatip", "pip", "setuptools"}
    assert checkout.runs()
    request = {f"/simple/{name}/" for name in locked} | {
        f"/files/{name.replace('-', '_')}-{version}-py3-none-any.whl" for name, version in locked.items()
    }
    assert Counter(checkout.index.asked) == Counter(request)


def test_a_second_start_needs_no_network_and_says_nothing(checkout: Checkout) -> None:
    again = checkout.bootstrap("demo", around=["unshare", "--net"])
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert checkout.index.asked == []


@pytest.mark.thorough(sample="test_a_second_start_needs_no_network_and_says_nothing")
def test_setup_cfg_changes_without_a_network(checkout: Checkout) -> None:
    """Only this checkout is installed anew."""
    with (checkout.path / "setup.cfg").open("a") as setup:
        setup.write("\n# changed\n")
    again = checkout.bootstrap("demo", around=["unshare", "--net"])
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "bootstrap: installing cni-floatip itself (editable)\n"
    assert checkout.runs()


@pytest.mark.thorough(sample="test_a_second_start_needs_no_network_and_says_nothing")
def test_the_tests_complete_what_the_demo_has(checkout: Checkout) -> None:
    more = checkout.bootstrap()
    assert (more.returncode, more.stderr) == (0, "")
    assert "creating" not in more.stdout
    assert checkout.versions()["pytest"] == "8.0"
    assert (checkout.bootstrap().stdout, checkout.bootstrap("demo").stdout) == ("", "")


GONE = "the package index does not have the locked file of pyroute2==0.9.4"


def _withdraw(checkout: Checkout, how: str) -> str:
    """Let the index lack a locked file, after the lock has changed, and return what is to be said of it."""
    pin_anew(checkout)
    file = "pyroute2-0.9.4-py3-none-any.whl"
    if how == "404":
        checkout.index.gone.add(file)
    elif how == "another file":
        checkout.index.files[file] = wheel("pyroute2", "0.9.4", ["boto3"])
        return "what the package index offers as pyroute2==0.9.4 is not the locked file (another hash)"
    else:
        del checkout.index.files[file]
    return GONE


THOROUGH = pytest.mark.thorough(sample="test_a_locked_file_is_gone_and_ci_stops[404]")


@pytest.mark.parametrize(
    "how", sampled("test_a_locked_file_is_gone_and_ci_stops", ["404", "another file", "not named"], ["404"])
)
def test_a_locked_file_is_gone_and_ci_stops(checkout: Checkout, how: str) -> None:
    text = _withdraw(checkout, how)
    before = checkout.stamp.read_text()
    went = checkout.bootstrap("demo", CI="true")
    assert went.returncode == 1
    assert went.stderr == (
        f"bootstrap: cannot fetch the locked Python packages: {text}; "
        "CI=true installs nothing else: pin anew with make lock\n"
    )
    assert checkout.stamp.read_text() == before
    assert checkout.versions()["pyroute2"] == "0.9.4"


@THOROUGH
def test_a_locked_file_is_gone_and_the_demo_goes_on(checkout: Checkout) -> None:
    _withdraw(checkout, "404")
    went = checkout.bootstrap("demo")
    assert went.returncode == 0, went.stderr
    assert went.stderr == (
        f"bootstrap: cannot fetch the locked Python packages: {GONE}; "
        "going on with the newest releases that setup.cfg allows, which nobody has tested together "
        "(once the file is back, make clean and run this again; make lock pins anew)\n"
    )
    installed = checkout.versions()
    assert {name: installed[name] for name in NEWER} == NEWER
    assert checkout.runs()
    # That is kept, also without a network and anew, and in CI it does not pass for the lock.
    again = checkout.bootstrap("demo", around=["unshare", "--net"])
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    replace(checkout.path / "setup.cfg", r"\Z", "# changed\n")
    anew = checkout.bootstrap("demo", around=["unshare", "--net"])
    assert (anew.returncode, anew.stderr) == (0, "")
    in_ci = checkout.bootstrap("demo", CI="true")
    assert in_ci.returncode == 1
    assert GONE in in_ci.stderr


@THOROUGH
def test_the_index_cannot_be_reached(checkout: Checkout) -> None:
    """No other release would do, and what was installed stays."""
    _withdraw(checkout, "404")
    before = checkout.stamp.read_text()
    went = checkout.bootstrap("demo", around=["unshare", "--net"])
    assert went.returncode == 1
    assert went.stderr == (
        "bootstrap: cannot fetch the locked Python packages: the package index cannot be reached; "
        "nothing was changed, so mend that and run this again\n"
    )
    assert checkout.stamp.read_text() == before
    assert checkout.runs()


SETUP = """\
import pathlib, setuptools
held = pathlib.Path("held")
if held.exists():
    held.read_text()
setuptools.setup()
"""


def _held_while_installing_itself(checkout: Checkout) -> tuple[subprocess.Popen[str], Callable[[], None]]:
    """Start a bootstrap that waits in the build of this checkout; return it and what lets it go on."""
    held = checkout.path / "held"
    os.mkfifo(held)
    (checkout.path / "setup.py").write_text(SETUP)
    process = checkout.start("demo")

    def let_go() -> None:
        held.unlink()
        os.close(descriptor)

    opened: list[int] = []

    def is_read() -> bool:
        with contextlib.suppress(OSError):  # nobody reads yet
            opened.append(os.open(held, os.O_WRONLY | os.O_NONBLOCK))
        return bool(opened) or process.poll() is not None

    until(is_read, seconds=120)
    (descriptor,) = opened
    return process, let_go


@pytest.mark.thorough(sample="test_the_lock_s_releases_are_installed_and_nothing_else_is_asked_for")
def test_what_was_killed_half_way_is_not_taken_for_whole(checkout: Checkout) -> None:
    pin_anew(checkout)
    process, let_go = _held_while_installing_itself(checkout)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    let_go()
    # A moment earlier the kill would have left this of a package, which pip takes for installed.
    site = next((checkout.path / ".venv/lib").glob("python*/site-packages"))
    (site / "boto3/__init__.py").unlink()
    (site / "boto3-1.40.0.dist-info/RECORD").unlink()

    again = checkout.bootstrap("demo")
    assert (again.returncode, again.stderr) == (0, "")
    assert checkout.runs()
    assert (site / "boto3/__init__.py").exists()
    assert {name: checkout.versions()[name.lower()] for name in LOCKED} == LOCKED


FULL = """\
mount -t tmpfs -o size=$2 none /mnt
cp -a "$1" /mnt/checkout
cd /mnt/checkout
lab/bootstrap.sh demo && exit 3
mount -o remount,size=500m /mnt
echo enough
lab/bootstrap.sh demo && .venv/bin/floatipctl --help >/dev/null
"""


@pytest.mark.thorough(sample="test_the_lock_s_releases_are_installed_and_nothing_else_is_asked_for")
@pytest.mark.parametrize(
    ("size", "failed"),
    [("8m", "create .venv"), ("34m", "(fetch|install) the locked Python packages")],
)
def test_a_disk_is_full(checkout: Checkout, size: str, failed: str) -> None:
    """One sentence says so, and with more space the next start completes what there is."""
    shutil.rmtree(checkout.path / ".venv")
    shutil.rmtree(checkout.path / ".cache")
    went = subprocess.run(
        ["unshare", "--mount", "sh", "-c", FULL, "sh", checkout.path, size],
        env=checkout.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    before, _, after = went.stdout.partition("enough\n")
    assert went.returncode == 0, went.stdout
    text = before.splitlines()[-1]
    assert re.match(f"bootstrap: cannot {failed}: no space left on the disk", text), text
    assert "Traceback" not in before
    assert "error" not in after.lower()


@pytest.mark.thorough(sample="test_the_lock_s_releases_are_installed_and_nothing_else_is_asked_for")
def test_two_bootstraps_wait_for_each_other(checkout: Checkout) -> None:
    """The second waits for the first, and finds nothing to do."""
    replace(checkout.path / "setup.cfg", r"\Z", "# changed\n")
    one, let_go = _held_while_installing_itself(checkout)
    other = checkout.start("demo")
    assert other.stdout is not None
    assert other.stdout.readline() == (
        "bootstrap: another bootstrap works in this checkout; waiting for it to end\n"
    )
    let_go()
    assert one.communicate(timeout=120) == ("bootstrap: installing cni-floatip itself (editable)\n", "")
    assert other.communicate(timeout=120) == ("", "")
    assert (one.returncode, other.returncode) == (0, 0)


@pytest.mark.thorough(sample="test_the_lock_s_releases_are_installed_and_nothing_else_is_asked_for")
def test_the_checkout_was_moved(checkout: Checkout) -> None:
    """The programs of a .venv name its place, so it is made anew."""
    moved = Checkout(checkout.path.with_name("moved"), checkout.index)
    checkout.path.rename(moved.path)
    try:
        went = moved.bootstrap("demo")
        assert went.returncode == 0, went.stderr
        assert "creating .venv" in went.stdout
        assert moved.runs()
    finally:
        moved.path.rename(checkout.path)


@pytest.mark.thorough(sample="test_a_second_start_needs_no_network_and_says_nothing")
def test_a_terminal_shows_pip_s_progress(checkout: Checkout, tmp_path: Path) -> None:
    pin_anew(checkout)
    shown = tmp_path / "shown"
    around = ["script", "--quiet", "--return", "--command"]
    went = subprocess.run(
        [*around, "lab/bootstrap.sh demo", shown],
        cwd=checkout.path,
        env=checkout.env,
        capture_output=True,
        text=True,
    )
    assert went.returncode == 0, went.stdout
    assert "Collecting boto3==1.40.0" in shown.read_text()
