"""Every mover leads the address to its node on the simulated EC2; one that does not is reported."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import movers, peer_tools
from bench.movers import Mover
from bench.peer_lab import PeerLab
from bench.peer_tools import Package, Unavailable
from bench.race import Race, Setting
from bench.running import Command
from tests.bootstrap.locks import read
from tests.conftest import require, skip

AT_ONCE = Setting(addresses=2, tables=1, latency=0.0)
SLOW = Setting(addresses=1, tables=3, latency=0.2)


@pytest.fixture(scope="module")
def peer_lab() -> Iterator[PeerLab]:
    require("root", "ip", "floatip")
    with PeerLab(2, (1, 3)) as running:
        yield running


def a_mover(name: str, peer_lab: PeerLab) -> Mover:
    ours = {"agent": movers.agent, "direct mode": movers.direct_mode, "boto3": movers.boto3_process}
    if name in ours:
        return ours[name](peer_lab)
    try:
        aws = peer_tools.aws_cli()
        if name == "AWS CLI":
            return movers.cli_script(peer_lab, aws)
        return movers.move_ip(peer_lab, aws, peer_tools.resource_agents())
    except Unavailable as e:
        skip(str(e))


def moves_both(mover: Mover, peer_lab: PeerLab) -> None:
    """Move as both settings say; EC2's latency is in the time, once for the read and once for the writes."""
    race = Race(peer_lab, [mover], seconds=600)
    slow, at_once = race.move(mover, SLOW), race.move(mover, AT_ONCE)
    assert (slow.problem, at_once.problem) == ("", "")
    assert slow.seconds >= 2 * SLOW.latency
    assert slow.calls >= 1 + 3
    assert at_once.calls >= 2
    assert min(slow.cpu, at_once.cpu, slow.memory, at_once.memory) > 0


@pytest.mark.parametrize("name", ["agent", "direct mode", "boto3"])
def test_an_address_is_moved(peer_lab: PeerLab, name: str) -> None:
    moves_both(a_mover(name, peer_lab), peer_lab)


@pytest.mark.thorough(sample="test_an_address_is_moved[boto3]")
@pytest.mark.parametrize("name", ["AWS CLI", "aws-vpc-move-ip"])
def test_an_address_is_moved_by_programs_of_others(peer_lab: PeerLab, name: str) -> None:
    """It fetches them, if ``.cache/peers`` does not have them."""
    moves_both(a_mover(name, peer_lab), peer_lab)


def test_agents_and_direct_mode_leave_no_claim(peer_lab: PeerLab) -> None:
    for mover in (movers.agent(peer_lab), movers.direct_mode(peer_lab)):
        assert Race(peer_lab, [mover], seconds=600).move(mover, AT_ONCE).problem == ""
    for directory in (peer_lab.node.data_dir, peer_lab.direct_config.with_name("direct")):
        states = [path.read_text() for path in directory.rglob("*.json") if "192.168.0.1" in path.read_text()]
        assert not [state for state in states if '"held"' in state]


def test_before_a_move_the_routes_lead_elsewhere(peer_lab: PeerLab) -> None:
    assert peer_lab.unmoved(peer_lab.moves(2, 3)) == 6


FAILING = {
    "it fails": ("echo no such ENI; exit 3", "failed: 1 of 1 moves ended with status 3: no such ENI"),
    "it does nothing": (":", "failed: 3 of 3 routes lead elsewhere"),
    "it does not end": ("sleep 1000", "failed: 1 of 1 moves not ended in time"),
}


@pytest.mark.parametrize("how", FAILING)
def test_a_mover_that_does_not_move_is_reported(peer_lab: PeerLab, how: str) -> None:
    script, problem = FAILING[how]
    mover = Mover(how, lambda _: Command(["/bin/sh", "-c", script], peer_lab.environment()))
    race = Race(peer_lab, [mover], seconds=1 if "end" in how else 60)
    outcome = race.move(mover, replace(SLOW, latency=0.0))
    assert (outcome.problem, outcome.late) == (problem, "end" in how)


def test_a_peer_that_cannot_be_had_is_in_every_result(peer_lab: PeerLab) -> None:
    mover = movers.absent(movers.MOVE_IP, Unavailable("not for this machine"))
    results = Race(peer_lab, [mover], seconds=60).run(1, [AT_ONCE])
    assert results[AT_ONCE][movers.MOVE_IP].problem == "not measured: not for this machine"


def stand_in(place: Path, name: str, script: str) -> None:
    """Write a shell script that stands for a program."""
    path = place / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run_script(aws: Path) -> int:
    """Run ``move.sh`` with the ``aws`` of this directory; return its exit status."""
    argv = ["/bin/sh", str(movers.PROGRAMS / "move.sh"), "eni-1", "192.168.0.2", "race-2"]
    return subprocess.run(argv, env={"PATH": f"{aws}:{os.environ['PATH']}"}).returncode


class TestPrograms:
    def test_the_shell_script_replaces_the_route_in_each_table_that_it_finds(self, tmp_path: Path) -> None:
        log = tmp_path / "calls"
        lists = f'echo "$*" >>{log}\n[ "$2" = replace-route ] || printf "rtb-a\\trtb-b\\n"'
        stand_in(tmp_path, "aws", lists)
        assert run_script(tmp_path) == 0
        _, *writes = log.read_text().splitlines()
        assert writes == [
            f"ec2 replace-route --route-table-id {table} --destination-cidr-block 192.168.0.2/32"
            " --network-interface-id eni-1"
            for table in ("rtb-a", "rtb-b")
        ]

    def test_the_script_fails_where_the_cli_fails(self, tmp_path: Path) -> None:
        stand_in(tmp_path, "aws", "exit 254")
        assert run_script(tmp_path) == 254

    def test_a_package_that_is_not_the_pinned_one_is_not_unpacked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand_in(tmp_path, "apt-get", "echo another >package.deb")
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        store = tmp_path / "store"
        with pytest.raises(Unavailable, match="what apt has as agents=1 is not the pinned file: sha256 "):
            peer_tools.unpacked(Package("agents", "1", "0" * 64), store)
        assert list(store.iterdir()) == []

    def test_apt_that_has_not_the_version_says_why(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand_in(tmp_path, "apt-get", "[ $2 = update ] || { echo E: not found >&2; exit 100; }")
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        with pytest.raises(Unavailable, match="apt-get -q download: E: not found"):
            peer_tools.unpacked(Package("agents", "1", "0" * 64), tmp_path / "store")

    def test_a_machine_without_a_pin_has_no_resource_agents(self, monkeypatch: pytest.MonkeyPatch) -> None:
        require("apt-get", "dpkg", "dpkg-deb", "curl", "ip")
        monkeypatch.setattr(peer_tools, "RESOURCE_AGENTS", {})
        with pytest.raises(Unavailable, match="no resource-agents are pinned for "):
            peer_tools.resource_agents()

    def test_every_pin_of_the_aws_cli_has_hashes(self) -> None:
        pins = read(peer_tools.LOCK.read_text())
        assert "awscli" in [pin.name for pin in pins]
        assert [str(pin) for pin in pins if not pin.hashes] == []
