"""Validates Deployments and StatefulSets whose pods are elected: what would leave an address without a pod.

Kubernetes takes all of it, so each remark is a warning. The networks are those of the same call, because a
workload only names them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..config import netconf
from ..config.election import ElectionConf, default_group
from ..config.netconf import NetConf
from ..config.strict_json import Remark, Step
from ..model.values import Address
from . import chain, go_json, ipam, other_plugins
from .placement import Pods, apart, as_list, as_object, as_objects, spread

Path = tuple[Step, ...]
Group = tuple[str, str]
"""A namespace ("": whichever the objects are applied to), and a group's name in it."""

ANNOTATION = "k8s.v1.cni.cncf.io/networks"
"""Where a pod names its networks: Multus' documentation, "NetworkAttachmentDefinition selection"."""
HOST = "kubernetes.io/hostname"
ZONES = ("topology.kubernetes.io/zone", "topology.k8s.aws/zone-id")

TEMPLATE: Path = ("spec", "template", "spec")


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """A NetworkAttachmentDefinition with floatip. ``addresses``: those it gives itself, one by one."""

    file: str
    document: str
    namespace: str
    name: str
    conf: NetConf
    addresses: tuple[Address, ...]

    @property
    def elected(self) -> bool:
        """Whether its claims are elected."""
        return self.conf.activate == "ready"

    @property
    def group(self) -> Group:
        """The group of its claims where a pod has no other network."""
        default = default_group(self.addresses) if self.addresses else self.document
        return self.namespace, self.conf.election.group or default


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment or StatefulSet, as it was written."""

    document: str
    raw: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        """Its namespace; empty where it is applied to one."""
        return str(as_object(self.raw.get("metadata")).get("namespace") or "")

    @property
    def spec(self) -> Mapping[str, Any]:
        return as_object(self.raw.get("spec"))

    @property
    def pods(self) -> Pods:
        """What all of its pods have."""
        template = as_object(self.spec.get("template"))
        labels = as_object(as_object(template.get("metadata")).get("labels"))
        return Pods(self.namespace, labels, as_object(template.get("spec")))

    @property
    def networks(self) -> Any:
        """The annotation of its pods that names their networks."""
        metadata = as_object(as_object(self.spec.get("template")).get("metadata"))
        return as_object(metadata.get("annotations")).get(ANNOTATION)

    @property
    def replicas(self) -> int:
        """How many pods it has; 1 where it does not say (Kubernetes' default)."""
        count = self.spec.get("replicas")
        return count if isinstance(count, int) and not isinstance(count, bool) else 1


def pod_network(
    file: str, label: str, metadata: Mapping[str, Any], config: Mapping[str, Any]
) -> PodNetwork | None:
    """Return what a NetworkAttachmentDefinition is to a pod; None without floatip in its chain."""
    plugins = as_list(config.get("plugins"))
    if not all(isinstance(plugin, dict) for plugin in plugins) or not any(map(chain.is_floatip, plugins)):
        return None
    read = [plugin if chain.is_floatip(plugin) else go_json.plugin(plugin) for plugin in plugins]
    at = next(index for index, plugin in enumerate(read) if chain.is_floatip(plugin))
    conf, _ = netconf.examine(read[at])
    namespace, name = (str(metadata.get(key) or "") for key in ("namespace", "name"))
    return PodNetwork(file, label, namespace, name, conf, _own_addresses(read, at))


def _own_addresses(plugins: Sequence[Mapping[str, Any]], at: int) -> tuple[Address, ...]:
    """Return the addresses that each pod has from a chain with floatip ``at``; none where pods differ."""
    if at == 0:
        return ()
    made_by = other_plugins.maker(plugins, at)
    given = ipam.given_ranges(plugins[made_by], ())
    if ipam.brings_addresses(plugins[made_by]) or any(one.count != 1 for one in given):
        return ()
    return tuple(one.first.ip for one in given)


class KnownNetworks:
    """The networks of one call, to be found by what a workload calls them."""

    def __init__(self, networks: Sequence[PodNetwork]) -> None:
        self._by_place: dict[tuple[str, str], PodNetwork] = {}
        self._by_name: dict[str, PodNetwork] = {}
        for network in networks:
            self._by_place.setdefault((network.namespace, network.name), network)
            self._by_name.setdefault(network.name, network)

    def of(self, workload: Workload) -> list[PodNetwork]:
        """Return the networks that the pods of ``workload`` name, as far as they are known.

        A network, or a workload, that names no namespace may be in any.
        """
        results = []
        for namespace, name in _named(workload):
            network = self._by_place.get((namespace, name)) or self._by_place.get(("", name))
            if network is None and not namespace:
                network = self._by_name.get(name)
            results += [network] if network else []
        return results


def groups_of(workload: Workload, networks: Sequence[PodNetwork]) -> dict[tuple[str, str], Group]:
    """Return the group of each elected network of a workload's pods, by the network's file and document."""
    elected = [network for network in networks if network.elected]
    unnamed = [network for network in elected if not network.conf.election.group]
    addresses = [address for network in unnamed for address in network.addresses]
    default = default_group(addresses) if addresses else ""
    return {
        (network.file, network.document): (
            network.namespace or workload.namespace,
            network.conf.election.group or default,
        )
        for network in elected
    }


def remarks(workload: Workload, networks: Sequence[PodNetwork]) -> Iterator[Remark]:
    """Yield the remarks about a workload with these networks, one of which is elected."""
    for path, text in (
        *_replicas(workload),
        *_hosts(workload),
        *_zones(workload),
        *_ending(workload),
        *_rollout(workload),
        *_settings(networks),
    ):
        yield Remark(path, text, warning=True)


# -- where its pods run -------------------------------------------------------------------------------------


def _replicas(workload: Workload) -> Iterator[tuple[Path, str]]:
    if workload.replicas < 2:
        text = "nobody is there to take over, so an address moves only when Kubernetes has replaced its pod"
        yield ("spec", "replicas"), f"{workload.replicas}: {text}; write 2 or more"


def _hosts(workload: Workload) -> Iterator[tuple[Path, str]]:
    if any(key == HOST or key in ZONES for key in apart(workload.pods, across_rollouts=True)):
        return
    text = (
        "two pods may land on one host, which takes both with it when it dies, and ipvlan refuses an address"
        f" twice on one ENI; require podAntiAffinity by {HOST} among the pods of this workload, of every"
        " revision"
    )
    yield (*TEMPLATE, "affinity"), text


def _zones(workload: Workload) -> Iterator[tuple[Path, str]]:
    selector = as_object(workload.pods.spec.get("nodeSelector"))
    if pinned := next((key for key in ZONES if key in selector), None):
        text = "all pods are in one zone, and nobody takes over when it fails; leave the label out"
        yield (*TEMPLATE, "nodeSelector", pinned), text
        return
    if any(key in ZONES for key in (*apart(workload.pods), *spread(workload.pods))):
        return
    text = (
        "all pods may land in one zone, and nobody takes over when it fails; spread them by"
        f" {ZONES[0]} with maxSkew 1 and DoNotSchedule"
    )
    yield (*TEMPLATE, "topologySpreadConstraints"), text


# -- how its pods end ---------------------------------------------------------------------------------------


def _ending(workload: Workload) -> Iterator[tuple[Path, str]]:
    containers = as_objects(workload.pods.spec.get("containers"))
    hooks = [as_object(as_object(container.get("lifecycle")).get("preStop")) for container in containers]
    if all(not hook or as_object(hook.get("sleep")).get("seconds") == 0 for hook in hooks):
        text = (
            "no container serves on while the address moves to another pod, which takes a second; give the"
            " one that serves a lifecycle.preStop that sleeps, as sleep: {seconds: 5}"
        )
        yield (*TEMPLATE, "containers"), text
    if workload.pods.spec.get("terminationGracePeriodSeconds") == 0:
        text = "pods are killed at once, before the address has moved; write 10 or more"
        yield (*TEMPLATE, "terminationGracePeriodSeconds"), text


def _rollout(workload: Workload) -> Iterator[tuple[Path, str]]:
    if workload.raw.get("kind") != "Deployment":
        return
    strategy = as_object(workload.spec.get("strategy"))
    path: Path = ("spec", "strategy")
    if strategy.get("type") == "Recreate":
        text = "a rollout ends all pods before it starts the first new one; write RollingUpdate"
        yield (*path, "type"), text
        return
    rolling = as_object(strategy.get("rollingUpdate"))
    replicas = workload.replicas
    surge = _count(rolling.get("maxSurge", "25%"), replicas, math.ceil)
    missing = _count(rolling.get("maxUnavailable", "25%"), replicas, math.floor)
    if surge:
        shown = "" if "maxSurge" in rolling else " (the default 25%)"
        text = (
            f"{surge}{shown}: with replicas: {replicas} a rollout takes {replicas + surge} hosts, and waits"
            " for ever where there are fewer; unless there are as many, write maxSurge: 0 and"
            " maxUnavailable: 1"
        )
        yield (*path, "rollingUpdate", "maxSurge"), text
    if missing and missing >= replicas > 1:
        text = f"{missing}: a rollout ends all {replicas} pods at once; write 1"
        yield (*path, "rollingUpdate", "maxUnavailable"), text


def _count(value: Any, replicas: int, whole: Any) -> int:
    """Return how many pods are written, as a number or as a percentage; 0 for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.endswith("%") and value[:-1].isascii() and value[:-1].isdigit():
        return int(whole(min(int(value[:-1][:6]), 100_000) * replicas / 100))
    return 0


# -- its networks -------------------------------------------------------------------------------------------


def _settings(networks: Sequence[PodNetwork]) -> Iterator[tuple[Path, str]]:
    path: Path = ("spec", "template", "metadata", "annotations", ANNOTATION)
    elected = [network for network in networks if network.elected]
    for network in networks:
        if not network.elected:
            text = (
                f"{network.name} is not elected, so the pod that is added last has its addresses, and"
                f' {elected[0].name} may be active on another one; write "activate": "ready" there, too'
            )
            yield path, text
    named = [network for network in elected if network.conf.election.group]
    unnamed = [network for network in elected if not network.conf.election.group]
    if named and unnamed:
        text = (
            f"{named[0].name} is of the group {named[0].conf.election.group} and {unnamed[0].name} of none,"
            " so each may be active on another pod; name the same group in both, or none"
        )
        yield path, text
    first: dict[str | None, PodNetwork] = {}
    for network in elected:
        other = first.setdefault(network.conf.election.group, network)
        if keys := _differing(other.conf.election, network.conf.election):
            text = f"{other.name} and {network.name} are one group and differ in {', '.join(keys)}"
            yield path, f"{text}, of which a group has one; write the same in both"


def _differing(one: ElectionConf, other: ElectionConf) -> list[str]:
    written, others = one.document(), other.document()
    return [key for key in written if written[key] != others.get(key)]


def _named(workload: Workload) -> Iterator[tuple[str, str]]:
    """Yield namespace and name of each network in the annotation of the pods, which has two notations."""
    text = workload.networks
    if not isinstance(text, str):
        return
    if text.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            for item in as_objects(json.loads(text)):
                yield str(item.get("namespace") or workload.namespace), str(item.get("name"))
        return
    for part in text.split(","):
        namespace, _, name = part.strip().partition("@")[0].rpartition("/")
        yield namespace or workload.namespace, name
