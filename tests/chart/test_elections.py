"""Elections in the chart: which rights the agents get, where, and that without elections there are none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from cni_floatip.config import election
from cni_floatip.config.election import Elections
from cni_floatip.config.nodeconf import NodeConf
from tests.chart.rendered import CHART, LEAST, Objects, Refused, electing, having, manifest, render

pytestmark = pytest.mark.needs("helm")

Right = tuple[str, str, str, str, str]
"""Namespace ("*": every one, and what lies in none), API group, resource, name ("": any) and verb."""

OF_ELECTIONS: set[Right] = {
    *(
        ("floatip-elections", "coordination.k8s.io", "leases", "", verb)
        for verb in ("get", "list", "watch", "create", "update", "delete")
    ),
    *(("*", "", "pods", "", verb) for verb in ("get", "list", "watch")),
    *(("*", "", "nodes", "", verb) for verb in ("get", "watch")),
    *(("*", "", "events", "", verb) for verb in ("create", "patch")),
    *(("default", "discovery.k8s.io", "endpointslices", "kubernetes", verb) for verb in ("get", "watch")),
}
"""What elections take, and no more. Writes of Leases are updates, never patches, because API Priority and
Fairness gives the level of leader elections to get, create and update alone."""
OF_POD_LABEL: set[Right] = {("*", "", "pods/status", "", "patch")}
OF_DOCTOR: set[Right] = {
    ("kube-system", "apps", "daemonsets", name, "get") for name in ("aws-node", "kube-multus-ds")
}

ELECTIONS = having("config.elections", {})


def elected(namespace: str = "kube-system", base: Any = LEAST, **keys: Any) -> Objects:
    return render(having("config.elections", keys, base), namespace=namespace, chart=electing())


def rights(objects: Objects) -> set[Right]:
    """Return what the agents' service account may ask of Kubernetes."""
    account = objects.pod["serviceAccountName"]
    return {
        (namespace, group, resource, name, verb)
        for namespace, role in _granted(objects, account)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def _granted(objects: Objects, account: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for binding in objects.of("RoleBinding") + objects.of("ClusterRoleBinding"):
        assert [subject["name"] for subject in binding["subjects"]] == [account]
        where = binding["metadata"].get("namespace")
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        (role,) = [
            role
            for role in objects.of(kind)
            if (role["metadata"]["name"], role["metadata"].get("namespace")) == (name, where)
        ]
        assert not [rule for rule in role["rules"] if "nonResourceURLs" in rule]
        yield where or "*", role


@pytest.mark.parametrize("doctor", [True, False])
@pytest.mark.parametrize("label", [True, False])
def test_the_rights_are_those_of_elections_and_no_others(label: bool, doctor: bool) -> None:
    objects = elected(base=having("doctor.readDaemonSets", doctor), podLabel=label)
    expected = OF_ELECTIONS | (OF_POD_LABEL if label else set()) | (OF_DOCTOR if doctor else set())
    assert rights(objects) == expected
    assert objects.pod["automountServiceAccountToken"] is True


@pytest.mark.parametrize("namespace", ["kube-system", "floating"])
@pytest.mark.parametrize("values", [LEAST, having("config.elections", None)], ids=["no key", "null"])
def test_without_elections_nothing_is_given(values: Any, namespace: str) -> None:
    """Also the node configuration has no new key, which an agent of release 0.3 would refuse."""
    for chart in (CHART, electing()):
        objects = render(values, namespace=namespace, chart=chart)
        assert rights(objects) == OF_DOCTOR
        kinds = {"ConfigMap", "DaemonSet", "Role", "RoleBinding", "ServiceAccount"}
        assert {raw["kind"] for raw in objects.all} == kinds
        assert "elections" not in json.loads(objects.one("ConfigMap")["data"]["config.json"])
    without_doctor = render(having("doctor.readDaemonSets", False, values), namespace=namespace)
    assert rights(without_doctor) == set()
    assert without_doctor.pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", ["cni-floatip.yaml", "uninstall.yaml"])
def test_the_manifests_give_nothing_either(name: str) -> None:
    assert rights(manifest(name)) == OF_DOCTOR


def test_the_namespace_outlives_the_release() -> None:
    made = elected().one("Namespace")["metadata"]
    assert made["name"] == Elections().namespace
    assert made["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_leases_may_lie_in_another_namespace() -> None:
    values = having("config.elections", {"namespace": "leases"})
    objects = render(values, namespace="floating", chart=electing())
    assert objects.one("Namespace")["metadata"]["name"] == "leases"
    ours = {("leases", *right[1:]) if right[0] == "floatip-elections" else right for right in OF_ELECTIONS}
    assert rights(objects) == ours | OF_DOCTOR
    (rule,) = objects.one("FlowSchema")["spec"]["rules"]
    assert rule["resourceRules"][0]["namespaces"] == ["leases"]


@pytest.mark.parametrize(
    ("given", "release"), [("floating", "floating"), ("kube-system", "x"), ("default", "x")]
)
def test_a_namespace_that_is_there_is_not_made(given: str, release: str) -> None:
    """Helm refuses an installation that would make what is not its own."""
    objects = render(having("config.elections", {"namespace": given}), namespace=release, chart=electing())
    assert not objects.of("Namespace")
    assert (given, "coordination.k8s.io", "leases", "", "update") in rights(objects)


def test_renewals_have_the_priority_of_leader_elections_everywhere() -> None:
    """Kubernetes gives it to accounts of kube-system by itself (system-leader-election)."""
    assert not elected().of("FlowSchema")
    objects = elected("floating")
    spec = objects.one("FlowSchema")["spec"]
    assert spec["priorityLevelConfiguration"] == {"name": "leader-election"}
    assert spec["distinguisherMethod"] == {"type": "ByUser"}
    assert 100 < spec["matchingPrecedence"] < 900, "after the system's own, before that of service accounts"
    (rule,) = spec["rules"]
    account = {"name": objects.pod["serviceAccountName"], "namespace": "floating"}
    assert rule["subjects"] == [{"kind": "ServiceAccount", "serviceAccount": account}]
    assert rule["resourceRules"] == [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "namespaces": ["floatip-elections"],
            "verbs": ["get", "create", "update"],
        }
    ]


def test_two_releases_give_and_take_nothing_of_each_other() -> None:
    """What lies in no namespace, or in one that they share, has the release's namespace in its name."""

    def shared(objects: Objects) -> set[tuple[str, str]]:
        kinds = ("ClusterRole", "ClusterRoleBinding", "FlowSchema", "Role", "RoleBinding")
        return {(kind, raw["metadata"]["name"]) for kind in kinds for raw in objects.of(kind)}

    assert not shared(elected("one")) & shared(elected("two"))


def test_agents_that_still_run_keep_their_rights_while_nodes_are_cleaned() -> None:
    uninstalling = elected(base=having("uninstall.enabled", True))
    assert rights(uninstalling) == OF_ELECTIONS | OF_DOCTOR


def test_what_the_agent_is_given_is_what_was_written() -> None:
    keys: dict[str, Any] = {
        "renewSeconds": 1.5,
        "leaseSeconds": 8,
        "vetoSeconds": 90,
        "onCordon": False,
        "podLabel": True,
    }
    config = json.loads(elected(**keys).one("ConfigMap")["data"]["config.json"])
    assert config["elections"] == keys
    assert NodeConf.parse(config).elections == Elections(
        renew_seconds=1.5, lease_seconds=8, veto_seconds=90, on_cordon=False, pod_label=True
    )
    assert json.loads(elected().one("ConfigMap")["data"]["config.json"])["elections"] == {}


def test_the_chart_elects_when_the_agent_does() -> None:
    """Until then it renders nothing: agents that refuse their configuration would end on every node."""
    text = (CHART / "Chart.yaml").read_text()
    assert re.findall(r'(?m)^  cni-floatip\.dev/elections: "(\w+)"$', text) == [
        str(election.RELEASED).lower()
    ]
    if election.RELEASED:
        assert render(ELECTIONS).of("ClusterRole")
        return
    for values in (ELECTIONS, having("uninstall.enabled", True, ELECTIONS)):
        with pytest.raises(Refused, match=r"config\.elections: elected claims are not in this release"):
            render(values)
