"""A node with the real agent and the really installed client, pods made by hand, and EC2 in memory.

Whoever makes the pod's interface is not measured, so no other plugin runs: a pod is a network namespace with
a veth that has the ENI's MAC (as ipvlan would) and an address. Everything is found by the lab's prefix, so
that what a killed run left goes with the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cni_floatip
from bench import running
from bench.pods import Pod, veth_pods
from bench.running import Command, Failed, Ran
from lab import leftovers, netns
from lab.world import undisturbed

PROGRAM = Path(sys.executable).with_name("floatipctl")
INTERPRETER = os.path.realpath(sys.executable)
BARE = Command([INTERPRETER, "-I", "-S", "-c", "pass"], {})
VPC, ACCOUNT, REGION, TAG = "vpc-bench", "111122223333", "eu-central-1", {"floatip": "bench"}
ENI, MAC, ELSEWHERE = "eni-here", "02:00:00:00:00:01", "eni-elsewhere"
EC2_PORT, HEALTH_PORT = 8000, 9819
STARTS_WITHIN = 30.0
QUIET_SAMPLES, SAMPLE_SECONDS = 10, 0.02
SCENES = itertools.count()
UNLIMITED = Path(__file__).with_name("unlimited_agent.py")


@dataclass
class Scene:
    """``with Scene(...) as scene:``, also several at once.

    ``tables`` with ``routes`` each, beside those of pods. ``unlimited``: the agent does not wait for EC2's
    request rates; then ``looks`` are the seconds after an ADD at which its keeper looks, "" for none.
    ``tags``: more tags of all tables. ``bundle``: the client runs with this node bundle's interpreter, else
    with ours. ``policy``: more keys of the node's configuration.
    """

    tables: int = 3
    routes: int = 0
    unlimited: bool = False
    looks: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    bundle: Path | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._ends = contextlib.ExitStack()
        self._containers = itertools.count()
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            self._ends.close()

    # -- making it ----------------------------------------------------------------------------------------

    def _build(self) -> None:
        leftovers.sweep()
        self.prefix = f"fl-{os.getpid()}-{next(SCENES)}-"
        self._state = leftovers.register(self.prefix, os.getpid())
        self._ends.callback(leftovers.remove, self.prefix)
        self._ns = f"{self.prefix}node"
        self.table_ids = [f"rtb-{number}" for number in range(self.tables)]
        netns.make([self._ns])
        netns.sysctl(self._ns, {"ipv4/ip_forward": 1})
        netns.ip(
            self._ns,
            [
                "link set lo up",
                f"link add eth1 address {MAC} type veth peer name wire1",
                "link set eth1 up",
                "link set wire1 up",
            ],
        )
        self._start_responder()
        self._configure()
        self._start_agent()
        self.client = self._install()

    def _start_responder(self) -> None:
        door = netns.inside(self._ns, _listen, EC2_PORT)
        self._orders = str(self._state / "orders")
        orders = socket.socket(socket.AF_UNIX)
        orders.bind(self._orders)
        orders.listen()
        doors = [door, orders]
        served = {
            "vpc": VPC,
            "account": ACCOUNT,
            "tags": {**TAG, **self.tags},
            "tables": self.table_ids,
            "fill": self.routes,
            "items": _metadata(),
            "doors": [door.fileno() for door in doors],
        }
        process = subprocess.Popen(
            [INTERPRETER, "-I", "-S", str(Path(__file__).with_name("responder.py"))],
            stdin=subprocess.PIPE,
            pass_fds=[door.fileno() for door in doors],
            start_new_session=True,
            text=True,
        )
        self._ends.callback(_end, process)
        self._responder = process.pid
        assert process.stdin is not None
        process.stdin.write(json.dumps(served) + "\n")
        process.stdin.flush()
        self._ends.callback(process.stdin.close)
        for item in doors:
            item.close()

    def _configure(self) -> None:
        config = {
            "allowedDestinations": [{"cidr": "192.168.0.0/16"}],
            "allowedRouteTables": {"tags": TAG},
            "dataDir": str(self._state / "data"),
            "spoolDir": str(self._state / "data" / "spool"),
            "socketPath": str(self._state / "agent.sock"),
            **self.policy,
        }
        path = self._state / "config.json"
        path.write_text(json.dumps(config))
        self._env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._state),
            "FLOATIP_CONFIG": str(path),
            "AWS_ENDPOINT_URL_EC2": f"http://127.0.0.1:{EC2_PORT}",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{EC2_PORT}",
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def _start_agent(self) -> None:
        argv = [sys.executable, str(UNLIMITED)] if self.unlimited else [str(PROGRAM), "agent"]
        if self.looks is not None:
            argv += ["--looks-after-add", self.looks]
        self.log = self._state / "agent.log"
        with self.log.open("wb") as log:
            self.agent: subprocess.Popen[bytes] = netns.inside(
                self._ns,
                subprocess.Popen,
                argv,
                env=self._env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        note = self._state / "node" / leftovers.AGENT
        note.parent.mkdir(exist_ok=True)
        leftovers.note_process(note, self.agent.pid)
        self._ends.callback(_end, self.agent)
        until = time.monotonic() + STARTS_WITHIN
        while not self._ready():
            if self.agent.poll() is not None or time.monotonic() > until:
                raise Failed(f"the agent does not become ready:\n{self.log.read_text()}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", HEALTH_PORT), 5) as sock:
                sock.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                return sock.makefile("rb").readline()

        with contextlib.suppress(OSError):
            return b" 200 " in netns.inside(self._ns, ask)
        return False

    def _install(self) -> str:
        where = self._state / "bin"
        where.mkdir()
        source = ["--bundle", str(self.bundle)] if self.bundle else ["--interpreter", INTERPRETER]
        argv = [str(PROGRAM), "install-client", "--bin-dir", str(where), *source]
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"install-client: {done.stdout}{done.stderr}")
        return str(where / "floatip")

    def make_pods(self, count: int) -> list[Pod]:
        """Have ``count`` pods; return them."""
        new = range(len(self.pods), count)
        names = {number: f"{self.prefix}p{number}" for number in new}
        veth_pods(self._ns, MAC, {name: (number, address(number)) for number, name in names.items()})
        self.pods += [Pod(str(netns.path(name)), address(number)) for number, name in names.items()]
        return self.pods[:count]

    # -- using it -----------------------------------------------------------------------------------------

    def order(self, **what: Any) -> Any:
        """Tell EC2 how to be: clear, routes, latency, held, buckets. With ``log`` return what came since."""
        body = json.dumps(what).encode()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self._orders)
            sock.sendall(b"POST /order HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            answer = sock.makefile("rb")
            length = 0
            while line := answer.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            return json.loads(answer.read(length))

    def routes_elsewhere(self, pods: Sequence[Pod]) -> None:
        """Let every table lead these pods' addresses to another node: the next ADD is a failover."""
        routes = {f"{pod.address}/32": ELSEWHERE for pod in pods}
        self.order(routes=dict.fromkeys(self.table_ids, routes))

    def container(self) -> str:
        """Return the id of a container that has not been yet."""
        return f"{next(self._containers):064x}"

    def command(self, verb: str, pod: Pod, container: str, **options: Any) -> Command:
        """Return what a runtime executes for ``pod``."""
        env = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": pod.netns,
            "CNI_IFNAME": "net1",
            "CNI_PATH": str(Path(self.client).parent),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=core;K8S_POD_NAME=pod-{container[-6:]}",
        }
        config = {
            "cniVersion": "1.1.0",
            "name": "floating",
            "type": "floatip",
            "routeTables": {"tags": TAG},
            **options,
            "prevResult": {
                "cniVersion": "1.1.0",
                "interfaces": [{"name": "net1", "mac": MAC, "sandbox": pod.netns}],
                "ips": [{"address": f"{pod.address}/32", "interface": 0}],
            },
        }
        return Command([self.client], env, json.dumps(config).encode())

    def version(self) -> Command:
        """Return a VERSION as libcni asks for it."""
        return Command([self.client], {"CNI_COMMAND": "VERSION"}, b'{"cniVersion":"1.1.0"}')

    def add(self, pod: Pod, container: str = "", **options: Any) -> Ran:
        """Run an ADD."""
        return running.run(self.command("ADD", pod, container or self.container(), **options)).good("ADD")

    def looks_in_log(self) -> int:
        """Fetch EC2's log; return how often the route tables were read."""
        return sum(action == "DescribeRouteTables" for action, *_ in self.order(log=True))

    def await_look(self, seconds: float = 60.0) -> None:
        """Wait until the keeper has read the route tables, since EC2's log was fetched, and is at rest."""
        until = time.monotonic() + seconds
        while not self.looks_in_log():
            if time.monotonic() > until:
                raise Failed(f"the keeper did not look within {seconds:g} s")
            time.sleep(SAMPLE_SECONDS)
        self.rest()

    def delete(self, pod: Pod, container: str) -> Ran:
        """Run a DEL."""
        return running.run(self.command("DEL", pod, container)).good("DEL")

    def memory(self) -> dict[str, float]:
        """Return what the agent has in memory, in MiB: PSS, RSS, what is its own, and the highest RSS."""
        rollup = Path(f"/proc/{self.agent.pid}/smaps_rollup").read_text()
        status = Path(f"/proc/{self.agent.pid}/status").read_text()
        results = {
            "pss": _kib(rollup, "Pss:"),
            "rss": _kib(rollup, "Rss:"),
            "private": _kib(rollup, "Private_Dirty:"),
            "peak_rss": _kib(status, "VmHWM:"),
        }
        return {name: round(kib / 1024, 1) for name, kib in results.items()}

    def agent_cpu(self) -> float:
        """Return the CPU seconds that the agent has had."""
        return running.cpu_seconds(self.agent.pid)

    def rest(self, seconds: float = 60.0) -> None:
        """Wait until agent and EC2 do nothing: no thread of theirs runs or wants to. Raises Failed."""
        until, quiet = time.monotonic() + seconds, 0
        while quiet < QUIET_SAMPLES:
            if time.monotonic() > until:
                raise Failed(f"the agent did not come to rest within {seconds:g} s")
            time.sleep(SAMPLE_SECONDS)
            quiet = 0 if _runs(self.agent.pid) or _runs(self._responder) else quiet + 1

    def working(self) -> int:
        """Return how many clients wait for the agent now: connections that it has accepted."""
        path, connected = str(self._state / "agent.sock"), "03"
        lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
        return sum(len(line) == 8 and line[7] == path and line[5] == connected for line in lines)

    def threads(self) -> int:
        """Return how many threads the agent has."""
        return len(os.listdir(f"/proc/{self.agent.pid}/task"))  # noqa: PTH208


