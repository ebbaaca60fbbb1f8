"""Whose route it is: two claims of one node for one destination, and an old owner that comes late.

The route stays, and leads to an ENI of a live claim, while one of them lives. It goes with the last claim
("release") or stays ("keep").
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.support.two_nodes import TABLES, Attachment, Place, Scene, everywhere, ours_in

pytestmark = pytest.mark.lab(nodes_per_az=1, packets=False)


ORDERS = (
    ("ADD 1", "ADD 2", "DEL 1", "DEL 2"),
    ("ADD 1", "ADD 2", "DEL 2", "DEL 1"),
    ("ADD 1", "DEL 1", "ADD 2", "DEL 2"),
)
ENIS = (("eth1", "eth1"), ("eth1", "ens7"))
MANNERS = (("release", "release"), ("keep", "keep"), ("release", "keep"), ("keep", "release"))


@dataclass(frozen=True)
class Case:
    order: tuple[str, ...]
    enis: tuple[str, str]
    on_delete: tuple[str, str]

    def __str__(self) -> str:
        return f"{', '.join(self.order)} through {'/'.join(self.enis)}, {'/'.join(self.on_delete)}"


@dataclass
class Stage:
    """One node with room for two claims of one address."""

    scene: Scene
    place: Place
    address: str

    def __str__(self) -> str:
        return self.place.node.name

    def reset(self) -> None:
        self.scene.clear(self.address)
        self.place.forget()

    def attach(self, eth: str = "eth1", **more: object) -> Attachment:
        return self.scene.attach(self.place, self.address, eth, **more)

    def routes(self) -> dict[str, str]:
        return self.scene.routes(self.address)

    def to(self, eth: str) -> dict[str, str]:
        return dict.fromkeys(TABLES, f"{self.place.node.name} {eth}")


@pytest.fixture(scope="module")
def claim_stages(scene: Scene) -> list[Stage]:
    return [
        Stage(scene, scene.place(node, "two"), address)
        for node, address in (("a1", "192.168.0.2/32"), ("b1", "192.168.0.3/32"))
    ]


def pointless(order: tuple[str, ...], enis: tuple[str, str], manner: tuple[str, str]) -> bool:
    """Say whether nothing tells the two claims of a case apart, so that another order says the same."""
    if order[1] == "DEL 1":  # one after the other
        return enis[0] == enis[1] or manner[0] == manner[1]
    return order[2] == "DEL 2" and enis[0] == enis[1] and manner[0] == manner[1]


def every(test: str, nth: int) -> pytest.MarkDecorator:
    """Give a test every case, and for ``make test`` every ``nth``."""
    thorough = pytest.mark.thorough(sample=f"{test}[sample]")
    cases = [pytest.param(nth, id="sample"), pytest.param(1, id="all", marks=thorough)]
    return pytest.mark.parametrize("nth", cases)


@every("test_two_claims_of_one_node_in_any_order", 6)
def test_two_claims_of_one_node_in_any_order(claim_stages: list[Stage], nth: int) -> None:
    cases = [
        Case(order, enis, manner)
        for order in ORDERS
        for enis in ENIS
        for manner in MANNERS
        if not pointless(order, enis, manner)
    ]

    def play(stage: Stage, case: Case) -> None:
        stage.reset()
        both = {
            str(n): stage.attach(eth, on_delete=manner)
            for n, eth, manner in zip((1, 2), case.enis, case.on_delete, strict=True)
        }
        live: list[Attachment] = []
        for step in case.order:
            verb, number = step.split()
            answer = both[number].call(verb)
            assert answer.code == 0, str(answer)
            (live.append if verb == "ADD" else live.remove)(both[number])
            if live:
                assert stage.routes() in [stage.to(attachment.eth) for attachment in live], step
        last = both[case.order[-1][-1]]
        assert stage.routes() == ({} if last.on_delete == "release" else stage.to(last.eth))
        assert stage.place.alive() == []
        for attachment in both.values():
            assert ours_in(attachment.pod) == []
            stage.place.node.remove_pod(attachment.pod)

    everywhere(claim_stages, cases[::nth], play)


@every("test_handing_over_that_is_interrupted_is_finished", 4)
def test_handing_over_that_is_interrupted_is_finished(claim_stages: list[Stage], nth: int) -> None:
    """DEL deletes the route and creates it for the other claim: in between there is none."""
    actions = ("DescribeRouteTables", "DeleteRoute", "CreateRoute")

    def play(stage: Stage, loss: tuple[str, str, int]) -> None:
        stage.reset()
        heir, first = stage.attach("ens7"), stage.attach("eth1")
        assert [heir.add().code, first.add().code] == [0, 0]
        assert stage.routes() == stage.to("eth1")
        how, action, times = loss
        doom: tuple[object, ...] = ()
        if how == "killed":
            doom = ("after", {"DeleteRoute": "ec2.delete", "CreateRoute": "ec2.create"}[action], times)
        elif how == "refused":
            stage.scene.lab.ec2.faults.error(action, "RequestLimitExceeded", times=None, caller=str(stage))
        else:
            getattr(stage.scene.lab.ec2.faults, how)(action, times, caller=str(stage))
        assert first.delete(*doom).code == (-9 if doom else 0)
        if how == "refused":
            assert stage.place.alive() != [f"{heir.container} held"]
            stage.scene.lab.ec2.faults.clear()
        stage.place.collect()
        assert stage.routes() == stage.to("ens7")
        assert stage.place.alive() == [f"{heir.container} held"]
        for attachment in (heir, first):
            stage.place.node.remove_pod(attachment.pod)

    cases = [("lose_answer", action, 2) for action in actions]
    cases += [("lose_request", action, 1) for action in actions]
    cases += [("killed", action, n) for action in actions[1:] for n in (1, 2)]
    everywhere(claim_stages, cases[::nth], play)
    everywhere(claim_stages[:1], [("refused", "CreateRoute", 0)], play)


def test_late_del_on_the_old_node_harms_nothing(claim_stages: list[Stage]) -> None:
    a, b = claim_stages
    a.reset()
    b.reset()
    old = a.attach()
    new = a.scene.attach(b.place, a.address)
    assert [old.add().code, new.add().code] == [0, 0]
    for _ in range(2):
        assert old.delete().code == 0
        assert a.routes() == dict.fromkeys(TABLES, "b1 eth1")
        assert a.place.collect() == []
    assert new.check().code == 0
    assert new.delete().code == 0
    assert a.routes() == {}


@pytest.mark.thorough(sample="test_late_del_on_the_old_node_harms_nothing")
def test_there_and_back_with_stale_reads_ends_at_the_last_add(claim_stages: list[Stage]) -> None:
    """An ADD that reads "ours" of a route that has moved on must write all the same."""
    a, b = claim_stages
    a.reset()
    b.reset()
    for _ in range(3):
        before = a.attach()
        assert before.add().code == 0
        between = a.scene.attach(b.place, a.address)
        assert between.add().code == 0
        a.scene.lab.ec2.faults.stale_reads(8, caller="a1")
        again = a.attach()
        answer = again.add()
        assert answer.code == 0, str(answer)
        assert a.routes() == a.to("eth1")
        a.scene.lab.ec2.faults.clear()
        assert [x.delete().code for x in (before, between)] == [0, 0]
        assert a.routes() == a.to("eth1")
        assert again.delete().code == 0
        assert a.routes() == {}
