"""Who moves an address: the agent, direct mode, and the peers. Each is one command for one move."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peer_tools
from bench.peer_lab import Move, PeerLab, cli_config
from bench.peer_tools import Unavailable
from bench.running import Command
from lab import direct, netns

PROGRAMS = Path(__file__).with_name("peer_programs")
AGENT, DIRECT, MOVE_IP = "the agent", "direct mode", "ClusterLabs' aws-vpc-move-ip"
CLI, BOTO3 = "AWS CLI script", "boto3 process for each move"
CLEAN_SECONDS = 60.0


def nothing(_: Sequence[Move]) -> None:
    """Clean up after moves that leave nothing behind."""


@dataclass(frozen=True, slots=True)
class Mover:
    """One way to move an address. ``missing`` says why it cannot be had here.

    ``resident``: an agent works for it, whose CPU and memory count. ``clean`` is not measured.
    """

    name: str
    command: Callable[[Move], Command]
    clean: Callable[[Sequence[Move]], None] = nothing
    missing: str = ""
    resident: bool = False


def movers(world: PeerLab) -> list[Mover]:
    """Return all of them; the peers' programs are fetched if they are not there."""
    return [agent(world), direct_mode(world), boto3_process(world), *_with_cli(world)]


def agent(world: PeerLab) -> Mover:
    """Return the client that hands an ADD to the node's agent, as a runtime executes it in a cluster."""
    client = str(world.node.bin_dir / "floatip")
    return _plugin(AGENT, world, client, world.environment(), resident=True)


def direct_mode(world: PeerLab) -> Mover:
    """Return the plugin that does everything in a process of its own."""
    environment = world.environment(FLOATIP_CONFIG=str(world.direct_config))
    return _plugin(DIRECT, world, str(direct.SCRIPT), environment)


def _plugin(name: str, world: PeerLab, program: str, environment: dict[str, str], **more: Any) -> Mover:
    def call(verb: str, move: Move) -> Command:
        variables = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": move.container,
            "CNI_NETNS": move.pod.netns,
            "CNI_IFNAME": "net1",
            "CNI_PATH": str(Path(program).parent),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-{move.container[-6:]}",
        }
        config = {
            "cniVersion": "1.0.0",
            "name": "race",
            "type": "floatip",
            "routeTables": {"tags": {move.tag: "*"}},
            "onDelete": "keep",
            "prevResult": {
                "cniVersion": "1.0.0",
                "interfaces": [{"name": "net1", "mac": world.eni.mac, "sandbox": move.pod.netns}],
                "ips": [{"address": f"{move.address}/32", "interface": 0}],
            },
        }
        return Command([program], {**environment, **variables}, json.dumps(config).encode())

    def clean(moves: Sequence[Move]) -> None:
        world.run([call("DEL", move) for move in moves], len(moves), CLEAN_SECONDS)

    return Mover(name, lambda move: call("ADD", move), clean, **more)


def boto3_process(world: PeerLab) -> Mover:
    """Return a fresh Python process that goes as the published init container does."""
    script = str(PROGRAMS / "move_boto3.py")

    def command(move: Move) -> Command:
        argv = [sys.executable, script, world.eni.mac, move.address, move.tag]
        return Command(argv, world.environment())

    return Mover(BOTO3, command)


def cli_script(world: PeerLab, aws: Path) -> Mover:
    """Return the shell script that calls ``aws``."""
    environment = world.environment(AWS_CONFIG_FILE=str(cli_config(world.node.state, world.lab.ec2.region)))
    environment["PATH"] = f"{aws.parent}:{environment['PATH']}"

    def command(move: Move) -> Command:
        argv = ["/bin/sh", str(PROGRAMS / "move.sh"), world.eni.id, move.address, move.tag]
        return Command(argv, environment)

    return Mover(CLI, command)


def move_ip(world: PeerLab, aws: Path, ocf_root: Path) -> Mover:
    """Return the resource agent, as its documentation configures it (``pcs resource create``)."""
    state = world.node.state
    settings = {
        "OCF_ROOT": str(ocf_root),
        "OCF_RESKEY_interface": world.eni.ifname,
        "OCF_RESKEY_awscli": str(aws),
        "OCF_RESKEY_profile": "default",
        "OCF_RESKEY_region": world.lab.ec2.region,
        "HA_LOGFILE": str(state / "ha.log"),
        "HA_RSCTMP": str(state),
        "AWS_CONFIG_FILE": str(cli_config(state, world.lab.ec2.region)),
    }
    program = str(ocf_root / "resource.d" / "heartbeat" / "aws-vpc-move-ip")

    def command(move: Move) -> Command:
        own = {
            "OCF_RESOURCE_INSTANCE": f"floating-{move.address}",
            "OCF_RESKEY_ip": move.address,
            "OCF_RESKEY_routing_table": ",".join(move.tables),
        }
        return Command([program, "start"], world.environment(**settings, **own))

    def clean(moves: Sequence[Move]) -> None:
        lines = "".join(f"addr del {move.address}/32 dev {world.eni.ifname}\n" for move in moves)
        argv = ["ip", "-force", "-batch", "-"]  # an address that it did not come to is not there
        netns.inside(
            world.node.ns, subprocess.run, argv, input=lines, text=True, capture_output=True, check=False
        )

    return Mover(MOVE_IP, command, clean)


def _with_cli(world: PeerLab) -> list[Mover]:
    """Return the peers that need programs of others."""
    try:
        aws = peer_tools.aws_cli()
    except Unavailable as e:
        return [absent(CLI, e), absent(MOVE_IP, e)]
    try:
        return [cli_script(world, aws), move_ip(world, aws, peer_tools.resource_agents())]
    except Unavailable as e:
        return [cli_script(world, aws), absent(MOVE_IP, e)]


def absent(name: str, why: Unavailable) -> Mover:
    """Return what stands for a peer that cannot be had."""

    def command(_: Move) -> Command:
        raise Unavailable(str(why))

    return Mover(name, command, missing=str(why))