def compile_package() -> None:
    """Have compiled files, as they are there in use."""
    package = str(Path(cni_floatip.__file__).parent)
    subprocess.run([sys.executable, "-m", "compileall", "-q", package], check=True)


def address(number: int) -> str:
    """Return the floating address of a pod."""
    return f"192.168.{number // 200}.{number % 200 + 1}"


def _listen(port: int) -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", port))
    sock.listen(512)
    return sock


def _runs(pid: int) -> bool:
    """Whether any thread of a process runs or waits for a processor or a disk."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (task / "stat").read_text().rpartition(")")[2].split()[0] in "RD":
                return True
    return False


def _kib(text: str, name: str) -> int:
    return int(text.split(name)[1].split()[0])


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


def _metadata() -> dict[str, str]:
    primary, macs = "02:00:00:00:00:00", "meta-data/network/interfaces/macs"
    items = {
        "dynamic/instance-identity/document": json.dumps(
            {"instanceId": "i-bench", "accountId": ACCOUNT, "region": REGION}
        ),
        "meta-data/mac": primary,
        f"{macs}/": f"{primary}/\n{MAC}/",
    }
    for number, (mac, eni) in enumerate(((primary, "eni-primary"), (MAC, ENI))):
        items |= {
            f"{macs}/{mac}/interface-id": eni,
            f"{macs}/{mac}/device-number": str(number),
            f"{macs}/{mac}/vpc-id": VPC,
            f"{macs}/{mac}/subnet-id": f"subnet-{number}",
            f"{macs}/{mac}/subnet-ipv4-cidr-block": f"10.10.{number}.0/24",
            f"{macs}/{mac}/vpc-ipv4-cidr-blocks": "10.10.0.0/16",
        }
    return items
