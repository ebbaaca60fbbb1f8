"""A lock, and what of it is open: requirements of what it pins that no pin of it meets."""

from __future__ import annotations

import configparser
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Pin:
    """One line of a lock."""

    requirement: Requirement
    version: Version
    hashes: frozenset[str]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    def applies(self, python: str) -> bool:
        marker = self.requirement.marker
        return marker is None or marker.evaluate(environment(python))

    def __str__(self) -> str:
        return f"{self.requirement.name}=={self.version}"


@dataclass(frozen=True)
class Described:
    """What a distribution says of itself."""

    version: str
    requires: Sequence[str] = ()
    requires_python: str = ""


def environment(python: str) -> dict[str, str]:
    """Return what markers are evaluated for: CPython on Linux, x86_64."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }


def read(text: str) -> list[Pin]:
    """Read a lock as uv writes it."""
    pins = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        answer, *hashes = line.split(" --hash=")
        requirement = Requirement(answer)
        (exactly,) = requirement.specifier
        assert exactly.operator == "==", line
        pins.append(Pin(requirement, Version(exactly.version), frozenset(hashe.strip() for hashe in hashes)))
    return pins


def installed(name: str) -> Described | None:
    """Return what the distribution in this environment says of itself."""
    try:
        result = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Described(result.version, result.requires or (), result.metadata["Requires-Python"] or "")


def complaints(
    pins: Sequence[Pin], wanted: Sequence[str], described: Callable[[str], Described | None]
) -> list[str]:
    """Say what of ``wanted`` and of the pins' own requirements no pin meets, for every Python."""
    results: dict[str, None] = {}
    for python in PYTHONS:
        pinned = {pin.name: pin for pin in pins if pin.applies(python)}
        needed = [("setup.cfg", Requirement(item), {""}) for item in wanted]
        for pin in pinned.values():
            itself = described(pin.name)
            if itself is None:
                results[f"{pin}: not installed here, so nothing tells what it requires"] = None
                continue
            if Version(itself.version) != pin.version:
                results[f"{pin}: installed is {itself.version}: make setup"] = None
            if not SpecifierSet(itself.requires_python).contains(f"{python}.0"):
                results[f"{pin}: not for Python {python}"] = None
            needed += [
                (str(pin), Requirement(require), pin.requirement.extras | {""}) for require in itself.requires
            ]
        for by, requirement, extras in needed:
            if requirement.marker and not any(
                requirement.marker.evaluate({**environment(python), "extra": extra}) for extra in extras
            ):
                continue
            met = pinned.get(canonicalize_name(requirement.name))
            if met is None:
                results[f"{by}: {requirement} is not pinned for Python {python}"] = None
            elif not requirement.specifier.contains(met.version, prereleases=True):
                results[f"{by}: {requirement} is not met by {met}"] = None
            elif lacking := requirement.extras - met.requirement.extras:
                results[f"{by}: {requirement} is pinned without [{','.join(sorted(lacking))}]"] = None
    return list(results)


def declared(*extras: str) -> list[str]:
    """Return what setup.cfg requires at run time, and for these extras."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = [parser["options"]["install_requires"]]
    lines += [parser["options.extras_require"][extra] for extra in extras]
    return [line for item in lines for line in item.splitlines() if line and not line.startswith("#")]
