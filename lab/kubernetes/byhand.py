"""What a person needs to use a running cluster by hand: scripts that enter its machines, a first workload."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from lab import cmdline
from lab.kubernetes import manifests
from lab.kubernetes.chart import helm_program
from lab.kubernetes.cluster import Cluster
from lab.node import PATH

ON_NODE = """\
#!/bin/sh
# Node {name}: a shell there, or one command, in the namespaces where containerd and the kubelet run.
exec env -i HOME="$HOME" TERM="${{TERM:-dumb}}" LANG=C.UTF-8 PATH={path} \\
  CONTAINERD_ADDRESS=/run/containerd/containerd.sock CONTAINERD_NAMESPACE=k8s.io \\
  nsenter --target {leader} --mount --pid --net -- "${{@:-bash}}"
"""

ON_CLIENT = """\
#!/bin/sh
# The client's machine in the VPC, from where the API servers are reached: a shell there, or one command.
exec env -i HOME="$HOME" TERM="${{TERM:-dumb}}" LANG=C.UTF-8 PATH={path} KUBECONFIG={kubeconfig} \\
  ip netns exec {namespace} "${{@:-bash}}"
"""


def prepare(cluster: Cluster) -> None:
    """Write the scripts, a link to the kubeconfig, and the manifest of a Deployment with a floating IP."""
    lab = cluster.lab
    (lab.state / "kubeconfig").symlink_to(cluster.kubeconfig)
    programs = os.pathsep.join(map(str, [cluster.materials.programs.place, helm_program().parent, PATH]))
    for name, worker in cluster.workers.items():
        text = ON_NODE.format(name=name, path=shlex.quote(PATH), leader=worker.leader)
        _write_script(lab.state / f"on-{name}", text)
    text = ON_CLIENT.format(
        path=shlex.quote(programs),
        kubeconfig=shlex.quote(str(cluster.kubeconfig)),
        namespace=cluster.kubectl.namespace,
    )
    _write_script(lab.state / "on-vpc-client", text)
    first = [
        manifests.network(lab.conflist([f"{lab.floating[2]}/32"])),
        manifests.deployment("web", networks="floating"),
    ]
    (lab.state / "web.json").write_text(json.dumps(manifests.as_list(first), indent=1) + "\n")


def _write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def guide(cluster: Cluster, at: Path) -> str:
    """Return what ``lab up --kubernetes`` prints."""
    lab = cluster.lab
    nodes = "  ".join(f"{node.name} ({node.instance_id})" for node in lab.nodes.values())
    servers = "  ".join(str(endpoint) for endpoint in cluster.control.endpoints)
    zone = next(iter(lab.azs))
    address = str(lab.floating[2])
    return f"""\
The lab is up: Kubernetes {cluster.materials.programs.kubernetes} in the VPC {lab.vpc_cidr}, with the chart
cni-floatip.

kubeconfig    {at}/kubeconfig
API servers   {servers}
nodes         {nodes}

The API servers are in the VPC, so kubectl and helm run on its client:
  {at}/on-vpc-client kubectl get nodes
  {at}/on-vpc-client helm -n kube-system list
A Deployment whose floating IP is {address}, who answers there, what EC2 holds:
  {at}/on-vpc-client kubectl apply -f {at}/web.json
  {at}/on-vpc-client kubectl get pods -o wide
  {cmdline.lab("ask", address)}
  {cmdline.lab("routes")}
A shell on a node, an Availability Zone that fails, the end:
  {at}/on-{next(iter(lab.nodes))}
  {cmdline.lab("fail", zone)}
  {cmdline.lab("recover", zone)}
  {cmdline.lab("down")}
"""
