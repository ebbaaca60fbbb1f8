"""The README's walk-through, run as it is written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def walk_through() -> list[str]:
    """Return the commands of the section about cnitool, without their comments."""
    match = re.search(r"## Drive it by hand.*?\n## ", (ROOT / "README.md").read_text(), re.DOTALL)
    assert match
    section = match[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]


@pytest.mark.needs("root", "cnitool", "ip")
def test_walk_through_works_as_written() -> None:
    commands = walk_through()
    assert commands[0].endswith("lab up")
    assert commands[-1].endswith("lab down")
    answers = []
    place = ""
    try:
        for command in commands:
            if command.startswith("L="):
                place = command
                continue
            done = subprocess.run(
                ["bash", "-c", f"{place}\n{command}"], cwd=ROOT, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
            if " lab ask " in command:
                answers.append(sorted(set(re.findall(r"web-\w+", done.stdout))))
    finally:
        subprocess.run(["bash", "-c", commands[-1]], cwd=ROOT, capture_output=True, timeout=60)
    assert answers == [["web-a1"], ["web-b1"], ["web-b1"]]
