"""The image, really built: buildah carries out the Dockerfile on a base made from Debian's packages.

Everything is kept below ``.cache/image``: the base, buildah's layers, the unpacked image. What this machine
has to say about how to reach Debian and the Python packages goes into the build as secrets, which leave no
trace.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from cni_floatip import __version__
from lab import package_mirrors

ROOT = Path(__file__).parents[1]
STORE = ROOT / ".cache" / "image"
NAME = "localhost/cni-floatip"
NEEDS = ("root", "buildah", "mmdebstrap", "runc")
DOCKERFILE = ROOT / "Dockerfile"
RELEASE = (
    os.environ.get("FLOATIP_DEBIAN")
    or re.findall(r"(?m)^ARG BASE=debian:(\w+)-slim$", DOCKERFILE.read_text())[0]
)
BUILT_FROM = {
    "SOURCE": "https://git.example/cni-floatip",
    "REVISION": "0" * 40,
    "CREATED": "2026-01-01T00:00:00Z",
}
"""What a builder says for the labels; always the same, so that layers are found again."""
MADE_OF = ("Dockerfile", ".dockerignore", "LICENSE", "cni_floatip", "install")
"""What the Dockerfile copies is in these, and so is the Dockerfile."""
KEPT = 6
"""So many former builds are left for the next one to continue."""

# What the slim images of Debian leave out (https://github.com/debuerreotype/debuerreotype).
LEFT_OUT = ("doc", "groff", "info", "linda", "lintian", "locale", "man")
SLIM = [f"--dpkgopt=path-exclude=/usr/share/{item}/*" for item in LEFT_OUT]
SLIM += ["--dpkgopt=path-include=/usr/share/doc/*/copyright", "--include=usr-is-merged"]
SLIM += ["--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr"]


@dataclass(frozen=True)
class Image:
    """An image, unpacked: ``rootfs`` is what a container has as its root."""

    id: str
    rootfs: Path
    config: Mapping[str, Any]
    base: Mapping[str, Any]

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self.config["config"]["Labels"])

    @property
    def bundle(self) -> Path:
        return self.rootfs / "usr/libexec/floatip"

    @cached_property
    def size(self) -> int:
        """Bytes of its files."""
        return _size(self.rootfs)

    @cached_property
    def base_size(self) -> int:
        return int(self.base["size"])

    def environment(self) -> dict[str, str]:
        return dict(item.split("=", 1) for item in self.config["config"]["Env"])

    def command(self, args: list[str] | None) -> list[str]:
        """Return what a container runs that is given ``args``."""
        config = self.config["config"]
        return [*config["Entrypoint"], *(config["Cmd"] if args is None else args)]

    def run(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program of it, with nothing mounted."""
        return subprocess.run(
            ["chroot", str(self.rootfs), *argv],
            env={**self.environment(), **options.pop("env", {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )


def build() -> Image:
    """Return the image of this checkout. What has been built before is not built again."""
    STORE.mkdir(parents=True, exist_ok=True)
    with _alone():
        result = json.loads(_built())
        size = json.loads(_buildah("images", "--json", _base()))[0]["size"]
        return Image(
            result["FromImageID"], _unpacked(result["FromImageID"]), result["OCIv1"], {"size": _bytes(size)}
        )


def _built() -> str:
    """Build the image and return what buildah knows of it."""
    with _secrets() as secrets:
        _buildah(
            *("build", "--isolation", "chroot", "--pull-never", "--layers", "--tag", NAME, *secrets),
            *("--build-arg", f"BASE={_base()}", "--build-arg", f"VERSION={__version__}"),
            *(word for name, text in BUILT_FROM.items() for word in ("--build-arg", f"{name}={text}")),
            str(ROOT),
        )
    _forget_old_builds()
    return _buildah("inspect", "--type", "image", NAME)


def archive() -> Path:
    """Return the image of this checkout as one file that container runtimes import, under its release."""
    path = STORE / "archive" / f"{content()}.tar"
    if path.exists():
        return path
    STORE.mkdir(parents=True, exist_ok=True)
    with _alone():
        if not path.exists():
            _built()
            shutil.rmtree(path.parent, ignore_errors=True)
            path.parent.mkdir()
            new = path.with_suffix(".new")
            _buildah("push", "--quiet", NAME, f"docker-archive:{new}:{NAME}:{__version__}")
            new.rename(path)
    return path


def content(checkout: Path = ROOT) -> str:
    """Return a checksum of all that the image is made of: to ask buildah takes ten seconds."""
    digest = hashlib.sha256(repr((SLIM, RELEASE, BUILT_FROM)).encode())
    for name in MADE_OF:
        top = checkout / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(checkout)} {path.stat().st_mode} ".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _forget_old_builds() -> None:
    former = [item for item in json.loads(_buildah("images", "--json")) if not item["names"]]
    for item in sorted(former, key=lambda item: int(item["created"]))[:-KEPT]:
        _buildah("rmi", item["id"])


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Be the only one who builds; what an interrupted build has mounted goes, whoever interrupts it."""
    with (STORE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _remove_containers()
            yield
        finally:
            _remove_containers()


def _remove_containers() -> None:
    _buildah("rm", "--all")
    shutil.rmtree(STORE / "work", ignore_errors=True)
    (STORE / "work").mkdir()


def _base() -> str:
    made_from = hashlib.sha256(repr((SLIM, package_mirrors.debian_sources(RELEASE))).encode()).hexdigest()[
        :12
    ]
    name = f"{NAME}-base:{RELEASE}-{made_from}"
    if name in _buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        return name
    with tempfile.TemporaryDirectory(dir=STORE / "work") as work:
        tar = f"{work}/base.tar"
        command = [
            "mmdebstrap",
            "--variant=minbase",
            "--mode=root",
            *SLIM,
            RELEASE,
            tar,
            *package_mirrors.debian_sources(RELEASE),
        ]
        package_mirrors.run(command, {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "TMPDIR": work})
        container = _buildah("from", "scratch").strip()
        _buildah("add", "--quiet", container, tar, "/")
        _buildah("commit", "--quiet", container, name)
    return name


@contextlib.contextmanager
def _secrets() -> Iterator[list[str]]:
    """Yield the options that hand this machine's configuration of apt, pip and TLS to the build."""
    with tempfile.TemporaryDirectory() as directory:
        pip, apt = Path(directory, "pip.conf"), Path(directory, "apt.conf")
        pip.write_text(package_mirrors.pip_configuration())
        apt.write_text(package_mirrors.apt_configuration())
        files = {"pip.conf": pip, "apt.conf": apt, "ca-certificates": package_mirrors.certificates()}
        yield [
            word
            for id_, path in files.items()
            if path and path.stat().st_size
            for word in ("--secret", f"id={id_},src={path}")
        ]


def _unpacked(image: str) -> Path:
    """Return the image's files, copied once; those of former images go."""
    place = STORE / "unpacked" / image
    if place.exists():
        return place
    shutil.rmtree(place.parent, ignore_errors=True)
    place.parent.mkdir()
    container = _buildah("from", "--pull-never", NAME).strip()
    mounted = _buildah("mount", container).strip()
    package_mirrors.run(["cp", "-a", mounted, str(place.with_suffix(".new"))])
    place.with_suffix(".new").rename(place)
    return place


def _buildah(*arguments: str) -> str:
    storage = [
        "--root",
        str(STORE / "layers"),
        "--runroot",
        str(STORE / "run"),
        "--storage-driver",
        _driver(),
    ]
    return package_mirrors.run(["nice", "buildah", *storage, *arguments], {"TMPDIR": str(STORE / "work")})


@cache
def _driver() -> str:
    """Layers are overlays, where the checkout is not on one itself: there they are copies."""
    on = package_mirrors.run(["stat", "--file-system", "--format=%T", str(STORE)]).strip()
    return "vfs" if on == "overlayfs" else "overlay"


def _bytes(shown: str) -> int:
    """Read what buildah shows people: "170 MB"."""
    number, unit = shown.split()
    return int(float(number) * {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[unit.upper()])


def _size(directory: Path) -> int:
    results = {}
    for path in directory.rglob("*"):
        status = path.lstat()
        results[status.st_ino] = status.st_size if not path.is_dir() or path.is_symlink() else 0
    return sum(results.values())
