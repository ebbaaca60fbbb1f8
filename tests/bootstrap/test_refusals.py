"""Where the demo cannot run, one sentence says so, before anything is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.bootstrap.conftest import Checkout, pin_anew
from tests.support.samples import sampled

pytestmark = pytest.mark.needs(
    "root", "ip", "nft", "/usr/lib/cni/static", "unshare", "setpriv", "make", "mount"
)


def _make_demo(checkout: Checkout, *around: str) -> list[str]:
    """Run ``make demo``, which must fail, and return what it says, without make's own words."""
    went = subprocess.run(
        [*around, "make", "demo"],
        cwd=checkout.path,
        env=checkout.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert went.returncode != 0
    assert checkout.index.asked == []
    return [line for line in went.stdout.splitlines() if not re.match(r"make(\[\d\])?: \*\*\*", line)]


def _without(programs: str) -> list[str]:
    """Return what to put before a command that must not find these programs: a /usr without them."""
    script = f"""
        mount -t tmpfs none /mnt
        for place in bin sbin; do
            mkdir /mnt/$place /mnt/work-$place
            layers=lowerdir=/usr/$place,upperdir=/mnt/$place,workdir=/mnt/work-$place
            mount -t overlay -o $layers none /usr/$place
            (cd /usr/$place && rm -f {programs})
        done
        exec "$@"
    """
    return ["unshare", "--mount", "sh", "-ec", script, "sh"]


NAMESPACES = (
    "bootstrap: network namespaces cannot be made here (a container without privileges?): "
    "run the demo on a machine of your own, or in a container with --privileged"
)


THOROUGH = pytest.mark.thorough(sample="test_a_container_without_privileges[sys_admin]")


@pytest.mark.parametrize(
    "lost", sampled("test_a_container_without_privileges", ["sys_admin", "net_admin"], ["sys_admin"])
)
def test_a_container_without_privileges(checkout: Checkout, lost: str) -> None:
    drop = f"--bounding-set=-{lost}"
    assert _make_demo(checkout, "setpriv", drop, f"--inh-caps=-{lost}") == [NAMESPACES]


@THOROUGH
def test_a_container_that_may_not_write_sysctls(checkout: Checkout) -> None:
    read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec make demo"
    assert _make_demo(checkout, "unshare", "--mount", "sh", "-c", read_only) == [NAMESPACES]


def test_only_root_installs_packages(checkout: Checkout) -> None:
    for place in checkout.path.parents:
        if place.owner() == "root" and not place.stat().st_mode & 0o005:
            place.chmod(0o755)
    texts = _make_demo(checkout, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert texts == ["the lab makes network namespaces: run this as root"]


def test_another_distribution_is_told_which_packages(checkout: Checkout) -> None:
    """It is said before anything is fetched."""
    pin_anew(checkout)
    (text,) = _make_demo(checkout, *_without("apt-get nft"))
    assert text == (
        "bootstrap: the demo needs what these Debian packages hold, "
        "which only root can install, with apt-get: nftables"
    )


def test_a_missing_python_is_named(checkout: Checkout) -> None:
    shutil.rmtree(checkout.path / ".venv")
    assert _make_demo(
        checkout, *_without("apt-get python3*"), "env", "PATH=/usr/bin:/usr/sbin", "PYTHON="
    ) == ["bootstrap: no Python 3.11 or newer with venv found (PYTHON=/path/to/python names one)"]
