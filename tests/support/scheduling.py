"""Which worker runs which tests, and in what order: a pytest plugin beside pytest-xdist.

A worker runs a whole file, because the tests of a file share a lab (and a whole directory, where its files
share what is costly to make). One of several parts of a test (its parameters end in ``part K of N``) is a
unit of its own, because each part makes what it needs. What takes longest comes first, so that the workers
end together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("bootstrap",)
"""The directories whose files share what is costly to make."""

FIRST = ("faults", "faults_agent", "agent", "conformance", "lab", "operations", "installer", "client")
"""The directories whose files take longest."""

FIRST_OF_KUBERNETES = ("lost_nodes", "install", "administration", "waves", "api_trouble", "up", "cluster")
"""The files that take longest where each worker has a cluster (``tests/kubernetes``)."""


def unit(nodeid: str) -> str:
    """Return what a test belongs to: its file, its part of what one test tests, or its directory."""
    file, _, test = nodeid.partition("::")
    if directory(nodeid) in TOGETHER:
        return directory(nodeid)
    return nodeid if re.search(r"part \d+ of \d+\]$", test) else file


def place(nodeid: str) -> int:
    """Return when a test comes: what takes longer has a lower number."""
    order: tuple[str, ...] = FIRST
    name = directory(nodeid)
    if name == "kubernetes":
        order = FIRST_OF_KUBERNETES
        name = unit(nodeid).partition("/test_")[2].removesuffix(".py")
    return order.index(name) if name in order else len(order)


def directory(nodeid: str) -> str:
    return nodeid.removeprefix("tests/").partition("/")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False  # it would put what has many tests first
    return ByUnit(config, log)
