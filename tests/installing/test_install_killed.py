"""An installer that is killed at any moment leaves the former client or the new one; the next tidies up."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.installing.places import NEWER, OLDER, command, config, release, tree

DOOMED = Path(__file__).with_name("doomed_installer.py")
KILLED = -9


@contextmanager
def installers(bin_dir: Path, bundle: Path, number: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, DOOMED, bin_dir, bundle, number, config(bin_dir.parent)]
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


def run(process: subprocess.Popen[str], doomed: int) -> tuple[int, str]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{doomed}\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    return answer["status"], answer["event"]


@pytest.mark.parametrize("upgrade", [False, True], ids=["first", "upgrade"])
def test_killed_at_each_step(bin_dir, bundles, tmp_path, upgrade):
    former = tmp_path / "former"
    if upgrade:
        said = config(tmp_path)
        argv = command("install-client", bin_dir, "--bundle", bundles[0], "--config", said, release=OLDER)
        subprocess.run(argv, check=True, capture_output=True)
    shutil.copytree(bin_dir, former)
    events, releases = [], []
    with installers(bin_dir, bundles[1], NEWER) as process:
        assert run(process, 0) == (0, "")
        whole = tree(bin_dir)
        while True:
            shutil.rmtree(bin_dir)
            shutil.copytree(former, bin_dir)
            status, event = run(process, len(events) + 1)
            if status == 0:
                break
            assert (status, bool(event)) == (KILLED, True)
            events.append(event)
            if upgrade or (bin_dir / "floatip").exists():
                releases.append(release(bin_dir))
            assert run(process, 0) == (0, "")
            assert tree(bin_dir) == whole, event
            assert release(bin_dir) == NEWER
    kinds = {event.split()[0] for event in events}
    assert kinds >= {"open", "os.rename", "os.remove", "os.chmod", "subprocess.Popen"}, events
    assert len(events) > 8
    assert releases == sorted(releases)
    assert set(releases) == ({OLDER, NEWER} if upgrade else {NEWER})
