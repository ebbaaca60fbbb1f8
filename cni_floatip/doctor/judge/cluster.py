"""Two daemonsets of the cluster: VPC CNI's source NAT, and Multus."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from ...model import cidr
from ...model.values import Network
from ..catalog import make_finding
from ..finding import Finding

EXTERNAL, EXCLUDED = "AWS_VPC_K8S_CNI_EXTERNALSNAT", "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"
ENOUGH = 256 << 20
_TAG = re.compile(r":v?(\d{1,9})\.(\d{1,9})[^/]*$")
UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def snat(aws_node: Mapping[str, Any], outside: Sequence[Network]) -> Iterator[Finding]:
    """Judge VPC CNI's settings against the IPv4 ranges outside the VPC (it rewrites no IPv6)."""
    variables = {
        item["name"]: item.get("value", "")
        for container in _containers(aws_node)
        for item in container.get("env", ())
    }
    if _on(variables, EXTERNAL) or (_on(variables, "ENABLE_IPv6") and not _on(variables, "ENABLE_IPv4")):
        return  # pods of an IPv6 cluster have no IPv4 address of their own to keep
    raw = variables.get(EXCLUDED, "")
    excluded = [ip_network(text.strip(), strict=False) for text in raw.split(",") if _is_network(text)]
    rewritten = [
        str(range_)
        for range_ in outside
        if range_.version == 4 and not any(cidr.within(range_, network) for network in excluded)
    ]
    if rewritten:  # one finding: the setting is one list, and a second command would undo the first
        what = f"{EXCLUDED} is {raw!r}" if raw else f"{EXCLUDED} is not set"
        yield make_finding(
            "snat", ", ".join(rewritten), what, ranges=",".join([*map(str, excluded), *rewritten])
        )


def _on(variables: Mapping[str, str], name: str) -> bool:
    """Whether a setting of VPC CNI is on, as Go's ParseBool reads it."""
    return variables.get(name, "") in ("1", "t", "T", "true", "TRUE", "True")


def multus(daemonset: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge Multus: on every node, not too old, with memory for plugins where it runs them itself (thick)."""
    status = daemonset.get("status", {})
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    if ready < wanted:
        labels = daemonset.get("spec", {}).get("selector", {}).get("matchLabels", {})
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        yield make_finding(
            "multus-not-ready", "kube-multus-ds", f"ready on {ready} of {wanted} nodes", selector=selector
        )
    for container in _containers(daemonset):
        if (old := version(container.get("image", ""))) and old < (4, 0):
            yield make_finding("multus-old", "kube-multus-ds", f"its image is {container['image']}")
        limit = container.get("resources", {}).get("limits", {}).get("memory", "")
        if is_thick(container) and limit and size(limit) < ENOUGH:
            names = {"container": container.get("name", "kube-multus")}
            yield make_finding("multus-memory", "kube-multus-ds", f"its limit is {limit}", **names)


def version(image: str) -> tuple[int, int] | None:
    """Return the release that an image's tag begins with (v4.1.4-eksbuild.3_thick); None: it names none."""
    match = _TAG.search(image.partition("@")[0])
    return (int(match[1]), int(match[2])) if match else None


def is_thick(container: Mapping[str, Any]) -> bool:
    """Whether this container is Multus' daemon, in which plugins run; thin Multus is run by the runtime."""
    words = [*container.get("command", ()), *container.get("args", ()), container.get("image", "")]
    return any("multus-daemon" in word or word.endswith(("-thick", "_thick")) for word in words)


def size(quantity: str) -> float:
    """Return a Kubernetes quantity of memory in bytes; infinite where it is not understood."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity)
    return float(match[1]) * UNITS[match[2]] if match and match[2] in UNITS else float("inf")


def _containers(daemonset: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    results: Sequence[Mapping[str, Any]] = (
        daemonset.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
    )
    return results


def _is_network(text: str) -> bool:
    try:
        ip_network(text.strip(), strict=False)
    except ValueError:
        return False
    return True
