"""Bundles, and a mount namespace to put file systems into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.installer.plugin_directories import Mounts, bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles that differ."""
    root = tmp_path_factory.mktemp("bundles")
    return bundle(root / "one"), bundle(root / "other", b"of another release")


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    path = tmp_path / "bin"
    path.mkdir()
    return path


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    require("root", "unshare", "nsenter")
    made = Mounts()
    yield made
    made.close()
