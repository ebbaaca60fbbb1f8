"""An outage is one line when it begins and one when it ends, dated when that was; so is each write."""

from __future__ import annotations

import json
from datetime import datetime
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.observe import status
from cni_floatip.agent.observe.lines import LineWriter
from cni_floatip.agent.observe.logs import DedupLog, Log
from cni_floatip.agent.observe.outages import addresses_of
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import State
from cni_floatip.model.values import PodIdentity, RouteKey, RouteTarget
from cni_floatip.rules.reconcile import TABLE, Outage, RouteState
from tests.support.claims import a_claim, a_route
from tests.support.simulated_cluster import EPOCH, FLOATING, SimulatedCluster, SimulatedNode

TABLES = ("rtb-1", "rtb-2", "rtb-3")


class LoggingNode(SimulatedNode):
    """A node whose keeper speaks through the agent's own log."""

    def start(self) -> None:
        self.written = ""
        cluster = self.cluster
        lines = LineWriter("info", "json", self, now=cluster.now)
        self.log = DedupLog(Log({}, lines), clock=cluster.clock, now=cluster.now)  # type: ignore[method-assign]
        super().start()

    def write(self, text: str) -> None:
        self.written += text

    def lines(self, *events: str) -> list[dict[str, Any]]:
        results = [json.loads(line) for line in self.written.splitlines()]
        return [line for line in results if line.get("event") in events] if events else results


@pytest.fixture
def logging_cluster(tmp_path: Path) -> Any:
    return SimulatedCluster(tmp_path, tables=TABLES, node=LoggingNode)


def at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp() - EPOCH


def served(node: SimulatedNode) -> list[tuple[str, dict[str, str]]]:
    return [
        (address.name, {table: why.value for table, why in address.outages.items()})
        for address in status.served(node.claims.all()[0], node.keeper.outage)
    ]


KINDS = {
    "absent": (None, "absent", "nothing"),
    "stolen": (RouteTarget("eni-b", is_eni=True), "superseded", "eni-b"),
    "a dead node's": (RouteTarget("eni-dead", is_eni=True), "blackhole", "eni-dead (blackhole)"),
    "a gateway": (RouteTarget("igw-1", is_eni=False), "not an ENI", "igw-1"),
}


@pytest.mark.parametrize(("target", "event", "leads"), KINDS.values(), ids=KINDS)
def test_an_outage_is_one_warning_with_what_it_is_about(
    logging_cluster: Any, target: Any, event: Any, leads: Any
) -> None:
    node = logging_cluster.nodes["a"]
    node.add()
    logging_cluster.pass_time(200)
    assert served(node) == [("192.168.0.2/32", {})]
    node.written = ""
    logging_cluster.ec2.refused.update({"create", "delete"})
    began = logging_cluster.at
    if target:
        logging_cluster.ec2.tables["rtb-2"][FLOATING] = target
    else:
        del logging_cluster.ec2.tables["rtb-2"][FLOATING]
    logging_cluster.pass_time(900)
    (line,) = node.lines(event)
    assert began < at(line) <= began + 70, "dated by the look that found it"
    about = {key: line.get(key) for key in ("level", "destination", "table", "namespace", "pod", "eni")}
    assert about == {
        "level": "warning",
        "destination": "192.168.0.2/32",
        "table": "rtb-2",
        "namespace": "core",
        "pod": "pod-1",
        "eni": "eni-a",
    }
    assert line["msg"].startswith(f"net/a-c1/net1: {event}: rtb-2 192.168.0.2/32 leads to {leads}")
    assert line.get("target", "nothing") == leads
    assert served(node) == [("192.168.0.2/32", {"rtb-2": event})]
    logging_cluster.ec2.tables["rtb-2"][FLOATING] = RouteTarget("eni-a", is_eni=True)
    ended = logging_cluster.at
    logging_cluster.pass_time(100)
    (line,) = node.lines("held")
    assert (line["level"], line["table"], line["target"]) == ("info", "rtb-2", "eni-a")
    assert ended < at(line) <= ended + 70
    assert served(node) == [("192.168.0.2/32", {})]


