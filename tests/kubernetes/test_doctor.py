"""``floatipctl doctor`` in an agent's pod, with the service account that the chart gives it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.kubernetes.chart import NAMESPACE, RELEASE
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.manifests import Manifest
from tests.kubernetes.administrator import Administrator, agent_on
from tests.support.waiting import until

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
BINDING = f"rolebinding/{RELEASE}-{NAMESPACE}-doctor"


def doctor(cluster: Cluster, *checks: str) -> list[dict[str, Any]]:
    """Return what these of doctor's checks find on node a1."""
    options = ("-n", NAMESPACE, "-c", "agent")
    text = cluster.kubectl.exec(agent_on(cluster, "a1"), "floatipctl", "doctor", "--json", options=options)
    return [item for item in json.loads(text)["findings"] if item["check"] in checks]


def daemon_set(name: str, /, **container: Any) -> Manifest:
    """Return a daemon set that runs nowhere: doctor reads what it says, not its pods."""
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"nodeSelector": {"no": "node"}, "containers": [container]},
            },
        },
    }


@pytest.fixture
def neighbours(cluster: Cluster) -> Iterator[Kubectl]:
    """What doctor reads of the neighbours may be created; afterwards it is gone, and may be read again."""
    yield cluster.kubectl
    names = ("daemonset/aws-node", "daemonset/kube-multus-ds")
    cluster.kubectl("delete", "-n", NAMESPACE, "--ignore-not-found", *names)
    cluster.chart.install()


def test_doctor_reads_the_neighbours_and_its_remedies_mend_them(
    cluster: Cluster, neighbours: Kubectl, tmp_path: Path
) -> None:
    """By the address and the token that a pod has. First there are none, as in the lab, then there are."""
    absent = {item["check"]: item for item in doctor(cluster, "snat", "multus")}
    assert absent["multus"]["id"] == "multus-missing"
    assert absent["snat"]["severity"] == "not checked"
    assert "no such daemonset" in absent["snat"]["what"]
    administrator = Administrator(cluster, tmp_path)
    thick = "ecr.example/eks/multus-cni:v4.1.4-eksbuild.3_thick"
    neighbours.apply(
        daemon_set("aws-node", name="aws-node", image="ecr.example/amazon-k8s-cni:v1.20.0"),
        daemon_set(
            "kube-multus-ds", name="kube-multus", image=thick, resources={"limits": {"memory": "50Mi"}}
        ),
    )
    findings = doctor(cluster, "snat", "multus")
    assert sorted(item["id"] for item in findings) == ["multus-memory", "snat"]
    for item in findings:
        command, _, _ = item["remedy"].removeprefix("run: ").partition(" (")
        administrator.run(command)
    findings = doctor(cluster, "snat", "multus")
    assert [(item["severity"], item["subject"]) for item in findings] == [
        ("ok", "aws-node"),
        ("ok", "kube-multus-ds"),
    ]


def test_doctor_names_what_the_api_refuses(cluster: Cluster, neighbours: Kubectl) -> None:
    """Without the chart's role binding; the rest of doctor's checks are made all the same."""
    neighbours("delete", "-n", NAMESPACE, BINDING)

    def refused() -> dict[str, str]:
        refusals = {item["subject"]: item["what"] for item in doctor(cluster, "snat", "multus")}
        return refusals if all("403" in what for what in refusals.values()) else {}

    words = until(refused, lambda: doctor(cluster, "snat", "multus"))
    assert sorted(words) == ["aws-node", "kube-multus-ds"]
    for name, what in words.items():
        assert f'daemonsets.apps "{name}" is forbidden: User "{ACCOUNT}" cannot get' in what
    others = [item for item in doctor(cluster, "agent", "tables", "rights") if item["severity"] == "ok"]
    assert others


def test_the_account_may_read_two_daemon_sets_and_nothing_else(cluster: Cluster) -> None:
    def may(question: str) -> bool:
        words = ("auth", "can-i", *question.split(), f"--as={ACCOUNT}", "-n", NAMESPACE)
        answer = cluster.kubectl.run(str(cluster.kubectl.program), *words).stdout.strip()
        assert answer in ("yes", "no"), answer
        return answer == "yes"

    assert may("get daemonset/aws-node")
    assert may("get daemonset/kube-multus-ds")
    others = ("list daemonsets.apps", "get secrets", "list pods", "get nodes", "get daemonset/other")
    assert [what for what in others if may(what)] == []
