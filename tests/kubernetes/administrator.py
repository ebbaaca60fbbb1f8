"""An administrator of the cluster, who types what the documents say on the client's machine in the VPC."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.kubernetes.chart import NAMESPACE, RELEASE, helm_program
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.worker import Worker
from lab.node import PATH
from tests.docs.pages import ROOT, Block, pages
from tests.support.waiting import until

INSTALL = "install/README.md"
OF_THE_PRODUCT = f"app.kubernetes.io/name={RELEASE}"
KINDS_OF_THE_CHART = "daemonsets,pods,configmaps,serviceaccounts,roles,rolebindings,controllerrevisions"
CLIENT, DATA, SOCKETS = "/opt/cni/bin/floatip", "/var/lib/cni/floatip", "/run/floatip"


class Administrator:
    """``run`` is a shell in a directory with ``values.yaml`` and ``install/``, as the commands expect."""

    def __init__(self, cluster: Cluster, place: Path) -> None:
        self._cluster = cluster
        self._place = place
        (place / "install").symlink_to(ROOT / "install")
        self.write_values()

    def write_values(self, config: Mapping[str, Any] | None = None) -> None:
        """Write ``values.yaml``: the lab's values, with these keys of ``config`` replaced."""
        values = self._cluster.chart.values()
        self.write("values.yaml", {**values, "config": {**values["config"], **(config or {})}})

    def write(self, name: str, *documents: Mapping[str, Any]) -> None:
        """Write a file of YAML documents."""
        (self._place / name).write_text(yaml.safe_dump_all([dict(item) for item in documents]))

    def run(self, *commands: str) -> str:
        """Return what these lines of shell print. The test fails at the first line that fails."""
        programs = (
            self._cluster.materials.programs.place,
            helm_program().parent,
            Path(sys.executable).parent,
        )
        path = os.pathsep.join([*map(str, programs), PATH])
        shell = ["env", "--chdir", str(self._place), f"PATH={path}", "bash", "-euo", "pipefail", "-c"]
        done = self._cluster.kubectl.run(*shell, "\n".join(commands))
        assert done.returncode == 0, "\n".join([*commands, done.stdout, done.stderr])
        return done.stdout


def blocks(heading: str, info: str = "sh", page: str = INSTALL) -> list[Block]:
    """Return the fenced blocks below a heading of a page, up to the next one of its rank."""
    document = pages()[page]
    headings = [(line, text) for line, text in document.prose if text.startswith("## ")]
    (begin,) = (line for line, text in headings if text == f"## {heading}")
    end = min((line for line, _ in headings if line > begin), default=sys.maxsize)
    return [block for block in document.blocks if begin < block.line < end and block.info == info]


def commands(heading: str, number: int = 0) -> list[str]:
    """Return the lines of one block of commands."""
    return blocks(heading)[number].text.splitlines()


def agent_on(cluster: Cluster, node: str) -> str:
    """Return the name of the agent's pod on a node, once it is ready."""

    def ready() -> str:
        for pod in agents(cluster.kubectl, node):
            conditions = {item["type"]: item["status"] for item in pod["status"].get("conditions", [])}
            if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
                return str(pod["metadata"]["name"])
        return ""

    return until(ready, lambda: cluster.kubectl("describe", "pods", "-n", NAMESPACE, "-l", OF_THE_PRODUCT))


def agents(kubectl: Kubectl, node: str) -> list[Any]:
    """Return the daemon set's pods on a node."""
    selected = ("-n", NAMESPACE, "-l", OF_THE_PRODUCT, "--field-selector", f"spec.nodeName={node}")
    result: list[Any] = kubectl.get("pods", *selected)
    return result


def events(kubectl: Kubectl, pod: str, *words: str) -> str:
    """Return what ``kubectl describe pod`` prints, once all of these words are in it."""

    def described() -> str:
        text = kubectl("describe", "pod", pod)
        return text if all(word in text for word in words) else ""

    return until(described, lambda: kubectl("describe", "pod", pod))


def routes(cluster: Cluster, *destinations: str) -> dict[str, str]:
    """Return what EC2 holds: ``table destination`` -> the interface, of all tables, for these alone."""
    tables = cluster.lab.tables
    return {
        f"{name} {cidr}": str(route)
        for name, table in tables.items()
        for cidr, route in cluster.lab.ec2.truth(table).items()
        if cidr in destinations
    }


def left_on(worker: Worker) -> list[str]:
    """Return what the product has on a node: files, guards, rules. Empty directories do not count."""
    script = f"""
        ls -d {CLIENT} /opt/cni/bin/.floatip 2>/dev/null || true
        find {DATA} {SOCKETS} ! -type d 2>/dev/null || true
        nft list tables | grep floatip || true
        for link in /sys/class/net/*; do tc filter show dev "${{link##*/}}" egress; done
        ip rule | grep -w 110: || true
    """
    done = worker.enter("sh", "-uc", script)
    assert done.returncode == 0, done
    return done.stdout.splitlines()


def evict(cluster: Cluster, namespace: str, pod: str) -> None:
    """Evict a pod as ``kubectl drain`` and autoscalers do: by the Eviction API. Wait until it is gone."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    document = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    }
    cluster.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(document))
    cluster.kubectl.wait("--for=delete", f"pod/{pod}", "-n", namespace)
