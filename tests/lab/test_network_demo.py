"""The demo shows what happens, and its exit status is to be believed.

It is played once, whole. What it told its stage is written down, and shown again in each way to show it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from lab import leftovers, netns
from lab.demo import show
from lab.demo.watch import WIDTH, Watch
from lab.errors import LabError
from lab.world import Lab
from tests.support.waiting import until

pytestmark = pytest.mark.needs("root", "ip", "floatip", "macvlan-plugin", "static-plugin")

REPOSITORY = Path(__file__).parents[2]
RECORDER = Path(__file__).with_name("record_demo.py")
ACTS = [
    "The pod starts on node a1",
    "Availability Zone a fails",
    "Kubernetes starts the pod on node b1",
    "Availability Zone a is back",
    "The runtime of a1 gets to its DEL at last",
    "The pod on b1 is deleted",
    "What the failover cost",
]


def demo(*arguments: Any, program: Any = ("-m", "lab", "demo")) -> Any:
    argv = [sys.executable, *program, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, cwd=REPOSITORY, timeout=180)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """What one whole play printed as JSON, and what its stage was told."""
    path = tmp_path_factory.mktemp("demo") / "events"
    done = demo(str(path), "--json", program=(str(RECORDER),))
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout), pickle.loads(path.read_bytes())  # noqa: S301 (our own)


@pytest.fixture(scope="module")
def told(played: tuple[Any, Any]) -> Any:
    return played[0]


@pytest.fixture(scope="module")
def events(played: tuple[Any, Any]) -> Any:
    return played[1]


def shown_again(stage: Any, events: Any) -> None:
    for name, arguments in events:
        if name != "live":
            getattr(stage, name)(*arguments)


def in_order(acts: Any, lines: Any) -> None:
    at = 0
    for act in acts:
        at = next(n for n in range(at, len(lines)) if lines[n].startswith(act)) + 1


def test_both_patterns_hold_in_both_families(told: Any) -> None:
    assert told["held"] is True
    assert [p["pattern"] for p in told["patterns"]] == [1, 2]
    for pattern in told["patterns"]:
        assert all(o["held"] for step in pattern["steps"] for o in step["observed"])
        request = {(c["client"], ":" in c["address"]) for c in pattern["failover"]}
        assert request == {("vpc", False), ("vpc", True), ("tgw", False), ("tgw", True)}


def test_the_tables_show_the_move(told: Any) -> None:
    for pattern in told["patterns"]:
        for caption, expected in (("before", "a1 eth1"), ("after", "b1 eth1")):
            tables = pattern["routeTables"][caption]
            assert set(tables) == {"main", "a", "b", "client", "tgw"}
            assert {where for routes in tables.values() for where in routes.values()} == {expected}


def test_what_was_lost_and_where_the_time_went(told: Any) -> None:
    for pattern in told["patterns"]:
        for client in pattern["failover"]:
            assert set(client["answeredBy"]) == {"web-a1", "web-b1"}
            assert 0 < client["lost"] < client["sent"]
            assert client["longestGapSeconds"] > client["secondsFromAddToFirstAnswer"] > 0
            assert client["lostAfterwards"] == 0
        for spent in pattern["add"].values():
            assert 0 < spent["ec2"] < spent["agent"] < spent["floatip"]
            assert spent["calls"]["DescribeRouteTables"] >= 1


def test_plain_lines_tell_the_story(events: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shown_again(show.Plain(), events)
    printed = capsys.readouterr().out
    in_order(ACTS * 2, [line[9:].strip() for line in printed.splitlines()])
    took = r"[\d.]+ m?s"
    parts = rf"floatip {took} \(client {took}, agent {took}\), of which EC2 {took}"
    assert len(re.findall(rf"ADD on b1: \w+ {took}, {parts}", printed)) == 2
    assert "\x1b" not in printed


def test_a_terminal_is_shown_the_story(events: Any) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=160, highlight=False, color_system="standard")
    shown_again(show.Terminal(console), events)
    printed = re.sub(r"\x1b\[[\d;]*m", "", drawn.getvalue())
    in_order(ACTS * 2, [line.strip() for line in printed.splitlines()])
    assert printed.count("✔") == sum(name == "observed" for name, _ in events)
    assert "All " in printed.splitlines()[-2]


def test_the_live_display_draws_what_was_sampled(events: Any) -> None:
    for lines in (arguments[0] for name, arguments in events if name == "live"):
        assert {str(watched) for watched in lines} == {
            f"{client} client, IPv{version}" for client in ("vpc", "tgw") for version in (4, 6)
        }
        assert all(len(who) == WIDTH and {*who} <= {None, "web-a1", "web-b1"} for who in lines.values())
        console = Console(file=io.StringIO(), force_terminal=True, width=120, record=True)
        console.print(show.timeline(lines, "now"))
        drawn = console.export_text()
        assert "who answers, each 0.1 s of the last 6 s" in drawn
        marks = sum(who is not None for item in lines.values() for who in item)
        assert (drawn.count(show.FULL), drawn.count(show.EMPTY)) == (marks, 4 * WIDTH - marks)


class HeldProbe:
    """Answers when it is let, and says when it was asked again."""

    def __init__(self) -> None:
        self.may_answer = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)

    def look(self) -> dict[str, tuple[float, str]]:
        self.asked.release()
        assert self.may_answer.acquire(timeout=10)
        return {"last": (time.monotonic(), "web-a1")}


def test_the_display_draws_while_the_sampler_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mark that is drawn is drawn after one more sample has come."""
    probe = HeldProbe()
    watch = watch_of(probe)

    def next_sample() -> None:
        probe.may_answer.release()
        assert probe.asked.acquire(timeout=10)  # so the sample before is written

    class SlowText(Text):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            next_sample()
            super().__init__(*arguments, **options)

    with watch.sampling():
        assert probe.asked.acquire(timeout=10)
        for _ in range(3):
            next_sample()
        monkeypatch.setattr(show, "Text", SlowText)
        show.timeline(watch.lines, "now")
        monkeypatch.undo()
        assert len(watch.lines["client"]) > 3
        probe.may_answer.release(100)


