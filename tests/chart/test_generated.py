"""What is made from the chart is up to date: schema, manifests, table; and the chart is this release's."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import cni_floatip
from cni_floatip.config import schemas
from tests.chart.rendered import CHART, ROOT

RENDER = runpy.run_path(str(ROOT / "install/render.py"), run_name="render")


@pytest.mark.needs("helm")
def test_make_manifests_would_change_nothing() -> None:
    stale = [str(path) for path, text in RENDER["outputs"]() if path.read_text() != text]
    assert stale == [], "make manifests"


def test_the_table_has_every_value_of_the_chart() -> None:
    text = (CHART / "values.yaml").read_text()
    described = {value.path: value for value in RENDER["values"](text)}

    def leaves(values: Any, above: str = "") -> Iterator[str]:
        for key, value in values.items():
            path = f"{above}{key}"
            if path in described and not any(known.startswith(f"{path}.") for known in described):
                yield path
            elif isinstance(value, dict) and value:
                yield from leaves(value, f"{path}.")
            else:
                yield path

    assert set(leaves(yaml.safe_load(text))) <= set(described)
    assert all(value.text for value in described.values())
    table = (ROOT / "install/README.md").read_text()
    assert all(f"| `{path}` |" in table for path in described)


def test_the_schemas_part_about_the_node_configuration_is_the_agents() -> None:
    config = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]
    assert config["properties"] == schemas.load("nodeconf")["properties"]
    assert config["additionalProperties"] is False
    assert {"allowedDestinations", "allowedRouteTables"} <= set(config["required"])


def test_the_chart_is_of_this_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (cni_floatip.__version__, cni_floatip.__version__)
