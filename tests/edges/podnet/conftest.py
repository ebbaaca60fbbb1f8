"""Fixtures: a pod in the kernel, and one that is in the kernel and in memory by turns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.edges.podnet.pods import NETNS, PREFIX, KernelPod, MemoryPod, fresh_number, ip


def _remove(pattern: str) -> None:
    for path in NETNS.glob(pattern) if NETNS.is_dir() else ():
        ip("netns", "del", path.name, check=False)


@pytest.fixture(scope="session", autouse=True)
def _namespaces() -> Iterator[None]:
    """Remove what this run makes, and what earlier runs left whose process is gone."""
    require("root", "ip")
    for path in NETNS.glob("fl-*-podnet*") if NETNS.is_dir() else ():
        owner = re.match(r"fl-(\d+)-podnet", path.name)
        if owner and not Path("/proc", owner[1]).exists():
            ip("netns", "del", path.name, check=False)
    try:
        yield
    finally:
        _remove(f"{PREFIX}*")


@pytest.fixture(scope="module")
def node_ns() -> Iterator[str]:
    """A node's namespace, where the pods' parents live."""
    name = f"{PREFIX}-node{fresh_number()}"
    ip("netns", "add", name)
    yield name
    ip("netns", "del", name)


@pytest.fixture
def kernel_pod(node_ns: str) -> Iterator[KernelPod]:
    pod = KernelPod(node_ns)
    yield pod
    ip("netns", "del", pod.name, check=False)
    ip("link", "del", pod.parent, netns=node_ns, check=False)


@pytest.fixture(params=["memory", "kernel"])
def any_pod(request: pytest.FixtureRequest) -> KernelPod | MemoryPod:
    """A pod in two worlds: what a test expects of one, it expects of the other."""
    return request.getfixturevalue("kernel_pod") if request.param == "kernel" else MemoryPod()
