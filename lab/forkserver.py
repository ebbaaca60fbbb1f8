"""A fork server: one process that has imported what a program needs, and forks to run it.

Of a call in direct mode nine tenths are the start of the interpreter and its imports. The server pays for
them once; a fork takes milliseconds, and is then a process like one that was started: with a process id of
its own, its signals, descriptors, environment, directory and network namespace.

Theory of operation. The server is a child of the process that asks for it, and has one thread, so that a fork
finds no lock held by another. It does not fork as ``os.fork`` does but clones with ``CLONE_PARENT``: the new
process is the child of the one that asked, not of the server. So ``subprocess.Popen`` needs only another
``_execute_child``: it waits for the real process, sees the signal that ended it, and the CPU that it used is
counted among the asker's children (RUSAGE_CHILDREN). The server reads orders from a socket. When that ends,
because it was closed or because its owner has died, the server kills what still runs and ends.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import platform
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypedDict, Unpack

from lab.errors import LabError
from lab.netns import CLONE_NEWNET

CLONE_PARENT = 0x00008000
SYS_CLONE = {"x86_64": 56, "aarch64": 220}
THREADS = "another thread may hold a lock, which a fork would wait for in vain"
OWN_NAMESPACE = "/proc/thread-self/ns/net"
_libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL: the interpreter's lock is held over a clone


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, and as what. Descriptors travel beside it: the namespace, then those of ``standard``."""

    entry: str
    """``module:function``: called without arguments; what it returns is the exit status, as for a script."""
    argv: Sequence[str]
    environ: Mapping[bytes, bytes]
    cwd: str
    standard: tuple[int, ...]
    """Which of descriptors 0, 1, 2 there are."""


class Pipes(TypedDict, total=False):
    """What ``subprocess.Popen`` also takes and a fork can be given."""

    stdin: Any
    stdout: Any
    stderr: Any
    text: bool
    encoding: str
    errors: str


class ForkServer:
    """The warm process of the one who asks. It starts when it is first needed and ends with its owner.

    ``modules`` are what it imports. Any thread may ask; forks are made one by one, and run side by side.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = tuple(modules)
        self._asking = threading.Lock()
        self._socket: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id, 0 when it does not run."""
        return self._server.pid if self._server else 0

    def fork(self, order: Order, descriptors: Sequence[int]) -> int:
        """Let the server fork; return the process id of what is now a child of this process."""
        with self._asking:
            connection = self._socket or self._start()
            data = pickle.dumps(order)
            answer = b""
            with contextlib.suppress(ConnectionError):
                socket.send_fds(connection, [len(data).to_bytes(4)], list(descriptors))
                connection.sendall(data)
                answer = connection.recv(4, socket.MSG_WAITALL)
        if len(answer) < 4:
            raise LabError("the fork server has ended: standard error says why")
        return int.from_bytes(answer)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "lab.forkserver", *self._modules],
                stdin=theirs.fileno(),
                cwd=Path(__file__).parents[1],
                env={**os.environ, "LANG": "C.UTF-8"},
            )
        self._socket = ours
        atexit.register(self.close)
        return ours

    def close(self) -> None:
        """End the server and what it has forked. Twice is once."""
        with self._asking:
            if self._socket and self._server:
                self._socket.close()
                self._server.wait(30)
                self._socket = None
        atexit.unregister(self.close)


class Forked(subprocess.Popen[Any]):
    """A process like one that ``subprocess.Popen`` has started, by a fork of ``server``.

    It lives in the network namespace of the thread that asks, as a started one would. ``closed`` are the
    standard descriptors that it does not have.
    """

    def __init__(
        self,
        server: ForkServer,
        entry: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
        closed: Sequence[int] = (),
        **pipes: Unpack[Pipes],
    ) -> None:
        self._server = server
        self._entry = entry
        self._closed = closed
        super().__init__(list(argv), env=os.environ if env is None else env, cwd=cwd, **pipes)

    def _execute_child(
        self, argv: Sequence[str], _executable: Any, _preexec: Any, _close: Any, _pass: Any, *rest: Any
    ) -> None:
        """Do what the method of this name does in ``Popen``, which calls it from its constructor."""
        cwd, env, _startupinfo, _flags, _shell, *pipes = rest[:11]
        theirs = {0: pipes[0], 1: pipes[3], 2: pipes[5]}
        given = {to: to if fd == -1 else fd for to, fd in theirs.items() if to not in self._closed}
        environ = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
        order = Order(self._entry, tuple(argv), environ, os.fspath(cwd), tuple(given))
        namespace = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.pid = self._server.fork(order, [namespace, *given.values()])
        finally:
            os.close(namespace)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined] # what the child has of them

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Do what the method of this name does, but for taking a process that is not there for one that did
        well: ``ChildProcessError`` if somebody else has waited for it."""
        return os.waitpid(self.pid, wait_flags)


def run_to_end(
    process: subprocess.Popen[str], stdin: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Do what ``subprocess.run`` does with a process that it has started."""
    with process:
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


