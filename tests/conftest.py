"""What tests share: what a machine must have for them, how thorough a run is, and a running lab.

A test says what it cannot do without: ``@pytest.mark.needs("root", "ip", "macvlan-plugin")``. A laptop that
lacks it skips the test and says why; with ``CI=true`` that is a failure: nothing goes untested unseen.

A test that is long because it is thorough names the one that stands for it in ``make test``, which leaves it
out: ``@pytest.mark.thorough(sample="test_an_add_is_killed[after ec2 1]")``. Of a test with many cases
``@pytest.mark.one_in(4)`` leaves the first of each four. ``make test-all`` runs all. Property tests try 300
examples there, and 20 in ``make test``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from lab.ec2 import SimulatedEC2
    from lab.node import Node
    from lab.world import Lab
    from tests.support.two_nodes import Scene

BUILT = Path(__file__).parents[1] / ".cache" / "bin"
BESIDE = (
    *(Path(sys.executable).parent, BUILT, Path("/usr/sbin"), Path("/sbin")),
    *(Path.home() / "go/bin", Path("/usr/local/go/bin")),
)
"""Where programs are looked for besides ``PATH``: ours, and what ``make`` builds."""

HINTS = {
    "ip": "apt-get install iproute2",
    "nft": "apt-get install nftables",
    "containerd": "apt-get install containerd",
    "runc": "apt-get install runc",
    "keepalived": "apt-get install keepalived",
    "curl": "apt-get install curl",
    "flock": "apt-get install util-linux",
    "systemd-analyze": "apt-get install systemd",
    "linux.uml": "apt-get install user-mode-linux",
    "cnitool": "go install github.com/containernetworking/cni/cnitool@latest",
    "go": "https://go.dev/dl, 1.24 or newer",
    "helm": "go install helm.sh/helm/v3/cmd/helm@latest",
    "buildah": "apt-get install buildah",
    "mmdebstrap": "apt-get install mmdebstrap",
    "floatip": "pip install -e .",
}


def program(name: str) -> str | None:
    """Return a program's path, also when it stands beside the interpreter or where ``go install`` puts it."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, BESIDE)))


def missing(need: str) -> str | None:
    """Say what is missing for a need, or nothing.

    A need is ``root``, a program, a file (a pattern), ``<name>-plugin`` (CNI), ``reference-plugins``, or
    ``reference-plugins-1.1.0`` (those that speak CNI 1.1.0; Debian's do not).
    """
    if need == "root":
        return None if os.geteuid() == 0 else "this test makes network namespaces: run it as root"
    if need.startswith("reference-plugins"):
        return _reference_plugins(need.removeprefix("reference-plugins").removeprefix("-"))
    if need.endswith("-plugin"):
        from lab.chain import find_plugin

        name = need.removesuffix("-plugin")
        return (
            None
            if find_plugin(name)
            else f"no CNI plugin {name}: apt-get install containernetworking-plugins"
        )
    if need.startswith("/"):
        return None if glob(need) else f"no {need}: {HINTS.get(need, 'see lab/bootstrap.sh')}"  # noqa: PTH207
    return None if program(need) else f"no {need}: {HINTS.get(need, 'not found in PATH')}"


@cache
def _reference_plugins(version: str) -> str | None:
    from lab.chain import find_plugin

    for name in ("macvlan", "ipvlan", "host-device", "static"):
        path = find_plugin(name)
        if path is None:
            return f"no CNI plugin {name}: apt-get install containernetworking-plugins"
        request = subprocess.run(
            [path], env={"CNI_COMMAND": "VERSION"}, input="{}", capture_output=True, text=True
        )
        if version and version not in json.loads(request.stdout)["supportedVersions"]:
            return f"{path} does not speak CNI {version}: make builds one that does, where Go is"
    return None


def require(*needs: str) -> None:
    """Skip the test that is running, or fail it in CI, if one of its needs is not met. For fixtures."""
    if reasons := [reason for need in needs if (reason := missing(need))]:
        skip("; ".join(reasons))


