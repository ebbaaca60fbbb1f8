"""What an example says about somebody's AWS account, said about the lab's. All else is run as written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from lab import netns
from lab.node import Node
from lab.pod import Pod
from lab.vpc import TAG
from lab.world import Lab

Document = dict[str, Any]

ENIS = {"eth1": "eth1", "eth2": "ens7"}
"""The examples' names of the second and third ENI, and what the lab's nodes call them."""

PARTICIPANT = "444455556666"
"""The account that node b1 belongs to: it takes part in the VPC of the lab's account 111122223333."""


def ids(lab: Lab) -> dict[str, str]:
    """Return the lab's tables and subnets in the place of those that the examples name by id."""
    return {
        "rtb-0a1b2c3d4e5f60718": lab.tables["main"],
        "subnet-0c11e47000000000a": lab.vpc.subnets["client"].id,
        "subnet-07600000000000a0b": lab.vpc.subnets["tgw-a"].id,
        "subnet-00de500000000000a": lab.vpc.subnets["a-nodes"].id,
    }


def chain(written: Document, lab: Lab) -> Document:
    """Return an example's chain with the lab's names, and macvlan passthru where there is no ipvlan."""
    return {**_with_ids(written, lab), "plugins": [_entry(item, lab) for item in written["plugins"]]}


def _entry(written: Document, lab: Lab) -> Document:
    entry = dict(_with_ids(written, lab))
    for key in ("master", "device"):
        if key in entry:
            entry[key] = ENIS[entry[key]]
    if entry["type"] == "ipvlan" and not lab.has_ipvlan:
        assert entry["mode"] == "l2"
        entry |= {"type": "macvlan", "mode": "passthru"}
    return entry


def eni(written: Document, node: Node) -> str:
    """Return the ENI of the node through which an example's chain leads."""
    first = written["plugins"][0]
    return node.eni(ENIS[first.get("master") or first["device"]]).id


def apply_policy(written: Document, lab: Lab, node: Node) -> None:
    """Make an example the configuration of the node. Its directories are the node's own."""
    own = {
        "dataDir": str(node.data_dir),
        "spoolDir": str(node.state / "spool"),
        "socketPath": str(node.state / "agent.sock"),
    }
    node.write_config(_with_ids(written, lab) | {key: own[key] for key in own if key in written})


def _with_ids(written: Document, lab: Lab) -> Document:
    text = json.dumps(written)
    for example, real in ids(lab).items():
        text = text.replace(f'"{example}"', f'"{real}"')
    return dict(json.loads(text))


@contextmanager
def tagged(lab: Lab, tags: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """Give the lab's route tables (by name) these tags and no others; afterwards their own again."""
    ec2 = lab.ec2.client()
    tables = list(lab.tables.values())
    keys = {key for item in tags.values() for key in item} | set(TAG)
    ec2.delete_tags(Resources=tables, Tags=[{"Key": key} for key in TAG])
    try:
        for name, given in tags.items():
            ec2.create_tags(Resources=[lab.tables[name]], Tags=_list(given))
        yield
    finally:
        ec2.delete_tags(Resources=tables, Tags=[{"Key": key} for key in keys])
        ec2.create_tags(Resources=tables, Tags=_list(TAG))


def _list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


@contextmanager
def as_new(lab: Lab, node: Node) -> Iterator[None]:
    """Afterwards no pod and no route to a network interface is left, and the node has its own policy."""
    try:
        yield
    finally:
        for pod in list(node.pods):
            _give_back(node, pod)
            node.remove_pod(pod)
        shutil.rmtree(node.data_dir)
        node.data_dir.mkdir()
        node.write_config(lab.node_config())
        for table in lab.tables.values():
            for destination, route in lab.ec2.truth(table).items():
                if route.target.startswith("eni-"):
                    family = "DestinationIpv6CidrBlock" if ":" in destination else "DestinationCidrBlock"
                    lab.ec2.client().delete_route(RouteTableId=table, **{family: destination})


def _give_back(node: Node, pod: Pod) -> None:
    """Return to the node what ENIs a pod still has. A real one comes back by itself, a veth would vanish."""
    held = {link["address"]: link for link in _ip(node, "-n", pod.ns, "link")}
    for eni in node.enis:
        if eni.ifname not in links(node) and eni.mac in held:
            netns.ip(pod.ns, [f"link set {held[eni.mac]['ifname']} name {eni.ifname} netns {node.ns}"])


def links(node: Node) -> set[str]:
    """Return the names of the node's network interfaces."""
    return {link["ifname"] for link in _ip(node, "link")}


def own_links(node: Node) -> set[str]:
    """Return the node's links without its ends of the pods', which the kernel removes in its own time."""
    return {name for name in links(node) if not name.startswith("pod")}


def ours(node: Node, ns: str) -> list[str]:
    """Return the rules of a pod that are not the kernel's own, and its routes by floating interfaces."""
    rules = [rule for family in ("-4", "-6") for rule in _ip(node, "-n", ns, family, "rule")]
    not_kernel = [rule for rule in rules if rule["src"] != "all" or "oif" in rule]
    with_source = [f"rule from {rule['src']} table {rule['table']}" for rule in not_kernel]
    return with_source + [
        f"route {route['dst']} dev {route['dev']}"
        for family in ("-4", "-6")
        for route in routes(node, ns, family, "table", "all")
        if route.get("dev", "").startswith("net")
    ]


def routes(node: Node, ns: str, family: str, *what: str) -> list[Document]:
    """Return the routes in a pod."""
    with suppress(json.JSONDecodeError):  # nothing at all where there is none
        return _ip(node, "-n", ns, family, "route", "show", *what)
    return []


def _ip(node: Node, *arguments: str) -> list[Document]:
    done = node.run(["ip", "-json", *arguments])
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))
