"""Building the programs: once, whole or not at all; an error says what to do. With the smallest module."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from lab import images, package_mirrors
from lab.errors import LabError
from lab.kubernetes import build, podimage
from lab.kubernetes.build import Module, Programs
from lab.kubernetes.cluster import materials

pytestmark = pytest.mark.needs("go")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the pod's program in it, built now."""
    directory = tmp_path_factory.mktemp("built")
    assert build.programs(directory, [smallest()]) == Programs(directory, build.kubernetes_version())
    return directory


@pytest.fixture
def directory(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "programs", symlinks=True)


def smallest() -> Module:
    return build.modules()[0]


def identity(directory: Path) -> tuple[int, int]:
    status = (directory / "pod").stat()
    return status.st_ino, status.st_mtime_ns


@pytest.fixture
def no_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on whoever runs Go to build fails."""

    def refuse(*_: object) -> str:
        raise LabError("go build was run")

    monkeypatch.setattr(package_mirrors, "run", refuse)


@pytest.mark.usefixtures("no_go")
def test_what_is_built_is_not_built_again(directory: Path) -> None:
    before = identity(directory)
    build.programs(directory, [smallest()])
    assert identity(directory) == before


def damage_nothing(directory: Path) -> None:
    (directory / "pod.built").unlink()


def damage_program(directory: Path) -> None:
    with (directory / "pod").open("r+b") as file:
        file.truncate(1000)


def damage_stamp(directory: Path) -> None:
    (directory / "pod.built").write_text((directory / "pod.built").read_text()[:50])


def remove_program(directory: Path) -> None:
    (directory / "pod").unlink()


@pytest.mark.usefixtures("no_go")
@pytest.mark.parametrize("damage", [damage_nothing, damage_program, damage_stamp, remove_program])
def test_what_is_not_whole_is_built_again(directory: Path, damage: object) -> None:
    assert callable(damage)
    damage(directory)
    assert not build.is_built(smallest(), directory)
    with pytest.raises(LabError, match="go build was run"):
        build.programs(directory, [smallest()])


def test_other_sources_flags_or_go_are_another_program(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = smallest()
    copy = shutil.copytree(module.folder, tmp_path / "sources" / "pod")
    moved = replace(module, folder=copy)
    assert build.is_built(moved, directory), "where the sources are says nothing"
    (copy / "main.go").write_text((copy / "main.go").read_text() + "// changed\n")
    assert not build.is_built(moved, directory)
    assert not build.is_built(replace(module, ldflags=""), directory)
    monkeypatch.setattr(build, "go_version", lambda: "go version go1.99")
    assert not build.is_built(module, directory)


def test_an_interrupted_build_is_not_taken_for_whole(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "pod.built").unlink()

    def interrupted(command: list[str], *_: object) -> str:
        Path(command[command.index("-o") + 1]).write_bytes(b"half a program")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(package_mirrors, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build.programs(directory, [smallest()])
    assert not build.is_built(smallest(), directory)
    build.programs(directory, [smallest()])
    assert build.is_built(smallest(), directory)
    assert sorted(path.name for path in directory.iterdir()) == ["lock", "pod", "pod.built"]


def test_a_second_build_waits_for_the_first(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "pod.built").unlink()
    begun, go_on, runs = threading.Event(), threading.Event(), []
    program = (directory / "pod").read_bytes()
    locking, flock = threading.Semaphore(0), fcntl.flock

    def counted(*arguments: Any) -> None:
        locking.release()
        flock(*arguments)

    def slow(command: list[str], *_: object) -> str:
        runs.append(command)
        begun.set()
        assert go_on.wait(60)
        Path(command[command.index("-o") + 1]).write_bytes(program)
        return ""

    monkeypatch.setattr(fcntl, "flock", counted)
    monkeypatch.setattr(package_mirrors, "run", slow)
    threads = [threading.Thread(target=build.programs, args=[directory, [smallest()]]) for _ in range(2)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    assert all(locking.acquire(timeout=60) for _ in threads), "the second does not ask for the lock"
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert len(runs) == 1


def test_an_error_says_what_to_do(tmp_path: Path) -> None:
    broken = tmp_path / "pod"
    broken.mkdir()
    (broken / "go.mod").write_text("module pod\n")
    (broken / "main.go").write_text("package main\n\nfunc main() { nonsense }\n")
    module = replace(smallest(), folder=broken)
    with pytest.raises(
        LabError, match=r"(?s)cannot build pod: .*undefined: nonsense.*python -m lab.kubernetes"
    ):
        build.programs(tmp_path / "programs", [module])


def test_where_go_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    build.go_version.cache_clear()
    try:
        with pytest.raises(LabError, match=r"no Go here, so Kubernetes cannot be built: install Go 1\.24"):
            build.programs(tmp_path)
        with pytest.raises(LabError, match="no Go here"):
            materials(chart=False)
    finally:
        build.go_version.cache_clear()


def test_versions_are_those_that_go_mod_pins(kubernetes_programs: Programs) -> None:
    def output(program: str, *arguments: str) -> str:
        argv = [str(kubernetes_programs[program]), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    version = f"v{kubernetes_programs.kubernetes}"
    for part in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"):
        assert output(part, "--version").strip() == f"Kubernetes {version}"
    client = json.loads(output("kubectl", "version", "--client", "-o", "json"))["clientVersion"]
    assert client["gitVersion"] == version
    assert output("etcd", "--version").startswith("etcd Version: 3.6.")


@pytest.mark.needs("root", "buildah", "mmdebstrap")
def test_an_image_of_the_same_content_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    path = images.archive()
    monkeypatch.setattr(package_mirrors, "run", lambda *_: pytest.fail("buildah was run"))
    assert images.archive() == path


@pytest.mark.parametrize("name", images.MADE_OF)
def test_other_content_is_another_image(tmp_path: Path, name: str) -> None:
    for item in images.MADE_OF:
        source = images.ROOT / item
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / item)
    before = images.content(tmp_path)
    assert before == images.content(), "where the checkout is says nothing"
    changed = tmp_path / name
    if changed.is_dir():
        changed = max(path for path in changed.rglob("*") if path.is_file() and path.suffix != ".pyc")
    changed.write_bytes(changed.read_bytes() + b" ")
    assert images.content(tmp_path) != before


def test_what_the_dockerfile_copies_is_known() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", images.DOCKERFILE.read_text(), re.MULTILINE)
    assert copied
    assert {source.partition("/")[0] for line in copied for source in line.split()} <= set(images.MADE_OF)


def test_the_image_of_test_pods(built: Path, tmp_path: Path) -> None:
    archive = podimage.write(tmp_path / "pod.tar", built / "pod")
    with tarfile.open(archive) as tar:
        files = {item.name: tar.extractfile(item) for item in tar}
        (entry,) = json.load(opened(files["manifest.json"]))
        assert entry["RepoTags"] == [podimage.NAME]
        config = json.load(opened(files[entry["Config"]]))
        assert config["config"]["Entrypoint"] == ["/pod"]
        with tarfile.open(fileobj=opened(files[entry["Layers"][0]])) as layer:
            assert [(file.name, file.mode) for file in layer] == [("pod", 0o755)]
    assert podimage.write(tmp_path / "again.tar", built / "pod").read_bytes() == archive.read_bytes()


def opened(file: IO[bytes] | None) -> IO[bytes]:
    assert file is not None
    return file


@pytest.mark.needs("root", "unshare")
def test_the_pod_program_is_alone_in_its_image(built: Path, tmp_path: Path) -> None:
    shutil.copy(built / "pod", tmp_path / "pod")
    argv = ["unshare", "--net", "chroot", str(tmp_path), "/pod"]
    done = subprocess.run([*argv, "addresses"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = subprocess.run([*argv, "dance"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, 'pod: unknown verb "dance"\n')
