"""The demo shows what happens, and its exit status is to be believed."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import leftovers, netns

pytestmark = pytest.mark.needs("root", "ip", "floatip", "macvlan-plugin", "static-plugin")

REPOSITORY = Path(__file__).parents[2]


def demo(*arguments, **options):
    argv = [sys.executable, "-m", "lab", "demo", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, cwd=REPOSITORY, timeout=180, **options)


@pytest.fixture(scope="module")
def told():
    done = demo("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_both_patterns_hold_in_both_families(told):
    assert told["held"] is True
    assert [p["pattern"] for p in told["patterns"]] == [1, 2]
    for pattern in told["patterns"]:
        assert all(o["held"] for step in pattern["steps"] for o in step["observed"])
        asked = {(c["client"], ":" in c["address"]) for c in pattern["failover"]}
        assert asked == {("vpc", False), ("vpc", True), ("tgw", False), ("tgw", True)}


def test_the_tables_show_the_move(told):
    for pattern in told["patterns"]:
        for caption, expected in (("before", "a1 eth1"), ("after", "b1 eth1")):
            tables = pattern["routeTables"][caption]
            assert set(tables) == {"main", "a", "b", "client", "tgw"}
            assert {where for routes in tables.values() for where in routes.values()} == {expected}


def test_what_was_lost_and_where_the_time_went(told):
    for pattern in told["patterns"]:
        for client in pattern["failover"]:
            assert set(client["answeredBy"]) == {"web-a1", "web-b1"}
            assert 0 < client["lost"] < client["sent"]
            assert client["longestGapSeconds"] > client["secondsFromAddToFirstAnswer"] > 0
            assert client["lostAfterwards"] == 0
        for spent in pattern["add"].values():
            assert 0 < spent["ec2"] < spent["agent"] < spent["floatip"]
            assert spent["calls"]["DescribeRouteTables"] >= 1


def test_plain_lines_tell_the_story():
    done = demo("--pattern", "1", "--fast-dad")
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line[9:].strip() for line in done.stdout.splitlines()]
    acts = [
        "The pod starts on node a1",
        "Availability Zone a fails",
        "Kubernetes starts the pod on node b1",
        "Availability Zone a is back",
        "The runtime of a1 gets to its DEL at last",
        "The pod on b1 is deleted",
        "What the failover cost",
    ]
    at = [next(n for n, line in enumerate(told) if line.startswith(act)) for act in acts]
    assert at == sorted(at)
    took = r"[\d.]+ m?s"
    parts = rf"floatip {took} \(client {took}, agent {took}\), of which EC2 {took}"
    assert re.search(rf"ADD on b1: \w+ {took}, {parts}", done.stdout)
    assert "\x1b" not in done.stdout


def test_without_agents():
    done = demo("--direct", "--json", "--pattern", "1", "--fast-dad")
    assert done.returncode == 0, done.stdout + done.stderr
    (pattern,) = json.loads(done.stdout)["patterns"]
    assert {spent["agent"] for spent in pattern["add"].values()} == {None}


@pytest.mark.needs("script")
def test_a_terminal_gets_a_live_display(tmp_path):
    command = f"{sys.executable} -m lab demo --pattern 1 --fast-dad"
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


def test_a_step_that_does_not_hold_ends_the_play_and_is_told(lab):
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


@pytest.mark.parametrize("after", [1.5, 4.0])
def test_ctrl_c_leaves_nothing(after):
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
        time.sleep(after)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert (process.returncode, complaint.strip()) == (130, "lab: interrupted")
    assert netns.existing(f"fl-{process.pid}-") == []
    assert not (leftovers.STATE / f"fl-{process.pid}").exists()
