"""What is rendered, held against Kubernetes' own schemas: every supported version, no unknown field."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from tests.chart.rendered import CHART, LEAST, Objects, chart_for, having, manifest, render

pytestmark = pytest.mark.needs("helm")

OLDEST = (1, 30)
"""The oldest that the chart may be installed on."""
VERSIONS = sorted(
    {(int(major), int(minor)) for major, minor, *_ in (version.split(".") for version in all_versions())}
)
SUPPORTED = [f"{major}.{minor}" for major, minor in VERSIONS if (major, minor) >= OLDEST]


def _all_of_these(**more: Any) -> dict[str, Any]:
    values = LEAST
    for path, value in more.items():
        values = having(path.replace("__", "."), value, values)
    return values


ACCOUNT = {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/floatip"}
COMBINATIONS = {
    "least": LEAST,
    "IRSA, a digest, a pull secret": _all_of_these(
        serviceAccount__annotations=ACCOUNT,
        image__digest="sha256:" + "0" * 64,
        imagePullSecrets=[{"name": "registry"}],
    ),
    "somebody else's service account, no doctor": _all_of_these(
        serviceAccount__create=False, serviceAccount__name="there", doctor__readDaemonSets=False
    ),
    "no probes, no metrics": _all_of_these(config__healthAddress=None, config__metricsAddress=None),
    "IPv6 listeners, a pod monitor": _all_of_these(
        config__healthAddress="[::]:9819",
        config__metricsAddress="[::]:9818",
        podMonitor__enabled=True,
        podMonitor__labels={"release": "prometheus"},
    ),
    "IPv6-only nodes": _all_of_these(
        aws__useDualstackEndpoint=True,
        aws__region="eu-central-1",
        extraEnv=[{"name": "AWS_EC2_METADATA_SERVICE_ENDPOINT", "value": "http://[fd00:ec2::254]"}],
    ),
    "other directories": _all_of_these(
        config__socketPath="/run/other/agent.sock",
        config__dataDir="/var/lib/other",
        config__spoolDir="/var/spool/other",
        cniBinDir="/usr/libexec/cni",
        netnsDir="/var/run/netns",
        extraNetnsDirs=["/run/containerd/a/netns", "/run/containerd/b/netns"],
    ),
    "chosen nodes": _all_of_these(
        nodeSelector={"role": "floating"},
        affinity={"nodeAffinity": None},
        tolerations=[
            {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}
        ],
    ),
    "nothing that may be left out": _all_of_these(
        nodeSelector=None, affinity=None, tolerations=[], resources=None, updateStrategy__rollingUpdate=None
    ),
    "SELinux, AppArmor, labels": _all_of_these(
        seLinuxOptions={"type": "control_t", "level": "s0"},
        appArmorProfile={"type": "Unconfined"},
        podLabels={"team": "core"},
        podAnnotations={"checksum/other": "1"},
    ),
    "names": _all_of_these(nameOverride="a", fullnameOverride="b" * 60, updateStrategy__type="OnDelete"),
    "a shared VPC": _all_of_these(
        config__roles={"111122223333": "arn:aws:iam::111122223333:role/floatip"},
        config__sourceDestCheck="ignore",
    ),
    "elections": _all_of_these(config__elections={}),
    "elections with all that there is, no doctor": _all_of_these(
        config__elections={"podLabel": True, "namespace": "leases"}, doctor__readDaemonSets=False
    ),
    "uninstalling where there are elections": _all_of_these(config__elections={}, uninstall__enabled=True),
    "uninstalling": _all_of_these(uninstall__enabled=True),
    "uninstalling by force, with all else": _all_of_these(
        uninstall__enabled=True,
        uninstall__force=True,
        podMonitor__enabled=True,
        config__spoolDir="/var/spool/other",
        extraNetnsDirs=["/run/other"],
    ),
}


def rendered(name: str, namespace: str = "kube-system") -> Objects:
    """Return a combination, rendered by the chart that takes it."""
    values = COMBINATIONS[name]
    return render(values, namespace=namespace, chart=chart_for(values))


def _place(raw: dict[str, Any]) -> tuple[str, str | None, str]:
    return raw["kind"], raw["metadata"].get("namespace"), raw["metadata"]["name"]


def test_irsa_is_said_on_the_service_account_of_the_pod() -> None:
    objects = render(COMBINATIONS["IRSA, a digest, a pull secret"])
    account = objects.one("ServiceAccount")["metadata"]
    assert account["annotations"] == ACCOUNT
    assert account["name"] == objects.pod["serviceAccountName"]
    assert "annotations" not in render(LEAST).one("ServiceAccount")["metadata"], "Pod Identity needs none"


def test_the_schemas_at_hand_reach_from_the_oldest_supported_on() -> None:
    output = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert output == f">={SUPPORTED[0]}.0-0"
    assert len(SUPPORTED) >= 8


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", COMBINATIONS)
def test_valid_for_every_supported_kubernetes(name: Any) -> None:
    for raw in rendered(name).all:
        if raw["kind"] == "PodMonitor":
            continue
        for version in SUPPORTED:
            assert _validated(json.dumps(raw), version) == version


def test_what_a_release_in_another_namespace_has_besides_is_valid_too() -> None:
    objects = rendered("elections", "floating")
    for raw in objects.all:
        for version in SUPPORTED:
            assert _validated(json.dumps(raw), version) == version
    assert objects.of("FlowSchema")


@pytest.mark.parametrize("name", ["cni-floatip.yaml", "uninstall.yaml"])
def test_the_manifests_are_valid_too(name: str) -> None:
    for raw in manifest(name).all:
        assert _validated(json.dumps(raw), SUPPORTED[-1])


@cache
def _validated(found: Any, version: Any) -> Any:
    """Return the version whose schema it was held against; most objects come again and again."""
    return kubernetes_validate.validate(json.loads(found), version, strict=True)


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_objects_belong_together(name: Any) -> None:
    objects = rendered(name)
    template = objects.one("DaemonSet")["spec"]["template"]
    chosen = objects.one("DaemonSet")["spec"]["selector"]["matchLabels"]
    assert chosen.items() <= template["metadata"]["labels"].items()
    for monitor in objects.of("PodMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"] == chosen
    volumes = {volume["name"] for volume in objects.pod["volumes"]}
    mounted = set()
    for container in objects.pod["initContainers"] + objects.pod["containers"]:
        mounts = container.get("volumeMounts", [])
        assert len({mount["mountPath"] for mount in mounts}) == len(mounts)
        mounted |= {mount["name"] for mount in mounts}
    assert mounted == volumes
    (config,) = [volume["configMap"]["name"] for volume in objects.pod["volumes"] if "configMap" in volume]
    assert config == objects.one("ConfigMap")["metadata"]["name"]
    account = objects.pod["serviceAccountName"]
    ours = COMBINATIONS[name].get("serviceAccount", {}).get("create", True)
    assert [made["metadata"]["name"] for made in objects.of("ServiceAccount")] == [account] * ours
    roles = {_place(role) for kind in ("Role", "ClusterRole") for role in objects.of(kind)}
    bindings = objects.of("RoleBinding") + objects.of("ClusterRoleBinding")
    for binding in bindings:
        assert [(s["name"], s["namespace"]) for s in binding["subjects"]] == [(account, "kube-system")]
    referred = {
        (binding["roleRef"]["kind"], binding["metadata"].get("namespace"), binding["roleRef"]["name"])
        for binding in bindings
    }
    assert referred == roles


def test_the_pod_monitor_has_what_its_kind_has() -> None:
    """By hand: the operator's schema (monitoring.coreos.com/v1) is not Kubernetes'."""
    objects = render(COMBINATIONS["IPv6 listeners, a pod monitor"])
    monitor = objects.one("PodMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert set(monitor["spec"]) == {"selector", "podMetricsEndpoints"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {
        "port": "metrics",
        "path": "/metrics",
        "interval": "30s",
        "relabelings": [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}],
    }
    ports = {port["name"]: port["containerPort"] for port in objects.container("agent")["ports"]}
    assert ports == {"metrics": 9818, "health": 9819}
