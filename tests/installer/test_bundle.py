"""Installing from a node bundle: the layout, what is written when, and how long what is superseded stays."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from cni_floatip import __version__, cli, installer
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.installer import files, interpreters
from cni_floatip.model.errors import CniError, IoFailure, TryAgain
from tests.installer.plugin_directories import NEWER, OLDER, command, config, release, tree
from tests.support.waiting import until

POLICY = NodeConf(socket_path="/run/x/agent.sock", spool_dir="/var/lib/x/spool")


def version(bin_dir: Path) -> Path:
    return installer.read_installed(bin_dir).interpreter.parent


def install(bin_dir: Path, bundle: Path, number: str = __version__) -> None:
    """Install as a release would, in a process of its own."""
    path = config(bin_dir.parent)
    argv = command("install-client", bin_dir, "--bundle", bundle, "--config", path, release=number)
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{bin_dir}/floatip\n"), done.stderr


def test_everything_is_below_the_directory(bin_dir: Path, bundles: tuple[Path, Path]) -> None:
    client = installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    name = f"{__version__}-{files.digest(bundles[0] / 'python')[:12]}"
    assert sorted(tree(bin_dir)) == [".floatip", f".floatip/{name}", f".floatip/{name}/python", "floatip"]
    assert client.read_text().startswith(f"#!{bin_dir}/.floatip/{name}/python -IS\n")
    assert release(bin_dir) == __version__


def test_the_bundle_is_not_needed_afterwards(
    bin_dir: Path, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    installer.install_client(bin_dir, POLICY, bundle=shutil.copytree(bundles[0], tmp_path / "gone"))
    shutil.rmtree(tmp_path / "gone")
    assert release(bin_dir) == __version__


@pytest.mark.parametrize("umask", [0, 0o777])
def test_anybody_may_run_it_and_only_root_write_it(
    bin_dir: Path, bundles: tuple[Path, Path], umask: int
) -> None:
    before = os.umask(umask)
    try:
        installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(mode) for mode, _ in tree(bin_dir).values()}
    assert modes == {0o755}


def stamps(directory: Path) -> dict[Path, tuple[int, int]]:
    paths = [directory, *directory.rglob("*")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize("bundled", [True, False])
def test_twice_writes_nothing(bin_dir: Path, bundles: tuple[Path, Path], bundled: bool) -> None:
    bundle = bundles[0] if bundled else None
    installer.install_client(bin_dir, POLICY, bundle=bundle)
    before = stamps(bin_dir)
    installer.install_client(bin_dir, POLICY, bundle=bundle)
    assert stamps(bin_dir) == before


def test_a_changed_configuration_is_not_nothing(bin_dir: Path, bundles: tuple[Path, Path]) -> None:
    installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    before = version(bin_dir).stat().st_ino
    installer.install_client(bin_dir, NodeConf(socket_path="/run/y.sock"), bundle=bundles[0])
    assert "/run/y.sock" in (bin_dir / "floatip").read_text()
    assert version(bin_dir).stat().st_ino == before


@pytest.mark.parametrize("cut", ["floatip", "interpreter"])
@pytest.mark.parametrize("damage", ["removed", "truncated", "emptied", "changed", "mode"])
def test_what_was_damaged_is_made_whole(
    bin_dir: Path, bundles: tuple[Path, Path], cut: str, damage: str
) -> None:
    installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    whole = tree(bin_dir)
    path = bin_dir / "floatip" if cut == "floatip" else version(bin_dir) / "python"
    hurt(path, damage)
    with pytest.raises(installer.Unsound):
        installer.read_installed(bin_dir)
    installer.install_client(bin_dir, POLICY, bundle=bundles[0], only_unsound=True)
    assert tree(bin_dir) == whole
    assert release(bin_dir) == __version__


def hurt(path: Path, damage: str) -> None:
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    elif damage == "mode":
        path.chmod(0o644)
    else:
        half = len(content) // 2
        path.write_bytes(
            {
                "truncated": content[:half],
                "emptied": b"",
                "changed": content[:half] + b"x" + content[half + 1 :],
            }[damage]
        )


def test_a_sound_one_of_another_release_is_left_to_its_own(bin_dir: Path, bundles: tuple[Path, Path]) -> None:
    install(bin_dir, bundles[1], NEWER)
    installer.install_client(bin_dir, POLICY, bundle=bundles[0], only_unsound=True)
    assert release(bin_dir) == NEWER


# -- what is superseded --------------------------------------------------------------------------------------


def test_upgrade_and_downgrade_keep_the_former_version_for_a_while(
    bin_dir: Path, bundles: tuple[Path, Path]
) -> None:
    install(bin_dir, bundles[0], OLDER)
    first = version(bin_dir)
    os.utime(first, (0, 0))  # installed long ago, superseded only now
    install(bin_dir, bundles[1], NEWER)
    second = version(bin_dir)
    assert release(bin_dir) == NEWER
    assert first.is_dir()
    install(bin_dir, bundles[0], OLDER)
    assert version(bin_dir) == first
    os.utime(first, (0, 0))  # what is in use stays, however old
    os.utime(second, (0, 0))
    install(bin_dir, bundles[0], OLDER)
    assert not second.exists()
    assert release(bin_dir) == OLDER


def test_a_version_that_runs_stays_and_nothing_is_ever_busy(
    bin_dir: Path, bundles: tuple[Path, Path]
) -> None:
    install(bin_dir, bundles[0], OLDER)
    first = version(bin_dir)
    env = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_IFNAME": "net1", "CNI_NETNS": "/nowhere"}
    running = subprocess.Popen(
        [bin_dir / "floatip"], env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: os.readlink(f"/proc/{running.pid}/exe") == str(first / "python"))  # noqa: PTH115
        install(bin_dir, bundles[1], NEWER)
        assert version(bin_dir) != first
        os.utime(first, (0, 0))
        install(bin_dir, bundles[1], NEWER)
        assert (first / "python").is_file()
        (bin_dir / "floatip").unlink()
        install(bin_dir, bundles[0], OLDER)  # over the interpreter that runs
        install(bin_dir, bundles[1], NEWER)
        assert running.poll() is None
    finally:
        running.kill()
        running.communicate()
    os.utime(first, (0, 0))
    install(bin_dir, bundles[1], NEWER)
    assert not first.exists()


def test_a_client_with_an_interpreter_elsewhere_needs_no_versions(
    bin_dir: Path, bundles: tuple[Path, Path]
) -> None:
    installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    os.utime(version(bin_dir), (0, 0))
    installer.install_client(bin_dir, POLICY)
    assert min(tree(bin_dir)) == ".floatip"  # superseded only now
    os.utime(next((bin_dir / ".floatip").iterdir()), (0, 0))
    installer.install_client(bin_dir, POLICY)
    assert list(tree(bin_dir)) == ["floatip"]


# -- what is there already -----------------------------------------------------------------------------------


ABOUT = "CNI plugin floatip 1.0"  # what a plugin of that name would say, whoever made it


@pytest.mark.parametrize("kind", ["script", "program", "program that says so", "link", "directory"])
def test_anothers_program_of_that_name_is_left_alone(
    bin_dir: Path, bundles: tuple[Path, Path], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bin_dir / "floatip"
    if kind == "directory":
        path.mkdir()
    elif kind == "script":
        path.write_text(f"#!/bin/sh\necho {ABOUT}, of another vendor\n")
    elif kind == "link":
        path.symlink_to("/bin/true")
    else:
        shutil.copy("/bin/true", path)
        with path.open("a") as file:
            file.write(ABOUT * (kind == "program that says so"))
    before = tree(bin_dir)
    argv = ["--bin-dir", str(bin_dir), "--config", str(config(bin_dir.parent))]
    assert cli.main(["install-client", *argv, "--bundle", str(bundles[0])]) == 1
    assert f"cannot install: {path} is " in (text := capsys.readouterr().err)
    assert text.endswith("move it away, and install again\n")
    assert cli.main(["uninstall", *argv]) == 0
    assert tree(bin_dir) == before


@pytest.mark.parametrize("kind", ["dangling", "junk", "pipe", "first line only", "console script"])
def test_what_is_nobodys_program_is_replaced(bin_dir: Path, bundles: tuple[Path, Path], kind: str) -> None:
    path = bin_dir / "floatip"
    if kind == "dangling":
        path.symlink_to("/nowhere/floatip")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        text = {
            "junk": "\0" * 4096,
            "first line only": "#!/usr/bin/python3 -IS\n",
            "console script": "#!/x\n",
        }
        path.write_text(text[kind] + "from cni_floatip.plugin import main\n" * (kind == "console script"))
    installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    assert release(bin_dir) == __version__


def test_a_client_that_fails_in_its_place_gives_way_to_the_former_one(bin_dir: Path, tmp_path: Path) -> None:
    """It works under its temporary name, and not as DIR/floatip: security modules go by paths."""
    installer.install_client(bin_dir, POLICY)
    before = stamps(bin_dir).keys(), (bin_dir / "floatip").read_bytes()
    picky = tmp_path / "python"
    real = installer.default_interpreter()
    picky.write_text(f'#!/bin/sh\ncase "$2" in */floatip) exit 3;; esac\nexec {real} "$@"\n')
    picky.chmod(0o755)
    with pytest.raises(IoFailure, match=r"bin/floatip does not work: VERSION gives exit status 3"):
        installer.install_client(bin_dir, POLICY, str(picky))
    assert (stamps(bin_dir).keys(), (bin_dir / "floatip").read_bytes()) == before
    (bin_dir / "floatip").unlink()
    with pytest.raises(IoFailure, match="does not work"):
        installer.install_client(bin_dir, POLICY, str(picky))
    assert tree(bin_dir) == {}


@pytest.mark.parametrize("nth", [1, 2], ids=["interpreter", "client"])
def test_a_disk_that_gives_back_something_else(
    bin_dir: Path, bundles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Damage that shows only once the file has left the page cache."""
    count = 0

    def lose(fd: int, *_: int) -> None:
        nonlocal count
        count += 1
        if count == nth:
            with Path(os.readlink(f"/proc/self/fd/{fd}")).open("r+b") as file:  # noqa: PTH115 (a descriptor)
                file.seek(-1, os.SEEK_END)
                file.write(b"?")

    monkeypatch.setattr(os, "posix_fadvise", lose)
    with pytest.raises(
        IoFailure, match=r"/bin/.*: reading it back does not return what was written: the disk may"
    ):
        installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    assert count == nth
    assert tree(bin_dir) == {}