# -- the server ---------------------------------------------------------------------------------------------


def serve(modules: Sequence[str]) -> None:
    """Import ``modules``, then fork whenever the socket at descriptor 0 asks for it, until it ends."""
    with socket.socket(fileno=os.dup(0)) as orders:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        with open(f"/proc/{os.getppid()}/ns/net") as owners:  # noqa: PTH123
            _enter(owners.fileno())  # the thread that asked may be in another, which must be free to go
        for number in (signal.SIGINT, signal.SIGTERM):  # for the owner, whose end then closes the socket
            signal.signal(number, signal.SIG_IGN)
        for name in modules:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
        running: list[int] = []  # a descriptor of each process: its id may be another's by now
        while len(size := (received := socket.recv_fds(orders, 4, 4))[0]) == 4:
            order = pickle.loads(orders.recv(int.from_bytes(size), socket.MSG_WAITALL))  # noqa: S301 (our own)
            descriptors = received[1]
            pid = clone()
            if not pid:
                become(order, *descriptors)
            for fd in descriptors:
                os.close(fd)
            running = [*_alive(running), os.pidfd_open(pid)]
            orders.sendall(pid.to_bytes(4))
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)


def _alive(processes: Sequence[int]) -> list[int]:
    """Return those of the processes that run; close the descriptors of the others."""
    poll = select.poll()
    for process in processes:
        poll.register(process, select.POLLIN)
    ended = {fd for fd, _ in poll.poll(0)}
    for fd in ended:
        os.close(fd)
    return [process for process in processes if process not in ended]


def clone() -> int:
    """Fork a child of our own parent; return its id, and 0 in it."""
    assert len(list(Path("/proc/self/task").iterdir())) == 1, THREADS
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid: int = _libc.syscall(SYS_CLONE[platform.machine()], CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    code = ctypes.get_errno()
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, f"cannot fork: {os.strerror(code)}")
    return pid


def become(order: Order, namespace: int, *standard: int) -> NoReturn:
    """Be the process that ``order`` describes, to its end."""
    status: Any = 255
    try:
        _take_place(order, namespace, standard)
        module, _, function = order.entry.partition(":")
        status = getattr(importlib.import_module(module), function)()
    except SystemExit as e:
        status = e.code
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001 (what the interpreter does with what nobody catches)
        traceback.print_exc()
        status = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined] # wait for threads, as the interpreter does
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        if isinstance(status, str):
            os.write(2, f"{status}\n".encode())
        os._exit(status if isinstance(status, int) else int(status is not None))


def _take_place(order: Order, namespace: int, standard: Sequence[int]) -> None:
    """Enter the namespace and the directory; have the environment, the arguments, the standard files."""
    _enter(namespace)
    for number in range(3):
        if number not in order.standard:
            os.close(number)
    for number, fd in zip(order.standard, standard, strict=True):
        os.dup2(fd, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the server's, too
    sys.stdin, sys.stdout, sys.stderr = (_stream(fd, mode) for fd, mode in enumerate("rww"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
    ):  # ignored under nohup, or in the background
        signal.signal(number, signal.SIG_DFL)
    os.chdir(order.cwd)
    os.environb.clear()
    os.environb.update(order.environ)
    sys.argv = list(order.argv)


def _enter(namespace: int) -> None:
    here = Path("/proc/self/ns/net").stat().st_ino == os.fstat(namespace).st_ino
    if not here and _libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")


def _stream(fd: int, mode: str) -> Any:
    """Return the interpreter's object for a standard descriptor: ``None`` where it is closed."""
    try:
        os.fstat(fd)
    except OSError:
        return None
    return open(fd, mode, encoding="utf-8", errors="surrogateescape", closefd=False)


if __name__ == "__main__":
    serve(sys.argv[1:])
