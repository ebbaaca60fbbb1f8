"""The cluster of these tests, with ``RELEASED`` switched on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_floatip.config import election
from tests.agent.election.scene import Scene, running_scene


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(election, "RELEASED", True)
    with running_scene(tmp_path) as agents:
        yield agents
