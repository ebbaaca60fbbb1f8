"""Client and agent of releases that differ, and an agent that is away, hung or dead: the real ones.

What a client makes of every other misbehaviour is in ``tests/client``, with agents that misbehave by script.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.faults_agent.dying_agents import KILLED, LAB, Lives, Served, Stage, lives_of
from tests.support.two_nodes import Answer, Attachment, ours_in
from tests.support.waiting import until

pytestmark = [pytest.mark.needs("root", "ip", "tc"), LAB]

VERBS = ("ADD", "CHECK", "DEL", "STATUS", "GC")


@contextmanager
def agent_of(place: Served, version: int, oldest: int) -> Iterator[Lives]:
    """Run an agent of another release."""
    wire = "cni_floatip.protocol.wire"
    with lives_of([place], {f"{wire}.VERSION": version, f"{wire}.OLDEST": oldest}) as (lives,):
        lives.start()
        yield lives


@pytest.fixture
def stage(stages: list[Stage]) -> Iterator[Stage]:
    """A stage whose agent has just ended, with nothing left of it."""
    result = stages[0]
    result.reset()
    result.lives.kill()
    yield result
    result.lives.kill()
    result.place.node.install_client()


@pytest.fixture
def attachment(stage: Stage) -> Attachment:
    return stage.attachment


def judge(answers: dict[str, Answer], *, text: str = "") -> None:
    """There is no agent that could be used: hold the answers of every verb to what runtimes expect."""
    codes = {verb: answer.code for verb, answer in answers.items()}
    assert codes == {"ADD": 11, "CHECK": 11, "DEL": 0, "STATUS": 50, "GC": 11}, answers
    assert answers["DEL"].document == {}
    for verb, answer in answers.items():
        assert text in (answer.stderr if verb == "DEL" else answer.msg), f"{verb}: {answer}"


def ask_all(attachment: Attachment) -> dict[str, Answer]:
    with ThreadPoolExecutor(len(VERBS)) as pool:
        return dict(zip(VERBS, pool.map(attachment.call, VERBS), strict=True))


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("client", "agent"),
    [((2, 1), (1, 1)), ((1, 1), (2, 1)), ((2, 2), (2, 1)), ((3, 2), (2, 2))],
    ids=["newer client", "newer agent", "both newer", "client of the release after"],
)
def test_one_release_apart_they_understand_each_other(
    stage: Stage, attachment: Attachment, client: tuple[int, int], agent: tuple[int, int]
) -> None:
    stage.place.speak(*client)
    with agent_of(stage.place, *agent) as lives:
        answer = attachment.add()
        assert answer.code == 0, f"{answer}\n{lives}"
        assert stage.routes() == {"a": stage.me, "client": stage.me}
        assert attachment.check().code == 0
        assert attachment.delete().code == 0
        until(lambda: stage.routes() == {})
        assert ours_in(attachment.pod) == []


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("client", "agent", "said"),
    [
        ((3, 2), (1, 1), "protocol 1"),
        ((1, 1), (3, 2), "protocol 3"),
        ((1, 1), (2, 2), "protocol 2"),
    ],
    ids=["client too new", "agent too new", "agent dropped the client's"],
)
def test_further_apart_they_say_so_and_a_del_waits(
    stage: Stage, attachment: Attachment, client: tuple[int, int], agent: tuple[int, int], said: str
) -> None:
    with agent_of(stage.place, 1, 1):
        assert attachment.add().code == 0
    stage.place.speak(*client)
    with agent_of(stage.place, *agent):
        judge(ask_all(attachment), text=said)
        # The agent reads a spooled DEL, whoever has written it: what is in it has not changed.
        until(lambda: stage.routes() == {} and stage.place.spooled() == [])
        assert ours_in(attachment.pod) == []


PATIENCE = {"ADD": 3, "CHECK": 3, "DEL": 1, "GC": 1, "STATUS": 1}


def test_without_an_agent_an_add_fails_and_a_del_succeeds(stage: Stage, attachment: Attachment) -> None:
    stage.place.set(CONNECT_SECONDS=PATIENCE)
    judge(ask_all(attachment), text=str(stage.place.node.agent.socket))
    assert len(stage.place.spooled()) == 1


def test_an_agent_that_hangs_and_is_killed(stage: Stage, attachment: Attachment) -> None:
    """The pod's DEL finds nobody; the next agent does it."""
    stage.lives.start()
    assert attachment.add().code == 0
    stage.place.set(CONNECT_SECONDS=PATIENCE)
    stage.lives.stop()
    judge(ask_all(attachment))
    assert stage.routes() == {"a": stage.me, "client": stage.me}
    stage.lives.signal(signal.SIGKILL)
    assert stage.lives.buried() == KILLED
    stage.lives.start()
    until(lambda: stage.routes() == {} and stage.place.spooled() == [])
    assert ours_in(attachment.pod) == []


def test_an_agent_that_hung_does_nothing_for_clients_that_have_gone(
    stage: Stage, attachment: Attachment
) -> None:
    """What they asked lies in its socket when it wakes; only the DEL counts, which came last."""
    stage.lives.start()
    stage.place.set(CONNECT_SECONDS=PATIENCE)
    stage.lives.stop()
    assert attachment.add().code == 11
    assert attachment.delete().code == 0
    stage.lives.signal(signal.SIGCONT)
    until(lambda: stage.place.spooled() == [])
    until(lambda: stage.place.alive() == [])
    assert stage.routes() == {"client": stage.other}
    assert ours_in(attachment.pod) == []
