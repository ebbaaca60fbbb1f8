"""Fixtures: pods in the kernel whose addresses change, and their removal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.watch.pods_in_kernel import NETNS, PREFIX, Pod, fresh_number, ip
from tests.conftest import require


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """A node's namespace, where the pods' parents live."""
    require("root", "ip")
    for path in NETNS.glob("fl-*-watch*") if NETNS.is_dir() else ():  # of runs whose process is gone
        owner = re.match(r"fl-(\d+)-watch", path.name)
        if owner and not Path("/proc", owner[1]).exists():
            ip("netns", "del", path.name, check=False)
    name = f"{PREFIX}-node{fresh_number()}"
    ip("netns", "add", name)
    yield name
    for path in NETNS.glob(f"{PREFIX}*"):
        ip("netns", "del", path.name, check=False)


@pytest.fixture
def pod(host: str) -> Iterator[Pod]:
    made = Pod(host)
    yield made
    made.remove()
