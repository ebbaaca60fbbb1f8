"""Configurations and Kubernetes objects in the documents: judged by what will judge them in use."""

from __future__ import annotations

import json
import re
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest
import yaml

from cni_floatip.config.netconf import NetConf
from cni_floatip.config.nodeconf import FIELDS, NodeConf
from cni_floatip.model.values import Eni
from cni_floatip.rules.pod_routes import pod_plan
from cni_floatip.validate import report as validate
from tests.docs.pages import Block, Page, pages, told

LANGUAGES = {"sh", "json", "yaml", "hcl", "text", "mermaid", ""}
KUBERNETES = ("1.31", "1.34")


def blocks(language: str) -> list[Block]:
    return [block for page in told() for block in page.blocks if block.info == language]


@pytest.mark.parametrize("page", pages().values(), ids=str)
def test_blocks_say_what_they_are(page: Any) -> None:
    unknown = [str(block) for block in page.blocks if block.info not in LANGUAGES]
    assert not unknown, f"write one of {sorted(LANGUAGES)}"


def judged(block: Block, document: Any) -> list[str]:
    """What is wrong with one document: ours by our own judge, Kubernetes' by its schemas."""
    if not isinstance(document, dict):
        return []
    if {"type", "plugins"} & document.keys() or set(document) & set(FIELDS) or _is_network(document):
        report = validate.examine(str(block), json.dumps(document).encode(), None, [])
        return [str(finding) for finding in report.findings if not finding.warning]
    if {"apiVersion", "kind"} <= document.keys() and ".cni.cncf.io" not in document["apiVersion"]:
        return _kubernetes(document)
    return []


def _is_network(document: dict[str, Any]) -> bool:
    return document.get("kind") == "NetworkAttachmentDefinition"


def _kubernetes(document: dict[str, Any]) -> list[str]:
    import kubernetes_validate

    group = document["apiVersion"].partition("/")[0]
    if "." in group and not group.endswith(".k8s.io"):
        return []  # somebody's own resource: no schema of Kubernetes'
    results = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as e:
            results.append(f"Kubernetes {version}: {e}")
    return results


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_right(block: Block) -> None:
    assert not judged(block, json.loads(block.text))


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_right(block: Block) -> None:
    for document in yaml.safe_load_all(block.text):
        assert document is not None
        assert not judged(block, document)


def test_wrong_examples_are_reported() -> None:
    block = blocks("json")[0]
    assert judged(block, {"type": "floatip", "name": "x", "routeTabels": {}})
    assert judged(block, {"allowedDestinations": [{"cidr": "192.168.0.1/24"}]})
    assert judged(block, {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replica": 1}})
    assert not judged(block, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})


def test_examples_of_both_documents_are_there() -> None:
    results = [json.loads(block.text) for block in blocks("json")]
    assert any("plugins" in item for item in results)
    assert [NodeConf.parse(item) for item in results if "allowedDestinations" in item]


# -- networks


def networks(page: Page) -> list[str]:
    """Return each network that a page shows to be copied, as text."""
    texts = [block.text for block in page.blocks if block.info == "yaml"]
    documents = [item for text in texts for item in yaml.safe_load_all(text)]
    documents += [json.loads(block.text) for block in page.blocks if block.info == "json"]
    results = [document for document in documents if isinstance(document, dict)]
    return [json.dumps(item) for item in results if _is_network(item) or "plugins" in item]


@pytest.mark.parametrize("page", [page for page in told() if networks(page)], ids=str)
def test_validate_has_nothing_to_say_about_a_network(page: Page) -> None:
    """No warning either, and nothing that the page's own policy, where it has one, would refuse."""
    shown = [json.loads(block.text) for block in page.blocks if block.info == "json"]
    policy = next((NodeConf.parse(item) for item in shown if "allowedDestinations" in item), None)
    for text in networks(page):
        report = validate.examine(str(page), text.encode(), policy=policy, namespace="core-a")
        assert [str(finding) for finding in report.findings] == []


def test_replicas_name_addresses_that_static_takes() -> None:
    (block,) = [block for block in blocks("yaml") if '"ips": [' in block.text]
    network, *replicas = yaml.safe_load_all(block.text)
    templates = [replica["spec"]["template"] for replica in replicas]
    texts = [template["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] for template in templates]
    request = [item for text in texts for item in json.loads(text)]
    assert [replica["spec"]["replicas"] for replica in replicas] == [1, 1]
    assert {item["name"] for item in request} == {network["metadata"]["name"]}
    addresses = [address for item in request for address in item["ips"]]
    assert len(set(addresses)) == 2
    chain = json.loads(network["spec"]["config"])
    chain["plugins"][0]["ipam"]["addresses"] = [{"address": address} for address in addresses]
    assert validate.examine("f", json.dumps(chain).encode()).findings == []


def test_what_a_pod_gets_for_a_pool_is_what_the_page_says() -> None:
    page = pages()["docs/pools.md"]
    (text,) = networks(page)
    chain = json.loads(json.loads(text)["spec"]["config"])
    conf = NetConf.parse(chain["plugins"][1] | {"cniVersion": "1.0.0", "name": "gateway"})
    subnets, vpc = (ip_network("10.10.1.0/24"),), (ip_network("10.10.0.0/16"),)
    eni = Eni("eni-1", "", 1, "vpc-1", "subnet-1", subnets, vpc)
    made = pod_plan(conf, [ip_interface("192.168.0.2/32")], (), eni, 100, "net1")
    given = {str(rule).replace("lookup 100", "lookup T") for rule in made.rules}
    given |= {str(route).removesuffix(" table 100") for route in made.routes}
    rows = [line.split("|")[1] for _, line in page.prose if line.startswith("| `")]
    named = {item for row in rows for item in re.findall(r"`((?:from|throw) [^`]+)`", row)}
    assert len(named) == 2
    assert named <= given
