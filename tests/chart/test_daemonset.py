"""The daemon set: what the agent may and sees, how it is asked, and the policy that it is given."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_floatip.agent import main as agent
from cni_floatip.config import schemas
from cni_floatip.config.nodeconf import NodeConf
from tests.chart.rendered import CHART, LEAST, ROOT, Objects, having, manifest, render
from tests.support.waiting import until

pytestmark = pytest.mark.needs("helm")


@pytest.fixture(scope="module")
def least() -> Objects:
    return render(LEAST)


def test_the_agent_may_what_it_needs_and_no_more(least: Objects) -> None:
    may = least.container("agent")["securityContext"]
    assert may == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN", "NET_ADMIN"]},
    }
    assert least.pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}


def test_the_installer_may_nothing_but_write_where_plugins_are(least: Objects) -> None:
    installer = least.container("install-client")
    assert installer["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert installer["securityContext"]["readOnlyRootFilesystem"]
    assert installer["args"] == ["install-client", "--bin-dir", "/opt/cni/bin"]
    assert [mount["name"] for mount in installer["volumeMounts"]] == ["config", "cni-bin"]


def test_it_is_of_the_node(least: Objects) -> None:
    assert least.pod["hostNetwork"] is True
    assert least.pod["priorityClassName"] == "system-node-critical"
    assert least.pod["tolerations"] == [{"operator": "Exists"}]
    assert least.pod["nodeSelector"] == {"floatip": "true"}
    assert least.pod["dnsPolicy"] == "Default"
    assert not least.pod.get("hostPID")
    assert least.one("DaemonSet")["spec"]["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1},
    }


def test_what_it_sees_of_the_host(least: Objects) -> None:
    host = {volume["name"]: volume["hostPath"] for volume in least.pod["volumes"] if "hostPath" in volume}
    observed = {
        mount["mountPath"]: (host[mount["name"]]["path"], mount.get("mountPropagation"))
        for mount in least.container("agent")["volumeMounts"]
        if mount["name"] in host
    }
    assert observed == {
        "/opt/cni/bin": ("/opt/cni/bin", None),
        "/run/netns": ("/run/netns", "HostToContainer"),
        "/run/floatip": ("/run/floatip", None),
        "/var/lib/cni/floatip": ("/var/lib/cni/floatip", None),
    }


def test_all_of_the_host_has_the_same_path_inside() -> None:
    """The client's first line, ``CNI_NETNS`` and the paths that are baked into the client are the host's."""
    values = having("config.dataDir", "/var/lib/a", having("config.spoolDir", "/var/spool/b"))
    values = having("cniBinDir", "/usr/libexec/cni", having("extraNetnsDirs", ["/run/c", "/run/d"], values))
    objects = render(having("config.socketPath", "/run/e/agent.sock", values))
    host = {v["name"]: v["hostPath"]["path"] for v in objects.pod["volumes"] if "hostPath" in v}
    mounts = {mount["name"]: mount["mountPath"] for mount in objects.container("agent")["volumeMounts"]}
    assert mounts.pop("config") == "/etc/floatip"
    assert mounts == host
    expected = {"/usr/libexec/cni", "/run/e", "/var/lib/a", "/var/spool/b", "/run/netns", "/run/c", "/run/d"}
    assert set(host.values()) == expected
    assert objects.container("agent")["args"] == ["agent", "--bin-dir", "/usr/libexec/cni"]
    assert objects.container("install-client")["args"][-1] == "/usr/libexec/cni"


def test_probes_go_to_loopback(least: Objects) -> None:
    container = least.container("agent")
    request = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    loopback = {"host": "127.0.0.1", "port": 9819}
    assert request == {
        "startup": {**loopback, "path": "/healthz"},
        "liveness": {**loopback, "path": "/healthz"},
        "readiness": {**loopback, "path": "/readyz"},
    }


def test_probes_have_patience(least: Objects) -> None:
    """A node that boots is slow, and an agent that waits for AWS is not to be restarted for it."""

    def seconds(kind: Any) -> Any:
        probe = least.container("agent")[f"{kind}Probe"]
        return probe["periodSeconds"] * probe["failureThreshold"]

    assert seconds("startup") >= 60
    assert 30 <= seconds("liveness") <= 120
    assert seconds("readiness") <= 30


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("0.0.0.0:1", "127.0.0.1", 1),
        ("[::]:9819", "::1", 9819),
        ("[::1]:9", "::1", 9),
        ("10.0.0.1:80", "10.0.0.1", 80),
    ],
)
def test_probes_follow_the_health_address(address: str, host: str, port: int) -> None:
    container = render(having("config.healthAddress", address)).container("agent")
    assert container["readinessProbe"]["httpGet"] == {"host": host, "port": port, "path": "/readyz"}


def test_no_health_address_no_probes() -> None:
    objects = render(having("config.healthAddress", None))
    assert not [key for key in objects.container("agent") if key.endswith("Probe")]
    assert _policy(objects).health_address is None


def test_it_has_the_time_that_it_takes_to_end(least: Objects) -> None:
    longest = agent.DRAIN_SECONDS + agent.STOPPED_SECONDS + agent.LAST_SECONDS
    assert least.pod["terminationGracePeriodSeconds"] >= longest + 5
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"]["terminationGracePeriodSeconds"]["minimum"] >= longest + 5


def test_environment_of_the_containers(least: Objects) -> None:
    env = {item["name"]: item.get("value", item.get("valueFrom")) for item in least.container("agent")["env"]}
    assert env == {
        "FLOATIP_CONFIG": "/etc/floatip/config.json",
        "FLOATIP_BIN_DIR": "/opt/cni/bin",
        "NODE_NAME": {"fieldRef": {"fieldPath": "spec.nodeName"}},
        "POD_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
    }


def test_endpoints_and_region() -> None:
    values = having("aws.region", "eu-central-1", having("aws.useDualstackEndpoint", True))
    env = {item["name"]: item.get("value") for item in render(values).container("agent")["env"]}
    assert (env["AWS_REGION"], env["AWS_USE_DUALSTACK_ENDPOINT"]) == ("eu-central-1", "true")


def test_a_token_of_kubernetes_only_for_doctor(least: Objects) -> None:
    assert least.pod["automountServiceAccountToken"] is True
    assert least.one("Role")["rules"] == [
        {
            "apiGroups": ["apps"],
            "resources": ["daemonsets"],
            "resourceNames": ["aws-node", "kube-multus-ds"],
            "verbs": ["get"],
        }
    ]
    assert least.one("Role")["metadata"]["namespace"] == "kube-system"
    without = render(having("doctor.readDaemonSets", False))
    assert without.pod["automountServiceAccountToken"] is False
    assert not without.of("Role")
    assert not without.of("RoleBinding")


def test_a_release_in_another_namespace_has_a_role_of_its_own(least: Objects) -> None:
    """All of these Roles lie in kube-system, whatever the release's namespace."""
    other = render(LEAST, namespace="floating")
    for kind in ("Role", "RoleBinding"):
        mine, theirs = least.one(kind)["metadata"], other.one(kind)["metadata"]
        assert mine["namespace"] == theirs["namespace"] == "kube-system"
        assert mine["name"] != theirs["name"], kind
    assert other.one("RoleBinding")["roleRef"]["name"] == other.one("Role")["metadata"]["name"]
    assert other.one("RoleBinding")["subjects"][0]["namespace"] == "floating"


