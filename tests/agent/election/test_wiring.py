"""How an agent gets its elections: behind the switch, and nothing of them where they are off."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.election.elections import Cluster
from cni_floatip.agent.election.view import ElectionView
from cni_floatip.agent.main import Agent
from cni_floatip.agent.observe import lines, logs
from cni_floatip.config.election import Elections
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.edges.store import Store
from cni_floatip.election.timing import Timing
from cni_floatip.model.errors import InvalidConfig
from cni_floatip.operations.election import NoElections
from tests.agent.election.scene import Scene

IN_A_POD = {"NODE_NAME": "node-a", "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}


class Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def agent(directory: Path, **policy: Any) -> Agent:
    conf = NodeConf.parse({"dataDir": str(directory), **policy})
    store = Store(str(directory), sleep=time.sleep, clock=time.monotonic)
    return Agent(conf, logs.Log({}, lines.LineWriter("error", "json", Nowhere())), store)


def test_without_elections_nothing_of_them_is_loaded() -> None:
    """An agent that elects nothing pays for no client of Kubernetes."""
    code = "import sys, cni_floatip.agent.main; print([m for m in sys.modules if 'kubernetes' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_agent_without_elections_has_none(tmp_path: Path) -> None:
    plain = agent(tmp_path)
    assert plain.elections is None
    assert isinstance(plain.world.election, NoElections)
    assert "elections" not in plain.report.status()


def test_an_agent_with_elections_asks_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in IN_A_POD.items():
        monkeypatch.setenv(name, value)
    electing = agent(tmp_path, elections={})
    assert electing.elections
    assert isinstance(electing.world.election, ElectionView)
    assert electing.report.status()["elections"] == []
    electing.report.show()
    page = electing.metrics.page().body.decode()
    assert 'floatip_election_groups{role="active"} 0.0' in page
    electing.elections.close()


def test_the_rules_have_the_durations_of_the_node_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An active looks each ``reconcileSeconds``, however long they are; only standbys look more often."""
    for name, value in IN_A_POD.items():
        monkeypatch.setenv(name, value)
    electing = agent(tmp_path, elections={}, reconcileSeconds=300, releaseGraceSeconds=20)
    assert electing.elections
    assert electing.elections.driver.surroundings.timing == Timing.of(Elections(), 300, 20)
    electing.elections.close()


@pytest.mark.parametrize("missing", ["NODE_NAME", "KUBERNETES_SERVICE_HOST"])
def test_what_the_environment_lacks_is_said(missing: str) -> None:
    with pytest.raises(InvalidConfig, match=f"elections need.*(NODE_NAME|{missing}|Kubernetes)"):
        Cluster.of_pod({key: value for key, value in IN_A_POD.items() if key != missing})


def test_readiness_does_not_rest_on_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in IN_A_POD.items():  # nobody listens there
        monkeypatch.setenv(name, value)
    plain = agent(tmp_path / "plain")
    electing = agent(tmp_path / "electing", elections={})
    assert electing.report.not_ready() == plain.report.not_ready()
    assert electing.elections
    electing.elections.close()


def test_status_and_metrics_show_the_groups(agents: Scene) -> None:
    node = agents.node("a")
    pod = agents.pod(node, "web-1")
    agents.until_active(pod)
    assert node.elections
    [group] = node.elections.status()
    assert (group["group"], group["role"]) == ("core/192.168.0.5", "active")
    assert group["holder"].startswith("web-1/a/")
    assert group["proofAge"] >= 0
    assert group["since"]
    roles, age = node.elections.summary()
    assert dict(roles) == {"active": 1}
    assert age >= 0
