"""Builds the programs of a Kubernetes cluster from published Go modules, once, into ``.cache/kubernetes``.

    python -m lab.kubernetes.build        builds what is missing; takes ten minutes with empty caches

Three modules of ours name what is built and pin everything that it needs (go.mod, go.sum): ``kube`` is all of
Kubernetes and etcd in one program, ``multus`` the programs of Multus, ``pod`` what test pods run. A module
counts as built if its stamp, which is written last, names the sources, the release of Go, and the checksum of
each program that is there. So a build that died is done again; Go's own cache keeps what it had finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab import package_mirrors
from lab.errors import LabError

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
PLACE = CHECKOUT / ".cache" / "kubernetes"
COMMAND = "python -m lab.kubernetes.build"
LONGEST = 7200.0
"""Seconds that one module may take: a build competes with whatever else the machine does."""

PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
MULTUS = "gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/"


@dataclass(frozen=True, slots=True)
class Module:
    """A folder with a go.mod: its programs by package, and links to the first of them."""

    folder: Path
    programs: Mapping[str, str]
    links: tuple[str, ...] = ()
    ldflags: str = "-s -w"

    @property
    def name(self) -> str:
        return self.folder.name

    def sources(self) -> Mapping[str, str]:
        """Return the checksum of each file, and what else decides what is built."""
        files = sorted(path for path in self.folder.iterdir() if path.is_file())
        return {path.name: _digest(path) for path in files} | {
            "programs": json.dumps(dict(self.programs)),
            "ldflags": self.ldflags,
            "go": go_version(),
        }


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs are, and which release they are."""

    place: Path
    kubernetes: str

    def __getitem__(self, name: str) -> Path:
        return self.place / name


def kubernetes_version() -> str:
    """Return the release that go.mod pins, as ``1.34.4``."""
    pins = (HERE / "kube" / "go.mod").read_text()
    (version,) = re.findall(r"^\tk8s\.io/kubernetes v([\d.]+)$", pins, re.MULTILINE)
    return str(version)


def modules() -> tuple[Module, ...]:
    """Return what is to be built, the quickest first."""
    version = kubernetes_version()
    major, minor, _ = version.split(".")
    # Without these it calls itself v0.0.0-master, and kubectl complains of the difference.
    stamps = [
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in (("gitVersion", f"v{version}"), ("gitMajor", major), ("gitMinor", minor))
    ]
    multus = {name: MULTUS + name for name in ("multus", "multus-daemon", "multus-shim")}
    return (
        Module(HERE / "pod", {"pod": "."}),
        Module(HERE / "multus", multus),
        Module(HERE / "kube", {"kube": "."}, PARTS, " ".join(["-s -w", *stamps])),
    )


def go_program() -> str:
    """Return where Go is. Raises ``LabError`` where it is not."""
    path = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if path is None:
        raise LabError(
            "no Go here, so Kubernetes cannot be built: install Go 1.24 or newer (https://go.dev/dl)"
        )
    return path


@cache
def go_version() -> str:
    return subprocess.run(
        [go_program(), "version"], capture_output=True, text=True, check=True
    ).stdout.strip()


def programs(place: Path = PLACE, wanted: Sequence[Module] | None = None) -> Programs:
    """Return the programs, whole and of these sources, built now if they are not there.

    A second caller waits for the first. Raises ``LabError`` with what to do where that cannot be.
    """
    go_program()
    place.mkdir(parents=True, exist_ok=True)
    with _alone(place):
        for module in wanted or modules():
            if not is_built(module, place):
                _build(module, place)
    return Programs(place, kubernetes_version())


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_built(module: Module, place: Path = PLACE) -> bool:
    """Say whether the module's programs are there, whole, and made of these sources by this Go."""
    try:
        stamp = json.loads(_stamp(module, place).read_text())
        digests = {name: _digest(place / name) for name in module.programs}
    except (OSError, ValueError):
        return False
    return bool(stamp == {"sources": module.sources(), "programs": digests})


def _stamp(module: Module, place: Path) -> Path:
    return place / f"{module.name}.built"


def _build(module: Module, place: Path) -> None:
    print(f"lab: building {', '.join(module.programs)} from {module.folder}", file=sys.stderr)
    _stamp(module, place).unlink(missing_ok=True)
    new = place / f"{module.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    options = ["-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-ldflags", module.ldflags]
    for name, package in module.programs.items():
        command = [
            "nice",
            go_program(),
            "-C",
            str(module.folder),
            "build",
            *options,
            "-o",
            str(new / name),
            package,
        ]
        try:
            package_mirrors.run(command, _environment(), LONGEST)
        except LabError as e:
            raise LabError(
                f"cannot build {name}: {e}\nMend that (Go fetches modules from where `go env GOPROXY` says),"
                f" then `{COMMAND}`: what Go has compiled already is not compiled again"
            ) from e
    for name in module.programs:
        (new / name).replace(place / name)
    for link in module.links:
        (place / link).unlink(missing_ok=True)
        (place / link).symlink_to(next(iter(module.programs)))
    new.rmdir()
    digests = {name: _digest(place / name) for name in module.programs}
    text = json.dumps({"sources": module.sources(), "programs": digests}, indent=1)
    written = _stamp(module, place).with_suffix(".writing")
    written.write_text(text)
    written.replace(_stamp(module, place))


def _environment() -> dict[str, str]:
    own = {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    if not os.environ.get("HOME"):  # then Go does not know where to keep its caches: as lab/bootstrap/go.sh
        own |= {"GOPATH": str(CHECKOUT / ".cache/go"), "GOCACHE": str(CHECKOUT / ".cache/go-build")}
    return own


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Build what is missing, and say where it is."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what Go runs is ended, too
    try:
        made = programs()
    except LabError as e:
        print(f"lab: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
    print(f"Kubernetes {made.kubernetes}: {made.place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
