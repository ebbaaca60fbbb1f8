"""The agent of one node: the real ``floatipctl agent``, started, watched, stopped and killed by the lab.

It lives in the node's network namespace and sees the rest of the machine as a DaemonSet pod with the host's
``/run/netns`` does. Who it is stands beside its log: a lab that was killed leaves an agent, and the next lab
ends it (``leftovers``).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lab import leftovers, netns
from lab.errors import LabError
from lab.forkserver import Forked, ForkServer
from lab.stopping import stop_process

PROGRAM = Path(sys.executable).with_name("floatipctl")
LONGEST_SOCKET_PATH = 107  # unix(7): sun_path holds 108 bytes with the one that ends it
HASTENED = "LAB_HASTENED"
"""In the environment of an agent that is forked: {"module.CONSTANT": value}, for what takes long."""

HEALTH = ("127.0.0.1", 9819)
METRICS = ("127.0.0.1", 9818)
"""The product's defaults. Each node has a loopback interface of its own, so all nodes have the same."""

STARTS_WITHIN = 30.0
STOPS_WITHIN = 35.0

BOOTED = 'mount --bind "$1" /proc/sys/kernel/random/boot_id'
BLIND = "mount -t tmpfs none /run/netns"
DETACHED = "mount --make-rprivate /"
"""Ways to see the machine: after a boot of the node's own; without the host's ``/run/netns``; with it as it
was at the start (a volume without mount propagation: namespaces made later are empty files)."""


@cache
def server() -> ForkServer:
    """Return the one server of this process that forks agents."""
    return ForkServer(["lab.agent_warm"])


