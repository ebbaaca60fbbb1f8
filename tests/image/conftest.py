"""The image of this checkout, for each module that looks into it or runs it."""

from __future__ import annotations

import pytest

from tests.conftest import require
from tests.image import images


@pytest.fixture(scope="module")
def image() -> images.Image:
    require(*images.NEEDS)
    return images.build()
