"""Configurations and Kubernetes objects in the documents: judged by what will judge them in use."""

import json
from typing import Any

import pytest
import yaml

from cni_floatip import validate
from cni_floatip.nodeconf import FIELDS, NodeConf
from tests.docs.pages import Block, pages, told

LANGUAGES = {"sh", "json", "yaml", "hcl", "text", ""}
KUBERNETES = ("1.31", "1.34")


def blocks(language: str) -> list[Block]:
    return [block for page in told() for block in page.blocks if block.info == language]


@pytest.mark.parametrize("page", pages().values(), ids=str)
def test_blocks_say_what_they_are(page: Any):
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
    found = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as e:
            found.append(f"Kubernetes {version}: {e}")
    return found


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_right(block: Block):
    assert not judged(block, json.loads(block.text))


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_right(block: Block):
    for document in yaml.safe_load_all(block.text):
        assert document is not None
        assert not judged(block, document)


def test_what_is_wrong_is_found():
    block = blocks("json")[0]
    assert judged(block, {"type": "floatip", "name": "x", "routeTabels": {}})
    assert judged(block, {"allowedDestinations": [{"cidr": "192.168.0.1/24"}]})
    assert judged(block, {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replica": 1}})
    assert not judged(block, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})


def test_examples_of_both_documents_are_there():
    found = [json.loads(block.text) for block in blocks("json")]
    assert any("plugins" in each for each in found)
    assert [NodeConf.parse(each) for each in found if "allowedDestinations" in each]
