"""install/README.md, followed word by word as far as that goes without a cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.model.cidr import parse
from cni_floatip.validate import report as validate
from tests.aws.template import Stack
from tests.chart.rendered import ROOT, helm, render

README = (ROOT / "install/README.md").read_text()
TEMPLATE = ROOT / "install/cloudformation/floatip-nodes.yaml"


def blocks(language: Any) -> Any:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", README)


def examples() -> list[Any]:
    """The YAML that is values of the chart; the first, alone, is enough to install."""
    return [values for text in blocks("yaml") for values in yaml.safe_load_all(text) if "kind" not in values]


def merged(into: Any, more: Any) -> Any:
    for key, value in more.items():
        into = into | {key: merged(into.get(key, {}), value) if isinstance(value, dict) else value}
    return into


class Loader(yaml.SafeLoader):
    """Reads CloudFormation: the value behind a tag (!Ref, !Sub) as it stands."""


def _behind(loader: Any, _: Any, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


Loader.add_multi_constructor("!", _behind)


@pytest.fixture(scope="module")
def stack() -> Any:
    return yaml.load(TEMPLATE.read_text(), Loader)  # noqa: S506 (a SafeLoader)


@pytest.mark.needs("helm")
def test_every_example_of_values_renders() -> None:
    first, *others = examples()
    assert len(others) >= 3
    for more in others:
        assert render(merged(first, more)).all != render(first).all


@pytest.mark.needs("helm")
def test_the_first_address_is_sound_and_its_policy_allows_it() -> None:
    (text,) = [text for text in blocks("yaml") if "NetworkAttachmentDefinition" in text]
    report = validate.examine("first.yaml", text.encode(), None, [parse("10.10.0.0/16")])
    assert [str(finding) for finding in report.findings] == []
    network, deployment = yaml.safe_load_all(text)
    objects = render(examples()[0])
    policy = NodeConf.parse(json.loads(objects.one("ConfigMap")["data"]["config.json"]))
    ipvlan, floatip = json.loads(network["spec"]["config"])["plugins"]
    (address,) = [parse(item["address"]) for item in ipvlan["ipam"]["addresses"]]
    assert policy.allows_destination(address, network["metadata"]["namespace"])
    assert floatip["routeTables"]["tags"] == policy.allowed_route_tables.tags
    assert (
        deployment["spec"]["template"]["spec"]["nodeSelector"].items() <= objects.pod["nodeSelector"].items()
    )


@pytest.mark.needs("helm")
def test_a_node_configuration_is_judged_before_the_upgrade(tmp_path: Path) -> None:
    """With any helm: the release that it was built for does not count."""
    (line,) = re.findall(r"(?m)^(helm template .*) \| floatipctl validate -$", README)
    values = tmp_path / "values.yaml"
    output = []
    for cidr in ("2001:db8::/64", "2001:db8::5/64"):
        first = merged(examples()[0], {"config": {"allowedDestinations": [{"cidr": cidr}]}})
        values.write_text(yaml.safe_dump(first))
        command = line.replace("install/helm", f"{ROOT}/install/helm").replace("values.yaml", str(values))
        report = validate.examine("", helm(*command.split()[1:]).encode())
        output.append([str(finding) for finding in report.findings])
    assert output[0] == []
    assert "2001:db8::5/64 has host bits set" in output[1][0]


def test_the_nodes_of_the_template_are_those_of_the_first_address(stack: Any) -> None:
    assert stack["Outputs"]["InterfaceNames"]["Value"].split(",")[0] == "floatip1"
    assert '"master": "floatip1"' in README
    assert stack["Parameters"]["TagValue"]["Default"] == "core"


@pytest.mark.needs("helm")
def test_what_the_stack_says_of_the_chart_are_values_of_it() -> None:
    text = Stack(AgentServiceAccount="cni-floatip", FloatingIpv6Cidr="fd00::/64").outputs()["ChartValues"]
    objects = render({**yaml.safe_load(text), "image": {"repository": "registry.example/floatip"}})
    assert objects.pod["serviceAccountName"] == "cni-floatip"
    assert objects.pod["nodeSelector"]["floatip"] == "true"
    policy = NodeConf.parse(json.loads(objects.one("ConfigMap")["data"]["config.json"]))
    assert {entry.namespaces for entry in policy.allowed_destinations} == {("core-*",)}


def test_the_release_that_is_built_is_this_one() -> None:
    import cni_floatip

    assert set(re.findall(r"cni-floatip:([0-9][\w.]*)", README)) == {cni_floatip.__version__}
