"""The plugin behind a real ipvlan, under User Mode Linux: each scenario of ``ipvlan_scenarios`` is a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.samples import sampled
from tests.uml.conftest import Guest
from tests.uml.ipvlan_scenarios import SCENARIOS

pytestmark = pytest.mark.needs("root", "linux.uml")


@pytest.mark.parametrize("name", sampled("test_scenario", SCENARIOS, ["an-address-moves-to-another-zone"]))
def test_scenario(name: str, guest: Guest, record_property: Callable[[str, object], None]) -> None:
    outcome = guest.outcome(name)
    record_property("seconds_in_guest", outcome.seconds)
    if outcome.failure:
        pytest.fail(outcome.failure, pytrace=False)
