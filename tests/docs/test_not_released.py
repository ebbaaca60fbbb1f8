"""What is read but not in this release: every page that offers it says so, until the one switch is on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cni_floatip.config import election

ROOT = Path(__file__).parents[2]
PAGES = (
    "CHANGELOG.md",
    "README.md",
    "docs/configuration.md",
    "docs/security.md",
    "install/README.md",
    "install/helm/cni-floatip/values.yaml",
    "netconf-examples/README.md",
)
"""What speaks of elections to those who would configure them."""


@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_elections_says_whether_they_are_there(page: str) -> None:
    """Take the sentences out when you turn ``election.RELEASED`` on."""
    text = (ROOT / page).read_text()
    assert re.search(r"elect(ed|ions?)\b", text)
    assert bool(re.search("not in this release", text, re.IGNORECASE)) is not election.RELEASED