# -- where it cannot be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "words"), [("with blank", "no blanks"), ("x" * 100, "too long")])
def test_a_directory_that_no_first_line_can_name(
    tmp_path: Path, bundles: tuple[Path, Path], name: str, words: str
) -> None:
    (bin_dir := tmp_path / name).mkdir()
    with pytest.raises(IoFailure, match=f"cannot install into .*{words}.*choose another --bin-dir"):
        installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    assert tree(bin_dir) == {}


def test_a_missing_bundle_is_refused(bin_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(IoFailure, match="nothing is no node bundle"):
        installer.install_client(bin_dir, POLICY, bundle=tmp_path / "nothing")
    assert tree(bin_dir) == {}


def test_a_bundle_that_does_not_run(bin_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "python").write_bytes(b"\x7fELF of another architecture")
    with pytest.raises(IoFailure, match=r"cannot run .*Exec format error"):
        installer.install_client(bin_dir, POLICY, bundle=tmp_path / "bundle")
    assert tree(bin_dir) == {}


def test_an_installer_that_hangs_is_not_waited_for_without_end(bin_dir: Path) -> None:
    with (
        files.alone_in(bin_dir),
        pytest.raises(TryAgain, match="another installer"),
        files.alone_in(bin_dir, 0.2),
    ):
        pass


def test_the_directory_may_be_said_relative(
    bin_dir: Path, bundles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bin_dir.parent)
    path = config(bin_dir.parent)
    argv = ["install-client", "--bin-dir", "bin", "--bundle", str(bundles[0]), "--config", str(path)]
    assert cli.main(argv) == 0
    assert installer.read_installed(bin_dir).interpreter.name == interpreters.PYTHON
    assert installer.read_installed(bin_dir).interpreter.is_absolute()


def test_no_directory_is_not_the_one_at_hand(
    bin_dir: Path,
    bundles: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A variable that is not set, in somebody's script."""
    monkeypatch.chdir(bin_dir)
    for verb in ("install-client", "uninstall", "agent"):
        with pytest.raises(SystemExit):
            cli.main([verb, "--bin-dir", ""])
        assert "argument --bin-dir: no directory is named" in capsys.readouterr().err
    assert tree(bin_dir) == {}


@pytest.mark.parametrize("where", [".", "version", "version/python"])
def test_something_else_in_the_place_of_the_interpreter_is_named_and_left(
    bin_dir: Path, bundles: tuple[Path, Path], where: str
) -> None:
    interpreter = interpreters.path_of(bin_dir, bundles[0])
    path = {".": interpreter.parent.parent, "version": interpreter.parent}.get(where, interpreter)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if path == interpreter else path.write_text("a file")
    before = tree(bin_dir)
    with pytest.raises(IoFailure, match=rf"\({path}\): move away what is there"):
        installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    assert tree(bin_dir).keys() == before.keys()


def test_a_link_to_the_interpreter_is_not_the_interpreter(bin_dir: Path, bundles: tuple[Path, Path]) -> None:
    """It may lead to it in this container, and nowhere on the host."""
    client = installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    path = version(bin_dir) / "python"
    path.unlink()
    path.symlink_to(bundles[0] / "python")
    with pytest.raises(installer.Unsound, match="the interpreter"):
        installer.read_installed(bin_dir)
    assert installer.install_client(bin_dir, POLICY, bundle=bundles[0]) == client
    assert not path.is_symlink()
    assert release(bin_dir) == __version__


def test_what_a_strange_umask_and_a_kill_left_is_opened(bin_dir: Path, bundles: tuple[Path, Path]) -> None:
    directories = [bin_dir / ".floatip", interpreters.path_of(bin_dir, bundles[0]).parent]
    for directory in directories:
        directory.mkdir(mode=0o700)
    installer.install_client(bin_dir, POLICY, bundle=bundles[0])
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o755}


def test_every_refusal_is_a_sentence(bin_dir: Path) -> None:
    with pytest.raises(
        CniError, match=f"cannot install {bin_dir}/no/floatip: No such file.*make the directory"
    ):
        installer.install_client(bin_dir / "no", POLICY)
