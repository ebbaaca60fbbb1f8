"""Instance metadata that does not answer one question: who waits for it keeps nobody else waiting."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from cni_floatip.agent import metadata
from cni_floatip.agent.metadata import MetadataCache
from cni_floatip.model.errors import TryAgain
from tests.support.waiting import until


class Service:
    """Answers who this is at once, and nothing about interfaces until its deadline."""

    def __init__(self, deadline: float, request: list[str]) -> None:
        self._deadline, self._asked = deadline, request

    def primary_mac(self) -> str:
        self._asked.append("primary")
        return "02:00:00:00:00:01"

    def role(self) -> str:
        self._asked.append("role")
        time.sleep(max(0.0, self._deadline - time.monotonic()))
        raise TryAgain("it does not answer")

    def macs(self) -> tuple[str, ...]:
        raise TryAgain("there are none yet")

    def close(self) -> None:
        pass


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def remembered(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> MetadataCache:
    for name, seconds in {"TURN_SECONDS": 0.4, "LEAST_SECONDS": 0.1, "NEARLY": 0.1}.items():
        monkeypatch.setattr(metadata, name, seconds)
    return MetadataCache(lambda deadline: Service(deadline, asked), time.monotonic)  # type: ignore[arg-type,return-value]


def test_one_who_waits_keeps_no_other_waiting(remembered: MetadataCache, asked: list[str]) -> None:
    errors: list[Any] = []

    def patient() -> None:
        try:
            remembered(time.monotonic() + 8).role()
        except TryAgain as e:
            errors.append(e)

    waits = threading.Thread(target=patient)
    waits.start()
    until(lambda: asked)
    assert remembered(time.monotonic() + 6).primary_mac() == "02:00:00:00:00:01"
    assert waits.is_alive(), "it is still patient"
    waits.join()
    assert len(errors) == 1
    assert asked.count("role") > 3, "it has asked again, turn by turn, until its own deadline"


def test_what_is_answered_is_no_reason_to_ask_on(remembered: MetadataCache) -> None:
    began = time.monotonic()
    with pytest.raises(TryAgain, match="there are none yet"):
        remembered(time.monotonic() + 20).macs()
    assert time.monotonic() - began < 10
