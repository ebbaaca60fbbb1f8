"""Killed at any event, or left without an answer to any call: nothing of ours stays, nothing of others goes.

The events come from a recording of the call itself, so a call to EC2 or a file write that is added to the
plugin later is covered without a change here.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

import pytest

from tests.support.two_nodes import (
    Attachment,
    Moment,
    Place,
    Scene,
    connected_in,
    everywhere,
    in_parts,
    ours_in,
    part_of,
    read_moments,
)

pytestmark = pytest.mark.lab(nodes_per_az=1, packets=False)


KILLED = -9
BYSTANDER = "192.168.0.200/32"


@dataclass
class Stage:
    """One node, an attachment on it, and another node that wants the same address."""

    scene: Scene
    place: Place
    attachment: Attachment
    other: str
    destination: str = field(init=False)

    def __post_init__(self) -> None:
        self.destination = self.attachment.address.split("/")[0] + "/32"
        self.me = f"{self.place.node.name} {self.attachment.eth}"

    def __str__(self) -> str:
        return self.place.node.name

    def reset(self) -> Attachment:
        """Start over: table "a" has no route, "client" the other node's; disk and pod are new."""
        shutil.rmtree(self.place.data, ignore_errors=True)
        self.scene.clear(self.destination)
        self.scene.point(self.destination, self.other, ["client"])
        self.scene.source_check(self.attachment.eni)
        self.place.node.remove_pod(self.attachment.pod)
        self.attachment = self.scene.attach(self.place, self.attachment.address)
        return self.attachment

    def routes(self) -> dict[str, str]:
        return self.scene.routes(self.destination)

    def foreign(self) -> dict[str, str]:
        """What must still be there when we are gone."""
        return {table: owner for table, owner in self.routes().items() if owner != self.me}

    def take_over(self) -> None:
        self.scene.point(self.destination, self.other, ["a"])

    def assert_clean(self, foreign: dict[str, str]) -> None:
        """Nothing of ours is left anywhere; what belongs to others is as it was."""
        self.assert_released(foreign)
        assert ours_in(self.attachment.pod) == []
        assert self.connected()

    def assert_released(self, foreign: dict[str, str]) -> None:
        assert self.routes() == foreign
        assert self.place.alive() == []
        assert self.scene.routes(BYSTANDER) == {"a": "b1 ens7", "client": "b1 ens7"}

    def connected(self) -> bool:
        """Whether the kernel's route of the address's prefix, which ADD removes, is there again."""
        return bool(connected_in(self.attachment.pod))


@pytest.fixture(scope="module")
def stages(scene: Scene) -> list[Stage]:
    scene.point(BYSTANDER, "b1 ens7")
    results = []
    for node, address, other in (("a1", "192.168.0.2/28", "b1 ens7"), ("b1", "192.168.0.18/28", "a1 ens7")):
        key = scene.place(node, "dying")
        results.append(Stage(scene, key, scene.attach(key, address), other))
    return results


@dataclass(frozen=True)
class Loss:
    """The first ``times`` calls of an action are lost: applied with no answer, or never applied."""

    how: str
    action: str
    times: int

    def __str__(self) -> str:
        return f"{self.how} of {self.action} x {self.times}"

    def arm(self, stage: Stage) -> None:
        lose = getattr(stage.scene.lab.ec2.faults, self.how)
        lose(self.action, self.times, caller=stage.place.node.name)


def moments(stage: Stage, verb: str) -> list[Moment]:
    """Run a call undisturbed and return every moment of it."""
    file = stage.place.node.state / f"{verb}.moments"
    file.unlink(missing_ok=True)
    assert stage.attachment.call(verb, "record", file).code == 0
    return read_moments(file)


def losses(stage: Stage, verb: str) -> list[Loss]:
    """Run a call undisturbed and return what can be lost of its calls to EC2."""
    journal = stage.scene.lab.ec2.journal
    journal.clear()
    assert stage.attachment.call(verb).code == 0
    actions = [call.action for call in journal.of(caller=stage.place.node.name)]
    return [
        Loss(how, action, times)
        for action in dict.fromkeys(actions)
        for times in range(1, actions.count(action) + 1)
        for how in ("lose_answer", "lose_request")
    ]


