"""``python -m lab up`` and what goes with it: a lab that stays, run by a process in the background.

That process keeps EC2, instance metadata and the router going, and does on request (a line of JSON on a unix
socket) what only it can do: fail and recover nodes, and tell what the route tables hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any

from lab import cmdline, leftovers, needs
from lab.client import ask
from lab.errors import LabError
from lab.leftovers import Owner

CURRENT = leftovers.STATE / "current"
ENDED_WITHIN = 30
LONGEST_WAIT = 60

Commands = argparse._SubParsersAction


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the commands to the lab's command line."""
    up = commands.add_parser(
        "up",
        help="start a lab that stays, and print how to use it",
        description="Start a lab in the background and return when it is ready. One at a time.",
    )
    for option, most, what in (("--azs", 6, "Availability Zones"), ("--nodes", 4, "worker nodes per zone")):
        meaning = f"{what}, 1 to {most} (default %(default)s)"
        up.add_argument(option, type=int, choices=range(1, most + 1), default=2, metavar="N", help=meaning)
    kind = up.add_mutually_exclusive_group()
    kind.add_argument("--direct", action="store_true", help="without agents on the nodes: direct mode")
    kind.add_argument(
        "--kubernetes",
        action="store_true",
        help="with a Kubernetes on the nodes, Multus and the chart; the first time it is built (10 minutes)",
    )
    up.add_argument("--foreground", action="store_true", help="stay in the foreground; Ctrl-C ends the lab")
    up.add_argument("--ready", type=int, help=argparse.SUPPRESS)
    up.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    up.set_defaults(run=_up)
    down = commands.add_parser(
        "down",
        help="end it, and clear away what killed labs left",
        description="End the lab that `up` started, and clear away what labs left whose process was killed.",
    )
    down.set_defaults(run=_down)
    asking = commands.add_parser(
        "ask",
        help="ask at an address who answers",
        description="Send a datagram from each client; say which pod answers. Exit status 1: some get none.",
    )
    asking.add_argument("address", type=_address, help="an address of a pod, such as 192.168.0.2")
    asking.add_argument("--timeout", type=_seconds, default=1.0, help="seconds (default %(default)s)")
    asking.set_defaults(run=_ask)
    _add(commands, "routes", "show what the route tables hold", lambda _: print(_order("routes")["text"]))
    meanings = {
        "fail": "lose an Availability Zone or a node",
        "recover": "bring back an Availability Zone or a node that failed",
    }
    for verb, meaning in meanings.items():
        parser = _add(commands, verb, meaning, lambda args, verb=verb: print(_order(verb, args.what)["text"]))
        parser.add_argument("what", help="a zone (a) or a node (a1)")


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        message = f"{text!r} is not an IP address; a pod's is meant, such as 192.168.0.2"
        raise argparse.ArgumentTypeError(message) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_WAIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time of up to {LONGEST_WAIT} s")
    return seconds


