"""What is in the image, and what is not."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_floatip import __version__
from lab.images import BUILT_FROM, DOCKERFILE, NEEDS, ROOT, Image

pytestmark = pytest.mark.needs(*NEEDS)
BUILD_TOOLS = ("gcc", "cc", "ld", "as", "make", "g++", "pip", "pip3", "git", "patchelf", "go", "rustc")
PROGRAMS = ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "opt/floatip/bin")
LIBRARIES = "opt/floatip/lib"


def packages(image: Image) -> set[str]:
    """Return the names of the Python packages as they stand in the directory."""
    return {path.name for path in image.rootfs.glob(f"{LIBRARIES}/python3*/site-packages/*")}


def test_it_runs_the_agent_unless_told_otherwise(image: Image) -> None:
    assert image.command(None) == ["floatipctl", "agent"]
    assert image.run("floatipctl", "--version").stdout == f"floatipctl {__version__}\n"
    assert image.config["config"].get("User", "") in ("", "0", "root")


def test_image_labels(image: Image) -> None:
    output = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in image.labels.items()
        if name.startswith("org.opencontainers.image.")
    }
    assert {name: output[name] for name in ("title", "licenses", "version")} == {
        "title": "cni-floatip",
        "licenses": "Apache-2.0",
        "version": __version__,
    }
    assert {name.upper(): output[name] for name in ("source", "revision", "created")} == BUILT_FROM
    assert output["description"]


def test_nothing_of_the_build_is_left(image: Image) -> None:
    results = {path.name for place in PROGRAMS for path in (image.rootfs / place).glob("*")}
    left = {
        name
        for name in results
        if name in BUILD_TOOLS or re.fullmatch(r".*-(gcc|ld|as)(-\d+)?|pip[\d.]+|gcc-\d+", name)
    }
    assert left == set()
    assert "floatipctl" in results, "or this looks in the wrong places"
    programs = {path.name for path in (image.rootfs / "opt/floatip/bin").iterdir() if not path.is_symlink()}
    assert programs == {"floatipctl"}
    assert not [*image.rootfs.rglob("libpython*.a"), *image.rootfs.rglob("Python.h")]
    assert not (image.rootfs / "src").exists()
    assert not list((image.rootfs / "var/lib/apt/lists").glob("*Packages*"))


def test_nothing_of_the_machine_that_built_it_is_left(image: Image) -> None:
    for path in ("etc/pip.conf", "run/pip.conf", "run/apt.conf", "run/ca-certificates.crt", "root/.cache"):
        result = image.rootfs / path
        assert not result.exists() or not result.stat().st_size, path
    ours = [
        path for path in (image.rootfs / "opt/floatip").rglob("*") if path.suffix in (".py", ".cfg", ".json")
    ]
    assert ours
    assert not [path for path in ours if str(ROOT) in path.read_text(errors="replace")]


def test_licences_and_sources_are_named(image: Image) -> None:
    """The node bundle is linked with libraries whose licence asks for both."""
    doc = image.rootfs / "usr/share/doc"
    notice = (doc / "cni-floatip/NOTICE").read_text()
    for pattern in re.findall(r"/usr/share/([^\s,;)]*copyright|common-licenses/[\w.-]+)", notice):
        assert list((image.rootfs / "usr/share").glob(pattern)), pattern
    assert (doc / "cni-floatip/LICENSE").read_text().strip().startswith("Apache License")
    sources = (doc / "cni-floatip/SOURCES").read_text().splitlines()
    assert [re.sub(r"[\d.-]* \d\S+$", "", line) for line in sources] == ["python", "glibc", "gcc"], sources
    for path in image.rootfs.glob(f"{LIBRARIES}/python3*/site-packages/*.dist-info"):
        assert [*path.rglob("*LICEN*"), *path.rglob("COPYING*")], path.name


def test_packages_are_the_locked_ones_that_are_imported(image: Image) -> None:
    lock = (ROOT / "install/requirements.txt").read_text()
    locked = {
        (name.lower().replace("-", "_"), version)
        for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)", lock)
    }
    present = {
        (name.lower().replace("-", "_"), version)
        for item in packages(image)
        for name, version in re.findall(r"^(.+)-([^-]+)\.dist-info$", item)
    }
    assert present <= locked
    unused = {name for name, _ in locked - present}
    assert unused - {"typing_extensions"} == {"boto3", "s3transfer"}
    assert not packages(image) & {"boto3", "pip", "setuptools"}


def test_every_module_is_compiled(image: Image) -> None:
    site = next(image.rootfs.glob(f"{LIBRARIES}/python3*/site-packages"))
    sources = [path for path in site.rglob("*.py") if "cni_floatip" in path.parts or "botocore" in path.parts]
    compiled = {path.name.split(".")[0] for path in site.rglob("*.pyc")}
    assert len(sources) > 100
    assert {path.stem for path in sources} <= compiled
    done = image.run(
        "python3",
        "-v",
        "-Ic",
        "import cni_floatip.agent.main, cni_floatip.edges.ec2.sessions, botocore.session",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "# code object from /opt" not in done.stderr


def test_descriptions_of_services_are_ours_alone(image: Image) -> None:
    site = next(image.rootfs.glob(f"{LIBRARIES}/python3*/site-packages"))
    assert not [path for path in (site / "botocore/data").iterdir() if path.is_dir()]
    model = json.loads(
        next((site / "cni_floatip/edges/ec2/service_model/ec2").glob("*/service-2.json")).read_text()
    )
    assert "CreateRoute" in model["operations"]
    assert len(model["operations"]) < 40
    done = image.run(
        *("python3", "-Ic"),
        "from cni_floatip.edges.ec2.sessions import Sdk\n"
        "client = Sdk({}).client('eu-central-1', '', lambda call: call())\n"
        "print(client.meta.endpoint_url)",
        env={"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "made-up"},
    )
    assert done.stdout == "https://ec2.eu-central-1.amazonaws.com\n", done.stderr


def test_it_is_small(image: Image, record_property: Callable[[str, object], None]) -> None:
    ours = image.size - image.base_size
    record_property("bytes of the image", image.size)
    assert ours < 80e6
    assert image.size < 200e6
    assert sum(path.stat().st_size for path in image.bundle.iterdir()) <= 12e6


@pytest.mark.parametrize(
    "path",
    [DOCKERFILE, *sorted((ROOT / "install/bundle").iterdir()), *(ROOT / "install/image").iterdir()],
    ids=str,
)
def test_nothing_is_for_one_architecture(path: Path) -> None:
    text = path.read_text()
    without = re.sub(r"(?m)^#.*$", "", text)
    assert not re.search(r"x86.64|amd64|aarch64|arm64|-march|-m64", without)
    assert not re.search(r"python3\.\d|libpython3\.\d", without), "whichever the base has"


def test_the_bundle_is_of_this_machine_s_kind_and_needs_no_loader(image: Image) -> None:
    header = (image.bundle / "python").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == {"x86_64": 62, "aarch64": 183}[os.uname().machine]
    output = subprocess.run(
        ["ldd", str(image.bundle / "python")], capture_output=True, text=True, check=False
    )
    assert "not a dynamic executable" in output.stderr + output.stdout
    assert [path.name for path in image.bundle.iterdir()] == ["python"]