class Agent:
    """One process at a time; ``start`` after ``stop`` or ``kill`` is a restart."""

    def __init__(self, ns: str, state: Path) -> None:
        self._ns = ns
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._closed = False
        self.command = [str(PROGRAM), "agent"]
        """What is started; a test may add options, or let it be another release."""
        self.forked = False
        """Whether a fork of a process that has loaded ``PROGRAM`` runs it: for tests that start many agents
        and are not about the start. One that needs mounts is started all the same."""
        self.socket = state / "agent.sock"
        self.spool = state / "spool"
        self.log_file = state / "agent.log"
        if len(os.fsencode(self.socket)) > LONGEST_SOCKET_PATH:
            raise LabError(f"{self.socket} is too long for a unix socket: set FLOATIP_LAB to a shorter path")

    # -- its life -----------------------------------------------------------------------------------------

    def start(self, env: Mapping[str, str], *, sees: Sequence[str] = (), wait: bool = True) -> None:
        """Start it. ``sees``: mounts to make first, in a mount namespace of its own."""
        # In the thread that is in the namespace, to the last step: an interrupt of ours meets no half of it.
        netns.inside(self._ns, self._start, env, sees)
        if wait:
            self.wait()

    def _start(self, env: Mapping[str, str], sees: Sequence[str]) -> None:
        with self._starting, self.log_file.open("ab") as log:
            if self.is_running or self._closed:
                raise LabError(f"the agent of {self._ns} runs already, or is never to run again")
            mounts = _with_mounts(sees, self._state / "boot_id")
            options: dict[str, Any] = {
                "env": dict(env),
                "cwd": "/",
                "stdin": subprocess.DEVNULL,
                "stdout": log,
                "stderr": log,
            }
            # In a session of its own: Ctrl-C is for the lab, which then ends this.
            if self.forked and not mounts and self.command[0] == str(PROGRAM):
                self._process = Forked(server(), "lab.agent_warm:main", self.command, **options)
            else:
                argv = [*mounts, *self.command]
                self._process = subprocess.Popen(argv, start_new_session=True, **options)
            leftovers.note_process(self._state / leftovers.AGENT, self._process.pid)

    def wait(self, seconds: float = STARTS_WITHIN) -> None:
        """Wait until it accepts calls."""
        self._wait(self.accepts, seconds, "accepts no calls")

    def wait_ready(self, seconds: float = STARTS_WITHIN) -> None:
        """Wait until it says that it is ready."""
        self._wait(lambda: self.is_ready, seconds, "is not ready")

    def stop(self, seconds: float = STOPS_WITHIN) -> int:
        """Ask it to end (SIGTERM) and return its exit status; one that does not end is an error."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"the agent of {self._ns} has not ended within {seconds:g} s:\n{self}") from None
        self._forget()
        return status

    def kill(self) -> None:
        """End it at once (SIGKILL). Nothing happens if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def close(self) -> None:
        """End it at once, and for good: one that is just starting, too."""
        with self._starting:
            self._closed = True
        self.kill()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): it accepts, as the kernel does for it, and never answers."""
        stop_process(self._running().pid)

    def thaw(self) -> None:
        """Undo ``freeze``."""
        self._running().send_signal(signal.SIGCONT)

    def _forget(self) -> None:
        self._process = None
        (self._state / leftovers.AGENT).unlink(missing_ok=True)

    # -- what it is like ----------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def rss(self) -> int:
        """Memory that it has resident, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def accepts(self) -> bool:
        """Say whether somebody listens on its socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, contextlib.suppress(OSError):
            sock.settimeout(1)
            sock.connect(str(self.socket))
            return True
        return False

    @property
    def is_ready(self) -> bool:
        return self.readiness()[0] == 200

    def readiness(self) -> tuple[int, str]:
        """Return what ``/readyz`` answers: status and text. Status 0: nobody listens there."""
        return self._get(HEALTH, "/readyz")

    def liveness(self) -> tuple[int, str]:
        """Return what ``/healthz`` answers: status and text. Status 0: nobody listens there."""
        return self._get(HEALTH, "/healthz")

    def metrics(self) -> dict[str, float]:
        """Return the samples that ``/metrics`` shows, by name and labels as they are written there."""
        _, text = self._get(METRICS, "/metrics")
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def _get(self, where: tuple[str, int], path: str) -> tuple[int, str]:
        def ask() -> tuple[int, str]:
            connection = http.client.HTTPConnection(*where, timeout=5)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode(errors="replace")
            except (OSError, http.client.HTTPException) as e:
                return 0, str(e)
            finally:
                connection.close()

        return netns.inside(self._ns, ask)

    @property
    def log(self) -> str:
        """Everything that it has written, over all its lives."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def said(self) -> Iterator[dict[str, Any]]:
        """Yield its log lines that are JSON objects, oldest first."""
        for line in self.log.splitlines():
            with contextlib.suppress(ValueError):
                raw = json.loads(line)
                if isinstance(raw, dict):
                    yield raw

    def __str__(self) -> str:
        """What a failed test shows: the end of the log."""
        return "\n".join(self.log.splitlines()[-40:]) or "(it has written nothing)"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"the agent of {self._ns} does not run:\n{self}")
        return self._process

    def _wait(self, so: Any, seconds: float, otherwise: str) -> None:
        until = time.monotonic() + seconds
        while not so():
            if not self.is_running:
                raise LabError(f"the agent of {self._ns} has ended:\n{self}")
            if time.monotonic() > until:
                raise LabError(f"the agent of {self._ns} {otherwise} after {seconds:g} s:\n{self}")
            time.sleep(0.02)


def start_program(argv: Sequence[str], **options: Any) -> Forked:
    """Start ``floatipctl`` by a fork, in the network namespace of this thread (``options``: of ``Popen``)."""
    return Forked(server(), "lab.agent_warm:main", argv, **options)


def start_client(argv: Sequence[str], **options: Any) -> Forked:
    """Start an installed client by a fork, in the network namespace of this thread."""
    return Forked(server(), "lab.agent_warm:client", argv, **options)


def _with_mounts(sees: Sequence[str], boot_id: Path) -> list[str]:
    """Return what to put before the agent's command line: nothing, or a mount namespace with these mounts.

    "slave": what is mounted on the machine later is seen, as through a volume that the host propagates.
    """
    mounts = [*sees, BOOTED] if boot_id.exists() else list(sees)
    if not mounts:
        return []
    script = "\n".join([*mounts, "shift", 'exec "$@"'])
    enter = ["unshare", "--mount", "--propagation", "slave", "sh", "-euc", script, "sh"]
    return [*enter, str(boot_id)]


def install_client(run: Any, bin_dir: Path) -> None:
    """Put the client into a node's own directory, as the image puts it into ``/opt/cni/bin``."""
    bin_dir.mkdir(exist_ok=True)
    done = run([str(PROGRAM), "install-client", "--bin-dir", str(bin_dir)])
    if done.returncode:
        raise LabError(f"install-client: {done.stdout}{done.stderr}".strip())
