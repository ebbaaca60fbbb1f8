"""Where Kubernetes may put the pods of a workload: which it keeps apart, and over what it spreads them.

As the scheduler reads a pod's specification (kubernetes.io, "Assigning Pods to Nodes", "Pod Topology Spread
Constraints"). Preferences are left out, because the scheduler drops them where it has to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

REVISIONS = ("pod-template-hash", "controller-revision-hash")
"""Labels that differ between the pods before and after a rollout."""


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of one workload: their namespace ("" if not written), labels and specification."""

    namespace: str
    labels: Mapping[str, Any]
    spec: Mapping[str, Any]


def apart(pods: Pods, *, across_rollouts: bool = False) -> Iterator[str]:
    """Yield the topology keys by which Kubernetes must keep these pods apart.

    ``across_rollouts``: also a pod of the revision before from one of the next.
    """
    against = as_object(as_object(pods.spec.get("affinity")).get("podAntiAffinity"))
    for term in as_objects(against.get("requiredDuringSchedulingIgnoredDuringExecution")):
        by_revision = any(key in REVISIONS for key in as_list(term.get("matchLabelKeys")))
        elsewhere = as_list(term.get("namespaces")) and pods.namespace not in as_list(term.get("namespaces"))
        if (by_revision and across_rollouts) or elsewhere:
            continue
        if _selects(term.get("labelSelector"), pods.labels):
            yield str(term.get("topologyKey"))


def spread(pods: Pods) -> Iterator[str]:
    """Yield the topology keys over which Kubernetes must spread these pods evenly."""
    for constraint in as_objects(pods.spec.get("topologySpreadConstraints")):
        strict = constraint.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
        even = strict and constraint.get("maxSkew") == 1
        if even and _selects(constraint.get("labelSelector"), pods.labels):
            yield str(constraint.get("topologyKey"))


def _selects(selector: Any, labels: Mapping[str, Any]) -> bool:
    """Return whether a label selector selects pods with these labels; none at all selects nothing."""
    if not isinstance(selector, dict):
        return False
    wanted = as_object(selector.get("matchLabels"))
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_fits(expression, labels) for expression in as_objects(selector.get("matchExpressions")))


def _fits(expression: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    key, values = str(expression.get("key")), as_list(expression.get("values"))
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def as_object(value: Any) -> Mapping[str, Any]:
    """Return an object of a foreign document; an empty one in the place of anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list of a foreign document; an empty one in the place of anything else."""
    return value if isinstance(value, list) else []


def as_objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects in a list of a foreign document."""
    return [item for item in as_list(value) if isinstance(item, dict)]