def watch_of(probe: Any) -> Any:
    lab: Any = SimpleNamespace(clients=())
    watch: Any = Watch(lab, [])
    watch.probes, watch.lines = {"client": probe}, {"client": ()}
    return watch


def test_a_probe_that_ends_is_an_error_of_the_lab(lab: Lab) -> None:
    """The play notes it; the sampler, which has nobody to tell, ends in silence."""
    with lab.clients["vpc"].probe("192.168.0.2") as probe:
        watch = watch_of(probe)
        assert probe._process
        probe._process.kill()
        probe._process.wait()
        with pytest.raises(LabError, match="has ended"):
            probe.look()
        watch._sample(threading.Event())
    assert probe.report.sent == 0


@pytest.mark.thorough(sample="test_both_patterns_hold_in_both_families")
def test_the_demo_without_agents() -> None:
    done = demo("--direct", "--json", "--pattern", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    (pattern,) = json.loads(done.stdout)["patterns"]
    assert {spent["agent"] for spent in pattern["add"].values()} == {None}


@pytest.mark.needs("script")
@pytest.mark.thorough(sample="test_a_terminal_is_shown_the_story")
def test_a_terminal_gets_a_live_display(tmp_path: Path) -> None:
    command = f"{sys.executable} -m lab demo --pattern 1"
    done = subprocess.run(
        ["script", "-qec", command, str(tmp_path / "typescript")],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
        timeout=180,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout
    assert "who answers, each 0.1 s" in done.stdout
    assert done.stdout.count("✔") >= 10


def test_a_step_that_does_not_hold_ends_the_play_and_is_told(lab: Lab) -> None:
    from lab.demo import show, story

    lab.nodes["b1"].write_config({"allowedDestinations": []})
    try:
        outcome = story.play(lab, story.patterns(lab)[0], show.Document())
    finally:
        lab.nodes["b1"].write_config(lab.node_config())
        lab.azs["a"].recover()
    assert not outcome.held
    assert outcome.observations[-1].what == "ADD on b1 succeeds"
    assert "floatip ADD: code 102" in outcome.observations[-1].detail


def namespaces_of(process: Any) -> Any:
    return netns.existing(f"fl-{process.pid}-")


def has_begun_to_build(process: Any) -> None:
    until(lambda: namespaces_of(process) or process.poll() is not None)
    assert process.poll() is None


def has_a_pod_to_start(process: Any) -> None:
    assert any(ACTS[0] in line for line in process.stdout)


@pytest.mark.thorough(
    sample="tests/lab/test_network_world.py::test_a_living_lab_is_left_alone_and_ctrl_c_clears_it_away"
)
@pytest.mark.parametrize("when", [has_begun_to_build, has_a_pod_to_start])
def test_ctrl_c_leaves_nothing(when: Any) -> None:
    """Ctrl-C reaches everything that runs in the terminal, plugins included."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", "demo", "--plain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        start_new_session=True,
    )
    try:
        when(process)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert (process.returncode, complaint.strip()) == (130, "lab: interrupted")
    assert namespaces_of(process) == []
    assert not (leftovers.STATE / f"fl-{process.pid}").exists()