def test_the_cluster_autoscaler_evicts_it_no_earlier_than_its_pods(least: Objects) -> None:
    """What an administrator adds does not take this away."""
    for objects in (least, render(having("podAnnotations", {"a": "b"}))):
        annotations = objects.one("DaemonSet")["spec"]["template"]["metadata"]["annotations"]
        assert annotations["cluster-autoscaler.kubernetes.io/enable-ds-eviction"] == "false"


def test_a_change_of_the_node_configuration_rolls_the_pods(least: Objects) -> None:
    def marks(objects: Any) -> Any:
        return objects.one("DaemonSet")["spec"]["template"]["metadata"]["annotations"]

    assert marks(render(having("config.logLevel", "debug"))) != marks(least)
    assert marks(render(LEAST)) == marks(least)


def test_the_node_configuration_is_one_that_the_agent_takes(least: Objects) -> None:
    policy = _policy(least)
    assert [str(entry) for entry in policy.allowed_destinations] == ["192.168.0.0/24 for core-*"]
    assert policy.allowed_route_tables.tags == {"floatip": "*"}


def test_with_the_defaults_it_is_what_the_agent_has_by_itself(least: Objects) -> None:
    assert _policy(least) == NodeConf.parse(LEAST["config"])


def test_every_key_of_the_node_configuration_is_a_value(least: Objects) -> None:
    """What the schema gains must be said in values.yaml before anybody can set it.

    Only ``elections`` is left out while it is off, because an agent of release 0.3 refuses the key.
    """
    config = json.loads(least.one("ConfigMap")["data"]["config.json"])
    properties = schemas.load("nodeconf")["properties"]
    written = yaml.safe_load((CHART / "values.yaml").read_text())["config"]
    assert set(written) == set(properties)
    assert written["elections"] is properties["elections"]["default"] is None
    assert set(config) == set(properties) - {"elections"}
    for key, value in properties.items():
        if key == "elections":
            continue
        assert config[key] == value["default"] or key in LEAST["config"], key


