"""The plugin directory is removed on the host and made again, while a container has the former one mounted.

Here a container is a mount namespace with a bind mount, as the runtime makes one of a ``hostPath``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.node import Node
from tests.installer.plugin_directories import Mounts, command, config, tree
from tests.support.waiting import until

pytestmark = [
    pytest.mark.needs("root", "unshare", "nsenter", "mount"),
    pytest.mark.lab(azs=1, nodes_per_az=1),
]
REASON = "somebody removed the mounted directory on the host"
REMEDY = "restart this container"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The directory as the host has it; ``bin_dir`` is where a container has it."""
    path = tmp_path / "host"
    path.mkdir()
    return path


def made_again(host: Path) -> None:
    shutil.rmtree(host)
    host.mkdir()


@pytest.mark.parametrize("again", [True, False], ids=["made again", "only removed"])
@pytest.mark.parametrize("bundled", [True, False], ids=["bundle", "interpreter"])
def test_an_installer_says_what_it_looks_at(
    mounts: Mounts, host: Path, bin_dir: Path, bundles: tuple[Path, Path], bundled: bool, again: bool
) -> None:
    mounts.mount("--bind", host, bin_dir)
    bundle = ["--bundle", bundles[0]] if bundled else []
    argv = command("install-client", bin_dir, "--config", config(bin_dir.parent), *bundle)
    assert mounts.run(argv).returncode == 0
    made_again(host)
    if not again:
        host.rmdir()
    done = mounts.run(argv)
    assert done.returncode == 1
    assert done.stderr.startswith(f"floatipctl: cannot install {bin_dir}/floatip: {REASON}")
    assert done.stderr.endswith(f"{REMEDY}\n")
    assert "make the directory first" not in done.stderr
    assert tree(bin_dir) == {}


def test_a_directory_that_is_not_there_can_be_made(mounts: Mounts, bin_dir: Path) -> None:
    argv = command("install-client", bin_dir / "plugins", "--config", config(bin_dir.parent))
    done = mounts.run(argv)
    assert (done.returncode, REASON in done.stderr) == (1, False)
    assert "make the directory first" in done.stderr


@pytest.mark.needs("ip")
def test_an_agent_wants_to_be_started_again_for_it_and_for_nothing_else(
    node: Node, host: Path, bin_dir: Path
) -> None:
    client, agent, mounted = host / "floatip", node.agent, [f"mount --bind '{host}' '{bin_dir}'"]
    agent.command += ["--bin-dir", str(bin_dir)]
    agent.start(node.env, sees=mounted)
    agent.wait_ready()

    client.unlink()
    client.mkdir()  # what nobody but an operator mends
    until(lambda: not agent.is_ready, node.agent)
    assert "is a directory" in agent.readiness()[1]
    assert agent.liveness() == (200, "ok\n")
    client.rmdir()
    agent.wait_ready()

    made_again(host)
    until(lambda: agent.liveness()[0] == 503, node.agent)
    status, text = agent.liveness()
    assert REASON in text
    assert text.endswith(f"{REMEDY}\n")
    assert agent.readiness() == (status, text), "once, although it is one of both"
    assert [line["level"] for line in agent.said() if REASON in line["msg"]] == ["error"]
    assert list(host.iterdir()) == []

    agent.stop()
    agent.start(node.env, sees=mounted)  # as kubelet does: a start mounts what has the name now
    agent.wait_ready()
    assert agent.liveness() == (200, "ok\n")
    assert client.is_file()
