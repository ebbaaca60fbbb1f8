"""``python -m lab up``: what it prints can be typed, and works; ``down`` leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import leftovers, netns
from lab.node import Node
from tests.support.waiting import until

pytestmark = pytest.mark.needs("root", "ip", "floatip", "macvlan-plugin", "static-plugin")


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A state directory of our own: a lab that is up already is not ours to end."""
    with tempfile.TemporaryDirectory(prefix="lab-") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def lab_command(state: Path) -> Callable[..., Any]:
    """Run one command of the lab."""

    def run(*arguments: Any, within: Any = ()) -> Any:
        argv = [*within, sys.executable, "-m", "lab", *arguments]
        env = {**os.environ, "FLOATIP_LAB": str(state)}
        return subprocess.run(argv, capture_output=True, text=True, cwd="/", timeout=120, env=env)

    return run


@pytest.fixture(scope="module")
def guide(lab_command: Callable[..., Any]) -> Iterator[Any]:
    """A lab that is up; yields what ``up`` printed. Only one of these is up at a time: see ``small``."""
    done = lab_command("up")
    assert done.returncode == 0, done.stderr
    yield done.stdout
    lab_command("down")


@pytest.fixture
def small() -> Iterator[tuple[Path, Any]]:
    """A lab of one node without an agent, in a place of its own: its state directory, and what it printed."""
    with tempfile.TemporaryDirectory(prefix="lab-") as directory:
        done = typed(f"{sys.executable} -m lab up --azs 1 --nodes 1 --direct", {"FLOATIP_LAB": directory})
        assert done.returncode == 0, done.stderr
        yield Path(directory), done.stdout
        typed(command(done.stdout, "down"))


