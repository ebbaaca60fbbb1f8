"""Values: what must be said, what is refused, and that each one changes something."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_floatip.model import cidr
from tests.chart.rendered import CHART, LEAST, Refused, chart_for, having, helm, render, without
from tests.support.samples import sampled

pytestmark = pytest.mark.needs("helm")

SAID = {
    "image.repository": "set image.repository: where you pushed the image",
    "config.allowedDestinations": "set config.allowedDestinations: the ranges that pods may have",
    "config.allowedRouteTables": "set config.allowedRouteTables: the VPC route tables that may be written",
}


@pytest.mark.parametrize("path", SAID)
def test_without_it_nothing_is_rendered_and_helm_says_what_to_set(path: Any) -> None:
    with pytest.raises(Refused, match=re.escape(SAID[path])):
        render(without(path))


@pytest.mark.parametrize("path", sampled("test_a_null_does_not_pass_for_it", SAID, ["image.repository"]))
def test_a_null_does_not_pass_for_it(path: Any) -> None:
    with pytest.raises(Refused, match=re.escape(path.rpartition(".")[2])):
        render(having(path, None))


REFUSED = {
    "a typo at the top": ("tolerations2", [], "'tolerations2' not allowed"),
    "a typo in the image": ("image.repo", "x", "'repo' not allowed"),
    "a typo in the node configuration": ("config.allowedDestination", [], "'allowedDestination' not allowed"),
    "a typo in an entry": ("config.allowedDestinations", [{"cird": "10.0.0.0/24"}], "'cird' not allowed"),
    "an empty list of namespaces": (
        "config.allowedDestinations",
        [{"cidr": "10.0.0.0/24", "namespaces": []}],
        "/config/allowedDestinations/0/namespaces",
    ),
    "no table's id": ("config.allowedRouteTables", {"ids": ["core"]}, "does not match pattern"),
    "a number as a word": ("config.reconcileSeconds", "60s", "/config/reconcileSeconds"),
    "a number out of range": ("config.releaseGraceSeconds", 7200, "/config/releaseGraceSeconds"),
    "no path for the socket": ("config.socketPath", None, "socketPath"),
    "a pull policy that there is not": ("image.pullPolicy", "Sometimes", "/image/pullPolicy"),
    "a tag in the repository's place": ("image.repository", "a/b@sha256:0", "/image/repository"),
    "a digest that is none": ("image.digest", "latest", "/image/digest"),
    "a region that is none": ("aws.region", "Frankfurt", "/aws/region"),
    "a relative plugin directory": ("cniBinDir", "opt/cni/bin", "/cniBinDir"),
    "no time to end": ("terminationGracePeriodSeconds", 10, "/terminationGracePeriodSeconds"),
    "two agents on a node at a time": (
        "updateStrategy.rollingUpdate.maxSurge",
        1,
        "'maxSurge' not allowed",
    ),
    "a toleration with a typo": ("tolerations", [{"operater": "Exists"}], "'operater' not allowed"),
    "no annotation": ("serviceAccount.annotations", {"eks.amazonaws.com/role-arn": 1}, "want string"),
    "elections that are merely switched on": ("config.elections", True, "/config/elections"),
    "a typo in the elections": ("config.elections", {"lease": 2}, "'lease' not allowed"),
    "a lease in parts of a second": (
        "config.elections",
        {"leaseSeconds": 2.5},
        "/config/elections/leaseSeconds",
    ),
    "nobody's service account": ("serviceAccount.create", False, "set serviceAccount.name"),
    "the host's /run, for the socket": (
        "config.socketPath",
        "/run/agent.sock",
        "the directory /run of the host",
    ),
    "the host's root, for the socket": ("config.socketPath", "/agent.sock", "the directory / of the host"),
    "spool and data in one directory": (
        "config.spoolDir",
        "/var/lib/cni/floatip/",
        "the directory /var/lib/cni/floatip is named twice",
    ),
    "namespaces twice": ("extraNetnsDirs", ["/run/netns"], "the directory /run/netns is named twice"),
    "one port for two": ("config.metricsAddress", "0.0.0.0:9819", "both have port 9819"),
    "metrics that Prometheus does not reach": (
        "podMonitor.enabled",
        True,
        "config.metricsAddress is 127.0.0.1:9818, which Prometheus does not reach",
    ),
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", REFUSED)
def test_wrong_values_are_refused(name: Any) -> None:
    path, value, text = REFUSED[name]
    with pytest.raises(Refused) as e:
        render(having(path, value))
    assert text in str(e.value)


RANGES = [
    *("192.168.0.0/24", "192.168.0.7/32", "10.0.0.0/8", "10.128.0.0/9", "255.255.255.254/31", "0.0.0.0/0"),
    *("192.168.0.1/24", "10.64.0.0/9", "192.168.0.2/23", "255.255.255.255/31", "0.0.0.1/0", "128.0.0.0/0"),
    *("192.168.0.0", "192.168.0.0/33", "192.168.0.0/024", "192.168.0/24", "192.168.0.256/32", "010.0.0.0/8"),
    *("192.168.0.0/255.255.255.0", "192.168.0.0-192.168.0.9", "banana", "", "/24", " 10.0.0.0/8"),
    *("2001:db8::/64", "2001:db8::5/128", "::/0", "64:ff9b::10.0.0.0/104", "2001:db8::/129", "fe80::%a/64"),
]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("text", RANGES)
def test_a_range_renders_if_the_agent_takes_it(text: Any) -> None:
    values = having("config.allowedDestinations", [{"cidr": "192.168.0.0/24"}, {"cidr": text}])
    try:
        cidr.parse(text)
    except ValueError:
        with pytest.raises(Refused, match=re.escape(f"config.allowedDestinations[1].cidr: {text}")):
            render(values)
    else:
        assert render(values).all


def test_a_pod_monitor_without_metrics_is_refused() -> None:
    values = having("podMonitor.enabled", True, having("config.metricsAddress", None))
    with pytest.raises(Refused, match=r"podMonitor.enabled needs metrics"):
        render(values)


def test_an_old_cluster_is_refused() -> None:
    with pytest.raises(Refused, match="incompatible with Kubernetes"):
        render(LEAST, kubernetes="1.29.9")


def test_a_cluster_of_eks_is_not() -> None:
    assert render(LEAST, kubernetes="v1.33.5-eks-113cf36").one("DaemonSet")


def test_it_may_be_part_of_another_chart() -> None:
    assert render(having("global", {"imageRegistry": "x"})).all == render(LEAST).all


def notes(values: Any, tmp_path: Path) -> Any:
    """What helm says after an installation. Only with a cluster does it, so here that is made an object."""
    chart = shutil.copytree(chart_for(values), tmp_path / f"{len(list(tmp_path.iterdir()))}")
    text = (chart / "templates/NOTES.txt").read_text()
    made = '{{ define "notes" }}' + text + '{{ end }}\nkind: Notes\ntext: {{ include "notes" . | toJson }}\n'
    (chart / "templates/notes.yaml").write_text(made)
    options = ["--kube-version", "1.35.0", "--show-only", "templates/notes.yaml", "-f", "-"]
    return yaml.safe_load(helm("template", "cni-floatip", str(chart), *options, values=values))["text"]


def test_helm_says_what_was_allowed_and_what_is_next(tmp_path: Path) -> None:
    output = notes(LEAST, tmp_path)
    assert "192.168.0.0/24 for core-*" in output
    assert "exec $pod -- floatipctl doctor" in output
    assert "kubectl get nodes -l floatip=true\n" in output
    assert "lease" not in output.lower()
    output = notes(having("config.elections", {"namespace": "leases"}), tmp_path)
    assert "kubectl -n leases get leases\n" in output
    output = notes(having("uninstall.enabled", True), tmp_path)
    assert "helm uninstall cni-floatip" in output
    assert "doctor" not in output


OTHERWISE = {
    "nameOverride": "other",
    "fullnameOverride": "other",
    "image.repository": "other/floatip",
    "image.tag": "9.9.9",
    "image.digest": "sha256:" + "a" * 64,
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "other"}],
    "config.allowedDestinations": [{"cidr": "10.1.0.0/24"}],
    "config.allowedRouteTables": {"ids": ["rtb-1"]},
    "config.roles": {"111122223333": "arn:aws:iam::111122223333:role/floatip"},
    "config.sourceDestCheck": "require",
    "config.fixedAddresses": True,
    "config.limits.destinations": 4,
    "config.allowedInterfaces.tags": {"team": "core"},
    "config.allowHostDevice": True,
    "config.elections": {},
    "config.releaseGraceSeconds": 30,
    "config.reconcileSeconds": 30,
    "config.watchLimits.addresses": 32,
    "config.watchLimits.secondsPerChange": 0.5,
    "config.watchLimits.burst": 8,
    "config.socketPath": "/run/other/agent.sock",
    "config.dataDir": "/var/lib/other",
    "config.spoolDir": "/var/spool/other",
    "config.metricsAddress": "[::]:9918",
    "config.healthAddress": "[::1]:9919",
    "config.logLevel": "debug",
    "config.logFormat": "text",
    "aws.region": "eu-central-1",
    "aws.useDualstackEndpoint": True,
    "serviceAccount.create": False,
    "serviceAccount.name": "other",
    "serviceAccount.annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/floatip"},
    "doctor.readDaemonSets": False,
    "cniBinDir": "/usr/libexec/cni",
    "netnsDir": "/var/run/netns",
    "extraNetnsDirs": ["/run/containerd/netns"],
    "nodeSelector": {"role": "floating"},
    "affinity": {"podAffinity": {}},
    "tolerations": [],
    "priorityClassName": "system-cluster-critical",
    "updateStrategy.type": "OnDelete",
    "updateStrategy.rollingUpdate.maxUnavailable": "10%",
    "terminationGracePeriodSeconds": 90,
    "resources.requests.cpu": "100m",
    "resources.requests.memory": "128Mi",
    "resources.limits.memory": "512Mi",
    "seLinuxOptions": {"type": "control_t"},
    "appArmorProfile": {"type": "Unconfined"},
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "podMonitor.enabled": True,
    "podMonitor.labels": {"a": "b"},
    "podMonitor.interval": "10s",
    "uninstall.enabled": True,
    "uninstall.force": True,
}
BESIDE: dict[str, dict[str, Any]] = {
    "serviceAccount.create": {"serviceAccount.name": "other"},
    "podMonitor.": {"podMonitor.enabled": True, "config.metricsAddress": "0.0.0.0:9818"},
    "uninstall.force": {"uninstall.enabled": True},
}
"""What must be said too for a value to matter."""


def _paths(values: Any, above: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{above}{key}"
        if isinstance(value, dict) and value and path not in OTHERWISE:
            yield from _paths(value, f"{path}.")
        else:
            yield path


def test_every_value_is_known_here() -> None:
    assert set(_paths(yaml.safe_load((CHART / "values.yaml").read_text()))) == set(OTHERWISE)


@pytest.mark.one_in(10)
@pytest.mark.parametrize("path", OTHERWISE)
def test_every_value_changes_what_is_rendered(path: Any) -> None:
    values = LEAST
    for start, others in BESIDE.items():
        for other, value in others.items() if path.startswith(start) else ():
            if other != path:
                values = having(other, value, values)
    changed = having(path, OTHERWISE[path], values)
    assert render(changed, chart=chart_for(changed)).all != render(values).all


def test_the_schema_knows_the_same_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert not list(_lax(schema, schema["properties"])), "additionalProperties"
    helm("lint", "--strict", str(CHART), "--kube-version", "1.35.0", "-f", "-", values=LEAST)


def _lax(schema: Any, properties: Any, above: str = "") -> Iterator[Any]:
    """Yield the objects with keys of our own that take any other key as well."""
    if schema.get("additionalProperties") is not False:
        yield above
    for key, value in properties.items():
        if "properties" in value:
            yield from _lax(value, value["properties"], f"{above}.{key}")
