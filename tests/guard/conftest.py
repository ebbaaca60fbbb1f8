"""Fixtures: a node with a pod behind its ENI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import require
from tests.guard.frames import Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    require("root", "ip", "tc")
    made = Wire()
    try:
        yield made
    finally:
        made.close()
