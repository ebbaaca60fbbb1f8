"""Opens a pod's network namespace by its path: checks before it enters, and never creates one."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ...model.errors import CniError, ForeignProc, InvalidNetns, PodNetworkFailure, no_namespace
from .rtnetlink import SOCKET_OPTIONS, SOL_NETLINK, Rtnetlink

_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_CLONE_NEWNET = 0x40000000
_OWN = "/proc/self/ns/net"

T = TypeVar("T")

KERNEL_SECONDS = 5.0
"""How long one answer may take: microseconds, unless another process holds the RTNL lock."""


class NoNamespace(PodNetworkFailure):
    """Nothing is at the path: the pod is gone."""


class NotANamespace(InvalidNetns):
    """The path is no namespace: a mistake, or the empty file that stays when its mount is gone."""


@contextmanager
def enter(netns: str, *, override: bool = False) -> Iterator[Rtnetlink]:
    """Talk to the kernel about the namespace at ``netns``: any path that opens one, ``/proc/self/fd/5`` too.

    ``PodNetworkFailure`` if there is no such path or it cannot be entered; ``InvalidNetns`` if it is not a
    network namespace or, unless ``override`` (CNI_NETNS_OVERRIDE), the one this process runs in.
    """
    kernel = make_inside(netns, _connect, override=override)
    try:
        yield kernel
    finally:
        kernel.close()


def make_inside(netns: str, make: Callable[[], T], *, inode: int = 0, override: bool = False) -> T:
    """Call ``make`` inside the namespace at ``netns`` and return its result; a socket stays in there.

    Raises as ``enter`` does. With ``inode`` also ``NoNamespace`` when the path leads to another one by now.
    """
    descriptor = _open(netns)
    try:
        _look(netns, descriptor, override=override)
        if inode and os.fstat(descriptor).st_ino != inode:
            raise NoNamespace(f"{netns} leads to another namespace by now: the pod is gone")
        return _make_inside(netns, descriptor, make)
    finally:
        os.close(descriptor)


def run_apart(attempt: Callable[[], T]) -> T:
    """Call ``attempt`` in a new, temporary network namespace and return its result; nothing here is touched.

    ``PodNetworkFailure`` where none can be made. Raises our errors of ``attempt``.
    """
    results: list[T] = []
    failed: list[Exception] = []

    def visit() -> None:
        try:
            _call("unshare", _CLONE_NEWNET)
            results.append(attempt())
        except (OSError, CniError) as error:
            failed.append(error)

    visitor = threading.Thread(target=visit, name="netns")
    visitor.start()
    visitor.join()
    if failed and isinstance(failed[0], CniError):
        raise failed[0]
    if failed:
        text = "no network namespace can be made (CAP_SYS_ADMIN is needed)"
        raise PodNetworkFailure(text, str(failed[0])) from failed[0]
    return results[0]


@contextmanager
def own() -> Iterator[Rtnetlink]:
    """Talk to the kernel about the namespace this process runs in."""
    try:
        kernel = _connect()
    except OSError as error:
        raise PodNetworkFailure("no netlink socket", str(error)) from error
    try:
        yield kernel
    finally:
        kernel.close()


@contextmanager
def own_descriptor() -> Iterator[int]:
    """Hold a descriptor of this process's namespace, also while one of its threads is in another."""
    try:
        descriptor = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ForeignProc from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(netns: str) -> int:
    try:
        # O_NONBLOCK: whatever the path is (a pipe, say), opening it must not wait.
        return os.open(netns, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        if netns.startswith("/proc/"):
            _own_status()  # else the pod may be there, and only we cannot see it
        raise NoNamespace(no_namespace(netns)) from error
    except (OSError, ValueError) as error:
        raise PodNetworkFailure(f"CNI_NETNS {netns} cannot be opened", str(error)) from error


def _look(netns: str, descriptor: int, *, override: bool) -> None:
    try:
        kind = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError as error:
        raise NotANamespace(f"CNI_NETNS {netns} is not a namespace", str(error)) from error
    if kind != _CLONE_NEWNET:
        raise InvalidNetns(f"CNI_NETNS {netns} is a namespace, but not a network namespace")
    if not override and os.path.samestat(os.fstat(descriptor), _own_status()):
        raise InvalidNetns(f"CNI_NETNS {netns} is the host's own network namespace, not a pod's")


def _own_status() -> os.stat_result:
    """Return the status of this process's own namespace. Raises ForeignProc."""
    try:
        return os.stat(_OWN)  # noqa: PTH116 (follows the link)
    except FileNotFoundError as error:
        raise ForeignProc from error


def _make_inside(netns: str, descriptor: int, make: Callable[[], T]) -> T:
    """Make a socket in a thread that enters the namespace and ends: it stays where it was made."""
    made: list[T] = []
    failed: list[OSError] = []

    def visit() -> None:
        try:
            _enter(descriptor)
            made.append(make())
        except OSError as error:
            failed.append(error)

    visitor = threading.Thread(target=visit, name="netns")
    visitor.start()
    visitor.join()
    if failed:
        raise PodNetworkFailure(
            f"CNI_NETNS {netns} cannot be entered (CAP_SYS_ADMIN is needed)", str(failed[0])
        ) from failed[0]
    return made[0]


def _enter(descriptor: int) -> None:
    _call("setns", descriptor, _CLONE_NEWNET)


_LIBC = ctypes.CDLL(None, use_errno=True)  # os.setns and os.unshare only come with Python 3.12


def _call(name: str, *arguments: int) -> None:
    if _LIBC[name](*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _connect() -> Rtnetlink:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        for option in SOCKET_OPTIONS:
            sock.setsockopt(SOL_NETLINK, option, 1)
        sock.bind((0, 0))
        sock.settimeout(KERNEL_SECONDS)
    except OSError:
        sock.close()
        raise
    return Rtnetlink(sock)
