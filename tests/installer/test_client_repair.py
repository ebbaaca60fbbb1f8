"""The agent's eye on the client: damage is repaired and said, what is sound left alone, failure shown."""

from __future__ import annotations

import functools
import os
import subprocess
import threading
from pathlib import Path

import pytest

from cni_floatip import __version__, installer
from cni_floatip.agent.client_files import LONGEST_PAUSE, THOROUGH_SECONDS, ClientFiles
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.installer import files
from tests.installer.plugin_directories import NEWER, command, config, release, tree

POLICY = NodeConf(socket_path="/run/x/agent.sock", spool_dir="/var/lib/x/spool")


class Agent(NullRecorder):
    """The files of a client, a clock that a test turns, and what was counted and logged."""

    def __init__(self, bin_dir: Path, bundle: Path) -> None:
        self.repairs = 0
        self.said: list[str] = []
        self.now = 1000.0
        self.installs = 0
        self._install = functools.partial(installer.install_client, bin_dir, POLICY, bundle=bundle)
        self.files = ClientFiles(bin_dir, self.install, self, self.log, clock=lambda: self.now)  # type: ignore[arg-type]

    def install(self, *, only_unsound: bool) -> None:
        self.installs += 1
        self._install(only_unsound=only_unsound)

    def client_repaired(self) -> None:
        self.repairs += 1

    def log(self, sentence: str, level: str = "info") -> None:
        self.said.append(f"{level}: {sentence}")

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.files.look()


@pytest.fixture
def repairer(bin_dir: Path, bundles: tuple[Path, Path]) -> Agent:
    agent = Agent(bin_dir, bundles[0])
    assert "not been checked" in str(agent.files.problem())
    agent.files.begin()
    assert agent.files.problem() is None
    return agent


def newer_release(bin_dir: Path, bundle: Path) -> None:
    argv = command("install-client", bin_dir, "--bundle", bundle, "--config", config(bin_dir.parent))
    subprocess.run(
        [*argv[:3], NEWER, *argv[4:]],
        check=True,
        capture_output=True,
    )


def test_at_its_start_an_agent_has_its_own_client_there(bin_dir: Path, bundles: tuple[Path, Path]) -> None:
    newer_release(bin_dir, bundles[1])
    agent = Agent(bin_dir, bundles[0])
    agent.files.begin()
    assert release(bin_dir) == __version__
    assert agent.said == [
        f"info: the client was of release {NEWER}: that of release {__version__} is installed now"
    ]
    assert agent.repairs == 0


@pytest.mark.parametrize("what", ["client", "interpreter"])
@pytest.mark.parametrize("damage", ["removed", "emptied", "changed", "everything"])
def test_damage_is_repaired_counted_and_said(repairer: Agent, bin_dir: Path, what: str, damage: str) -> None:
    whole = tree(bin_dir)
    interpreter = installer.read_installed(bin_dir).interpreter
    path = bin_dir / "floatip" if what == "client" else interpreter
    if damage == "changed":
        path.write_bytes(path.read_bytes()[:-200] + b"\n" * 200)
    elif damage == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()
    if damage == "everything":
        interpreter.unlink(missing_ok=True)
        interpreter.parent.rmdir()
    repairer.pass_time(1)
    assert repairer.files.problem() is None
    assert release(bin_dir) == __version__
    assert tree(bin_dir) == whole
    assert repairer.repairs == 1
    (text,) = [item for item in repairer.said if ": repaired, release" in item]
    assert text.startswith(f"warning: {'the interpreter ' * (what == 'interpreter')}{path}") or (
        damage == "everything"
    )


def test_while_nothing_changes_nothing_is_installed(repairer: Agent) -> None:
    before = repairer.installs
    for _ in range(20):
        repairer.pass_time(1)
    assert repairer.installs == before
    assert len(repairer.said) == 1


