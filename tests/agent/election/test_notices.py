"""Events on pods: one per change, counted when it repeats, and never a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cni_floatip.agent.election.notices import FRESH_SECONDS, PAUSE_SECONDS, Notices
from cni_floatip.election.events import Notice, NoticeKind, Published
from cni_floatip.model.errors import ApiError, ApiFault

MOVED = Notice(NoticeKind.MOVED, "uid-1", "it moved")


class Desk:
    def __init__(self) -> None:
        self.now = 1000.0
        self.created: list[Mapping[str, Any]] = []
        self.patched: list[Mapping[str, Any]] = []
        self.fault: ApiFault | None = None
        self.errors: list[ApiError] = []
        self.notices = Notices(self, "node-a", lambda: self.now, lambda: self.now, self.errors.append)

    def create(self, resource: Any, document: Mapping[str, Any]) -> dict[str, Any]:
        self._fail()
        self.created.append(document)
        return dict(document)

    def patch_event(self, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        self._fail()
        self.patched.append(patch)
        return dict(patch)

    def _fail(self) -> None:
        if self.fault:
            fault, self.fault = self.fault, None
            raise ApiError(fault, "POST events", "planted")

    def publish(self, notice: Notice = MOVED) -> None:
        answer = self.notices.publish(notice, "core", "web-1")
        assert isinstance(answer.member, Published)
        assert answer.member.notice == notice


@pytest.fixture
def publisher() -> Desk:
    return Desk()


def test_a_change_is_an_event_on_its_pod(publisher: Desk) -> None:
    publisher.publish()
    [event] = publisher.created
    assert event["involvedObject"] | {"kind": "Pod"} == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "core",
        "name": "web-1",
        "uid": "uid-1",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Moved", "it moved")
    assert event["metadata"]["namespace"] == "core"
    assert (event["count"], event["source"]["host"]) == (1, "node-a")


def test_what_repeats_is_counted_and_not_written_each_time(publisher: Desk) -> None:
    publisher.publish()
    for _ in range(5):
        publisher.publish()
    assert (len(publisher.created), publisher.patched) == (1, [])
    publisher.now += PAUSE_SECONDS
    publisher.publish()
    assert (len(publisher.created), [patch["count"] for patch in publisher.patched]) == (1, [7])


def test_another_change_is_another_event(publisher: Desk) -> None:
    publisher.publish()
    publisher.publish(Notice(NoticeKind.CONTESTED_WRITER, "uid-1", "a fight"))
    publisher.publish(Notice(NoticeKind.MOVED, "uid-2", "it moved"))
    assert [event["type"] for event in publisher.created] == ["Normal", "Warning", "Normal"]


def test_an_event_that_the_api_forgot_is_made_anew(publisher: Desk) -> None:
    publisher.publish()
    publisher.now += PAUSE_SECONDS
    publisher.fault = ApiFault.NOT_FOUND
    publisher.publish()
    publisher.now += FRESH_SECONDS
    publisher.publish()
    assert (len(publisher.created), publisher.patched) == (3, [])


def test_what_cannot_be_published_is_given_up(publisher: Desk) -> None:
    publisher.fault = ApiFault.REFUSED
    publisher.publish()
    assert (publisher.created, len(publisher.errors)) == ([], 1)
