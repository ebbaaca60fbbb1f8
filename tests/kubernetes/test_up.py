"""``lab up --kubernetes``: what it prints works, and nothing of it is left, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab import cgroups, leftovers, netns
from lab.kubernetes.build import kubernetes_version
from tests.conftest import require
from tests.kubernetes.conftest import NEEDS
from tests.support.waiting import until

STARTS_WITHIN = 600


@dataclass
class Up:
    """A lab of one node in a place of its own, and what it has on the machine."""

    place: Path
    printed: str = ""
    processes: set[leftovers.Owner] = field(default_factory=set)
    containers: set[str] = field(default_factory=set)

    @property
    def state(self) -> Path:
        return (self.place / "current").resolve()

    @property
    def prefix(self) -> str:
        return f"{self.state.name}-"

    def line(self, words: str) -> str:
        """Return the line of the guide that holds these words."""
        return next(line for line in self.printed.splitlines() if re.search(rf"^  .*{words}", line))

    def typed(self, line: str) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        done = subprocess.run(
            ["sh", "-c", line], capture_output=True, text=True, cwd="/", timeout=180, env=env
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def note(self) -> None:
        """Note every process of the cluster, and its containers."""
        noted = [leftovers.noted_process(path) for path in self.state.glob("processes/*.json")]
        self.processes = {leftovers.Owner.of(pid) for owner in noted for pid in _descendants(owner.pid)}
        listed = self.typed(f"{self.place}/current/on-a1 ctr containers ls -q")
        self.containers = set(listed.split())


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return  # it has ended meanwhile
    for child in children:
        yield from _descendants(int(child))


def command(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lab", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FLOATIP_LAB": str(place)},
    )


@pytest.fixture
def up() -> Iterator[Up]:
    require(*NEEDS)
    with tempfile.TemporaryDirectory(prefix="lab-") as directory:
        place = Path(directory)
        yield Up(place)
        command(place, "down").communicate(timeout=120)


def start(up: Up) -> None:
    process = command(up.place, "up", "--kubernetes", "--azs", "1", "--nodes", "1")
    up.printed, complaint = process.communicate(timeout=STARTS_WITHIN)
    assert process.returncode == 0, complaint
    up.note()


def groups(belongs: Callable[[str], bool]) -> list[Path]:
    """Return the cgroups at the top of every hierarchy whose name is such a one."""
    return [path for root in cgroups.hierarchies() for path in root.iterdir() if belongs(path.name)]


def assert_nothing_is_left(up: Up, prefix: str) -> None:
    until(lambda: not [owner for owner in up.processes if owner.alive])
    assert netns.existing(prefix) == []
    assert str(up.place) not in Path("/proc/self/mountinfo").read_text()
    assert not groups(lambda name: name.startswith(prefix) or name in up.containers)
    assert list(up.place.iterdir()) == []


@pytest.mark.parametrize("time", ["first", "again"])
def test_what_it_prints_works_and_down_leaves_nothing(up: Up, time: str) -> None:
    start(up)
    prefix = up.prefix
    assert f"Kubernetes {kubernetes_version()}" in up.printed
    assert re.search(rf"^kubeconfig +{up.place}/current/kubeconfig$", up.printed, re.MULTILINE)
    assert re.search(r"^a1 +Ready ", up.typed(up.line("kubectl get nodes")), re.MULTILINE)
    assert "deployed" in up.typed(up.line("helm"))
    up.typed(up.line("kubectl apply"))
    client = f"{up.place}/current/on-vpc-client"
    up.typed(f"{client} kubectl rollout status deployment/web --timeout=120s")
    assert re.findall(r": (web-\S+)$", up.typed(up.line("lab ask")), re.MULTILINE)
    assert "192.168.0.2/32" in up.typed(up.line("lab routes"))
    up.note()
    assert len(up.containers) >= 4, "two pods, each with its sandbox"
    assert groups(lambda name: name.startswith(prefix))
    assert not groups(up.containers.__contains__), "they are below the node's"
    assert str(up.place) not in Path("/proc/self/mountinfo").read_text()
    assert " is down" in up.typed(up.line("lab down"))
    assert_nothing_is_left(up, prefix)


def test_a_lab_that_is_killed_leaves_no_process(up: Up) -> None:
    start(up)
    prefix = up.prefix
    owner = leftovers.noted_process(up.state / "owner.json")
    os.kill(owner.pid, signal.SIGKILL)
    until(lambda: not [process for process in up.processes if process.alive])
    command(up.place, "down").communicate(timeout=120)
    assert_nothing_is_left(up, prefix)


@pytest.mark.parametrize("program", ["etcd", "containerd-a1", "kubelet-a1"])
def test_one_that_is_interrupted_while_it_starts_leaves_nothing(up: Up, program: str) -> None:
    """Interrupted as soon as this program has been started."""
    argv = ("up", "--kubernetes", "--azs", "1", "--nodes", "1", "--foreground")
    process = command(up.place, *argv)
    try:
        until(lambda: list(up.place.glob(f"*/processes/{program}.json")), process.poll, seconds=STARTS_WITHIN)
        (state,) = up.place.glob("fl-*")
        noted = [leftovers.noted_process(path) for path in state.glob("processes/*.json")]
        up.processes = {leftovers.Owner.of(pid) for owner in noted for pid in _descendants(owner.pid)}
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert up.processes
    assert_nothing_is_left(up, f"{state.name}-")
