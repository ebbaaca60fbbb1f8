"""One boot of User Mode Linux for all scenarios, started when the tests begin: it runs while others do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import uml
from tests.uml import ipvlan_scenarios

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 600.0
PATH = "/usr/bin:/usr/sbin:/bin:/sbin"
"""Short, because looking for a program is slow in there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one scenario went; no failure is success."""

    failure: str
    seconds: float


class Guest:
    """The run of the scenarios: starts once, and is read no further than somebody asks."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._uml: uml.Uml | None = None
        self._outcomes: dict[str, Outcome] = {}
        self._said: list[str] = []

    def start(self) -> None:
        if self._uml is None:
            env = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
            argv = [sys.executable, ipvlan_scenarios.__file__, *self._names]
            self._uml = uml.Uml(argv, cwd=ROOT, env=env, timeout=TIMEOUT)

    def outcome(self, name: str) -> Outcome:
        """Wait for this scenario's end."""
        assert self._uml is not None
        for line in self._uml if name not in self._outcomes else ():
            self._said.append(line)
            if line.startswith('{"scenario"'):
                sentence = json.loads(line)
                self._outcomes[sentence["scenario"]] = Outcome(sentence["failure"], sentence["seconds"])
            if name in self._outcomes:
                break
        return self._outcomes.get(name) or Outcome(self._end(), 0)

    def _end(self) -> str:
        """Say how it ended, and what it printed, where a scenario has not been reached."""
        assert self._uml is not None
        try:
            how = f"the scenarios ended with status {self._uml.wait()}"
        except uml.UmlError as e:
            how = str(e)
        return "\n".join(["this scenario was not reached", *self._said[-40:], how])

    def close(self) -> None:
        if self._uml is not None:
            self._uml.close()


GUEST = pytest.StashKey[Guest]()


def ours(items: list[pytest.Item]) -> list[pytest.Function]:
    return [item for item in items if isinstance(item, pytest.Function) and "guest" in item.fixturenames]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the scenarios last: by then they have run."""
    last = ours(items)
    items[:] = [*(item for item in items if item not in last), *last]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Boot now, for the scenarios that were chosen."""
    config, chosen = session.config, [str(item.callspec.params["name"]) for item in ours(session.items)]
    config.stash[GUEST] = guest = Guest(chosen)
    # A worker of pytest-xdist does not know yet whether it will be given these tests.
    worker = hasattr(config, "workerinput")
    if chosen and not worker and not config.option.collectonly and uml.missing() is None:
        guest.start()


def pytest_unconfigure(config: pytest.Config) -> None:
    if GUEST in config.stash:
        config.stash[GUEST].close()


@pytest.fixture(scope="session")
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    guest = request.config.stash[GUEST]
    guest.start()
    yield guest
    guest.close()