def skip(reason: str) -> NoReturn:
    """Skip the test that is running, or fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    _choose_examples("sample" if "not thorough" in config.option.markexpr else "thorough")
    # A job in the background has both ignored, and so would every process that a test sends them to.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    config.addinivalue_line(
        "markers", "needs(*what): what the machine must have: root, a program, <name>-plugin"
    )
    config.addinivalue_line("markers", "lab(**options): what the module's lab is like, see lab.world.Lab")
    config.addinivalue_line(
        "markers",
        "thorough(sample): long because it is thorough; `sample`, a test of the same file or"
        " 'FILE::TEST', stands for it in `make test`",
    )
    config.addinivalue_line("markers", "kubernetes: of tests/kubernetes, which `make test-kubernetes` runs")
    config.addinivalue_line(
        "markers",
        "one_in(n): of n cases of the test the first is in `make test`, and the others are thorough",
    )


def _choose_examples(profile: str) -> None:
    """Let property tests try as many examples as a thorough run has time for, or a sample of them."""
    from hypothesis import HealthCheck, settings

    busy = [HealthCheck.too_slow]  # on a busy machine an example takes its time, too
    settings.register_profile("sample", deadline=None, max_examples=20, suppress_health_check=busy)
    settings.register_profile(
        "thorough", deadline=None, max_examples=300, suppress_health_check=busy, print_blob=True
    )
    settings.load_profile(profile)


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark as thorough what ``one_in`` leaves out."""
    mark = item.get_closest_marker("one_in")
    if mark is None or item.get_closest_marker("thorough"):
        return
    assert isinstance(item, pytest.Function)
    plugin = item.callspec.params.get("plugin") if hasattr(item, "callspec") else None
    cases = item.config.stash.setdefault(_cases, {}).setdefault((item.function, plugin), [])
    cases.append(item.nodeid)
    if (len(cases) - 1) % mark.args[0]:
        item.add_marker(pytest.mark.thorough(sample=cases[0]))


_cases: pytest.StashKey[dict[tuple[object, object], list[str]]] = pytest.StashKey()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """See that every thorough test has a sample, and that the sample is there and is not thorough itself."""
    quick = {item.nodeid for item in items if item.get_closest_marker("thorough") is None}
    files = {item.nodeid.partition("::")[0] for item in items}
    for item in items:
        if mark := item.get_closest_marker("thorough"):
            sample = _sample(item, mark)
            narrowed = config.option.keyword or any("::" in arg for arg in config.args)
            if sample.partition("::")[0] in files and sample not in quick and not narrowed:
                raise pytest.UsageError(f"{item.nodeid}: its sample {sample} is no test of `make test`")


def _sample(item: pytest.Item, mark: pytest.Mark) -> str:
    """Return the node id of the test that stands for a thorough one."""
    sample = str(mark.kwargs["sample"])
    return sample if sample.startswith("tests/") else f"{item.nodeid.partition('::')[0]}::{sample}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look before any fixture of the test is set up."""
    require(*(need for mark in item.iter_markers("needs") for need in mark.args))


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab for the tests of one module, which therefore see what the ones before them left.

    ``pytestmark = pytest.mark.lab(nodes_per_az=1, agents=True)`` says what it is like.
    """
    require("root", "ip")
    from lab.world import Lab

    mark = request.node.get_closest_marker("lab")
    with Lab(**(mark.kwargs if mark else {})) as running:
        yield running


@pytest.fixture
def lab_as_new(lab: Lab) -> Iterator[Lab]:
    """The module's lab, lent to one test: afterwards no pod, claim, floating route or fault is left of it."""
    from tests.support.lab_state import as_new

    for node in lab.nodes.values():
        node.agent.forked = True  # from its second life on, because every test has new ones
    with as_new(lab):
        lab.ec2.journal.clear()
        yield lab


@pytest.fixture
def node(lab: Lab) -> Node:
    return lab.nodes["a1"]


@pytest.fixture
def node_with_agent(node: Node) -> Node:
    if not node.agent.is_running:
        node.start_agent()
    return node


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Scene:
    """Attachments on the lab's nodes, which are called as a test says."""
    from tests.support.two_nodes import Scene

    return Scene(lab)


@pytest.fixture(scope="module")
def cloud() -> Iterator[SimulatedEC2]:
    """One simulated EC2 for a module: moto takes a second to warm up."""
    from lab.ec2 import SimulatedEC2

    ec2 = SimulatedEC2()
    yield ec2
    ec2.close()


@pytest.fixture(scope="module")
def served_cloud(cloud: SimulatedEC2) -> tuple[SimulatedEC2, str]:
    """A simulated EC2, and the URL where ``a1`` finds it."""
    from lab.webserver import open_socket

    host, port = cloud.listen(open_socket("127.0.0.1", 0), "a1").address
    return cloud, f"http://{host}:{port}"
