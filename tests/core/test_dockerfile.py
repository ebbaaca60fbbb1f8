"""What can be said of the Dockerfile without building it (``make test-all`` does that)."""

from __future__ import annotations

import re
from pathlib import Path

from cni_floatip import __version__

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_the_version_is_the_package_s() -> None:
    assert set(re.findall(r"(?m)^ARG VERSION=(.*)$", DOCKERFILE)) == {__version__}


def test_the_base_is_an_argument_and_a_debian() -> None:
    assert re.search(r"(?m)^ARG BASE=debian:\w+-slim$", DOCKERFILE)
    assert re.findall(r"(?m)^FROM (\S+)", DOCKERFILE) == ["${BASE}", "python", "python"]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    copied = {
        source
        for line in re.findall(r"(?m)^COPY (?!--from)(.*)$", DOCKERFILE)
        for source in line.split()[:-1]
    }
    wanted = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line[:1] == "!"
    }
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == item or source.startswith(f"{item}/") for item in wanted), source


def test_python_packages_are_the_locked_ones_by_hash() -> None:
    commands = DOCKERFILE.replace("\\\n", " ")
    installs = re.findall(r"\bpip\b[^&\n]* install ([^&\n]*)", commands)
    (options,) = (set(install.split()) for install in installs)
    only_locked = {"--no-deps", "--only-binary", ":all:", "--require-hashes"}
    assert options == {"--no-compile", "-r", "/src/install/requirements.txt", *only_locked}
    assert re.search(r" install [^&\n]*&& /pip/bin/pip --python /opt/floatip/bin/python check\b", commands)
    assert not re.search(r"(?m)^ADD |curl|wget|git clone", commands)
