"""The launcher of the race: what it says of a program, how many it runs, and that it leaves none behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.peer_lab import LAUNCHER
from tests.support.waiting import until

Run = Callable[..., list[dict[str, Any]]]
LONG = 60.0
"""Seconds that no test needs."""


@pytest.fixture
def launcher() -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-I", "-S", str(LAUNCHER)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(LONG) == 0
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture
def run(launcher: subprocess.Popen[str]) -> Run:
    """Run shell scripts as one batch."""

    def ask(*scripts: str, at_once: int = 50, seconds: float = LONG, stdin: str = "") -> Any:
        send(launcher, *scripts, at_once=at_once, seconds=seconds, stdin=stdin)
        assert launcher.stdout is not None
        return json.loads(launcher.stdout.readline())

    return ask


def send(
    launcher: subprocess.Popen[str], *scripts: str, at_once: int = 50, seconds: float = LONG, stdin: str = ""
) -> None:
    env = {"PATH": os.environ["PATH"]}
    commands = [{"argv": ["/bin/sh", "-c", script], "env": env, "stdin": stdin} for script in scripts]
    assert launcher.stdin is not None
    launcher.stdin.write(json.dumps({"commands": commands, "at_once": at_once, "seconds": seconds}) + "\n")
    launcher.stdin.flush()


def python(code: str) -> str:
    return f"'{sys.executable}' -I -S -c '{code}'"


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # gone before the file is opened, or read
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_status_and_output_are_the_programs(run: Run) -> None:
    good, bad = run("cat; echo to stderr >&2", "exit 3", stdin="to stdin\n")
    assert (good["status"], good["output"]) == (0, "to stdin\nto stderr\n")
    assert bad["status"] == 3
    assert good["began"] < good["ended"]


def test_cpu_and_memory_are_those_of_its_children_too(run: Run) -> None:
    burn = python("import time\nwhile time.process_time() < 0.2: pass")
    hold = python("held = bytearray(100 << 20)")
    small, busy, large = run(":", f"{burn}; :", f"{hold}; :")
    assert small["cpu"] < 0.2 <= busy["cpu"]
    assert small["rss"] < 40 << 10
    assert large["rss"] > 100 << 10


def test_as_many_run_side_by_side_as_are_asked_for(run: Run, tmp_path: Path) -> None:
    """None ends before all have begun."""
    meet = f"touch {tmp_path}/$$; while [ $(ls {tmp_path} | wc -l) -lt 3 ]; do sleep 0.01; done"
    assert [result["status"] for result in run(meet, meet, meet, at_once=3)] == [0, 0, 0]


def test_no_more_run_side_by_side_than_are_asked_for(run: Run) -> None:
    results = run(*["sleep 0.05"] * 5, at_once=2)
    for result in results:
        others = [other for other in results if other["began"] <= result["began"] < other["ended"]]
        assert len(others) <= 2  # with itself


def test_what_takes_too_long_is_killed_with_its_children_and_the_rest_does_not_begin(
    run: Run, tmp_path: Path
) -> None:
    began = tmp_path / "began"
    for seconds in (1.0, 4.0, 16.0):  # on a busy machine the shell gets no processor before its echo
        slow, late = run("sleep 1000 & echo $!; wait", f"touch {began}", at_once=1, seconds=seconds)
        assert (slow["status"], late["status"]) == (None, None)
        if slow["output"]:
            break
    child = int(slow["output"])
    until(lambda: not is_alive(child))
    assert not began.exists()


def test_batches_follow_one_another(run: Run) -> None:
    assert [run("echo 1")[0]["output"], run("echo 2")[0]["output"]] == ["1\n", "2\n"]


@pytest.mark.parametrize("how", ["by a signal", "because who started it is gone"])
def test_a_launcher_that_ends_ends_what_it_started(
    launcher: subprocess.Popen[str], tmp_path: Path, how: str
) -> None:
    noted = tmp_path / "pid"
    send(launcher, f"echo $$ >{noted}.new; mv {noted}.new {noted}; exec sleep 1000")
    until(noted.exists)
    if how == "by a signal":
        launcher.terminate()
    else:
        assert launcher.stdin is not None
        launcher.stdin.close()
    pid = int(noted.read_text())
    until(lambda: not is_alive(pid))
