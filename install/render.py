"""Write what is made from the chart and the agent's schema; ``--check`` says what is out of date.

That is the part ``config`` of the chart's ``values.schema.json``, ``install/manifests/*.yaml`` (by ``helm
template``), the table of values in ``install/README.md``, the release in there and in ``Chart.yaml``, and in
the latter whether this release elects.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "install/helm/cni-floatip"
MANIFESTS = ROOT / "install/manifests"
README = ROOT / "install/README.md"
ELECTION = ROOT / "cni_floatip/config/election.py"
NODECONF = ROOT / "cni_floatip/config/schemas/nodeconf.schema.json"

MUST_BE_SAID = ("allowedDestinations", "allowedRouteTables", "socketPath", "dataDir", "spoolDir")
"""What the policy begins with, and what volumes are made of."""

LONGEST = 80
"""Of the defaults that are shown in the table."""

RENDERED = {"cni-floatip.yaml": (), "uninstall.yaml": ("--set", "uninstall.enabled=true")}
KUBE = ("--kube-version", "1.35.0")
"""A helm that Go built here believes in Kubernetes 1.20. Nothing in the chart depends on it."""

TABLE = re.compile(r"(?s)(?<=<!-- values: written by make manifests -->\n).*?(?=<!-- end of values -->)")

HEADER = """\
# Made by `make manifests` from install/helm/cni-floatip with install/manifests/values.yaml: change that file,
# not this one. Until what is marked CHANGE there has been changed, no pod gets an address.
"""
UNINSTALL = """\
# In place of cni-floatip.yaml it removes client and state from every node: install/README.md, "Uninstall".
"""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the chart as ``values.yaml`` describes it."""

    path: str
    default: Any
    text: str

    def __str__(self) -> str:
        default = json.dumps(self.default)
        shown = f"`{default}`" if len(default) <= LONGEST else "see `values.yaml`"
        return f"| `{self.path}` | {self.text} | {shown} |"


def values(text: str) -> Iterator[Value]:
    """Yield the values of ``values.yaml`` in its order: every key that a comment stands directly above."""
    result = yaml.safe_load(text)
    where: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"( *)# ?(.*)", line):
            comment.append(match[2])
        elif match := re.match(r"( *)([A-Za-z]+):", line):
            while where and where[-1][0] >= len(match[1]):
                where.pop()
            where.append((len(match[1]), match[2]))
            if comment:
                default = result
                for _, key in where:
                    default = default[key]
                yield Value(".".join(key for _, key in where), default, " ".join(comment))
            comment = []
        else:
            comment = []


def table() -> str:
    """Return the table of values for the reader."""
    rows = [str(value) for value in values((CHART / "values.yaml").read_text())]
    return "\n".join(["| value | meaning | default |", "|---|---|---|", *rows]) + "\n"


def schema() -> str:
    """Return the chart's schema with the node configuration's in it."""
    document = json.loads((CHART / "values.schema.json").read_text())
    node = json.loads(NODECONF.read_text())
    config = {
        key: node[key] for key in ("title", "description", "type", "properties", "additionalProperties")
    }
    document["properties"]["config"] = {**config, "required": list(MUST_BE_SAID)}
    return json.dumps(document, indent=2) + "\n"


def manifest(name: str) -> str:
    """Return what helm makes of the chart with the example values."""
    helm = shutil.which("helm", path=os.pathsep.join([str(ROOT / ".cache/bin"), os.environ.get("PATH", "")]))
    if helm is None:
        raise SystemExit("no helm: `make setup` builds it where Go is")
    options = [
        *KUBE,
        "--namespace",
        "kube-system",
        "--values",
        str(MANIFESTS / "values.yaml"),
        *RENDERED[name],
    ]
    done = subprocess.run(
        [helm, "template", "cni-floatip", str(CHART), *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    made = re.sub(
        r"(?m)^# Source: .*\n|^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", "", done.stdout
    )
    return HEADER + (UNINSTALL if name.startswith("uninstall") else "") + made


def release() -> str:
    """Return the package's version: the chart's, and the image's tag."""
    (result,) = re.findall(r'(?m)^__version__ = "(.*)"$', (ROOT / "cni_floatip/__init__.py").read_text())
    return str(result)


def chart(text: str) -> str:
    """Return ``Chart.yaml`` with the release, and with what this release can do: elections or not."""
    (elects,) = re.findall(r"(?m)^RELEASED = (True|False)$", ELECTION.read_text())
    text = re.sub(r'(?m)^(version: |appVersion: ")[^"\n]*', rf"\g<1>{release()}", text)
    return re.sub(r'(?m)^(  cni-floatip\.dev/elections: )"\w+"$', rf'\g<1>"{elects.lower()}"', text)


def outputs() -> Iterator[tuple[Path, str]]:
    """Yield each file that is made, with what must be in it. Manifests last: they are made of the others."""
    yield CHART / "Chart.yaml", chart((CHART / "Chart.yaml").read_text())
    yield CHART / "values.schema.json", schema()
    readme = re.sub(r"(?<=/cni-floatip:)\d[\w.]*", release(), README.read_text())
    yield README, TABLE.sub(lambda _: table(), readme)
    for name in RENDERED:
        yield MANIFESTS / name, manifest(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 if something is out of date"
    )
    check = parser.parse_args().check
    stale = False
    for path, text in outputs():
        if path.exists() and path.read_text() == text:
            continue
        stale = True
        sys.stdout.write(
            f"{path.relative_to(ROOT)} {'is out of date: make manifests' if check else 'written'}\n"
        )
        if not check:
            path.write_text(text)
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main())
