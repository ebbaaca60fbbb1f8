"""Fixtures: calls by direct mode on one node of the module's lab, which has no fault when a test ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.world import Lab
from tests.support.two_nodes import ADDRESS, ANOTHER, Attachment, Place, Scene


@pytest.fixture
def place(scene: Scene, request: pytest.FixtureRequest) -> Place:
    """The module's claims directory on a1, which is empty, while the addresses lead nowhere."""
    key = scene.place("a1", request.module.__name__.rpartition(".")[2])
    for address in (ADDRESS, ANOTHER):
        scene.clear(address)
    key.forget()
    scene.lab.ec2.journal.clear()
    return key


@pytest.fixture
def attachment(scene: Scene, place: Place) -> Attachment:
    return scene.attach(place, ADDRESS)


@pytest.fixture(autouse=True)
def _no_faults(lab: Lab) -> Iterator[None]:
    yield
    lab.ec2.faults.clear()