def test_now_and_then_what_is_superseded_goes(
    repairer: Agent, bin_dir: Path, bundles: tuple[Path, Path]
) -> None:
    version = bin_dir / ".floatip" / f"{NEWER}-{files.digest(bundles[1] / 'python')[:12]}"
    version.mkdir()
    os.utime(version, (0, 0))
    repairer.pass_time(1)
    assert version.exists()
    repairer.pass_time(THOROUGH_SECONDS)
    assert not version.exists()
    assert repairer.repairs == 0


def test_a_client_of_another_release_is_left_alone(
    repairer: Agent, bin_dir: Path, bundles: tuple[Path, Path]
) -> None:
    """The installer of the next release has been here, and this agent is about to end."""
    newer_release(bin_dir, bundles[1])
    repairer.pass_time(1)
    repairer.pass_time(THOROUGH_SECONDS)
    assert release(bin_dir) == NEWER
    assert repairer.said[1:] == [f"info: the client is of release {NEWER} now"]
    (bin_dir / "floatip").unlink()  # but a node without any is worse
    repairer.pass_time(1)
    assert release(bin_dir) == __version__


def test_an_agent_that_is_ending_repairs_nothing(repairer: Agent, bin_dir: Path) -> None:
    stop = threading.Event()
    stop.set()
    (bin_dir / "floatip").unlink()
    repairer.files.run(stop)
    assert not (bin_dir / "floatip").exists()


def test_a_repair_that_fails_is_shown_and_tried_again_ever_less_often(repairer: Agent, bin_dir: Path) -> None:
    path = bin_dir / "floatip"
    path.unlink()
    path.mkdir()
    output, before = len(repairer.said), repairer.installs
    for _ in range(600):
        repairer.pass_time(1)
        assert f"the client cannot be used: cannot install: {path} is a directory" in str(
            repairer.files.problem()
        )
    assert 6 <= repairer.installs - before <= 20
    assert repairer.said[output:] == [f"error: {repairer.files.problem()}"]
    path.rmdir()
    repairer.pass_time(LONGEST_PAUSE)
    assert repairer.files.problem() is None
    assert repairer.repairs == 1
    assert repairer.said[-1] == "info: the client can be used again"


@pytest.fixture
def hopeless(tmp_path: Path) -> Path:
    """A bundle whose interpreter runs nothing: no client of it is ever installed."""
    path = tmp_path / "hopeless" / "python"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\nexit 7\n")
    path.chmod(0o755)
    return path.parent


def test_a_client_that_cannot_be_replaced_and_works_can_be_used(
    bin_dir: Path, bundles: tuple[Path, Path], hopeless: Path
) -> None:
    newer_release(bin_dir, bundles[1])
    agent = Agent(bin_dir, hopeless)
    agent.files.begin()
    (text,) = agent.said
    assert text.startswith(f"warning: the client of release {NEWER} stays: ")
    assert "exit status 7" in text
    assert agent.files.problem() is None
    assert release(bin_dir) == NEWER


def test_a_client_that_cannot_be_replaced_and_does_not_work_cannot_be_used(
    bin_dir: Path, tmp_path: Path, hopeless: Path
) -> None:
    """It looks whole: what its first line names is on the node, and runs nothing any more."""
    interpreter = tmp_path / "python"
    interpreter.symlink_to(installer.default_interpreter())
    installer.install_client(bin_dir, POLICY, str(interpreter))
    interpreter.unlink()
    interpreter.write_text("#!/bin/sh\nexit 9\n")
    interpreter.chmod(0o755)
    assert installer.read_installed(bin_dir)
    agent = Agent(bin_dir, hopeless)
    agent.files.begin()
    assert str(agent.files.problem()).startswith("the client cannot be used: ")
    assert agent.said[-1] == f"error: {agent.files.problem()}"
    interpreter.unlink()
    interpreter.symlink_to(installer.default_interpreter())
    agent.pass_time(LONGEST_PAUSE)
    assert agent.files.problem() is None
