"""The schemas: complete, true to the dataclasses, and every refusal has a complaint."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cni_floatip.config import election, netconf, nodeconf, schemas
from cni_floatip.config.schemas.complaints import complaints
from tests.config.json_strategies import like

NAMES = ["netconf", "nodeconf"]


def schemas_in(schema: dict[str, Any], path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema below ``schema``: of keys, list items, tags and roles."""
    yield path, schema
    for keyword in ("properties", "patternProperties"):
        for key, inner in schema.get(keyword, {}).items():
            yield from schemas_in(inner, f"{path}.{key}")
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(keyword), dict):
            yield from schemas_in(schema[keyword], f"{path}<{keyword}>")


EVERY = [
    pytest.param(inner, id=f"{name}:{path}")
    for name in NAMES
    for path, inner in schemas_in(schemas.load(name))
]


@pytest.mark.parametrize("name", NAMES)
def test_is_a_json_schema(name: Any) -> None:
    Draft202012Validator.check_schema(schemas.load(name))


@pytest.mark.parametrize("schema", EVERY)
def test_every_key_of_ours_is_documented(schema: dict[str, Any]) -> None:
    if "type" in schema or "enum" in schema:
        assert schema["title"]
        assert schema["description"]
        assert "examples" in schema or "properties" in schema


@pytest.mark.parametrize("schema", EVERY)
def test_defaults_and_examples_are_accepted(schema: dict[str, Any]) -> None:
    shown = [*schema.get("examples", []), *([schema["default"]] if "default" in schema else [])]
    assert [value for value in shown if not Draft202012Validator(schema).is_valid(value)] == []


def keys(schema: dict[str, Any]) -> set[str]:
    """The keys that are ours, not the specification's or a runtime's."""
    return {key for key, inner in schema["properties"].items() if "$comment" not in inner}


def camel(cls: Any) -> set[str]:
    return {nodeconf.camel(field.name) for field in fields(cls)}


NET, NODE = schemas.load("netconf"), schemas.load("nodeconf")


def test_keys_of_the_network_configuration_are_the_fields() -> None:
    derived = {"extraDestinations"}  # the list form of destination
    assert keys(NET) | {"cniVersion", "name"} == camel(netconf.NetConf) - derived
    assert keys(NET) | {"name"} == set(netconf.OWN_KEYS)
    assert keys(NET["properties"]["routeTables"]) == camel(netconf.RouteTableSelector)
    assert {*keys(NET["properties"]["podRoutes"]), "gateways"} - {"gateway"} == camel(netconf.PodRoutesConf)
    assert keys(NET["properties"]["election"]) == camel(election.ElectionConf)


def test_keys_of_the_node_configuration_are_the_fields() -> None:
    assert keys(NODE) == camel(nodeconf.NodeConf)
    assert keys(NODE["properties"]["allowedDestinations"]["items"]) == camel(nodeconf.AllowedDestination)
    assert keys(NODE["properties"]["allowedRouteTables"]) == camel(nodeconf.AllowedRouteTables)
    assert keys(NODE["properties"]["limits"]) == camel(nodeconf.Limits)
    assert keys(NODE["properties"]["watchLimits"]) == camel(nodeconf.WatchLimits)
    assert keys(NODE["properties"]["elections"]) == camel(election.Elections)


def test_what_the_network_schema_calls_default_is_the_default() -> None:
    least = {"name": "vip", "routeTables": {"all": True}}
    output = {key: inner["default"] for key, inner in NET["properties"].items() if "default" in inner}
    assert set(output) == {
        "destination",
        "podRoutes",
        "watchAddresses",
        "duplicateAddressDetection",
        "timeoutSeconds",
        "activate",
    }
    routes = {
        key: inner.get("default") for key, inner in NET["properties"]["podRoutes"]["properties"].items()
    }
    assert routes == output["podRoutes"] | {"mtu": None}
    assert netconf.NetConf.parse(least | output) == netconf.NetConf.parse(least)
    assert netconf.NetConf.parse(least | {"podRoutes": {}}) == netconf.NetConf.parse(least)
    elected = least | {"activate": "ready"}
    inner = {
        key: inner["default"]
        for key, inner in NET["properties"]["election"]["properties"].items()
        if "default" in inner
    }
    assert set(inner) == {"zones", "failbackSeconds", "unreadySeconds"}
    assert netconf.NetConf.parse(elected | {"election": inner}) == netconf.NetConf.parse(elected)


def test_what_the_node_schema_calls_default_is_the_default() -> None:
    output = {key: inner["default"] for key, inner in NODE["properties"].items()}
    assert nodeconf.NodeConf.parse(output) == nodeconf.NodeConf.parse({}) == nodeconf.NodeConf()
    for name in ("limits", "watchLimits"):
        inside = NODE["properties"][name]["properties"]
        assert {key: inner["default"] for key, inner in inside.items()} == output[name]
    elections = {
        key: inner["default"] for key, inner in NODE["properties"]["elections"]["properties"].items()
    }
    assert nodeconf.NodeConf.parse({"elections": elections}).elections == election.Elections()
    assert nodeconf.NodeConf.parse({"elections": {}}).elections == election.Elections()


def test_the_documents_drawn_are_of_both_kinds() -> None:
    judged: list[bool] = []

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(like(NET))
    def draw(document: Any) -> None:
        judged.append(Draft202012Validator(NET).is_valid(document))

    draw()
    assert 0.2 < sum(judged) / len(judged) < 0.8


@given(st.data(), st.sampled_from(NAMES))
def test_a_refused_shape_has_a_complaint_and_an_accepted_one_has_none(data: st.DataObject, name: Any) -> None:
    document = data.draw(like(schemas.load(name), odd=5))
    results, sound = schemas.examine(name, document)
    assert bool(results) != Draft202012Validator(schemas.load(name)).is_valid(document)
    assert results or sound is document


@given(st.data())
def test_any_document_is_judged_without_an_exception(data: st.DataObject) -> None:
    netconf.examine(data.draw(like(NET, odd=4)))
    nodeconf.examine(data.draw(like(NODE, odd=4)))


def test_a_complaint_inside_what_is_refused_as_a_whole_is_kept() -> None:
    document = {"name": "vip", "routeTables": {"ids": ["x"], "all": True}}
    results, sound = schemas.examine("netconf", document)
    assert [complaint.path for complaint in results] == [("routeTables", "ids", 0), ("routeTables",)]
    assert sound == {"name": "vip", "routeTables": None}
    assert document["routeTables"] == {"ids": ["x"], "all": True}


def test_what_we_have_no_words_for_is_said_in_jsonschemas() -> None:
    assert [str(complaint) for complaint in complaints({"minItems": 2}, [1])] == ["$: [1] is too short"]
