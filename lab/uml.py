"""A kernel of our own for one command: User Mode Linux, where the machine's kernel has no ipvlan.

It boots on the machine's files in two seconds. The command runs as root and may do anything: its writes stay
in memory, its network is its own, and when it ends nothing is left, neither processes nor files.

    python -m lab.uml -- ip link add type dummy
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from lab.errors import LabError

KERNEL = "linux.uml"
SHARE_PREFIX = "floatip-uml-"
MODULES = Path("/usr/lib/uml/modules")
INIT = Path(__file__).with_name("uml_init.sh")
LOADED = ("ipv6", "veth", "ipvlan", "macvlan", "bridge", "sch_ingress", "cls_bpf")
MEMORY_MIB = 1024

# Every process of the guest is one here too, and survives the death of its kernel: in a process namespace
# all go together. The shell is its first process, because a first process cannot abort() as a panic does.
CONTAINMENT = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--pid", "--fork", "--kill-child"),
    *("sh", "-c", '"$@"; exit', "sh"),
)


class UmlError(LabError):
    """User Mode Linux could not be started, or ended without running the command to its end."""


def missing() -> str | None:
    """Say what this machine lacks to run User Mode Linux, or nothing."""
    if os.geteuid() != 0:
        return "User Mode Linux is started in a process namespace of its own: run this as root"
    if shutil.which(KERNEL) is None:
        return f"no {KERNEL} here: apt-get install user-mode-linux"
    if not any(MODULES.glob("*/modules.dep")):
        return f"no kernel modules in {MODULES}: apt-get install --reinstall user-mode-linux"
    if tools := [tool for tool in ("modprobe", "unshare", "setpriv") if shutil.which(tool) is None]:
        return f"not found: {', '.join(tools)}: apt-get install kmod util-linux"
    return None


class Uml:
    """One boot with one command: iterating gives the lines that it prints, ``wait()`` its exit status.

    A program is started fastest by its full path, or with a short PATH: each directory in which it is not
    found costs a process of the guest, 40 ms.

    A context manager: at its end nothing runs any more, whatever happened. The thread that starts it must
    outlive it: the kernel ends it with that thread, so that a killed test run leaves none behind.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
        memory_mib: int = MEMORY_MIB,
    ) -> None:
        if reason := missing():
            raise UmlError(reason)
        cwd = Path.cwd() if cwd is None else cwd
        self.timeout = timeout
        self.timed_out = False
        _sweep()
        _compile()
        self._share = Path(tempfile.mkdtemp(prefix=f"{SHARE_PREFIX}{os.getpid()}-"))
        try:
            (self._share / "job").write_text(_job(argv, cwd, os.environ if env is None else env))
            self._process = self._boot(memory_mib)
        except BaseException:
            shutil.rmtree(self._share)
            raise
        self._timer = threading.Timer(timeout, self._end_of_time)
        self._timer.daemon = True
        self._timer.start()

    def _boot(self, memory_mib: int) -> subprocess.Popen[str]:
        heard, raw = os.pipe()
        with (self._share / "console").open("w") as console, os.fdopen(raw, "w"):
            kernel = [
                KERNEL,
                f"mem={memory_mib}M",
                "rootfstype=hostfs",
                "ro",
                f"init={INIT}",
                f"con0=null,fd:{console.fileno()}",  # the kernel's own messages
                f"con1=null,fd:{raw}",  # what the command prints
                "con=null",
                "panic=-1",
                "noreboot",
                f"uml_dir={self._share}/",
                f"UML_SHARE={self._share}",
                f'UML_MODULES="{" ".join(LOADED)}"',
            ]
            process = subprocess.Popen(
                [*CONTAINMENT, *kernel],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=(console.fileno(), raw),
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._share)}
                | _memory(memory_mib),
                start_new_session=True,  # Ctrl-C is for us
                text=True,
            )
        self._output = os.fdopen(heard, "r", encoding="utf-8", errors="replace", newline="\n")
        # Each system call and page fault of the guest is a conversation between two processes here. On one
        # CPU they hand over to each other; on two, one has to be woken each time: four times as slow.
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(process.pid, {cpus[process.pid % len(cpus)]})
        os.setpriority(os.PRIO_PROCESS, process.pid, 5)  # what runs beside it may be measuring time
        return process

    def _end_of_time(self) -> None:
        self.timed_out = True
        self._process.kill()

    def __iter__(self) -> Iterator[str]:
        for line in self._output:
            yield line.rstrip("\n")

    def wait(self) -> int:
        """Let the command end (what it still prints is lost) and return its exit status."""
        for _ in self:
            pass
        self._process.wait()
        if self.timed_out:
            raise UmlError(f"User Mode Linux was stopped after {self.timeout:.0f} s{self._console()}")
        try:
            return int((self._share / "status").read_text())
        except (OSError, ValueError):
            raise UmlError(f"User Mode Linux ended before the command did{self._console()}") from None

    def _console(self) -> str:
        text = (self._share / "console").read_text(errors="replace").strip()
        panic = text.find("Kernel panic")
        last = text[panic:] if panic >= 0 else "\n".join(text.splitlines()[-10:])
        return f"; its last words:\n{last}" if last else ""

    def close(self) -> None:
        """End it now, if it has not ended yet, and remove its files."""
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        self._output.close()
        shutil.rmtree(self._share, ignore_errors=True)

    def __enter__(self) -> Uml:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sweep() -> None:
    """Remove what runs that were killed have left."""
    for share in Path(tempfile.gettempdir()).glob(f"{SHARE_PREFIX}*"):
        pid = share.name.removeprefix(SHARE_PREFIX).split("-")[0]
        if not Path("/proc", pid).exists():
            shutil.rmtree(share, ignore_errors=True)


def _compile() -> None:
    """Compile the checkout's modules here: the guest cannot keep what it compiles, and is slow at it."""
    for package in ("cni_floatip", "lab", "tests"):
        compileall.compile_dir(INIT.parents[1] / package, quiet=2)


def _job(argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> str:
    """Write the command as a shell script that begins in ``cwd`` with exactly ``env``."""
    settings = [f"{name}={value}" for name, value in env.items() if name not in ("TMPDIR", "PWD", "OLDPWD")]
    return f"cd {shlex.quote(str(cwd))} || exit\nexec {shlex.join(['env', '-i', *settings, *argv])}\n"


def _memory(mib: int) -> dict[str, str]:
    """Name a directory for the guest's memory: in memory, if there is room (in a container often not)."""
    shared = Path("/dev/shm")  # noqa: S108 - User Mode Linux unlinks its file as soon as it has made it
    with contextlib.suppress(OSError):
        room = os.statvfs(shared)
        if room.f_bavail * room.f_frsize >= mib * 1024 * 1024:
            return {"TMPDIR": str(shared)}
    return {"TMPDIR": tempfile.gettempdir()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lab.uml", description="Run a command under User Mode Linux."
    )
    parser.add_argument(
        "--timeout", type=float, default=300, metavar="SECONDS", help="stop after this time (300)"
    )
    parser.add_argument(
        "--memory", type=int, default=MEMORY_MIB, metavar="MIB", help=f"its memory ({MEMORY_MIB})"
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run there, after --")
    options = parser.parse_args(arguments)
    try:
        with Uml(options.command, timeout=options.timeout, memory_mib=options.memory) as uml:
            for line in uml:
                print(line, flush=True)
            return uml.wait()
    except UmlError as e:
        print(f"{parser.prog}: {e}", file=sys.stderr)
        return 125
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
