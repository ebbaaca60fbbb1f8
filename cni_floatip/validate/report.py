"""Validates configuration files and reports every complaint with its place.

Knows NetworkAttachmentDefinitions (with the configuration in their string), plugin chains, also inside the
``delegates`` of Multus' own configuration, single plugin entries and node configurations, in JSON or YAML,
several documents to a file. Given a node configuration, it says what that would refuse of each network
(``policy``). It compares the networks of one call with each other (``networks``), and Deployments and
StatefulSets with the elected networks that they name (``workloads``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..config import election, netconf, nodeconf
from ..config.election import Elections
from ..config.nodeconf import NodeConf
from ..config.strict_json import MOST_COMPLAINTS, Remark, Step, load_json, path_text
from ..model import cidr
from ..model.errors import DecodeFailure
from ..model.values import Network
from . import chain, documents, go_json, networks, other_plugins, workloads
from . import policy as policing
from .documents import Configured, Kind, kind_of, label_of


@dataclass(frozen=True, slots=True)
class FileFinding:
    """One remark about one place. ``path`` is empty where the text could not be read at all."""

    file: str
    document: str
    path: str
    text: str
    warning: bool

    def __str__(self) -> str:
        kind = "warning: " if self.warning else ""
        return (
            ": ".join(part for part in (self.file, self.document, self.path) if part) + f": {kind}{self.text}"
        )


@dataclass(slots=True)
class FileReport:
    """What was found in one file: the documents judged, those passed over, and the findings.

    ``without_floatip``: networks among those passed over. ``not_judged``: the unknown parts of each document.
    ``ranges``: what the networks ask for, to compare with other networks. ``networks`` and ``workloads``:
    Kubernetes' objects that are compared with each other.
    """

    file: str
    judged: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    without_floatip: list[str] = field(default_factory=list)
    findings: list[FileFinding] = field(default_factory=list)
    not_judged: dict[str, list[str]] = field(default_factory=dict)
    ranges: list[networks.NetworkRange] = field(default_factory=list)
    networks: list[workloads.PodNetwork] = field(default_factory=list)
    workloads: list[workloads.Workload] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """How many findings are not mere warnings."""
        return sum(not finding.warning for finding in self.findings)

    def add(self, document: str, remarks: Iterable[Remark]) -> None:
        """Enter the remarks about ``document``."""
        self.judged.append(document)
        self.find(document, remarks)

    def find(self, document: str, remarks: Iterable[Remark]) -> None:
        """Enter findings, the errors first; with more than one would read, the document is none of ours."""
        findings = {
            FileFinding(self.file, document, path_text(one.path), one.text, one.warning) for one in remarks
        }
        ordered = sorted(findings, key=lambda one: (one.warning, one.path, one.text))
        self.findings += ordered[:MOST_COMPLAINTS]
        if rest := ordered[MOST_COMPLAINTS:]:
            self.findings.append(FileFinding(self.file, document, "", f"{len(rest)} more", rest[0].warning))

    def refuse(self, document: str, text: str) -> None:
        """Enter that ``document`` cannot be read."""
        self.judged.append(document)
        self.findings.append(FileFinding(self.file, document, "", text, warning=False))


@dataclass(frozen=True, slots=True)
class ValidateOptions:
    """What the caller knows besides the files: the VPC's CIDRs, the nodes' policy, the pods' namespace."""

    vpc_cidrs: tuple[Network, ...] = ()
    policy: NodeConf | None = None
    namespace: str | None = None

    def chain(self, document: Mapping[str, Any], name: str) -> Iterator[Remark]:
        """Yield all remarks about a conflist."""
        yield from chain.remarks(document, name, self.vpc_cidrs)
        if self.policy:
            yield from policing.of_chain(document, self._policy(self.policy))

    def plugin(self, document: Mapping[str, Any]) -> Iterator[Remark]:
        """Yield all remarks about an entry that stands alone."""
        yield from (Remark(one.path, one.text) for one in netconf.examine(document)[1])
        yield from chain.entry(document)
        if "cniVersion" in document:
            yield from chain.version(document)
        if self.policy:
            yield from policing.of_entry(document, self._policy(self.policy))

    def _policy(self, conf: NodeConf) -> policing.PolicyContext:
        return policing.PolicyContext(conf, self.namespace, self.vpc_cidrs)


