"""Fixtures: the switch by which a release has elections."""

from __future__ import annotations

import pytest

from cni_floatip.config import election


@pytest.fixture
def elections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this release have elections."""
    monkeypatch.setattr(election, "RELEASED", True)