def test_each_write_is_one_line_when_it_is_made(logging_cluster: Any) -> None:
    """The same happens to the same route a minute later, and is said again: with its own time."""
    node = logging_cluster.nodes["a"]
    node.add()
    logging_cluster.pass_time(50)
    writes: list[tuple[str, float]] = []
    write = logging_cluster.ec2._write

    def noted(verb: str, key: RouteKey, eni: str) -> None:
        write(verb, key, eni)
        writes.append((f"{verb}d {key.table}", logging_cluster.at))

    logging_cluster.ec2._write = noted
    for number in range(8):
        if number % 2:
            for table in TABLES:
                logging_cluster.ec2.tables[table][FLOATING] = RouteTarget("eni-dead", is_eni=True)
        else:
            for table in TABLES:
                del logging_cluster.ec2.tables[table][FLOATING]
        logging_cluster.pass_time(110)
        assert logging_cluster.leads("rtb-3") == "eni-a", number
    output = sorted(
        (f"{line['event']} {line['table']}", at(line)) for line in node.lines("created", "deleted")
    )
    writes.sort()  # tables are written side by side
    assert [what for what, _ in output] == [what for what, _ in writes]
    assert [when for _, when in output] == pytest.approx([when for _, when in writes], abs=0.01)
    assert len(output) == 8 * 3 + 4 * 3
    assert {line["level"] for line in node.lines("created", "deleted")} == {"info"}


def test_what_cannot_be_seen_is_said_once_in_a_while_and_counted(logging_cluster: Any) -> None:
    """A condition, and no event: an hour without EC2 does not fill the log."""
    node = logging_cluster.nodes["a"]
    node.add()
    logging_cluster.pass_time(200)
    node.written = ""
    logging_cluster.ec2.down = True
    logging_cluster.pass_time(3600)
    lines = [line for line in node.lines() if "cannot read the route tables" in line["msg"]]
    assert 5 <= len(lines) <= 13
    assert {line["level"] for line in lines} == {"warning"}
    assert all(
        at(line) - (datetime.fromisoformat(line["first"]).timestamp() - EPOCH) < 400 for line in lines[1:]
    )


def test_a_release_is_said(logging_cluster: Any) -> None:
    node = logging_cluster.nodes["a"]
    pod = node.add()
    logging_cluster.pass_time(200)
    node.delete(pod)
    logging_cluster.pass_time(100)
    assert sorted(line["table"] for line in node.lines("released")) == list(TABLES)
    assert {line["target"] for line in node.lines("released")} == {"eni-a"}
    assert node.lines("absent", "superseded") == []


def test_a_young_claim_is_no_false_alarm(logging_cluster: Any) -> None:
    """A read that is older than the ADD shows what was there before; it is looked at again."""
    a, b = logging_cluster.nodes.values()
    a.add()
    logging_cluster.pass_time(200)
    logging_cluster.ec2.stale = 14
    b.add()
    for _ in range(40):
        logging_cluster.pass_time(0.5)
        assert served(b) == [("192.168.0.2/32", {})]
    logging_cluster.pass_time(300)
    assert b.lines("absent", "superseded", "blackhole", "held") == []
    assert served(a) == [("192.168.0.2/32", dict.fromkeys(TABLES, "superseded"))]


def test_what_the_keeper_has_just_created_is_not_absent_for_an_old_read(
    logging_cluster: Any,
) -> None:
    """A read may show the time before the create: that is no second outage."""
    logging_cluster.ec2.random.seed(3)
    node = logging_cluster.nodes["a"]
    node.add()
    logging_cluster.pass_time(200)
    for _ in range(5):
        for table in TABLES:
            del logging_cluster.ec2.tables[table][FLOATING]
        logging_cluster.ec2._remember()
        until = logging_cluster.at + 200
        while not all(logging_cluster.leads(table) for table in TABLES):
            logging_cluster.pass_time(0.5)
            assert logging_cluster.at < until
        logging_cluster.ec2.stale = 14
        for number in range(14):
            node.keeper._due.add(logging_cluster.clock() + number)  # looks as after an ADD
        logging_cluster.pass_time(14)
        logging_cluster.ec2.stale = 0
        logging_cluster.pass_time(60)
    assert len(node.lines("absent")) == len(node.lines("created")) == 5 * len(TABLES)


def test_a_table_that_was_just_joined_is_no_outage_until_it_should_be_there(
    logging_cluster: Any,
) -> None:
    logging_cluster.ec2.untagged.add("rtb-3")
    node = logging_cluster.nodes["a"]
    node.add()
    logging_cluster.pass_time(200)
    logging_cluster.ec2.untagged.clear()
    logging_cluster.pass_time(130)
    assert logging_cluster.leads("rtb-3") == "eni-a"
    assert node.lines("absent") == []
    del logging_cluster.ec2.tables["rtb-3"][FLOATING]
    logging_cluster.pass_time(130)
    assert len(node.lines("absent")) == 1


