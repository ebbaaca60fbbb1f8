"""Every documented command: run in a checkout, run on a lab's node, or at least understood.

A shell block is fenced with ``sh``, and a comment above it says where its commands belong:
``<!-- commands: checkout -->``, ``lab`` or ``cluster``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.node import Node
from lab.world import Lab
from tests.docs import commands
from tests.docs.pages import KINDS, ROOT, Block, Page, shell_blocks, told
from tests.docs.test_readme import walk_through

SHELLS = ("bash", "shell", "console", "sh-session", "zsh")
NOT_THEIRS = re.compile(r"/(opt|etc|var/lib)/cni\b|/etc/floatip\b")
"""What belongs to the machine: a test that runs commands must not touch it."""


@pytest.mark.parametrize("page", told(), ids=str)
def test_every_shell_block_says_where_it_belongs(page: Page) -> None:
    for block in page.blocks:
        assert block.info.split(" ")[0] not in SHELLS, f"{block}: write sh"
        if block.info == "sh":
            assert block.kind in KINDS, f"{block}: no <!-- commands: {' | '.join(KINDS)} --> right above it"
            assert block.commands, f"{block}: empty"
    indented = [
        number for number, line in page.prose if re.match(r" {4,}\S*(floatip|make|kubectl|aws) ", line)
    ]
    assert not indented, f"{page}: lines {indented}: commands stand in fenced blocks"


@pytest.mark.parametrize("page", told(), ids=str)
def test_commands_named_in_a_sentence_are_there(page: Page) -> None:
    known = commands.floatipctl()
    for number, line in page.prose:
        for output in re.findall(r"`floatipctl ([a-z][^`]*)`", line):
            command, *rest = output.split()
            assert command in known, f"{page}:{number}: floatipctl has no {command}"
            options = {word.partition("=")[0] for word in rest if word.startswith("--")}
            assert options <= known[command], f"{page}:{number}: floatipctl {output}"


@pytest.mark.parametrize("block", shell_blocks(), ids=str)
def test_what_is_typed_is_understood(block: Block) -> None:
    results = [fault for line in block.commands for fault in commands.complaints(line)]
    assert not results, f"{block}: " + "\n".join(results)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("floatipctl swep --range 10.0.0.0/8", "unknown command swep: did you mean sweep?"),
        ("kubectl exec -n kube-system ds/x -- floatipctl status --jsno", "unknown option --jsno"),
        ("A=1 .venv/bin/floatipctl sweep", "the following arguments are required: --range"),
        ("kubectl gte pods", "kubectl has no 'gte'"),
        ("cat x | aws ec2 describe-routes", "aws ec2 has no 'describe-routes'"),
        ("aws ec2 describe-route-tables --filter x", "aws ec2 describe-route-tables has no --filter"),
        ("aws ec3 describe-route-tables", "aws has no service 'ec3'"),
        ("helm upgrade x y --set config.reconcileSecond=5", "the chart has no value config.reconcileSecond"),
        ("helm instal x y", "helm has no 'instal'"),
        ("echo 'x", "cannot be split"),
        ("agent=$(kubectl gte pods -o name)", "kubectl has no 'gte'"),
        ("x=$(aws ec2 describe-routes --query 'a[?(@.b)]') y", "aws ec2 has no 'describe-routes'"),
        ("for pod in a b; do kubectl exec $pod -- floatipctl docter; done", "unknown command docter"),
        ("ask() { aws eks describe-clusters; }", "aws eks has no 'describe-clusters'"),
    ],
)
def test_wrong_commands_are_reported(line: str, fault: str) -> None:
    (result,) = commands.complaints(line)
    assert fault in result


@pytest.mark.parametrize(
    "line",
    [
        "floatipctl status --json | head -1",
        "aws ec2 modify-network-interface-attribute --network-interface-id eni-1 --no-source-dest-check",
        "helm upgrade x y --set config.logLevel=debug --set 'tolerations[0].key=a'",
        "kubectl -n kube-system get pods -o wide > out.txt",
    ],
)
def test_right_commands_are_not_reported(line: str) -> None:
    assert commands.complaints(line) == []


def test_a_block_runs_here_or_in_the_walk_through() -> None:
    blocks = [block for block in shell_blocks("checkout") if block.page == "README.md"]
    assert [runs_elsewhere(block) for block in blocks] == [False, True, True]


def in_order(kind: str) -> list[tuple[str, list[Block]]]:
    """The blocks of one kind, page by page."""
    blocks: dict[str, list[Block]] = {}
    for block in shell_blocks(kind):
        blocks.setdefault(block.page, []).append(block)
    return list(blocks.items())


def runs_elsewhere(block: Block) -> bool:
    """Whether ``tests/docs/test_readme.py`` runs it, line by line as it is written."""
    lines = [line.split("  #")[0].strip() for line in block.text.splitlines()]
    return block.page == "README.md" and set(lines) <= set(walk_through())


@pytest.mark.parametrize(
    ("page", "blocks"), in_order("checkout"), ids=lambda x: x if isinstance(x, str) else ""
)
def test_commands_for_a_checkout_run(page: str, blocks: list[Block], tmp_path: Path) -> None:
    """``make`` is only asked what it would do: CI runs what it tests with, and the rest takes minutes."""
    script = 'make() { command make --dry-run "$@" > /dev/null; }\n'
    script += "".join(block.text for block in blocks if not runs_elsewhere(block))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=os.environ | {"PATH": path, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{page}: {done.stdout}{done.stderr}"


def terminate(lab: Lab, node: Node) -> None:
    """End an instance for good; its interfaces go with it (moto keeps them)."""
    ec2 = lab.ec2.client()
    ec2.terminate_instances(InstanceIds=[node.instance_id])
    ids = [eni.id for eni in node.enis[1:]]  # the primary one goes by itself
    for eni in ec2.describe_network_interfaces(NetworkInterfaceIds=ids)["NetworkInterfaces"]:
        ec2.detach_network_interface(AttachmentId=eni["Attachment"]["AttachmentId"], Force=True)
        ec2.delete_network_interface(NetworkInterfaceId=eni["NetworkInterfaceId"])


@pytest.fixture(scope="module")
def lab_and_node() -> Iterator[tuple[Lab, Any]]:
    """A lab's node with an agent and a pod that has 192.168.0.2; a node that is gone left blackholes."""
    with Lab(nodes_per_az=1, agents=True, warm=True) as lab:
        here, lost = lab.nodes["a1"], lab.nodes["b1"]
        lost.add(lost.pod("gone"), lab.conflist(["192.168.0.9/32"]))
        lost.crash()
        terminate(lab, lost)
        here.add(here.pod("web"), lab.conflist())
        yield lab, here