def examine(
    file: str,
    text: bytes,
    kind: Kind | None = None,
    vpc_cidrs: Sequence[Network] = (),
    policy: NodeConf | None = None,
    namespace: str | None = None,
) -> FileReport:
    """Validate ``text``, the content of ``file``; ``vpc_cidrs`` tell which addresses are the VPC's own.

    Compares networks with ``policy``, as if their pods were in ``namespace``; None: each in its own.
    """
    report, options = FileReport(file), ValidateOptions(tuple(vpc_cidrs), policy, namespace)
    try:
        for document in documents.documents(text):
            _judge(report, document, kind or kind_of(document), options)
    except DecodeFailure as e:
        report.refuse("", e.msg)
    if not report.judged and not report.ignored:
        report.refuse("", "the file is empty")
    return report


def compare(reports: Sequence[FileReport]) -> None:
    """Enter the conflicts between the networks of all ``reports``, and what elections ask of their pods."""
    observed: dict[str, str] = {}
    for report in reports:
        for label in (item for item in report.judged if item.startswith("NetworkAttachmentDefinition ")):
            if label in observed:
                where = "this file" if observed[label] == report.file else observed[label]
                text = f"there is another one in {where}: a cluster keeps the one that is applied last"
                report.find(label, [Remark((), text, warning=True)])
            observed[label] = report.file
    groups = _judge_workloads(reports)
    everything = [network_range for report in reports for network_range in report.ranges]
    by_place = {(report.file, item): report for report in reports for item in report.judged}
    for request, remark in networks.compare(everything, groups):
        by_place[request.file, request.document].find(request.document, [remark])


def _judge_workloads(reports: Sequence[FileReport]) -> dict[tuple[str, str], workloads.Group]:
    """Judge the workloads with elected networks; return each such network's group, by file and document."""
    definitions = [network for report in reports for network in report.networks]
    known = workloads.KnownNetworks(definitions)
    groups = {(network.file, network.document): network.group for network in definitions if network.elected}
    for report in reports:
        passed_over = Counter(report.ignored)
        for workload in report.workloads:
            mine = known.of(workload)
            if any(network.elected for network in mine):
                groups |= workloads.groups_of(workload, mine)
                passed_over[workload.document] -= 1
                report.add(workload.document, workloads.remarks(workload, mine))
        report.ignored = list(passed_over.elements())
    return groups


def node_conf(file: str, text: bytes) -> tuple[FileReport, NodeConf | None]:
    """Validate the one node configuration in ``text``, and return it if nothing is wrong."""
    report = FileReport(file)
    try:
        results = [item for document in documents.documents(text) for item in documents.node_confs(document)]
    except DecodeFailure as e:
        report.refuse("", e.msg)
        return report, None
    if len(results) != 1:
        report.refuse("", f"{_count_text(results)} in it: name a file with one, plain or in a ConfigMap")
        return report, None
    _judge_configurations(report, results)
    sound = [document for _, document in results if not isinstance(document, DecodeFailure)]
    return report, NodeConf.parse(sound[0]) if sound and not report.errors else None


def _judge(report: FileReport, document: Any, kind: Any, options: ValidateOptions) -> None:
    if document is None:
        return  # nothing between two ---
    if not isinstance(document, dict) or kind is None:
        what = "try --kind" if isinstance(document, dict) else "not an object"
        report.refuse(
            "",
            f"no NetworkAttachmentDefinition, conflist, plugin entry or node configuration: {what}",
        )
    elif kind == "list":
        if not document["items"]:
            report.ignored.append("an empty list")
        for item in document["items"]:
            _judge(report, item, kind_of(item), options)
    elif kind == "nad":
        _judge_nad(report, document, options)
    elif kind == "configmap":
        _judge_configmap(report, document, options)
    elif kind == "conflist":
        _judge_network(report, "", document, "", options)
    elif kind == "plugin":
        _judge_plugin(report, document, options)
    elif kind == "node":
        report.add("", _node(document))
    elif kind == "workload":
        report.ignored.append(label_of(document))  # unless its networks turn out to be elected
        report.workloads.append(workloads.Workload(label_of(document), document))
    else:
        report.ignored.append(label_of(document))


