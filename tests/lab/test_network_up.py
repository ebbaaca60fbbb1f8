"""``python -m lab up``: what it prints can be typed, and works; ``down`` leaves nothing."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lab import leftovers, netns

pytestmark = pytest.mark.needs("root", "ip", "floatip", "macvlan-plugin", "static-plugin")

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def state():
    """A state directory of our own: a lab that is up already is not ours to end."""
    with tempfile.TemporaryDirectory(prefix="lab-") as directory:
        yield Path(directory)


@pytest.fixture
def lab(state):
    """Run one command of the lab."""

    def run(*arguments):
        argv = [sys.executable, "-m", "lab", *arguments]
        env = {**os.environ, "FLOATIP_LAB": str(state)}
        return subprocess.run(argv, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, env=env)

    return run


@pytest.fixture
def guide(lab):
    """A lab that is up; yields what ``up`` printed."""
    done = lab("up")
    assert done.returncode == 0, done.stderr
    yield done.stdout
    lab("down")


def prefix(guide):
    return re.search(r"ip netns exec (fl-\d+-)", guide)[1]


def process(guide):
    return int(re.search(r"\(process (\d+)\)", guide)[1])


@pytest.mark.needs("cnitool")
def test_what_it_prints_works_as_it_stands(lab, guide, state):
    def typed(start):
        line = next(line.strip() for line in guide.splitlines() if line.strip().startswith(start))
        if line.startswith("python -m lab "):
            return lab(*line.removeprefix("python -m lab ").split())
        return subprocess.run(line.split(), capture_output=True, text=True, timeout=60, check=False)

    def answers():
        return re.findall(r": (.*)", typed("python -m lab ask").stdout)

    at = state / "current"
    assert answers() == ["no answer"] * 2
    assert typed(f"{at}/on-a1 cnitool add").returncode == 0
    assert answers() == ["web-a1"] * 2
    assert typed("python -m lab fail").returncode == 0
    assert answers() == ["no answer"] * 2
    assert typed(f"{at}/on-b1 cnitool add").returncode == 0
    assert answers() == ["web-b1"] * 2
    assert typed("python -m lab recover").returncode == 0
    assert "192.168.0.2/32" in typed(f"{at}/on-a1 floatipctl status").stdout
    assert typed(f"{at}/on-a1 cnitool del").returncode == 0
    assert answers() == ["web-b1"] * 2
    assert typed("python -m lab routes").stdout.count("192.168.0.2/32 -> eni-") == 5
    assert typed("python -m lab down").returncode == 0


def test_down_leaves_nothing(lab, guide, state):
    assert netns.existing(prefix(guide))
    done = lab("down")
    assert (done.returncode, done.stdout) == (0, f"{prefix(guide).rstrip('-')} is down\n")
    assert netns.existing(prefix(guide)) == []
    assert list(state.iterdir()) == []
    assert lab("down").returncode == 0


def test_down_clears_away_after_a_kill(lab, guide):
    os.kill(process(guide), signal.SIGKILL)
    until = time.monotonic() + 10
    while (leftovers.Owner.of(process(guide))).started and time.monotonic() < until:
        time.sleep(0.05)
    assert netns.existing(prefix(guide))
    assert lab("down").returncode == 0
    assert netns.existing(prefix(guide)) == []


def test_one_at_a_time(lab, guide):
    done = lab("up")
    assert done.returncode == 1
    assert "up already" in done.stderr


def test_an_order_that_makes_no_sense(lab, guide):
    done = lab("fail", "z")
    assert (done.returncode, done.stderr) == (1, "lab: no zone or node 'z'; there are a, b, a1, a2, b1, b2\n")


def test_without_a_lab_that_is_up(lab):
    for command in (["routes"], ["ask", "192.168.0.2"], ["fail", "a"]):
        done = lab(*command)
        assert done.returncode == 1
        assert "`python -m lab up` starts one" in done.stderr


@pytest.mark.parametrize("command", ["demo", "up", "down", "ask", "routes", "fail", "recover", "ec2", "imds"])
def test_every_command_has_help(lab, command):
    began = time.monotonic()
    done = lab(command, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 3
    assert time.monotonic() - began < 5