def test_the_manifests_policy_gives_nothing_until_it_is_changed() -> None:
    policy = _policy(manifest("cni-floatip.yaml"))
    (entry,) = policy.allowed_destinations
    assert str(entry.cidr) == "192.0.2.0/24", "a range for documentation: RFC 5737"
    assert policy.allowed_route_tables.ids == {"rtb-00000000000000000"}
    assert not policy.allowed_route_tables.tags
    assert manifest("cni-floatip.yaml").container("agent")["image"].startswith("registry.example/")


def test_uninstalling_runs_no_agent_and_ends_ready_where_all_is_gone() -> None:
    objects = render(having("uninstall.enabled", True))
    uninstaller, agent = objects.container("uninstall"), render(LEAST).container("agent")
    assert uninstaller["args"] == ["uninstall", "--bin-dir", "/opt/cni/bin"]
    for what in ("env", "securityContext", "volumeMounts"):  # it does an agent's work: releases, and guards
        assert uninstaller[what] == agent[what]
    assert [container["name"] for container in objects.pod["containers"]] == ["cleaned"]
    same = render(LEAST).one("DaemonSet")
    assert objects.one("DaemonSet")["metadata"]["name"] == same["metadata"]["name"]
    assert objects.one("DaemonSet")["spec"]["selector"] == same["spec"]["selector"]
    assert objects.container("cleaned")["securityContext"]["runAsNonRoot"] is True
    assert "volumeMounts" not in objects.container("cleaned")
    forced = render(having("uninstall.force", True, having("uninstall.enabled", True)))
    assert forced.container("uninstall")["args"][-1] == "--force"


def test_what_waits_on_a_clean_node_ends_when_it_is_told_to() -> None:
    """As process 1 nothing ends it but a handler of its own."""
    waits = render(having("uninstall.enabled", True)).container("cleaned")
    assert waits["command"][0] == "/opt/floatip/bin/python"
    assert "home=/opt/floatip\npython=$home/bin/python\n" in (ROOT / "install/image/finish.sh").read_text()
    command = [sys.executable, "-c", *waits["args"]]
    ignoring = functools.partial(signal.signal, signal.SIGTERM, signal.SIG_IGN)
    with subprocess.Popen(command, preexec_fn=ignoring) as waiting:  # noqa: PLW1509 (no threads here)
        try:

            def handles() -> bool:
                status = Path(f"/proc/{waiting.pid}/status").read_text()
                caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
                return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

            until(handles)
            waiting.terminate()
            assert waiting.wait(60) == 0
        finally:
            waiting.kill()


def test_every_container_has_resources_and_says_why_it_ended(least: Objects) -> None:
    for objects in (least, render(having("uninstall.enabled", True))):
        for container in objects.pod["initContainers"] + objects.pod["containers"]:
            assert container["resources"]["limits"] == {"memory": "256Mi"}, container["name"]
            if container["name"] != "cleaned":
                assert container["terminationMessagePolicy"] == "FallbackToLogsOnError", container["name"]


def _policy(objects: Any) -> Any:
    return NodeConf.parse(json.loads(objects.one("ConfigMap")["data"]["config.json"]))