@in_parts("test_an_add_that_is_killed_anywhere_is_cleaned_up", rest=4)
def test_an_add_that_is_killed_anywhere_is_cleaned_up(
    stages: list[Stage], part: tuple[int, int] | None
) -> None:
    stages[0].reset()
    results = moments(stages[0], "ADD")
    assert {"ec2.create", "ec2.replace", "disk.fsync", "disk.replace", "pod.create"} <= {
        m.kind for m in results
    }

    def play(stage: Stage, moment: Moment) -> None:
        attachment = stage.reset()
        assert attachment.add(*moment.doom).code == KILLED
        if moment.when == "after":
            # another node takes one table, then this node's next call comes before the pod's DEL
            stage.take_over()
            foreign = stage.foreign()
            claim = attachment.claim()
            answered_nobody = not (claim and claim.state == "held")
            stage.place.collect()
            if answered_nobody:
                stage.assert_released(foreign)
            assert attachment.delete(prev=False).code == 0
        else:
            foreign = stage.foreign()
            assert attachment.delete().code == 0
        stage.assert_clean(foreign)

    everywhere(stages, part_of(results, part), play)


@in_parts("test_a_del_that_is_killed_anywhere_is_finished", rest=4)
def test_a_del_that_is_killed_anywhere_is_finished(stages: list[Stage], part: tuple[int, int] | None) -> None:
    stages[0].reset()
    assert stages[0].attachment.add().code == 0
    results = moments(stages[0], "DEL")
    assert {"ec2.delete", "disk.fsync", "disk.replace", "pod.delete"} <= {m.kind for m in results}

    def play(stage: Stage, moment: Moment) -> None:
        attachment = stage.reset()
        assert attachment.add().code == 0
        assert attachment.delete(*moment.doom).code == KILLED
        if moment.when == "after":
            stage.take_over()
        foreign = stage.foreign()
        claim = attachment.claim()
        if moment.when == "after" and claim and claim.state != "held":
            stage.place.collect()
            stage.assert_released(foreign)
        assert attachment.delete(prev=moment.when == "before").code == 0  # the runtime tries again
        stage.assert_clean(foreign)

    everywhere(stages, part_of(results, part), play)


@pytest.mark.thorough(sample="test_an_add_that_is_killed_anywhere_is_cleaned_up[sample]")
def test_an_add_whose_calls_are_lost_writes_again(stages: list[Stage]) -> None:
    stages[0].reset()
    results = losses(stages[0], "ADD")
    assert {"CreateRoute", "ReplaceRoute", "DescribeRouteTables"} <= {loss.action for loss in results}

    def play(stage: Stage, loss: Loss) -> None:
        attachment = stage.reset()
        loss.arm(stage)
        answer = attachment.add()
        assert answer.code == 0, str(answer)
        assert stage.routes() == {"a": stage.me, "client": stage.me}
        assert not stage.scene.checks_source(attachment.eni)
        assert attachment.delete().code == 0
        stage.assert_clean({})

    everywhere(stages, results, play)


@pytest.mark.thorough(sample="test_a_del_that_is_killed_anywhere_is_finished[sample]")
def test_a_del_whose_calls_are_lost_deletes_again(stages: list[Stage]) -> None:
    stages[0].reset()
    assert stages[0].attachment.add().code == 0
    results = losses(stages[0], "DEL")
    assert {"DeleteRoute", "DescribeRouteTables"} <= {loss.action for loss in results}

    def play(stage: Stage, loss: Loss) -> None:
        attachment = stage.reset()
        assert attachment.add().code == 0
        loss.arm(stage)
        assert attachment.delete(prev=loss.how == "lose_answer").code == 0
        stage.assert_clean({})

    everywhere(stages, results, play)


def test_the_parts_are_the_whole() -> None:
    results = [Moment(when, kind, n) for n in (1, 2, 3) for kind in "ab" for when in ("before", "after")]
    sample, *rest = (part_of(results, part) for part in (None, (0, 2), (1, 2)))
    assert [str(moment) for moment in sample] == ["after a 1", "after b 1"]
    assert sorted(map(str, results)) == sorted(str(moment) for part in (sample, *rest) for moment in part)
