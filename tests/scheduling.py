"""Which worker runs which tests, and in what order: a pytest plugin beside pytest-xdist.

A worker runs a whole file, because the tests of a file share a lab. One of several parts of a test (its
parameters end in ``part K of N``) is a unit of its own, because each part makes what it needs. What takes
longest comes first, so that the workers end together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

FIRST = ("faults", "faults_agent", "agent", "conformance", "lab", "watch", "keeper", "installing", "client")
"""The directories whose files take longest."""


def unit(nodeid: str) -> str:
    """Return what a test belongs to: its file, or its part of what one test tests."""
    file, _, test = nodeid.partition("::")
    return nodeid if re.search(r"part \d+ of \d+\]$", test) else file


def place(nodeid: str) -> int:
    """Return when a test comes: what takes longer has a lower number."""
    directory = nodeid.removeprefix("tests/").partition("/")[0]
    return FIRST.index(directory) if directory in FIRST else len(FIRST)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False  # it would put what has many tests first
    return ByUnit(config, log)
