"""Files that are made to be expensive or to deceive: ``validate`` reads other people's, in CI."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.cli import main
from cni_floatip.config.yaml_files import load_yaml
from cni_floatip.model.errors import DecodeFailure
from cni_floatip.validate import report as validate
from tests.support.samples import sampled

FLOATIPCTL = (sys.executable, "-c", "import sys; from cni_floatip.cli import main; sys.exit(main())")
LEVELS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
LAUGHS = f"a0: &a0 [lol]\n{LEVELS}"
PIECES = {
    "aliases": LAUGHS,
    "aliases in a list of objects": "kind: List\napiVersion: v1\nitems:\n- " + LAUGHS.replace("\n", "\n  "),
    "merge keys": "a: &a {x: 1}\nb: {<<: *a}\n",
    "an anchor in itself": "a: &a [*a]\n",
    "sexagesimal": f"routeTables: {'1' + ':59' * 60_000}\n",
    "sexagesimal, said to be a number": f"routeTables: !!int {'1' + ':59' * 60_000}\n",
    "nested": "a: " + "[" * 900 + "]" * 900,
    "nested JSON": '{"routeTables": ' + "[" * 900 + "]" * 900 + "}",
    "a large file": "# " + "x" * 5_000_000,
    "many parts": "- a\n" * 150_000,
}


def few_resources() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


@pytest.mark.parametrize(
    "what", sampled("test_a_bomb_is_refused", PIECES, ["aliases", "merge keys", "sexagesimal", "nested"])
)
def test_a_bomb_is_refused(tmp_path: Path, what: str) -> None:
    """With a gigabyte of memory and a minute of a processor, of which it needs little."""
    file = tmp_path / "bomb.yaml"
    file.write_text(PIECES[what])
    done = subprocess.run(
        [*FLOATIPCTL, "validate", str(file)],
        capture_output=True,
        text=True,
        preexec_fn=few_resources,
        timeout=120,
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    assert len(done.stdout) < 5000


LONG = "long-" * 100_000
OURS: dict[str, Any] = {"type": "floatip", "routeTables": {"ids": ["rtb-0123456789abcdef0"]}}
MADE: dict[str, Any] = {"type": "ipvlan", "master": "eth1", "mode": "l2"}
STATIC = {"ipam": {"type": "static", "addresses": [{"address": "192.168.0.2/32"}]}}


def network(*plugins: dict[str, Any], **metadata: str) -> dict[str, Any]:
    config = {"cniVersion": "1.0.0", "name": "n", "plugins": [*plugins, OURS]}
    kind = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition"}
    return {**kind, "metadata": {"name": "n", **metadata}, "spec": {"config": json.dumps(config)}}


LONG_TEXTS = {
    "plugin": network({"type": LONG}),
    "IPAM": network({**MADE, "ipam": {"type": LONG}}),
    "many plugins": network({**MADE, **STATIC}, *({"type": f"plugin-{n}"} for n in range(10_000))),
    "master": network({**MADE, **STATIC, "master": 1, "mode": LONG}),
    "MTU": network({**MADE, **STATIC, "mtu": 10**4000}),
    "address": network({**MADE, "ipam": {"type": "static", "addresses": [{"address": LONG}]}}),
    "key": network({**MADE, **STATIC}, {"type": "tuning", "sysctl": {LONG: "1"}}),
    "name": network({**MADE, **STATIC}, name=LONG),
    "namespace": network({**MADE, **STATIC}, namespace=LONG),
    "kind": {"apiVersion": "v1", "kind": LONG, "metadata": {"name": LONG}},
}


@pytest.mark.parametrize("what", LONG_TEXTS)
def test_of_long_texts_the_beginning_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    file, policy = tmp_path / "f.json", tmp_path / "node.json"
    file.write_text(json.dumps(LONG_TEXTS[what]))
    allowed = [{"cidr": "192.168.0.0/24", "namespaces": ["core"]}]
    policy.write_text(
        json.dumps({"allowedDestinations": allowed, "allowedRouteTables": {"tags": {"a": "*"}}})
    )
    main(["validate", "--node-config", str(policy), str(file)])
    output = capsys.readouterr()
    assert 0 < len(output.out) < 3000
    assert output.err == ""


def test_aliases_that_repeat_little_are_taken() -> None:
    text = "a: &tags {floatip: core}\nb: *tags\nc: [0, 10, -3, 1.5, 0644, 1:59, 0x1f]\n"
    (result,) = load_yaml(text.encode())
    assert result["a"] == result["b"] == {"floatip": "core"}
    assert result["c"] == [0, 10, -3, 1.5, "0644", "1:59", "0x1f"]
    with pytest.raises(DecodeFailure, match="line 1 column 11: not YAML: << merges nothing here"):
        list(load_yaml(b"b: {c: 1, <<: {d: 1}}"))


def test_a_thousand_mistakes_are_told_in_part() -> None:
    entry = {"type": "floatip", "name": "n", "cniVersion": "1.0.0", "routeTables": {"all": True}}
    text = json.dumps(entry | {f"key{n}": 1 for n in range(30_000)}).encode()
    began = time.process_time()
    report = validate.examine("file", text)
    assert time.process_time() - began < 5
    assert 40 < report.errors < 60


def test_nothing_that_a_terminal_would_obey_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "nad.yaml"
    file.write_text(
        "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\n"
        'metadata: {name: "a\\e[1A\\e[2Kb"}\nspec: {config: "{}"}\n'
    )
    done = subprocess.run([*FLOATIPCTL, "validate", str(file)], capture_output=True, text=True)
    assert r"a\x1b[1A\x1b[2Kb" in done.stdout


def test_an_entry_that_keeps_nobody_out_is_told() -> None:
    policy = {
        "allowedDestinations": [
            {"cidr": "192.168.0.0/16"},
            {"cidr": "192.168.5.0/24", "namespaces": ["only-me"]},
            {"cidr": "10.1.0.0/24", "namespaces": ["core"]},
        ],
        "allowedRouteTables": {"ids": ["rtb-1"]},
    }
    report = validate.examine("file", json.dumps(policy).encode())
    (finding,) = report.findings
    assert finding.warning
    assert finding.path == "$.allowedDestinations[1].namespaces"
    assert "it keeps nobody out" in finding.text
