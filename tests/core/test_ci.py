"""``.ci/run``: its exit status is the tests', and nothing of it is left, whatever becomes of the build."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / ".ci" / "run"
RUNS_ON = "exec sleep 120"
ENDS_WITHIN = 60
"""Less than what runs on."""

pytestmark = pytest.mark.needs("setpriv")

Start = Callable[[str, str], subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return what starts ``.ci/run`` in a checkout whose build and whose tests are these lines of shell."""

    def script(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def started(build: str, tests: str) -> subprocess.Popen[str]:
        run = tmp_path / ".ci" / "run"
        run.parent.mkdir()
        shutil.copy(RUN, run)
        script(tmp_path / ".venv/bin/python", f"echo building\n{build}")
        script(tmp_path / "bin/make", f'[ "$1" != setup ] || exit 0\necho testing\n{tests}')
        path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
        return subprocess.Popen(
            [str(run)], env={"PATH": path}, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    return started


@pytest.mark.parametrize("build", ["exit 0", "exit 1", RUNS_ON], ids=["built", "not built", "still builds"])
@pytest.mark.parametrize("status", [0, 2])
def test_the_tests_decide(start: Start, tmp_path: Path, build: str, status: int) -> None:
    """Once the build has ended, or while it goes on. The output ends with the last process that has it."""
    os.mkfifo(tmp_path / "build")
    awaited = "read begun <&3" if build is RUNS_ON else "cat <&3"
    process = start(
        f"exec 3>{tmp_path}/build; echo begun >&3\n{build}",
        f"exec 3<{tmp_path}/build; {awaited}\nexit {status}",
    )
    process.communicate(timeout=ENDS_WITHIN)
    assert process.returncode == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_it(start: Start, number: signal.Signals) -> None:
    process = start(RUNS_ON, RUNS_ON)
    assert process.stdout is not None
    assert {process.stdout.readline() for _ in range(2)} == {"building\n", "testing\n"}
    process.send_signal(number)
    process.communicate(timeout=ENDS_WITHIN)
    assert process.returncode != 0