def test_a_restart_forgets_no_outage(logging_cluster: Any) -> None:
    a, b = logging_cluster.nodes.values()
    a.add()
    b.add()
    logging_cluster.pass_time(200)
    a.start()
    assert served(a) == [("192.168.0.2/32", dict.fromkeys(TABLES, "superseded"))]
    logging_cluster.pass_time(200)
    assert len(a.lines("superseded")) == len(TABLES), "the new agent's log has it, too"


def test_an_add_that_writes_again_has_ended_the_outage(logging_cluster: Any) -> None:
    a, b = logging_cluster.nodes.values()
    pod = a.add()
    b.add()
    logging_cluster.pass_time(200)
    claim = a.claims.get(pod)
    a.claims.put(claim.hold([route.key for route in claim.routes], logging_cluster.now()))
    assert served(a) == [("192.168.0.2/32", {})]


@pytest.mark.parametrize("sight", RouteState)
def test_only_what_leads_here_and_works_serves(sight: Any) -> None:
    """By hand, one by one: a new sight has to be thought about."""
    expected = {
        RouteState.ABSENT: Outage.ABSENT,
        RouteState.OURS: None,
        RouteState.OURS_BLACKHOLE: Outage.BLACKHOLE,
        RouteState.DEAD: Outage.BLACKHOLE,
        RouteState.OTHER: Outage.SUPERSEDED,
        RouteState.NOT_ENI: Outage.NOT_ENI,
        RouteState.CUT_OFF: Outage.CUT_OFF,
        RouteState.FORMER: Outage.CUT_OFF,
        RouteState.TAKEN: Outage.CUT_OFF,
        RouteState.NOT_GIVEN: None,  # what it is beside that counts
    }
    assert TABLE[sight].outage is expected[sight]


def claim_of(routes: dict[tuple[str, str], State], *addresses: str) -> Claim:
    return a_claim(
        *(a_route(state, table, destination) for (table, destination), state in routes.items()),
        pod=PodIdentity("core", "pod", ""),
        addresses=tuple(map(ip_interface, addresses)),
    )


HELD = State.HELD
POOL = {("rtb-1", "192.168.0.2/32"): HELD, ("rtb-1", "192.168.0.0/24"): HELD}
ADDRESSES = {
    "one": (claim_of({("rtb-1", "192.168.0.2/32"): HELD}, "192.168.0.2/24"), ["192.168.0.2"]),
    "of a subnet": (
        claim_of({("rtb-1", "10.10.254.0/28"): HELD}, "10.10.254.5/28", "10.10.254.6/28"),
        ["10.10.254.5", "10.10.254.6"],
    ),
    "a pool behind it": (claim_of(POOL, "192.168.0.2/32"), ["192.168.0.2", "192.168.0.0/24"]),
    "both families": (
        claim_of(
            {("rtb-1", "192.168.0.2/32"): HELD, ("rtb-1", "fd00::2/128"): HELD},
            "192.168.0.2/32",
            "fd00::2/64",
        ),
        ["192.168.0.2", "fd00::2"],
    ),
    "an ADD under way": (claim_of({("rtb-1", "192.168.0.2/32"): State.CLAIMING}, "192.168.0.2/32"), []),
    "ended": (claim_of({("rtb-1", "192.168.0.2/32"): State.RELEASING}, "192.168.0.2/32"), []),
    "gone": (claim_of({("rtb-1", "192.168.0.2/32"): State.GONE}, "192.168.0.2/32"), []),
    "a standby": (claim_of({("rtb-1", "192.168.0.2/32"): State.STANDBY}, "192.168.0.2/32"), []),
    "elected": (claim_of({("rtb-1", "192.168.0.2/32"): State.ACTIVE}, "192.168.0.2/32"), ["192.168.0.2"]),
}


@pytest.mark.parametrize(("claim", "names"), ADDRESSES.values(), ids=ADDRESSES)
def test_what_a_claim_is_to_be_reached_by(claim: Any, names: Any) -> None:
    assert [address.name for address in addresses_of(claim, lambda *_: None)] == names