def _add(
    commands: Commands[argparse.ArgumentParser], name: str, meaning: str, run: Callable[..., Any]
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")

    def act(args: argparse.Namespace) -> int:
        run(args)
        return 0

    parser.set_defaults(run=act)
    return parser


# Starting and ending. --------------------------------------------------------------------------------------


def _up(args: argparse.Namespace) -> int:
    needs.require()
    running = _current()
    if running:
        raise LabError(f"a lab is up already ({running.name}); `{cmdline.lab('down')}` ends it")
    if args.foreground:
        return _stay(args)
    if args.kubernetes:
        _build_kubernetes()  # here, because it takes long and says what it does
    # The lab writes to a file from its first moment, as do the processes it starts: whoever called us may
    # want to read our output to the end.
    leftovers.STATE.mkdir(parents=True, exist_ok=True)
    log = leftovers.STATE / f"starting-{os.getpid()}.log"
    try:
        text = _start(args, log)
        if not text:
            raise LabError(f"the lab did not start:\n{log.read_text().strip()}")
    finally:
        log.unlink(missing_ok=True)
    print(text, end="")
    return 0


def _start(args: argparse.Namespace, log: Path) -> str:
    """Start the lab in the background; return what it says when it is ready, or nothing if it has ended."""
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "lab", "up", "--foreground", "--ready", str(writing), "--log", str(log)]
    argv += ["--azs", str(args.azs), "--nodes", str(args.nodes), *(["--direct"] if args.direct else [])]
    argv += ["--kubernetes"] if args.kubernetes else []
    with log.open("w") as output:
        process = subprocess.Popen(
            argv,
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    os.close(writing)
    try:
        with os.fdopen(reading) as message:
            text = message.read()
    except BaseException:
        process.terminate()
        raise
    if not text:
        process.wait(ENDED_WITHIN)
    return text


def _build_kubernetes() -> Any:
    """Build what a cluster needs; return it."""
    from lab.kubernetes import cluster  # here, as in _stay

    return cluster.materials()


def _stay(args: argparse.Namespace) -> int:
    """Be the process that the lab lives in."""
    # Here, because moto takes two seconds to import and --help need not wait for it.
    from lab import byhand
    from lab.kubernetes import byhand as cluster_byhand
    from lab.kubernetes import cluster as kubernetes
    from lab.world import Lab

    signal.signal(signal.SIGTERM, _end)
    agents = not (args.direct or args.kubernetes)  # on Kubernetes the chart brings them
    machines = kubernetes.MACHINES if args.kubernetes else ()
    with (
        Lab(args.azs, args.nodes, agents=agents, prepared=True, machines=machines) as lab,
        contextlib.ExitStack() as stack,
    ):
        if args.kubernetes:
            cluster = stack.enter_context(kubernetes.Cluster(lab, _build_kubernetes(), kubernetes.Settings()))
            cluster_byhand.prepare(cluster)
        else:
            byhand.prepare(lab)
        orders = _listen(lab.state / "orders")
        stack.callback(orders.close)
        CURRENT.unlink(missing_ok=True)
        CURRENT.symlink_to(lab.state.name)
        stack.callback(CURRENT.unlink, missing_ok=True)
        leftovers.show_place()
        text = cluster_byhand.guide(cluster, CURRENT) if args.kubernetes else byhand.guide(lab, CURRENT)
        if args.ready is None:
            print(text, flush=True)
        else:
            args.log.rename(lab.state / "log")
            with os.fdopen(args.ready, "w") as ready:
                ready.write(text + f"\nlog: {CURRENT}/log (process {os.getpid()})\n")
        with contextlib.suppress(KeyboardInterrupt):
            _take_orders(lab, orders)
    return 0


def _end(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _current() -> Path | None:
    """Return the state directory of the lab that is up."""
    if not CURRENT.is_symlink():
        return None
    state = CURRENT.resolve()
    owner = next((o for prefix, o in leftovers.labs() if prefix == f"{state.name}-"), None)
    return state if owner and owner.alive else None


def _the_lab() -> Path:
    """Return the state directory of the lab that is up; there must be one, and we must be root to use it."""
    needs.require_root()
    state = _current()
    if state is None:
        raise LabError(f"no lab is up: `{cmdline.lab('up')}` starts one")
    return state


def _down(_: argparse.Namespace) -> int:
    needs.require_root()
    state = _current()
    if state:
        sentence = json.loads((state / "owner.json").read_text())
        _stop(Owner(sentence["pid"], sentence["started"]))
        print(f"{state.name} is down")
    for prefix in leftovers.sweep():
        print(f"cleared away what {prefix.rstrip('-')} had left")
    if CURRENT.is_symlink() and not CURRENT.exists():
        CURRENT.unlink()
    return 0


def _stop(owner: Owner) -> None:
    """End the lab's process; one that does not end is killed, and swept like any that was."""
    for number, seconds in ((signal.SIGTERM, ENDED_WITHIN), (signal.SIGKILL, 5)):
        until = time.monotonic() + seconds
        if owner.alive:
            os.kill(owner.pid, number)
        while owner.alive and time.monotonic() < until:
            time.sleep(0.05)


# Orders. ---------------------------------------------------------------------------------------------------


def _listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(0o600)
    sock.listen(4)
    return sock


def _take_orders(lab: Any, orders: socket.socket) -> None:
    while True:
        connection, _ = orders.accept()
        with connection, connection.makefile("rw") as line:
            connection.settimeout(5)
            try:
                answer = _carry_out(lab, line)
            except Exception as e:  # noqa: BLE001 (whatever an order meets, the lab goes on)
                answer = {"error": f"{type(e).__name__}: {e}"}
            with contextlib.suppress(OSError):
                line.write(json.dumps(answer) + "\n")
                line.flush()


def _carry_out(lab: Any, line: IO[str]) -> dict[str, Any]:
    verb, what = json.loads(line.readline())
    if verb == "routes":
        return {"text": routes(lab)}
    if verb not in ("fail", "recover") or what not in {*lab.azs, *lab.nodes}:
        known = ", ".join([*lab.azs, *lab.nodes])
        raise LabError(f"no zone or node {what!r}; there are {known}")
    return {"text": change(lab, what, fails=verb == "fail")}


def change(lab: Any, what: str, *, fails: bool) -> str:
    """Fail or recover a zone or a node, and say what that did."""
    place = lab.azs.get(what) or lab.nodes[what]
    nodes = place.nodes if what in lab.azs else (place,)
    label = f"Availability Zone {what}" if what in lab.azs else f"node {what}"
    changed = ", ".join(node.name for node in nodes if node.is_up == fails)
    if not changed:
        return f"{label} {'has failed' if fails else 'is up'} already"
    if fails:
        place.fail()
        return (
            f"{label} has failed ({changed}): no packets, no way to EC2, where it is stopped; its pods go on"
        )
    place.recover()
    return f"{label} is back ({changed}): packets, EC2, and the pods that it had"


def routes(lab: Any) -> str:
    """Return what the route tables hold, as text."""
    names = {eni.id: f" ({node} {eni.ifname})" for node in lab.nodes.values() for eni in node.enis}
    lines = []
    for name, table in lab.tables.items():
        lines.append(f"{name} ({table})")
        truth = lab.ec2.truth(table)
        lines += [f"  {cidr} -> {route}{names.get(route.target, '')}" for cidr, route in truth.items()]
    return "\n".join(lines)


def _order(verb: str, what: str = "") -> dict[str, Any]:
    """Have the lab's process do something."""
    state = _the_lab()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(60)
            sock.connect(str(state / "orders"))
            with sock.makefile("rw") as line:
                line.write(json.dumps([verb, what]) + "\n")
                line.flush()
                answer: dict[str, Any] = json.loads(line.readline())
    except (OSError, ValueError) as e:
        message = f"{state.name} does not answer ({e}); see {state}/log, or end it: `{cmdline.lab('down')}`"
        raise LabError(message) from e
    if "error" in answer:
        raise LabError(answer["error"].removeprefix("LabError: "))
    return answer


def _ask(args: argparse.Namespace) -> int:
    state = _the_lab()
    answers = {
        name: ask(f"{state.name}-{namespace}", args.address, args.timeout)
        for name, namespace in (("vpc", "client"), ("tgw", "remote"))
    }
    for name, answer in answers.items():
        print(f"{name} client: {answer or 'no answer'}")
    return 0 if all(answers.values()) else 1
