"""The agent of the benches: what differs from the product's."""

from __future__ import annotations

import sys

import pytest

from bench import unlimited_agent
from cni_floatip import cli
from cni_floatip.agent.ec2 import ratelimit
from cni_floatip.agent.keeper import loop
from cni_floatip.rules.reconcile import LOOKS_AFTER_ADD

RATES = ratelimit.PUBLISHED


@pytest.mark.parametrize(
    ("options", "looks"),
    [([], LOOKS_AFTER_ADD), (["--looks-after-add", ""], ()), (["--looks-after-add", "0.5,2"], (0.5, 2.0))],
    ids=["the product's", "none", "others"],
)
def test_rates_are_lifted_and_looks_are_set(
    monkeypatch: pytest.MonkeyPatch, options: list[str], looks: tuple[float, ...]
) -> None:
    monkeypatch.setattr(ratelimit, "PUBLISHED", dict(RATES))
    monkeypatch.setattr(loop, "LOOKS_AFTER_ADD", LOOKS_AFTER_ADD)
    monkeypatch.setattr(sys, "argv", ["unlimited_agent.py", *options])
    monkeypatch.setattr(cli, "main", lambda arguments: {"agent": 7}[arguments[0]])
    assert unlimited_agent.main() == 7
    assert vars(loop)["LOOKS_AFTER_ADD"] == looks
    assert ratelimit.PUBLISHED.keys() == RATES.keys()
    assert all(rate.refill > 1e5 for rate in ratelimit.PUBLISHED.values())
