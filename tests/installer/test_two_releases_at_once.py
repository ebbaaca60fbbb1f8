"""Installers of two releases at once, and calls beside them: at any moment there is one whole client."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest

from tests.installer.plugin_directories import NEWER, OLDER, command, config, release, tree
from tests.support.samples import sampled


@pytest.mark.parametrize("rounds", sampled("test_installers_of_two_releases_at_once", [1, 4], [1]))
def test_installers_of_two_releases_at_once(
    bin_dir: Path, bundles: tuple[Path, Path], tmp_path: Path, rounds: Any
) -> None:
    path = config(tmp_path)
    ways = {
        number: command("install-client", bin_dir, "--bundle", bundle, "--config", path, release=number)
        for number, bundle in zip((OLDER, NEWER), bundles, strict=True)
    }
    client, sizes = bin_dir / "floatip", set()
    for way in (ways[NEWER], ways[OLDER]):
        subprocess.run(way, check=True, capture_output=True)
        sizes.add(client.stat().st_size)
    with Runtime(client) as runtime, Eye(client) as eye:
        for _ in range(rounds):
            running = [
                subprocess.Popen(item, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for item in ways.values()
            ]
            for process in running:
                out, err = process.communicate(timeout=60)
                assert (process.returncode, out, err) == (0, f"{bin_dir}/floatip\n", "")
            assert release(bin_dir) in ways
    assert runtime.wrong == []
    assert runtime.calls > rounds
    assert eye.sizes <= sizes  # never none, never a part
    names = [name for name in tree(bin_dir) if not name.startswith(".floatip/")]
    assert names == [".floatip", "floatip"]
    assert len(list((bin_dir / ".floatip").iterdir())) == 2


class Companion(threading.Thread):
    """Does something with the client without a pause, as long as it is entered."""

    def __init__(self, client: Path) -> None:
        super().__init__()
        self._client = client
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


class Eye(Companion):
    """Sees moments that no call is short enough to meet."""

    def __init__(self, client: Path) -> None:
        super().__init__(client)
        self.sizes: set[int | None] = set()
        """``None``: that of a file which is not there."""

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self.sizes.add(self._client.stat().st_size)
            except FileNotFoundError:
                self.sizes.add(None)


class Runtime(Companion):
    """Calls VERSION."""

    def __init__(self, client: Path) -> None:
        super().__init__(client)
        self.calls = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self._over.is_set():
            try:
                done = subprocess.run(
                    [self._client], env={"CNI_COMMAND": "VERSION"}, input=b"", capture_output=True, timeout=60
                )
            except OSError as e:  # "text file busy", "no such file"
                self.wrong.append(str(e))
                continue
            self.calls += 1
            if done.returncode or b"supportedVersions" not in done.stdout:
                self.wrong.append(str(done))
            time.sleep(0.005)