def _judge_nad(report: FileReport, document: Mapping[str, Any], options: ValidateOptions) -> None:
    label = label_of(document)
    spec, metadata = document.get("spec"), document.get("metadata")
    text = spec.get("config") if isinstance(spec, dict) else None
    if not text:
        report.ignored.append(f"{label} (no spec.config: Multus reads a file of the node)")
        return
    try:
        config = (
            load_json(text.encode(errors="surrogatepass"), "spec.config") if isinstance(text, str) else None
        )
    except DecodeFailure as e:
        report.refuse(label, e.msg)
        return
    if not isinstance(config, dict):
        report.refuse(label, "spec.config: not a JSON object in a string")
        return
    metadata = metadata if isinstance(metadata, dict) else {}
    name = str(metadata.get("name", ""))  # Multus takes it for the network's
    if options.namespace is None and metadata.get("namespace"):
        options = replace(options, namespace=str(metadata["namespace"]))
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict) and annotations.get("k8s.v1.cni.cncf.io/resourceName"):
        config = _with_device(config)
    if network := workloads.pod_network(report.file, label, metadata, config):
        report.networks.append(network)
    if chain.is_floatip(config):
        report.add(label, [ALONE, *options.plugin({"name": name} | config)])
    else:
        _judge_network(report, label, config, name, options)


def _with_device(config: Mapping[str, Any]) -> dict[str, Any]:
    """A network as Multus passes it on with a device plugin: each plugin gets the pod's device."""
    plugins = config.get("plugins")
    if not isinstance(plugins, list):
        return dict(config)
    device = {"deviceID": "of the pod"}
    with_device = [
        plugin | device if isinstance(plugin, dict) and not chain.is_floatip(plugin) else plugin
        for plugin in plugins
    ]
    return {**config, "plugins": with_device}


def _judge_network(
    report: FileReport, label: str, document: Mapping[str, Any], name: str, options: ValidateOptions
) -> None:
    """Judge all chains in one configuration: its own, and those that Multus has in ``delegates``."""
    remarks: list[Remark] = []
    ours = False
    for path, item in _chains(document, ()):
        plugins = item["plugins"]
        if not isinstance(plugins, list) or not all(isinstance(plugin, dict) for plugin in plugins):
            ours = True
            remarks.append(Remark((*path, "plugins"), "not a list of objects"))
        elif any(map(chain.is_floatip, plugins)):
            ours = True
            remarks += _judge_chain(report, label, item, name, options, path)
        elif any(map(other_plugins.misspelt, plugins)):
            ours = True
            for index, plugin in enumerate(plugins):
                remarks += other_plugins.name(plugin, (*path, "plugins", index))
    if ours:
        report.add(label, remarks)
        return
    what = label or (
        "a conflist" if "plugins" in document else f"a plugin entry of type {document.get('type')}"
    )
    report.ignored.append(f"{what} (without floatip)" if label or "plugins" in document else what)
    report.without_floatip.append(what)


def _judge_chain(
    report: FileReport,
    label: str,
    document: Mapping[str, Any],
    name: str,
    options: ValidateOptions,
    path: tuple[Step, ...],
) -> Iterator[Remark]:
    """Yield the remarks about one chain; enter its parts that are not judged, and what it asks for."""
    read = [item if chain.is_floatip(item) else go_json.plugin(item) for item in document["plugins"]]
    at = next(index for index, item in enumerate(read) if chain.is_floatip(item))
    document = {**document, "plugins": read}
    yield from (replace(one, path=(*path, *one.path)) for one in options.chain(document, name))
    if path[-2:] == ("delegates", 0):
        text = "the first delegate is the cluster's own network, where the pod would have no default route"
        yield Remark(path, f"{text}: floatip is for networks that pods have besides", warning=True)
    if unknown := list(dict.fromkeys(other_plugins.not_judged(document.get("cniVersion"), read, at))):
        more = [f"{len(unknown) - MOST_COMPLAINTS} more"] if len(unknown) > MOST_COMPLAINTS else []
        report.not_judged.setdefault(label, []).extend(unknown[:MOST_COMPLAINTS] + more)
    report.ranges += networks.network_ranges(report.file, label, document, path, options.vpc_cidrs)


def _chains(document: Any, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Mapping[str, Any]]]:
    """Yield each chain in a configuration with its place; floatip alone as delegate is a chain of one."""
    if not isinstance(document, dict):
        return
    if "plugins" in document:
        yield path, document
        plugins = document["plugins"]
        for index, plugin in enumerate(plugins if isinstance(plugins, list) else ()):
            yield from _delegates(plugin, (*path, "plugins", index))
    elif path and chain.is_floatip(document):
        yield path, {**document, "plugins": [document]}
    yield from _delegates(document, path)


