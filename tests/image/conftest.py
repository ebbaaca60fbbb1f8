"""The image of this checkout, for each module that looks into it or runs it."""

from __future__ import annotations

import pytest

from lab import images
from tests.conftest import require

SAMPLE = "tests/core/test_dockerfile.py::test_what_is_copied_is_there_and_not_ignored"
"""What can be said without a build; the build takes minutes."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/image/"):
            item.add_marker(pytest.mark.thorough(sample=SAMPLE))


@pytest.fixture(scope="module")
def image() -> images.Image:
    require(*images.NEEDS)
    return images.build()
