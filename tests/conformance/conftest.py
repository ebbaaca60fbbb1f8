"""One lab for the whole suite, lent to each test as new; and the executable under test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.world import Lab

from .harness import Bench


@pytest.fixture(scope="package")
def plugin() -> tuple[str, ...]:
    """The command line of the executable under test. To hold another one to the list, override this."""
    return (str(Path(sys.executable).with_name("floatip")),)


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """Two Availability Zones with a node each; pods skip duplicate address detection."""
    with Lab(azs=2, nodes_per_az=1, fast_dad=True) as running:
        yield running


@pytest.fixture(scope="package")
def routes(lab: Lab) -> dict[str, set[str]]:
    """The destinations of each route table before any test."""
    return {name: set(lab.ec2.truth(table)) for name, table in lab.tables.items()}


@pytest.fixture
def bench(lab: Lab, plugin: tuple[str, ...], routes: dict[str, set[str]]) -> Iterator[Bench]:
    made = Bench(lab, plugin)
    lab.ec2.journal.clear()
    try:
        yield made
    finally:
        made.clean(routes)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs what a lab needs, and the executable."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.needs("root", "ip", "floatip"))
