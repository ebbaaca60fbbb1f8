"""The agent is killed while its keeper mends: the next one comes to the same end.

``HELD_PATIENCE`` and ``UNMATCHED_SECONDS`` are half a second here (see ``conftest``). Of what the keeper does
look after look, the first of each kind is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lab.vpc import TAG
from tests.faults_agent.dying_agents import LAB, Picture, Stage, recording, telling
from tests.support.two_nodes import Moment, everywhere, part_of, read_moments

pytestmark = [pytest.mark.needs("root", "ip", "tc"), LAB]


def tag(stage: Stage, *tables: str) -> None:
    """Let the network configuration of this stage match these tables, and no others."""
    ec2, lab = stage.scene.ec2, stage.scene.lab
    mine = {"Key": "of-" + stage.place.node.name, "Value": "yes"}
    ec2.delete_tags(Resources=[lab.tables[name] for name in ("a", "client")], Tags=[mine])
    if tables:
        ec2.create_tags(Resources=[lab.tables[name] for name in tables], Tags=[mine])


def lose_one(stage: Stage) -> None:
    stage.scene.clear(stage.destination, ["a"])


def lose_all(stage: Stage) -> None:
    stage.scene.clear(stage.destination)


def leave_blackholes(stage: Stage) -> None:
    """Another node claims the address, and its network interface is deleted."""
    ec2, lab = stage.scene.ec2, stage.scene.lab
    subnet = stage.place.node.eni("eth1").subnet.id
    eni = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    for name in ("a", "client"):
        ec2.replace_route(
            RouteTableId=lab.tables[name],
            DestinationCidrBlock=stage.destination,
            NetworkInterfaceId=eni,
        )
    ec2.delete_network_interface(NetworkInterfaceId=eni)


def turn_check_on(stage: Stage) -> None:
    stage.scene.source_check(stage.attachment.eni)


@dataclass(frozen=True)
class Trouble:
    """What happens to a pod's routes; ``kinds`` are among what the keeper does about it."""

    befalls: Callable[[Stage], None]
    kinds: frozenset[str]
    tables: tuple[str, ...] = ("a", "client")
    """In which the pod is before; after it is in ``ends``."""
    ends: tuple[str, ...] = ("a", "client")


TROUBLES = {
    "a route is lost": Trouble(lose_one, frozenset({"ec2.create"})),
    "all routes are lost": Trouble(lose_all, frozenset({"ec2.create"})),
    "another's blackhole is left": Trouble(leave_blackholes, frozenset({"ec2.delete", "ec2.create"})),
    "a table joins": Trouble(
        lambda stage: tag(stage, "a", "client"), frozenset({"ec2.create", "disk.replace"}), ("a",)
    ),
    "a table is left": Trouble(
        lambda stage: tag(stage, "a"), frozenset({"ec2.delete", "disk.replace"}), ends=("a",)
    ),
    "the source check is turned on": Trouble(turn_check_on, frozenset({"ec2.disable_source_dest_check"})),
}


def begin(stage: Stage, trouble: Trouble) -> None:
    """An ADD that is over, in the tables of this trouble."""
    tag(stage, *trouble.tables)
    stage.reset(routeTables={"tags": {**TAG, "of-" + stage.place.node.name: "yes"}})
    if trouble.tables == ("a",):
        stage.scene.clear(stage.destination, ["client"])
    assert stage.attachment.add().code == 0


def over(stage: Stage, trouble: Trouble) -> Callable[[Picture], bool]:
    def so(picture: Picture) -> bool:
        held = {table for _, table, state in picture.claims if state == "held"}
        mended = picture.routes == dict.fromkeys(trouble.ends, "me") and held == set(trouble.ends)
        return mended and not stage.scene.checks_source(stage.attachment.eni)

    return so


THOROUGH = pytest.mark.thorough(sample="test_the_agent_is_killed_while_it_mends[sample: a route is lost]")
SAMPLE = ("a route is lost",)
PARTS = [
    pytest.param(name, None, id=f"sample: {name}", marks=() if name in SAMPLE else THOROUGH)
    for name in TROUBLES
]
"""The sample of a trouble is what the keeper does about it; the rest is what it does besides."""
PARTS += [pytest.param(name, (0, 1), id=name, marks=THOROUGH) for name in TROUBLES]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_the_agent_is_killed_while_it_mends(
    stages: list[Stage], name: str, part: tuple[int, int] | None
) -> None:
    trouble = TROUBLES[name]
    first = stages[0]
    begin(first, trouble)
    file = recording(first)
    first.lives.arm(["record", str(file)])
    trouble.befalls(first)
    mended = first.settled(over(first, trouble))
    assert over(first, trouble)(mended), f"{mended}\n{first.lives}"
    first.lives.kill()
    moments = [moment for moment in telling(read_moments(file)) if moment.number == 1]
    assert trouble.kinds <= {moment.kind for moment in moments}, sorted({str(m) for m in moments})
    moments = part_of(moments, part, lambda moment: moment.when == "after" and moment.kind in trouble.kinds)
    missed: list[Moment] = []

    def play(stage: Stage, moment: Moment) -> None:
        begin(stage, trouble)
        stage.lives.arm(moment.doom)
        trouble.befalls(stage)
        picture = stage.settled(over(stage, trouble))
        assert over(stage, trouble)(picture), f"{picture}\n{stage.lives}"
        assert picture.pod == mended.pod
        assert picture.bystander == mended.bystander
        if not stage.lives.deaths:
            missed.append(moment)

    everywhere(stages, moments, play)
    assert len(missed) <= max(1, 0.2 * len(moments)), [str(moment) for moment in missed]