def _delegates(plugin: Any, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Mapping[str, Any]]]:
    delegates = plugin.get("delegates") if isinstance(plugin, dict) else None
    for index, item in enumerate(delegates if isinstance(delegates, list) else ()):
        yield from _chains(item, (*path, "delegates", index))


def _judge_plugin(report: FileReport, document: Mapping[str, Any], options: ValidateOptions) -> None:
    if document.get("type", "floatip") != "floatip":
        _judge_network(report, "", document, "", options)
        return
    report.add("", options.plugin({"name": "unnamed"} | dict(document)))  # a chain would have the name


ALONE = Remark((), "floatip needs a plugin before it that makes the interface: write a chain with plugins")


def _count_text(results: Sequence[tuple[str, Configured]]) -> str:
    if not results:
        return "no node configuration"
    labels = ", ".join(label for label, _ in results if label)
    return f"{len(results)} node configurations{f' ({labels})' if labels else ''}"


def _judge_configmap(report: FileReport, document: Mapping[str, Any], options: ValidateOptions) -> None:
    """Node configurations, and networks where Multus' configuration has some of floatip in it."""
    results = list(documents.configurations(document))
    _judge_configurations(report, results)
    with_networks = [
        (label, item)
        for label, item in documents.networks(document)
        if any(
            isinstance(one["plugins"], list) and any(map(chain.is_floatip, one["plugins"]))
            for _, one in _chains(item, ())
        )
    ]
    for label, with_network in with_networks:
        _judge_network(report, label, with_network, "", options)
    if not results and not with_networks:
        report.ignored.append(label_of(document))


def _judge_configurations(report: FileReport, results: Iterable[tuple[str, Configured]]) -> None:
    for label, document in results:
        if isinstance(document, DecodeFailure):
            report.refuse(label, document.msg)
        else:
            report.add(label, _node(document))


def _node(document: Mapping[str, Any]) -> Iterator[Remark]:
    conf, complaints = nodeconf.examine(document)
    yield from (Remark(one.path, one.text) for one in complaints)
    paths: dict[str, tuple[Step, ...]] = {name: (key,) for key, name in nodeconf.FIELDS.items()}
    if not document.get("allowedDestinations"):
        text = "empty: no pod gets a floating IP"
        yield Remark(paths["allowed_destinations"], text, warning=True)
    if not document.get("allowedRouteTables"):
        yield Remark(paths["allowed_route_tables"], "empty: no route table may be written", warning=True)
    for index, entry in enumerate(conf.allowed_destinations if not complaints else ()):
        if entry.cidr.prefixlen == 0:
            text = f"{entry.cidr} allows every address of the family, also others' ones on-premises"
            yield Remark((*paths["allowed_destinations"], index, "cidr"), text, warning=True)
    yield from _elections(conf.elections if not complaints else None)
    if not complaints:
        yield from _find_shadowed(conf, paths["allowed_destinations"])


def _elections(elections: Elections | None) -> Iterator[Remark]:
    if elections is None:
        return
    if not election.RELEASED:
        yield Remark(("elections",), f"{election.NOT_RELEASED}: no agent starts with it; leave the key out")
    if elections.veto_seconds < election.ABSENCE_SECONDS:
        text = (
            f"a rollout keeps a node without its agent for 5 to {election.ABSENCE_SECONDS} s, and after"
            f" {elections.veto_seconds} s its addresses move; write 60"
        )
        yield Remark(("elections", "vetoSeconds"), text, warning=True)


def _find_shadowed(conf: nodeconf.NodeConf, path: tuple[Step, ...]) -> Iterator[Remark]:
    """Warn of entries without effect, because a wider entry lets every namespace in."""
    open_to_all = [entry for entry in conf.allowed_destinations if not entry.namespaces]
    for index, entry in enumerate(conf.allowed_destinations):
        around = next((wide for wide in open_to_all if cidr.within(entry.cidr, wide.cidr)), None)
        if entry.namespaces and around:
            text = (
                f"{entry.cidr} is for {', '.join(entry.namespaces)}, and {around.cidr} around it for every"
                " namespace: it keeps nobody out; name the namespaces of that entry, too"
            )
            yield Remark((*path, index, "namespaces"), text, warning=True)
