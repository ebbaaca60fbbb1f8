"""One lab for the whole suite, lent to each test as new; and both executables that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab.world import Lab
from tests.conformance.harness import SCRIPT, Bench
from tests.conformance.through import DIRECT_ONLY, Agents

BOTH_WAYS = re.compile(r"test_add.py::test_A(01|02|13|15|16)_")
"""What `make test` asks of both executables. The rest it asks of the client, as a cluster runs it, and
of direct mode, which has the same operations, where it differs by design.
"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "executed: every call of the test executes the program's own file")


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """Two Availability Zones with a node each; DEL has no grace."""
    policy = {"releaseGraceSeconds": 0}
    with Lab(azs=2, nodes_per_az=1, policy=policy, packets=False, warm=True) as running:
        yield running


@pytest.fixture(scope="package")
def plugin(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Agents | None]:
    """The executable under test: direct mode's script, or the client of nodes that run the agent."""
    if request.param == "direct":
        yield None
        return
    agents = Agents(lab)
    yield agents
    agents.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Hold both executables to every check, but for what one of them does otherwise by design."""
    if "plugin" in metafunc.fixturenames:
        through = metafunc.module.__name__.endswith(("test_through_agent", "test_pods_kept"))
        ways = ["client"] if through else ["direct", "client"]
        metafunc.parametrize("plugin", ways, indirect=True, scope="package")


@pytest.fixture(scope="package")
def routes(lab: Lab) -> dict[str, set[str]]:
    """The destinations of each route table before any test."""
    return {name: set(lab.ec2.truth(table)) for name, table in lab.tables.items()}


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, lab: Lab, plugin: Agents | None, routes: dict[str, set[str]]
) -> Iterator[Bench]:
    executed = request.node.get_closest_marker("executed") is not None
    made = Bench(lab, SCRIPT, plugin, executed)
    lab.ec2.journal.clear()
    try:
        yield made
    finally:
        made.clean(routes)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything here needs what a lab needs, and the executable."""
    ours = [item for item in items if item.nodeid.startswith("tests/conformance/")]
    out = {item for item in ours if _is_direct_only(item)}
    config.hook.pytest_deselected(items=list(out))
    items[:] = [item for item in items if item not in out]
    by_id = {item.nodeid: item for item in ours if item not in out}
    for item in by_id.values():
        item.add_marker(pytest.mark.needs("root", "ip", "floatip"))
        through_client = item.nodeid.replace("[direct", "[client", 1)
        if "[direct" in item.nodeid and through_client in by_id and not BOTH_WAYS.search(item.nodeid):
            mark = by_id[through_client].get_closest_marker("thorough")
            sample = mark.kwargs["sample"] if mark else through_client
            item.add_marker(pytest.mark.thorough(sample=sample), append=False)


def _is_direct_only(item: pytest.Item) -> bool:
    """Say whether the client is not to be held to this test, or not with these parameters."""
    call = getattr(item, "callspec", None)
    if call is None or call.params.get("plugin") != "client":
        return False
    name, _, parameters = item.name.partition("[")
    others = parameters.removesuffix("]").removeprefix("client").removeprefix("-")
    return name in DIRECT_ONLY or f"{name}[{others}]" in DIRECT_ONLY