def typed(node: Node, text: str) -> subprocess.CompletedProcess[str]:
    """Run shell lines on a node, with our programs in ``PATH``."""
    path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    return node.run(["bash", "-euo", "pipefail", "-c", text], env={"PATH": path}, timeout=120)


@pytest.mark.needs("root", "ip", "macvlan-plugin")
@pytest.mark.parametrize(("page", "blocks"), in_order("lab"), ids=lambda x: x if isinstance(x, str) else "")
def test_commands_for_a_node_run_in_the_lab(
    page: str, blocks: list[Block], lab_and_node: tuple[Lab, Any]
) -> None:
    _, here = lab_and_node
    for block in blocks:
        assert not NOT_THEIRS.search(block.text), f"{block}: a lab's node has directories of its own"
        done = typed(here, block.text)
        assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"


@pytest.mark.needs("root", "ip", "macvlan-plugin")
def test_the_documented_sweep_removed_what_the_lost_node_left(lab_and_node: tuple[Lab, Any]) -> None:
    """After that block of troubleshooting.md: nothing of the terminated node, all of the pod's."""
    lab, here = lab_and_node
    (block,) = (block for block in shell_blocks("lab") if "floatipctl sweep" in block.text)
    done = typed(here, block.text)
    assert done.returncode == 0, done.stdout + done.stderr
    for table in lab.tables.values():
        views = lab.ec2.truth(table)
        assert "192.168.0.9/32" not in views
        assert views["192.168.0.2/32"].state == "active"
