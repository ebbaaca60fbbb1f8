"""Each lock is closed: whatever its distributions require, with extras and on each Python, is a pin of it.

So an installation resolves nothing, and cannot rot.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.bootstrap.locks import ROOT, Described, complaints, declared, installed, read

EXTRAS = {"requirements.txt": (), "requirements-lab.txt": ("lab",), "requirements-dev.txt": ("dev",)}
LOCKS = {name: read((ROOT / "install" / name).read_text()) for name in EXTRAS}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_closed(lock: str) -> None:
    assert complaints(LOCKS[lock], declared(*EXTRAS[lock]), installed) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    assert [str(pin) for pin in LOCKS[lock] if not pin.hashes] == []


@pytest.mark.parametrize(
    ("small", "large"),
    [("requirements.txt", "requirements-lab.txt"), ("requirements-lab.txt", "requirements-dev.txt")],
)
def test_a_larger_lock_holds_the_smaller_one(small: str, large: str) -> None:
    more = {pin.name: pin for pin in LOCKS[large]}
    for pin in LOCKS[small]:
        result = more[pin.name]
        assert (result.version, result.hashes) == (pin.version, pin.hashes)
        assert result.requirement.extras >= pin.requirement.extras


DISTRIBUTIONS: Mapping[str, Described] = {
    "plain": Described("1.0", ["fitting>=2"]),
    "fitting": Described("2.1", ["reader ; extra == 'toml'"], ">=3.9"),
    "reporter": Described("3.0", ["fitting[toml]>=2.0"]),
    "reader": Described("0.5"),
    "old-way": Described("1.0", ["backport ; python_version < '3.12'"]),
    "backport": Described("1.0"),
    "modern": Described("1.0", [], ">=3.12"),
}


OPEN = {
    "closed": ("plain==1.0 fitting==2.1", []),
    "absent": ("plain==1.0", ["fitting>=2 is not pinned"] * 3),
    "too old": ("plain==1.0 fitting==1.9", ["installed is 2.1", "fitting>=2 is not met by fitting==1.9"]),
    "without the extra": ("reporter==3.0 fitting==2.1 reader==0.5", ["is pinned without [toml]"]),
    "what the extra requires": ("reporter==3.0 fitting[toml]==2.1", ["reader; extra"] * 3),
    "on one Python": ("old-way==1.0", ["is not pinned for Python 3.11"]),
    "pinned for one Python": ("old-way==1.0 backport==1.0;python_version<'3.12'", []),
    "not for a Python": ("modern==1.0", ["not for Python 3.11"]),
    "unknown": ("unheard-of==1.0", ["nothing tells what it requires"]),
}


@pytest.mark.parametrize(("lock", "said"), OPEN.values(), ids=OPEN)
def test_what_is_open_is_seen(lock: str, said: list[str]) -> None:
    results = complaints(read(lock.replace(" ", "\n")), [], DISTRIBUTIONS.get)
    assert len(results) == len(said), results
    for item, words in zip(results, said, strict=True):
        assert words in item


def test_what_setup_cfg_asks_for_is_part_of_it() -> None:
    assert complaints(read("fitting==2.1"), ["fitting[toml]>=3"], DISTRIBUTIONS.get) == [
        "setup.cfg: fitting[toml]>=3 is not met by fitting==2.1"
    ]


IMPORT_ALL = """\
import importlib, importlib.metadata, pkgutil, sys
package, *locked = sys.argv[1:]
of = importlib.metadata.packages_distributions()

class OnlyLocked:
    def find_spec(self, name, path=None, target=None):
        by = {each.lower().replace("_", "-") for each in of.get(name, ())}
        if by and not by & {"cni-floatip", *locked}:
            raise ModuleNotFoundError(f"{name} is not in the lock")

sys.meta_path.insert(0, OnlyLocked())
importlib.import_module(package)
for module in pkgutil.walk_packages(sys.modules[package].__path__, package + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("package", "lock"), [("cni_floatip", "requirements.txt"), ("lab", "requirements-lab.txt")]
)
def test_what_is_imported_is_locked(package: str, lock: str) -> None:
    """The image and the demo have no more than their lock."""
    locked = [pin.name for pin in LOCKS[lock]]
    command = [sys.executable, "-c", IMPORT_ALL, package, *locked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
