"""What is wrong with a file, before anybody's pod finds out: every complaint with its place.

Knows NetworkAttachmentDefinitions (with the configuration in their string), plugin chains, single plugin
entries and node configurations, in JSON or YAML, several documents to a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from . import chain, netconf, nodeconf
from .chain import Remark
from .documents import Step, load_json, place
from .errors import DecodeFailure
from .model import Network

Kind = Literal["nad", "conflist", "plugin", "node"]


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

    def add(self, document: str, remarks: Iterator[Remark]) -> None:
        """Enter what was said about ``document``."""
        self.judged.append(document)
        found = [Finding(self.file, document, place(one.path), one.text, one.warning) for one in remarks]
        self.findings += sorted(set(found), key=lambda one: (one.warning, one.path, one.text))

    def refuse(self, document: str, text: str) -> None:
        """Enter that ``document`` cannot be read."""
        self.judged.append(document)
        self.findings.append(Finding(self.file, document, "", text, warning=False))


def examine(file: str, text: bytes, kind: Kind | None = None, vpc_cidrs: Sequence[Network] = ()) -> Report:
    """Judge ``text``, the content of ``file``; ``vpc_cidrs`` tell which addresses are the VPC's own."""
    report = Report(file)
    try:
        for document in _documents(text):
            _judge(report, document, kind or kind_of(document), vpc_cidrs)
    except DecodeFailure as e:
        report.refuse("", e.msg)
    if not report.judged and not report.ignored:
        report.refuse("", "the file is empty")
    return report


def kind_of(document: Any) -> str | None:
    """Return what ``document`` is, None when nothing tells."""
    if not isinstance(document, dict):
        return None
    if isinstance(document.get("kind"), str) and "apiVersion" in document:
        kinds = {"NetworkAttachmentDefinition": "nad", "ConfigMap": "configmap"}
        return kinds.get(document["kind"], "list" if isinstance(document.get("items"), list) else "other")
    if "plugins" in document:
        return "conflist"
    if "type" in document or "routeTables" in document:
        return "plugin"
    return "node" if any(key in nodeconf.FIELDS for key in document) else None


def _documents(text: bytes) -> Iterator[Any]:
    if text.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        yield load_json(text, "the file")
        return
    from .manifests import load_yaml

    for document in load_yaml(text):
        yield load_json(json.dumps(document, default=str).encode(), "the file")  # dates and .nan are not JSON


def _judge(report: Report, document: Any, kind: Any, vpc_cidrs: Sequence[Network]) -> None:
    if document is None:
        return  # nothing between two ---
    if not isinstance(document, dict) or kind is None:
        what = "try --kind" if isinstance(document, dict) else "not an object"
        report.refuse(
            "",
            f"no NetworkAttachmentDefinition, conflist, plugin entry or node configuration: {what}",
        )
    elif kind == "list":
        for item in document["items"]:
            _judge(report, item, kind_of(item), vpc_cidrs)
    elif kind == "nad":
        _judge_nad(report, document, vpc_cidrs)
    elif kind == "configmap":
        _judge_configmap(report, document)
    elif kind == "conflist":
        _judge_chain(report, "", document, "", vpc_cidrs)
    elif kind == "plugin":
        _judge_plugin(report, document)
    elif kind == "node":
        report.add("", _node(document))
    else:
        report.ignored.append(_label(document))


def _label(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    names = [metadata.get(key) for key in ("namespace", "name")] if isinstance(metadata, dict) else []
    return f"{document.get('kind')} {'/'.join(str(name) for name in names if name)}".strip()


def _judge_nad(report: Report, document: Mapping[str, Any], vpc_cidrs: Sequence[Network]) -> None:
    label = _label(document)
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
    name = (
        str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    )  # Multus takes it for the network's
    if chain.is_floatip(config):
        report.add(label, iter([ALONE, *_plugin({"name": name} | config)]))
    else:
        _judge_chain(report, label, config if "plugins" in config else {"plugins": []}, name, vpc_cidrs)


def _judge_chain(
    report: Report, label: str, document: Mapping[str, Any], name: str, vpc_cidrs: Sequence[Network]
) -> None:
    plugins = document.get("plugins")
    if not isinstance(plugins, list) or not all(isinstance(plugin, dict) for plugin in plugins):
        report.add(label, iter([Remark(("plugins",), "not a list of objects")]))
    elif any(chain.is_floatip(plugin) for plugin in plugins):
        report.add(label, chain.of(document, name, vpc_cidrs))
    else:
        report.ignored.append(f"{label or 'a conflist'} (without floatip)")


def _judge_plugin(report: Report, document: Mapping[str, Any]) -> None:
    if document.get("type", "floatip") != "floatip":
        report.ignored.append(f"a plugin entry of type {document['type']}")
        return
    report.add("", _plugin({"name": "unnamed"} | dict(document)))  # a chain would have the name


ALONE = Remark((), "floatip needs a plugin before it that makes the interface: write a chain with plugins")


def _plugin(document: Mapping[str, Any]) -> Iterator[Remark]:
    yield from (Remark(one.path, one.text) for one in netconf.examine(document)[1])
    yield from chain.entry(document)
    if "cniVersion" in document:
        yield from chain.version(document)


def _judge_configmap(report: Report, document: Mapping[str, Any]) -> None:
    """A ConfigMap is ours when one of its values is a node configuration."""
    label, data = _label(document), document.get("data")
    for key, text in data.items() if isinstance(data, dict) else ():
        try:
            found = load_json(str(text).encode(errors="surrogatepass"), f"data[{json.dumps(key)}]")
        except DecodeFailure as e:
            if any(f'"{ours}"' in str(text) for ours in nodeconf.FIELDS):
                report.refuse(label, e.msg)
            continue
        if kind_of(found) == "node":
            report.add(f"{label} {key}", _node(found))
    if not any(judged.startswith(label) for judged in report.judged):
        report.ignored.append(label)


SAFE_RECONCILE = 51
"""Below it, 2 x reconcileSeconds (the patience of a superseded claim) is less than one look (+10 %), 30 s and
15 s of staleness: an older owner would act before the newest (DESIGN 6, "Patience")."""


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
    if conf.reconcile_seconds < SAFE_RECONCILE:
        text = f"below {SAFE_RECONCILE} an older owner may take a route before the newest one mends it"
        yield Remark(paths["reconcile_seconds"], text, warning=True)