def typed(line: Any, variables: Any = ()) -> Any:
    """Type a line into a shell that knows nothing of this one, in another directory."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **dict(variables)}
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd="/", timeout=120, env=env)


def command(guide: Any, words: Any) -> Any:
    """Return the line of a guide that holds these words."""
    return next(line for line in guide.splitlines() if re.search(rf"^  .* {words}( |$)", line))


def prefix(guide: Any) -> Any:
    match = re.search(r"ip netns exec (fl-\d+-)", guide)
    assert match
    return str(match[1])


def process(guide: Any) -> int:
    match = re.search(r"\(process (\d+)\)", guide)
    assert match
    return int(match[1])


def doctor(state: Any, node: Any, variables: Any = ()) -> tuple[Any, list[Any]]:
    done = typed(f"{state}/current/on-{node} floatipctl doctor --json", variables)
    findings = json.loads(done.stdout)["findings"]
    return done.returncode, [finding for finding in findings if finding["severity"] in ("error", "warning")]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("node", ["a1", "a2", "b1", "b2"])
def test_a_node_is_healthy(guide: Any, state: Path, node: Node) -> None:
    assert doctor(state, node) == (0, [])


def test_what_a_person_has_in_the_environment_means_nothing_on_a_node(guide: Any, state: Path) -> None:
    mine = {"https_proxy": "http://127.0.0.1:9", "AWS_PROFILE": "mine", "AWS_ACCESS_KEY_ID": "AKIAMINE"}
    mine["http_proxy"] = mine["https_proxy"]
    assert doctor(state, "a1", mine) == (0, [])


@pytest.mark.thorough(sample="tests/docs/test_readme.py::test_walk_through_works_as_written")
@pytest.mark.needs("cnitool")
def test_what_it_prints_works_as_it_stands(guide: Any, state: Path) -> None:
    def printed(words: Any) -> Any:
        done = typed(command(guide, words))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def answers() -> Any:
        return re.findall(r": (.*)", typed(command(guide, "ask")).stdout)

    assert answers() == ["no answer"] * 2
    printed("cnitool add floating .*web-a1")
    assert answers() == ["web-a1"] * 2
    lost = printed("fail")
    assert lost.startswith("Availability Zone a has failed (a1, a2): ")
    assert answers() == ["no answer"] * 2
    printed("cnitool add floating .*web-b1")
    assert answers() == ["web-b1"] * 2
    assert printed("recover").startswith("Availability Zone a is back (a1, a2): ")
    # Exit status 1 until the agent's next look: it may not know yet that EC2 is back.
    assert "192.168.0.2/32" in typed(command(guide, "floatipctl status")).stdout
    printed("cnitool del")
    assert answers() == ["web-b1"] * 2
    assert len(re.findall(r"192.168.0.2/32 -> eni-\w+ \(b1 eth1\)", printed("routes"))) == 5
    assert doctor(state, "a1") == doctor(state, "b1") == (0, [])


def test_one_at_a_time(lab_command: Callable[..., Any], guide: Any) -> None:
    done = lab_command("up")
    assert done.returncode == 1
    assert "up already" in done.stderr


def test_a_node_that_is_lost_is_said_to_be_and_so_is_one_that_was_not(
    lab_command: Callable[..., Any], guide: Any
) -> None:
    def output(*words: Any) -> str:
        done = lab_command(*words)
        assert (done.returncode, done.stderr) == (0, "")
        return str(done.stdout.partition(":")[0].strip())

    assert output("recover", "b2") == "node b2 is up already"
    assert output("fail", "b2") == "node b2 has failed (b2)"
    assert output("fail", "b2") == "node b2 has failed already"
    assert output("fail", "b") == "Availability Zone b has failed (b1)"
    assert output("recover", "b") == "Availability Zone b is back (b1, b2)"


def test_a_program_that_a_node_has_not(guide: Any, state: Path) -> None:
    done = typed(f"{state}/current/on-a1 cnitol add floating")
    assert (done.returncode, done.stderr) == (127, "Node a1: no program cnitol here\n")


WRONG = {
    "no zone": (["fail", "z"], 1, "lab: no zone or node 'z'; there are a, b, a1, a2, b1, b2"),
    "no address": (
        ["ask", "bogus"],
        2,
        "'bogus' is not an IP address; a pod's is meant, such as 192.168.0.2",
    ),
    "a network": (["ask", "192.168.0.2/32"], 2, "'192.168.0.2/32' is not an IP address"),
    "no time": (["ask", "192.168.0.2", "--timeout", "nan"], 2, "'nan' is not a time of up to 60 s"),
    "no zones": (["up", "--azs", "0"], 2, "invalid choice: 0"),
    "no agents": (["up", "--kubernetes", "--direct"], 2, "--direct: not allowed with argument --kubernetes"),
    "no command": (["bogus"], 2, "invalid choice: 'bogus'"),
}


@pytest.mark.parametrize(("arguments", "status", "said"), WRONG.values(), ids=WRONG)
def test_an_order_that_makes_no_sense(
    lab_command: Callable[..., Any], guide: Any, arguments: Any, status: Any, said: Any
) -> None:
    done = lab_command(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_down_leaves_nothing(small: tuple[Path, Any]) -> None:
    state, guide = small
    assert netns.existing(prefix(guide))
    done = typed(command(guide, "down"))
    # What killed labs of others left is cleared away in passing.
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{prefix(guide).rstrip('-')} is down")
    assert netns.existing(prefix(guide)) == []
    assert list(state.iterdir()) == []
    assert typed(command(guide, "down")).returncode == 0


def test_down_clears_away_after_a_kill(small: tuple[Path, Any]) -> None:
    state, guide = small
    os.kill(process(guide), signal.SIGKILL)
    until(lambda: not leftovers.Owner.of(process(guide)).started)
    assert list(state.iterdir())  # its namespaces may go earlier: every lab that starts clears those away
    assert typed(command(guide, "down")).returncode == 0
    assert netns.existing(prefix(guide)) == []
    assert list(state.iterdir()) == []


ORDERS = [["routes"], ["ask", "192.168.0.2"], ["fail", "a"]]


@pytest.mark.parametrize("order", ORDERS, ids=[order[0] for order in ORDERS])
def test_without_a_lab_that_is_up(order: list[str], tmp_path: Path) -> None:
    done = typed(f"{sys.executable} -m lab {' '.join(order)}", {"FLOATIP_LAB": str(tmp_path)})
    starts = f"`FLOATIP_LAB={tmp_path} {sys.executable} -m lab up`"
    assert (done.returncode, done.stderr) == (1, f"lab: no lab is up: {starts} starts one\n")


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
CONFINED = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("order", [["up"], ["demo"], ["down"], *ORDERS], ids=lambda order: order[0])
def test_for_root_alone(order: Any, guide: Any, lab_command: Callable[..., Any]) -> None:
    done = lab_command(*order, within=NOBODY)
    assert (done.returncode, done.stderr) == (
        1,
        "lab: the lab makes network namespaces: run this as root\n",
    )


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("order", ["up", "demo"])
def test_where_no_namespace_can_be_made(order: str, lab_command: Callable[..., Any]) -> None:
    done = lab_command(order, within=CONFINED)
    assert done.returncode == 1
    assert re.fullmatch(
        r"lab: no network namespaces can be made here \(.*\); a container must be privileged\n", done.stderr
    )


@pytest.mark.parametrize("command", ["demo", "up", "down", "ask", "routes", "fail", "recover", "ec2", "imds"])
def test_every_command_has_help(lab_command: Callable[..., Any], command: str) -> None:
    began = time.monotonic()
    done = lab_command(command, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 3
    assert time.monotonic() - began < 5
