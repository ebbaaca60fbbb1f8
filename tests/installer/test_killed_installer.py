"""An installer that is killed, or refused by the disk, at any step leaves the former client or the new one.

What was refused has left nothing; the next installer tidies up after the rest.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.installer.plugin_directories import NEWER, OLDER, command, config, release, tree

INSTALLER = Path(__file__).with_name("killed_installer.py")
KILLED = -9


@contextmanager
def installers(bin_dir: Path, bundle: Path, number: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, INSTALLER, bin_dir, bundle, number, config(bin_dir.parent)]
    process = subprocess.Popen(
        list(map(str, argv)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.communicate(timeout=20)


def run(process: subprocess.Popen[str], fate: str = "killed", doomed: int = 0) -> tuple[int, str]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{fate} {doomed}\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    return answer["status"], answer["event"]


FATES = {
    "installation killed": (False, "killed"),
    "upgrade killed": (True, "killed"),
    "installation refused": (False, "refused"),
    "upgrade refused": (True, "refused"),
    "upgrade broken": (True, "broken"),
}
THOROUGH = pytest.mark.thorough(sample="test_an_installer_is_stopped_at_each_step[sample: upgrade killed]")
STEPS = [
    pytest.param(name, 5, id=f"sample: {name}", marks=() if name.endswith(" killed") else THOROUGH)
    for name in FATES
]
"""``make test`` plays some fates, at every so many steps."""
STEPS += [pytest.param(name, 1, id=name, marks=THOROUGH) for name in FATES]


@pytest.mark.parametrize(("name", "every"), STEPS)
def test_an_installer_is_stopped_at_each_step(
    bin_dir: Path, bundles: tuple[Path, Path], tmp_path: Path, name: Any, every: Any
) -> None:
    upgrade, fate = FATES[name]
    former = tmp_path / "former"
    if upgrade:
        path = config(tmp_path)
        argv = command("install-client", bin_dir, "--bundle", bundles[0], "--config", path, release=OLDER)
        subprocess.run(argv, check=True, capture_output=True)
    shutil.copytree(bin_dir, former)
    before = tree(bin_dir)
    events: list[str] = []
    releases: list[str] = []
    with installers(bin_dir, bundles[1], NEWER) as process:
        assert run(process) == (0, "")
        whole = tree(bin_dir)
        while True:
            shutil.rmtree(bin_dir)
            shutil.copytree(former, bin_dir)
            status, event = run(process, fate, 1 + every * len(events))
            if not event:
                break
            events.append(event)
            assert status == KILLED if fate == "killed" else status in (0, 1), event
            if upgrade or (bin_dir / "floatip").exists():
                releases.append(release(bin_dir))
            if fate == "refused" and not event.startswith("os.remove"):
                assert tree(bin_dir) == (before if status else whole), event
            assert run(process) == (0, "")
            assert tree(bin_dir) == whole, event
            assert release(bin_dir) == NEWER
    if fate == "killed":
        assert releases == sorted(releases)
    if every > 1:
        return
    kinds = {event.split()[0] for event in events}
    assert kinds >= {"open", "os.rename", "os.remove", "os.chmod", "os.fsync", "subprocess.Popen"}, events
    assert len(events) > 8
    if fate == "killed":
        assert set(releases) == ({OLDER, NEWER} if upgrade else {NEWER})


ORDER = """\
open .floatip/VERSION/.python.NEW
os.fsync .floatip/VERSION/.python.NEW
os.rename .floatip/VERSION/.python.NEW .floatip/VERSION/python
os.fsync .floatip/VERSION
os.fsync .floatip
os.fsync .
open .floatip.NEW
os.fsync .floatip.NEW
subprocess.Popen .floatip.NEW
os.rename .floatip.NEW floatip
os.fsync .
subprocess.Popen floatip
"""


def test_what_is_on_the_disk_before_what(bin_dir: Path, bundles: tuple[Path, Path]) -> None:
    """What a power cut leaves: a name only of what is whole, has been tried out, and will still be there.

    And it is all that is written, wherever: the runtime's configuration in /etc/cni/net.d is not ours.
    """
    with installers(bin_dir, bundles[1], NEWER) as process:
        status, sentence = run(process, "seen", 1)
    assert status == 0
    sentence = sentence.replace(f"{bin_dir}/", "").replace(str(bin_dir), ".")
    sentence = re.sub(r"\.[0-9a-f]{12}\.new", ".NEW", sentence)
    sentence = re.sub(rf"{NEWER}-[0-9a-f]{{12}}", "VERSION", sentence)
    steps = re.findall(r"(?m)^(?:open|os.fsync|subprocess.Popen) \S+|^os.rename .*", sentence)
    compiling = "subprocess.Popen .floatip/VERSION/python"
    assert [step for step in steps if step != compiling] == ORDER.splitlines()
