"""Which nodes run an agent: those with the label, and an upgrade takes no agent off a node unasked.

Real helm installs and upgrades releases here, against a Kubernetes API on loopback.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.apiserver import ApiServer
from tests.chart.rendered import CHART, LEAST, Refused, having, helm, render, without

pytestmark = pytest.mark.needs("helm")

LABELLED = {"floatip": "true"}
EVERY_LINUX = {"kubernetes.io/os": "linux"}
"""The default of releases before."""


@pytest.fixture
def api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in [name for name in os.environ if name.startswith(("HELM_", "KUBE"))]:
        monkeypatch.delenv(name)
    for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with ApiServer(tmp_path).serving() as serving:
        monkeypatch.setenv("KUBECONFIG", str(serving.kubeconfig))
        yield serving


def upgrade(selector: Any = None, base: Any = LEAST, namespace: str = "kube-system") -> Any:
    """Install the release, or upgrade it, with this node selector. Return what helm prints."""
    values = base if selector is None else having("nodeSelector", selector, base)
    where = ["upgrade", "--install", "cni-floatip", str(CHART), "--namespace", namespace]
    return helm(*where, "--disable-openapi-validation", "-f", "-", values=values)


def nodes(cluster: Any) -> Any:
    return cluster.daemon_set()["spec"]["template"]["spec"].get("nodeSelector")


def test_by_default_the_nodes_with_the_label() -> None:
    assert render(LEAST).pod["nodeSelector"] == LABELLED


@pytest.mark.parametrize("selector", [None, {}], ids=["null", "empty"])
def test_no_selector_is_the_default(selector: dict[str, Any] | None) -> None:
    assert render(having("nodeSelector", selector)).pod["nodeSelector"] == LABELLED


def test_what_is_given_is_all() -> None:
    """Nothing of the default is added to it: agents would leave nodes that the administrator named."""
    assert render(having("nodeSelector", {"role": "floating"})).pod["nodeSelector"] == {"role": "floating"}


def test_never_on_windows_whatever_the_selector() -> None:
    (term,) = render(having("nodeSelector", {"role": "floating"})).pod["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    assert {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]} in term["matchExpressions"]


def test_a_new_installation_asks_nothing(api_server: ApiServer) -> None:
    upgrade()
    assert nodes(api_server) == LABELLED
    upgrade()
    assert nodes(api_server) == LABELLED


BEFORE = {
    "the old default": EVERY_LINUX,
    "another value of the label, and nodes of one's own": {"floatip": "yes", "role": "floating"},
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_an_upgrade_that_would_take_agents_off_nodes_is_refused(api_server: ApiServer, before: Any) -> None:
    upgrade(before)
    installed = api_server.daemon_set()
    with pytest.raises(Refused, match="kubectl label node NAME floatip=true") as e:
        upgrade(None, having("config.logLevel", "debug"))
    assert api_server.daemon_set() == installed
    offered = [yaml.safe_load(line) for line in re.findall(r"(?m)^ +(nodeSelector: .*)$", str(e.value))]
    assert offered == [{"nodeSelector": LABELLED}, {"nodeSelector": before}]
    for values in reversed(offered):  # each of the two, as it is written there
        upgrade(values["nodeSelector"])
        assert nodes(api_server) == values["nodeSelector"]


def test_no_selector_at_all_before(api_server: ApiServer) -> None:
    """The selector that is offered then chooses the same nodes: those that run Linux."""
    upgrade(EVERY_LINUX)
    at = "/apis/apps/v1/namespaces/kube-system/daemonsets/cni-floatip"
    del api_server.objects[at]["spec"]["template"]["spec"]["nodeSelector"]
    with pytest.raises(Refused, match=re.escape('nodeSelector: {"kubernetes.io/os":"linux"}')):
        upgrade()


def test_an_upgrade_that_only_widens_is_not(api_server: ApiServer) -> None:
    upgrade({**EVERY_LINUX, **LABELLED})
    upgrade()
    assert nodes(api_server)["floatip"] == "true"


def test_uninstalling_by_the_default_is_refused_too(api_server: ApiServer) -> None:
    """It would clean the labelled nodes alone, and say that all are clean."""
    upgrade(EVERY_LINUX)
    with pytest.raises(Refused, match="nodeSelector is not set"):
        upgrade(None, having("uninstall.enabled", True))
    upgrade(EVERY_LINUX, having("uninstall.enabled", True))


def test_a_release_of_another_namespace_does_not_count(api_server: ApiServer) -> None:
    upgrade(EVERY_LINUX, namespace="floating")
    upgrade(None, having("doctor.readDaemonSets", False))
    assert nodes(api_server) == LABELLED


def test_helm_says_on_which_nodes(api_server: ApiServer) -> None:
    assert "kubectl get nodes -l floatip=true\n" in upgrade()
    output = upgrade({"role": "floating", "zone": "a"})
    assert "with the labels role=floating, zone=a. Are these" in output
    assert "kubectl get nodes -l role=floating,zone=a\n" in output


def test_what_is_missing_beside_it_is_still_said(api_server: ApiServer) -> None:
    with pytest.raises(Refused, match=r"set image\.repository"):
        upgrade(None, without("image.repository"))
