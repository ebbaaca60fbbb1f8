"""The examples as a reader meets them: networks, the workload that uses them, and policies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

DIRECTORY = Path(__file__).parents[2] / "netconf-examples"
README = "README.md"
ANNOTATION = "k8s.v1.cni.cncf.io/networks"

FILES = sorted(path.name for path in DIRECTORY.iterdir() if path.name != README)
POLICIES = [name for name in FILES if name.startswith("node-")]
MANIFESTS = [name for name in FILES if name.endswith(".yaml")]
NETWORKS = [name for name in FILES if name not in POLICIES]
ELECTED = [name for name in MANIFESTS if '"activate": "ready"' in (DIRECTORY / name).read_text()]
ELECTING = [
    name for name in POLICIES if json.loads((DIRECTORY / name).read_text()).get("elections") is not None
]


def text(name: str) -> str:
    """Return what the file says."""
    return (DIRECTORY / name).read_text()


def policy(name: str) -> Document:
    """Return a node configuration."""
    return dict(json.loads(text(name)))


def objects(name: str, kind: str) -> list[Document]:
    """Return the Kubernetes objects of one kind in a manifest."""
    return [result for result in yaml.safe_load_all(text(name)) if result["kind"] == kind]


def chains(name: str) -> dict[str, Document]:
    """Return the plugin chains of a file, by the name under which a pod asks for them."""
    if name.endswith(".conflist"):
        chain = json.loads(text(name))
        return {chain["name"]: chain}
    definitions = objects(name, "NetworkAttachmentDefinition")
    return {
        definition["metadata"]["name"]: json.loads(definition["spec"]["config"]) for definition in definitions
    }


def workload(name: str) -> Document:
    """Return a manifest's one Deployment."""
    (raw,) = objects(name, "Deployment")
    return dict(raw["spec"])


def asked(name: str) -> list[tuple[str, str]]:
    """Return the networks that the file's workload asks Multus for, each with the interface in the pod."""
    annotation = workload(name)["template"]["metadata"]["annotations"][ANNOTATION]
    words = [part.strip() for part in annotation.split(",")]
    results = [re.fullmatch(r"([a-z0-9-]+)@([a-z0-9]+)", word) for word in words]
    return [(match[1], match[2]) for match in results if match]


def attachments(name: str) -> list[tuple[Document, str]]:
    """Return chain and interface for each attachment of the example's pod, in Multus' order."""
    known = chains(name)
    if name.endswith(".conflist"):
        return [(chain, "net1") for chain in known.values()]
    return [(known[network], ifname) for network, ifname in asked(name)]


def plugin(chain: Document, kind: str) -> Document:
    """Return a chain's entry for one plugin."""
    return dict(next(entry for entry in chain["plugins"] if entry["type"] == kind))


def addresses(chain: Document) -> list[str]:
    """Return the addresses that the chain gives, with their prefixes."""
    return [item["address"] for item in chain["plugins"][0]["ipam"]["addresses"]]
