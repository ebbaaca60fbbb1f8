"""A cgroup as thick Multus has one: a tenth of a CPU and 50 MiB. Version 1 or 2, what the machine has."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.running import Failed
from bench.scene import INTERPRETER
from lab.world import undisturbed

PERIOD = 100_000
MIB = 1 << 20


class Cell:
    """``with cell(...) as here:``; ``here.enter`` is for a process that is to live there."""

    def __init__(self, cpu: Path, memory: Path, *, unified: bool) -> None:
        self._cpu = cpu
        self._memory = memory
        self._unified = unified
        self._members = list(dict.fromkeys((str(memory / "cgroup.procs"), str(cpu / "cgroup.procs"))))

    def limit(self, cores: float, size: int) -> None:
        """Set what its processes may use together."""
        quota = int(cores * PERIOD)
        if self._unified:
            self._write(self._cpu / "cpu.max", f"{quota} {PERIOD}")
            self._write(self._memory / "memory.max", str(size))
            self._write(self._memory / "memory.swap.max", "0", needed=False)
        else:
            self._write(self._cpu / "cpu.cfs_period_us", str(PERIOD))
            self._write(self._cpu / "cpu.cfs_quota_us", str(quota))
            self._write(self._memory / "memory.limit_in_bytes", str(size))
            self._write(self._memory / "memory.swappiness", "0", needed=False)

    def enter(self) -> None:
        """Move this process in."""
        for path in self._members:
            descriptor = os.open(path, os.O_WRONLY)
            os.write(descriptor, b"0")
            os.close(descriptor)

    @property
    def used(self) -> int:
        """Memory in use, in bytes."""
        name = "memory.current" if self._unified else "memory.usage_in_bytes"
        return int((self._memory / name).read_text())

    @property
    def peak(self) -> int:
        """The most memory that was in use, in bytes; 0 where the kernel does not say."""
        path = self._memory / ("memory.peak" if self._unified else "memory.max_usage_in_bytes")
        return int(path.read_text()) if path.exists() else 0

    @property
    def killed(self) -> int:
        """How many processes were killed for want of memory."""
        path = self._memory / ("memory.events" if self._unified else "memory.oom_control")
        return int(path.read_text().split("oom_kill ")[1].split()[0])

    def end(self) -> None:
        """End what lives there and remove it."""
        until = time.monotonic() + 5
        places = dict.fromkeys((self._memory, self._cpu))
        while time.monotonic() < until:
            pids = {pid for place in places for pid in (place / "cgroup.procs").read_text().split()}
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            if not pids:
                break
            time.sleep(0.05)
        for place in places:
            for _ in range(100):  # a process that has ended is in it for a moment
                with contextlib.suppress(OSError):
                    place.rmdir()
                    break
                time.sleep(0.02)

    @staticmethod
    def _write(path: Path, value: str, *, needed: bool = True) -> None:
        try:
            path.write_text(value)
        except OSError as e:
            if needed:
                raise Failed(f"{path}: {e.strerror}") from e


@contextlib.contextmanager
def cell(cores: float = 0.1, size: int = 50 * MIB) -> Iterator[Cell]:
    """Make a cgroup for the length of a ``with`` block. Raises Failed where there can be none."""
    name = f"floatip-bench-{os.getpid()}"
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    old = {
        option: Path(where) / name
        for _, where, kind, options, *_ in mounts
        if kind == "cgroup"
        for option in options.split(",")
        if option in ("cpu", "memory")
    }
    new = [Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2"]
    if "cpu" not in old and not new:
        raise Failed("no cgroup file system is mounted")
    unified = "cpu" not in old
    if unified:
        _switch_on(new[0])
    places = (new[0] / name, new[0] / name) if unified else (old["cpu"], old["memory"])
    made = Cell(*places, unified=unified)
    try:
        for place in dict.fromkeys(places):
            place.mkdir()
        made.limit(cores, size)
        yield made
    except OSError as e:
        raise Failed(f"{places[0]}: {e.strerror}") from e
    finally:
        with undisturbed():
            if places[0].exists():
                made.end()


def _switch_on(root: Path) -> None:
    """Let children have limits. On a machine with systemd they have."""
    switch = root / "cgroup.subtree_control"
    missing = {"cpu", "memory"} - set(switch.read_text().split())
    for controller in missing:
        try:
            switch.write_text(f"+{controller}")
        except OSError as e:
            raise Failed(f"{switch}: +{controller}: {e.strerror}") from e


@contextlib.contextmanager
def ballast(here: Cell, size: int) -> Iterator[None]:
    """Have somebody else in the cell use memory until ``size`` bytes are in use."""
    script = (
        "import posix\n"
        "with open(0, 'rb', 0) as told:\n"
        "    held = bytearray(int(told.readline()))\n"
        "    posix.write(1, b'.')\n"
        "    told.read()\n"
    )
    process = subprocess.Popen(
        [INTERPRETER, "-I", "-S", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=here.enter,  # noqa: PLW1509 (this process has one thread)
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        time.sleep(1.0)  # until it waits for us, at a tenth of a CPU
        process.stdin.write(b"%d\n" % max(0, size - here.used))
        process.stdin.flush()
        if process.stdout.read(1) != b".":
            raise Failed("the ballast itself was killed")
        yield
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
