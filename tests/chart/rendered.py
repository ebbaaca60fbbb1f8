"""The chart as helm renders it: a list of Kubernetes objects, or what helm says against the values."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import program

ROOT = Path(__file__).parents[2]
CHART = ROOT / "install/helm/cni-floatip"
MANIFESTS = ROOT / "install/manifests"

LEAST: dict[str, Any] = {
    "image": {"repository": "registry.example/floatip"},
    "config": {
        "allowedDestinations": [{"cidr": "192.168.0.0/24", "namespaces": ["core-*"]}],
        "allowedRouteTables": {"tags": {"floatip": "*"}},
    },
}
"""The values that have no default."""


class Refused(Exception):
    """Helm renders nothing; the text is what the administrator reads."""


@dataclass(frozen=True, slots=True)
class Objects:
    """What ``helm template`` or a manifest file holds."""

    all: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [raw for raw in self.all if raw["kind"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        (raw,) = self.of(kind)
        return raw

    @property
    def pod(self) -> dict[str, Any]:
        """The pod that the daemon set runs: its specification."""
        raw: dict[str, Any] = self.one("DaemonSet")["spec"]["template"]["spec"]
        return raw

    def container(self, name: str) -> dict[str, Any]:
        (result,) = [c for c in self.pod["initContainers"] + self.pod["containers"] if c["name"] == name]
        return dict(result)


def helm(*arguments: str, values: dict[str, Any] | None = None) -> str:
    """Run helm and return what it prints, or raise ``Refused``. Values go to standard input: ``-f -``."""
    result = program("helm")
    assert result, "no helm"
    done = subprocess.run(
        [result, *arguments], input=yaml.safe_dump(values or {}), capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


def render(
    values: dict[str, Any],
    kubernetes: str = "1.35.0",
    *,
    namespace: str = "kube-system",
    chart: Path = CHART,
) -> Objects:
    """Render the chart with these values as release ``cni-floatip``."""
    text = _rendered(json.dumps(values), kubernetes, namespace, chart)
    return Objects([result for result in yaml.safe_load_all(text) if result])


@cache
def _electing() -> tempfile.TemporaryDirectory[str]:
    copy = tempfile.TemporaryDirectory(prefix="floatip-chart-")
    shutil.copytree(CHART, copy.name, dirs_exist_ok=True)
    path = Path(copy.name, "Chart.yaml")
    path.write_text(re.sub(r'(?m)^(  cni-floatip\.dev/elections: )"\w+"$', r'\1"true"', path.read_text()))
    return copy


def electing() -> Path:
    """Return the chart of a release that elects: this one, but for what its ``Chart.yaml`` says of that."""
    return Path(_electing().name)


def chart_for(values: dict[str, Any]) -> Path:
    """Return the chart that renders these values: with elections, that of a release that elects."""
    return electing() if values.get("config", {}).get("elections") is not None else CHART


@cache
def _rendered(values: str, kubernetes: str, namespace: str, chart: Path) -> str:
    where = ["template", "cni-floatip", str(chart), "--namespace", namespace]
    return helm(*where, "--kube-version", kubernetes, "-f", "-", values=json.loads(values))


def manifest(name: str) -> Objects:
    """Read a rendered manifest."""
    return Objects([result for result in yaml.safe_load_all((MANIFESTS / name).read_text()) if result])


def having(path: str, value: Any, base: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the least values with one more: ``having("image.tag", "1.2")``."""
    values: dict[str, Any] = copy.deepcopy(LEAST if base is None else base)
    where: dict[str, Any] = values
    *parents, last = path.split(".")
    for key in parents:
        where = where.setdefault(key, {})
    where[last] = value
    return values


def without(path: str) -> dict[str, Any]:
    """Return the least values but one."""
    values: dict[str, Any] = copy.deepcopy(LEAST)
    where: Any = values
    *parents, last = path.split(".")
    for key in parents:
        where = where[key]
    del where[last]
    return values
