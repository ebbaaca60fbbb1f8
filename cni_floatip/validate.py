"""What is wrong with a file, before anybody's pod finds out: every complaint with its place.

Knows NetworkAttachmentDefinitions (with the configuration in their string), plugin chains, single plugin
entries and node configurations, in JSON or YAML, several documents to a file. With a node configuration to
hold them against, it says of each network what that would refuse (``policing``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import chain, cidr, kinds, netconf, nodeconf, policing
from .chain import Remark
from .documents import Step, load_json, place
from .errors import DecodeFailure
from .kinds import Configured, Kind, kind_of, label_of
from .model import Network
from .nodeconf import NodeConf


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about one place. ``path`` is empty where the text could not be read at all."""

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
class Report:
    """What was found in one file: the documents judged, those passed over, and the findings."""

    file: str
    judged: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """How many findings are not mere warnings."""
        return sum(not finding.warning for finding in self.findings)

    def add(self, document: str, remarks: Iterable[Remark]) -> None:
        """Enter what was said about ``document``."""
        self.judged.append(document)
        found = [Finding(self.file, document, place(one.path), one.text, one.warning) for one in remarks]
        self.findings += sorted(set(found), key=lambda one: (one.warning, one.path, one.text))

    def refuse(self, document: str, text: str) -> None:
        """Enter that ``document`` cannot be read."""
        self.judged.append(document)
        self.findings.append(Finding(self.file, document, "", text, warning=False))


@dataclass(frozen=True, slots=True)
class Told:
    """What is told besides the files: the VPC's CIDRs, the policy of the nodes, the namespace of the pods."""

    vpc_cidrs: tuple[Network, ...] = ()
    policy: NodeConf | None = None
    namespace: str | None = None

    def chain(self, document: Mapping[str, Any], name: str) -> Iterator[Remark]:
        """Yield all there is to say about a conflist."""
        yield from chain.of(document, name, self.vpc_cidrs)
        if self.policy:
            yield from policing.of_chain(document, self._policy(self.policy))

    def plugin(self, document: Mapping[str, Any]) -> Iterator[Remark]:
        """Yield all there is to say about an entry that stands alone."""
        yield from (Remark(one.path, one.text) for one in netconf.examine(document)[1])
        yield from chain.entry(document)
        if "cniVersion" in document:
            yield from chain.version(document)
        if self.policy:
            yield from policing.of_entry(document, self._policy(self.policy))

    def _policy(self, conf: NodeConf) -> policing.Policy:
        return policing.Policy(conf, self.namespace, self.vpc_cidrs)


def examine(
    file: str,
    text: bytes,
    kind: Kind | None = None,
    vpc_cidrs: Sequence[Network] = (),
    policy: NodeConf | None = None,
    namespace: str | None = None,
) -> Report:
    """Judge ``text``, the content of ``file``; ``vpc_cidrs`` tell which addresses are the VPC's own.

    Networks are held against ``policy``, as if their pods were in ``namespace``; None: each in its own.
    """
    report, told = Report(file), Told(tuple(vpc_cidrs), policy, namespace)
    try:
        for document in kinds.documents(text):
            _judge(report, document, kind or kind_of(document), told)
    except DecodeFailure as e:
        report.refuse("", e.msg)
    if not report.judged and not report.ignored:
        report.refuse("", "the file is empty")
    return report


def node_conf(file: str, text: bytes) -> tuple[Report, NodeConf | None]:
    """Judge the one node configuration in ``text``, and return it where nothing is wrong with it."""
    report = Report(file)
    try:
        found = [each for document in kinds.documents(text) for each in kinds.node_confs(document)]
    except DecodeFailure as e:
        report.refuse("", e.msg)
        return report, None
    if len(found) != 1:
        report.refuse("", f"{_counted(found)} in it: name a file with one, plain or in a ConfigMap")
        return report, None
    _judge_configurations(report, found)
    sound = [document for _, document in found if not isinstance(document, DecodeFailure)]
    return report, NodeConf.parse(sound[0]) if sound and not report.errors else None


def _judge(report: Report, document: Any, kind: Any, told: Told) -> None:
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
            _judge(report, item, kind_of(item), told)
    elif kind == "nad":
        _judge_nad(report, document, told)
    elif kind == "configmap":
        _judge_configmap(report, document)
    elif kind == "conflist":
        _judge_chain(report, "", document, "", told)
    elif kind == "plugin":
        _judge_plugin(report, document, told)
    elif kind == "node":
        report.add("", _node(document))
    else:
        report.ignored.append(label_of(document))


def _judge_nad(report: Report, document: Mapping[str, Any], told: Told) -> None:
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
    if told.namespace is None and metadata.get("namespace"):
        told = replace(told, namespace=str(metadata["namespace"]))
    if chain.is_floatip(config):
        report.add(label, [ALONE, *told.plugin({"name": name} | config)])
    else:
        _judge_chain(report, label, config if "plugins" in config else {"plugins": []}, name, told)


def _judge_chain(report: Report, label: str, document: Mapping[str, Any], name: str, told: Told) -> None:
    plugins = document.get("plugins")
    if not isinstance(plugins, list) or not all(isinstance(plugin, dict) for plugin in plugins):
        report.add(label, [Remark(("plugins",), "not a list of objects")])
    elif any(chain.is_floatip(plugin) for plugin in plugins):
        report.add(label, told.chain(document, name))
    else:
        report.ignored.append(f"{label or 'a conflist'} (without floatip)")


def _judge_plugin(report: Report, document: Mapping[str, Any], told: Told) -> None:
    if document.get("type", "floatip") != "floatip":
        report.ignored.append(f"a plugin entry of type {document['type']}")
        return
    report.add("", told.plugin({"name": "unnamed"} | dict(document)))  # a chain would have the name


ALONE = Remark((), "floatip needs a plugin before it that makes the interface: write a chain with plugins")


def _counted(found: Sequence[tuple[str, Configured]]) -> str:
    if not found:
        return "no node configuration"
    labels = ", ".join(label for label, _ in found if label)
    return f"{len(found)} node configurations{f' ({labels})' if labels else ''}"


def _judge_configmap(report: Report, document: Mapping[str, Any]) -> None:
    found = list(kinds.configured(document))
    _judge_configurations(report, found)
    if not found:
        report.ignored.append(label_of(document))


def _judge_configurations(report: Report, found: Iterable[tuple[str, Configured]]) -> None:
    for label, document in found:
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
    if not complaints:
        yield from _shadowed(conf, paths["allowed_destinations"])


def _shadowed(conf: nodeconf.NodeConf, path: tuple[Step, ...]) -> Iterator[Remark]:
    """Warn of entries that keep nobody out, because a wider one lets every namespace in."""
    open_to_all = [entry for entry in conf.allowed_destinations if not entry.namespaces]
    for index, entry in enumerate(conf.allowed_destinations):
        around = next((wide for wide in open_to_all if cidr.within(entry.cidr, wide.cidr)), None)
        if entry.namespaces and around:
            text = (
                f"{entry.cidr} is for {', '.join(entry.namespaces)}, and {around.cidr} around it for every"
                " namespace: it keeps nobody out; name the namespaces of that entry, too"
            )
            yield Remark((*path, index, "namespaces"), text, warning=True)
