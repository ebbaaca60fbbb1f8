"""A lab comes quickly, goes completely, and clears away what a lab left that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import leftovers, netns
from lab.errors import LabError
from lab.world import Lab

pytestmark = pytest.mark.needs("root", "ip")

START = """
import sys
from lab.world import Lab
with Lab(azs=1, nodes_per_az=1) as lab:
    lab.nodes["a1"].pod("left")
    print(lab.prefix, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def another() -> Iterator[tuple[Any, str]]:
    """A lab in a process of its own that waits; yields the process and the lab's prefix."""
    process = subprocess.Popen(
        [sys.executable, "-c", START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert process.stdout
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()
    leftovers.sweep()


def left(prefix: Any) -> Any:
    """Everything on this machine that a lab has: namespaces, state, processes in its namespaces."""
    state = leftovers.STATE / prefix.rstrip("-")
    return netns.existing(prefix) + ([str(state)] if state.exists() else [])


def test_nothing_is_left_of_a_lab() -> None:
    before = links()
    with Lab(azs=1, nodes_per_az=1) as lab:
        lab.nodes["a1"].pod("web")
        assert left(lab.prefix)
        assert links() == before
    assert left(lab.prefix) == []
    assert links() == before


def links() -> Any:
    return subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout


def test_nothing_is_left_of_a_lab_that_could_not_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lab, "_serve", lambda self: 1 / 0)
    lab = Lab(azs=1, nodes_per_az=1)
    with pytest.raises(ZeroDivisionError):
        lab.__enter__()
    assert left(lab.prefix) == []
    monkeypatch.undo()
    with Lab(azs=1, nodes_per_az=1):
        pass


def test_one_process_runs_one_lab() -> None:
    with Lab(azs=1, nodes_per_az=1), pytest.raises(LabError, match="runs a lab already"):
        Lab(azs=1, nodes_per_az=1).__enter__()


def test_a_living_lab_is_left_alone_and_ctrl_c_clears_it_away(another: tuple[Any, str]) -> None:
    process, prefix = another
    leftovers.sweep()
    assert f"{prefix}a1" in left(prefix)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert left(prefix) == []


@pytest.mark.thorough(sample="tests/lab/test_network_agent.py::test_the_agent_of_a_killed_lab_is_swept")
def test_what_a_killed_lab_left_is_swept(another: tuple[Any, str]) -> None:
    process, prefix = another
    assert left(prefix)
    process.kill()
    process.wait(timeout=10)
    with Lab(azs=1, nodes_per_az=1):
        assert left(prefix) == []


def test_a_note_of_a_process_is_read_whole(tmp_path: Path) -> None:
    """Also by one that has begun to read when the note is written anew."""
    path = tmp_path / "owner.json"
    leftovers.note_process(path, 1)
    with path.open() as note:
        leftovers.note_process(path, os.getpid())
        assert json.load(note)["pid"] == 1
    assert leftovers.noted_process(path) == leftovers.Owner.of(os.getpid())
    assert list(tmp_path.iterdir()) == [path]


def test_a_reused_pid_does_not_protect_leftovers() -> None:
    prefix = f"fl-{os.getppid()}-"
    leftovers.register(prefix, os.getppid())
    noted = leftovers.STATE / prefix.rstrip("-") / "owner.json"
    noted.write_text(noted.read_text().replace('"started": "', '"started": "1'))
    assert prefix in leftovers.sweep()
    assert left(prefix) == []
