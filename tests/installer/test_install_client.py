"""Installing the client: whole or not at all, twice is once, and what cannot work never takes its place."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cni_floatip import cli, installer
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.model.errors import IoFailure
from cni_floatip.model.versions import SUPPORTED

POLICY = NodeConf(socket_path="/run/x/agent.sock", spool_dir="/var/lib/x/spool")


def version(client: Path) -> list[str]:
    done = subprocess.run([client], env={"CNI_COMMAND": "VERSION"}, input=b"", capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    return list(json.loads(done.stdout)["supportedVersions"])


def test_what_is_installed_works(tmp_path: Path) -> None:
    client = installer.install_client(tmp_path, POLICY)
    assert version(client) == list(SUPPORTED)
    assert [path.name for path in tmp_path.iterdir()] == ["floatip"]


def test_the_paths_are_those_of_the_node_configuration(tmp_path: Path) -> None:
    odd = "/run/a\\b 'c' \"d\"\\1é/agent.sock"
    text = installer.install_client(tmp_path, NodeConf(socket_path=odd)).read_text()
    constants: dict[str, object] = {}
    exec(text.split("# End of what the installer writes.")[0], constants)  # noqa: S102 (it is ours)
    assert constants["SOCKET"] == odd
    assert constants["SUPPORTED"] == SUPPORTED


@pytest.mark.parametrize("umask", [0, 0o777])
def test_anybody_may_run_it_and_only_root_write_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        client = installer.install_client(tmp_path, POLICY)
    finally:
        os.umask(before)
    assert stat.S_IMODE(client.stat().st_mode) == 0o755


def test_twice_is_once(tmp_path: Path) -> None:
    client = installer.install_client(tmp_path, POLICY)
    first = client.read_bytes()
    assert installer.install_client(tmp_path, POLICY).read_bytes() == first


def test_an_older_one_is_replaced_not_written_over(tmp_path: Path) -> None:
    """A call that is running reads its own file to the end."""
    (tmp_path / "elsewhere").write_text("older")
    (tmp_path / "floatip").symlink_to("elsewhere")
    installer.install_client(tmp_path, POLICY)
    assert not (tmp_path / "floatip").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "older"


COMMAND = [sys.executable, "-c", "import sys; from cni_floatip.cli import main; sys.exit(main())"]


def test_at_the_same_time_and_while_it_is_used(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    client = installer.install_client(bin_dir, POLICY)
    command = [*COMMAND, "install-client", "--bin-dir", str(bin_dir), "--config", str(config)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    while any(process.poll() is None for process in running):
        assert version(client) == list(SUPPORTED)
    assert [process.communicate()[0].decode() for process in running] == [f"{client}\n"] * 4
    assert [process.returncode for process in running] == [0] * 4
    assert [path.name for path in bin_dir.iterdir()] == ["floatip"]


def test_what_killed_installers_left_is_swept(tmp_path: Path) -> None:
    """Whoever is alone in the directory knows that nobody else is at work on it."""
    for name in (".floatip.1.new", ".floatip.2.former"):
        (tmp_path / name).touch()
    (tmp_path / ".other.new").touch()
    installer.install_client(tmp_path, POLICY)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.new", "floatip"]


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "python"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("interpreter", "words"),
    [
        ("python3", "absolute path"),
        ("/usr/bin/env python3", "no blanks"),
        ("/" + "x" * 200, "too long"),
        ("/nonexistent/python3", "No such file"),
        ("/etc/passwd", "Permission denied"),
        ("/bin/false", "exit status 1"),
    ],
)
def test_an_interpreter_that_cannot_be(tmp_path: Path, interpreter: str, words: str) -> None:
    (tmp_path / "floatip").write_text("older")
    with pytest.raises(IoFailure, match=words):
        installer.install_client(tmp_path, POLICY, interpreter)
    assert [path.name for path in tmp_path.iterdir()] == ["floatip"]
    assert (tmp_path / "floatip").read_text() == "older"


def test_a_client_that_does_not_answer_never_takes_its_place(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The interpreter compiles, and then cannot be what a first line names: it is a script itself."""
    bad = tmp_path_factory.mktemp("bad")
    real = installer.default_interpreter()
    text = f'#!/bin/sh\n[ "$1" = -IS ] && exit 3\nexec {real} "$@"\n'
    (tmp_path / "floatip").write_text("older")
    with pytest.raises(IoFailure, match=r"does not work: VERSION gives exit status 3"):
        installer.install_client(tmp_path, POLICY, script(bad, text))
    assert (tmp_path / "floatip").read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["floatip"]


def test_a_file_that_somebody_still_holds_is_waited_for(tmp_path: Path) -> None:
    """A process that another thread has forked meanwhile: until it executes something, it has our files."""
    client = installer.install_client(tmp_path, POLICY)
    hold = ["sh", "-c", 'exec 9>>"$1"; echo held; sleep 0.5', "sh", str(client)]
    with subprocess.Popen(hold, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        installer.smoke_test(client)


def test_an_interpreter_of_another_release_runs_the_source(tmp_path: Path) -> None:
    """The installed file outlives the interpreter that it was compiled for."""
    client = installer.install_client(tmp_path, POLICY)
    text = client.read_text()
    now = f"sys.hexversion == {sys.hexversion}"
    assert now in text
    client.write_text(text.replace(now, "sys.hexversion == 0"))
    assert version(client) == list(SUPPORTED)


# -- floatipctl install-client ------------------------------------------------------------------------------


def test_the_install_client_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"socketPath": "/run/here.sock"}')
    monkeypatch.setenv("FLOATIP_CONFIG", str(config))
    assert cli.main(["install-client", "--bin-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/floatip\n"
    assert "SOCKET = '/run/here.sock'" in (tmp_path / "floatip").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--bin-dir", "{}/none", "--config", "{}/config.json"], "none/floatip: No such file or directory"),
        (["--bin-dir", "{}/config.json", "--config", "{}/config.json"], "Not a directory"),
        (["--bin-dir", "{}", "--config", "{}/none.json"], "none.json does not exist"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert cli.main(["install-client", *(option.format(tmp_path) for option in options)]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "floatip").exists()
