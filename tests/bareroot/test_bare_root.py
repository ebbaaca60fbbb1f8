"""On a machine with nothing but what Debian brings, the README's commands work.

What it took stands in `.cache/bareroot/*.txt` afterwards.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.bareroot import roots
from tests.bareroot.gateway import Gateway
from tests.conftest import require

RELEASES = ("bookworm", "trixie")
DEMO_SECONDS = 600.0
SETUP_SECONDS = 900.0
MANY = 1000
LONG = pytest.mark.thorough(sample="test_the_readme_says_what_a_machine_must_have")


def test_the_readme_says_what_a_machine_must_have() -> None:
    assert set(roots.readme_needs()) == {"ca-certificates", "git", "make"}
    assert roots.readme_commands() == ["make demo", "make test"]


@pytest.fixture(scope="class", params=RELEASES)
def root(request: pytest.FixtureRequest) -> Iterator[roots.Root]:
    require(*roots.NEEDS)
    with roots.root(request.param) as made:
        yield made


def measured(name: str, ran: roots.Ran, gateway: Gateway, packages: int, more: str) -> None:
    """Write down what a command took, for who wants to know."""
    fetched = ", ".join(f"{host} {count / 1e6:.1f} MB" for host, count in sorted(gateway.fetched.items()))
    answer = "\n".join(f"{at:6.1f} s  {line}" for at, line in ran.lines if line.startswith("bootstrap:"))
    text = f"{ran.seconds:.0f} s; {more}; {packages} Debian packages; {fetched}\n{answer}\n"
    (roots.STORE / f"{name}.txt").write_text(text)


class TestOnAFreshMachine:
    """In this order: the second command finds what the first has installed."""

    @LONG
    def test_the_demo_is_played(self, root: roots.Root) -> None:
        before = root.packages()
        with root.online() as gateway:
            ran = root.run(roots.readme_commands()[0], DEMO_SECONDS)
        assert ran.status == 0, ran.text
        assert re.search(r"All \d+ observations are as they should be\.$", ran.text), ran.text
        first = f"first packets after {ran.at('is answered by web-a1'):.0f} s"
        measured(f"{root.release}-demo", ran, gateway, len(root.packages() - before), first)

    @LONG
    def test_the_demo_is_played_again_without_a_network(self, root: roots.Root) -> None:
        ran = root.run(f"{roots.readme_commands()[0]} ARGS='--pattern 1'", DEMO_SECONDS)
        assert ran.status == 0, ran.text
        assert "bootstrap:" not in ran.text

    @LONG
    def test_a_node_of_the_lab_is_healthy(self, root: roots.Root) -> None:
        """The lab lives as long as its namespace of processes: all in one command."""
        lab = ".venv/bin/python -m lab"
        node = "/run/floatip-lab/current/on-a1 floatipctl doctor"
        ran = root.run(f"{lab} up && {node} && {lab} down", DEMO_SECONDS)
        assert ran.status == 0, ran.text
        assert re.search(r"^\d+ fine", ran.text, re.MULTILINE), ran.text  # problems come first

    @LONG
    def test_every_test_is_collected(self, root: roots.Root) -> None:
        before = root.packages()
        with root.online() as gateway:
            ran = root.run(f"{roots.readme_commands()[1]} ARGS=--collect-only", SETUP_SECONDS)
        assert ran.status == 0, ran.text
        assert "cannot have" not in ran.text, ran.text
        collected = re.search(r"(?m)^=* ?(?:\d+/)?(\d+) tests collected", ran.text)
        assert collected, ran.text[-2000:]
        assert int(collected[1]) > MANY
        measured(f"{root.release}-test", ran, gateway, len(root.packages() - before), f"{collected[1]} tests")


KILLED = """
from tests.bareroot import roots
with roots.root("bookworm") as made:
    print(made.first, flush=True)
    made.run("sleep 300", 400)
"""


@LONG
@pytest.mark.needs(*roots.NEEDS)
def test_a_test_that_is_killed_leaves_nothing_running() -> None:
    """The kernel ends all processes of a namespace before its first one has ended."""
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, cwd=roots.ROOT
    )
    try:
        assert killed.stdout is not None
        first = os.pidfd_open(int(killed.stdout.readline()))
    finally:
        killed.kill()
        killed.wait()
    assert select.select([first], [], [], 30)[0]
    os.close(first)
