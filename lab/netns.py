"""Network namespaces: made, entered and removed by name. The only module that calls ``setns``.

A namespace is entered by a thread of its own that ends there, so that no other code ever finds itself in
the wrong network; a program started by such a thread lives in the namespace, without ``ip netns exec``.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

from lab.errors import LabError

P = ParamSpec("P")
T = TypeVar("T")

NETNS_DIR = Path("/run/netns")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    return NETNS_DIR / name


def inside(name: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in the namespace and return what it returns, or raise what it raises."""
    answer: list[T] = []
    raised: list[BaseException] = []

    def visit() -> None:
        try:
            _enter(name)
            answer.append(function(*args, **kwargs))
        except BaseException as e:  # noqa: BLE001 - handed to the caller's thread, whatever it is
            raised.append(e)

    thread = threading.Thread(target=visit, name=f"inside {name}", daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return answer[0]


def _enter(name: str) -> None:
    descriptor = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise LabError(f"cannot enter network namespace {name}: {os.strerror(code)}")
    finally:
        os.close(descriptor)


def make(names: Iterable[str]) -> None:
    """Create the namespaces, all by one process."""
    _ip([], [f"netns add {name}" for name in names])


def remove(names: Iterable[str]) -> None:
    """Remove those of the namespaces that exist. Another process may do the same: two labs that sweep."""
    there = [name for name in names if path(name).exists()]
    try:
        _ip(["-force"], [f"netns del {name}" for name in there])
    except LabError:
        if any(path(name).exists() for name in there):
            raise


def delete_links(links: Mapping[str, Iterable[str]]) -> None:
    """Delete those of the links that exist, by the namespace that they are in: they are gone on return."""
    for name, those in links.items():
        for link in those if path(name).exists() else ():
            inside(name, _delete_link, link)


def _delete_link(link: str) -> None:
    subprocess.run(["ip", "link", "del", link], check=False, capture_output=True, timeout=60)


def existing(prefix: str) -> list[str]:
    """Return the names of the namespaces that begin with ``prefix``."""
    if not NETNS_DIR.is_dir():
        return []
    return sorted(entry.name for entry in NETNS_DIR.iterdir() if entry.name.startswith(prefix))


def ip(name: str, lines: Iterable[str]) -> None:
    """Run ``ip`` commands in the namespace, all by one process, stopping at the first that fails."""
    _ip(["-n", name], lines)


def ip_each(commands: Mapping[str, Iterable[str]]) -> None:
    """Like ``ip`` for several namespaces side by side."""
    running = []
    for name, lines in commands.items():
        argv = ["ip", "-n", name, "-batch", "-"]
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        text = "\n".join(lines) + "\n"
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
        running.append((name, text, process))
    for name, text, process in running:
        _, complaint = process.communicate(timeout=60)
        if process.returncode:
            raise LabError(f"ip in {name}: {_failed(text, complaint)}")


def _ip(options: list[str], lines: Iterable[str]) -> None:
    text = "\n".join(lines) + "\n"
    if text.strip():
        done = subprocess.run(
            ["ip", *options, "-batch", "-"],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise LabError(f"ip {' '.join(options)}: {_failed(text, done.stderr)}")


def _failed(text: str, complaint: str) -> str:
    """Name the command that ``ip -batch`` stopped at: it prints only the line's number."""
    lines = text.splitlines()
    number = complaint.rsplit(":", 1)[-1].strip()
    command = lines[int(number) - 1] if number.isdigit() and int(number) <= len(lines) else "?"
    return f"{command!r}: {complaint.strip()}"


def sysctl(name: str, values: Mapping[str, int | str]) -> None:
    """Set kernel parameters below ``net/`` for the namespace (``ipv4/ip_forward``: ``1``)."""

    def write() -> None:
        for key, value in values.items():
            Path("/proc/sys/net", key).write_text(f"{value}\n")

    inside(name, write)


class Console:
    """An ``ip -batch`` process that stays in a namespace: a change costs no fork."""

    # ip -batch flushes its output after each command, so the answer to a harmless last command says that
    # all before it have run. What comes before that answer is a complaint.
    LAST, ANSWER = "link show dev lo", "link/loopback"

    def __init__(self, name: str, *options: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            ["ip", *options, "-n", name, "-force", "-batch", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the lab, which then ends this by closing its input
        )

    def do(self, lines: Iterable[str]) -> None:
        """Run the commands; raise ``LabError`` with what ``ip`` printed if one of them failed."""
        commands = list(lines)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write("\n".join([*commands, self.LAST]) + "\n")
            self._process.stdin.flush()
            heard = ""
            while self.ANSWER not in heard:
                line = self._process.stdout.readline()
                if not line:
                    raise LabError(f"ip in {self.name} has ended: {heard.strip()} (while doing {commands})")
                heard += line
        complaints = [
            line for line in heard.splitlines() if line and not line.startswith(("1: lo:", "    link/"))
        ]
        if complaints:
            raise LabError(f"ip in {self.name}: {'; '.join(complaints)} (while doing {commands})")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
