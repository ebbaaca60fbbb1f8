"""The pod's namespace as the client handed it over: a descriptor, in place of the client's path.

The caller sees another file system than the agent, or the agent sees no namespaces at all. So the path of a
call is only a name here, for claims and messages; the agent enters the namespace that the client opened.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from ...model.errors import CniError, InvalidNetns, PodNetworkFailure, no_namespace
from ...model.values import Link, PodRoute, PodRule
from ...operations.world import Kernel, PodNet


class CallNamespace:
    """``Kernel`` and ``inode`` of one call: ``netns`` means ``descriptor``, every other path itself.

    Without a descriptor the client could not open the path, for the reason ``number`` (an errno).
    """

    def __init__(
        self,
        netns: str,
        descriptor: int | None,
        number: int,
        kernel: Callable[[], Kernel],
        inode: Callable[[str], int],
    ) -> None:
        self._netns = netns
        self._descriptor = descriptor
        self._number = number
        self._kernel = kernel
        self._path_inode = inode
        self._inode = os.fstat(descriptor).st_ino if descriptor is not None else 0
        self._visible = bool(netns) and self._inode != 0 and inode(netns) == self._inode

    def kernel(self) -> Kernel:
        """Return itself, for ``World.kernel``."""
        return self

    def inode(self, netns: str) -> int:
        """Return the inode of a namespace, 0 when it is gone.

        The call's own namespace is gone when its path is, if the agent can see that path, because the
        descriptor alone would keep it alive.
        """
        if netns != self._netns or self._visible:
            return self._path_inode(netns)
        return self._inode

    @contextmanager
    def open_pod(self, netns: str, ifname: str, *, override: bool = False) -> Iterator[PodNet]:
        """See ``podnet.open_pod``."""
        with (
            self._named(),
            self._kernel().open_pod(self._path(netns), ifname, override=override) as pod,
        ):
            yield pod

    def clear_pod(
        self,
        netns: str,
        table: int | None,
        routes: Iterable[PodRoute] = (),
        rules: Iterable[PodRule] = (),
        *,
        override: bool = False,
    ) -> None:
        """See ``podnet.clear_pod``."""
        with self._named():
            self._kernel().clear_pod(self._path(netns), table, routes, rules, override=override)

    def set_up(
        self,
        link: Link,
        deadline: float,
        sleep: Callable[[float], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> Link:
        """See ``podnet.set_up``."""
        return self._kernel().set_up(link, deadline, sleep, clock)

    @property
    def _enter(self) -> str:
        return f"/proc/self/fd/{self._descriptor}"

    def _path(self, netns: str) -> str:
        """Return the path to open for ``netns``."""
        if netns != self._netns:
            return netns
        if self._descriptor is None:
            self._not_opened()
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):  # opening a pipe or a device has effects
            raise InvalidNetns(f"CNI_NETNS {netns} is not a network namespace")
        return self._enter

    def _not_opened(self) -> NoReturn:
        """Raise the error that ``podnet`` raises for a path that cannot be opened."""
        if self._number in (0, errno.ENOENT, errno.ENOTDIR):
            raise PodNetworkFailure(no_namespace(self._netns))
        raise PodNetworkFailure(f"CNI_NETNS {self._netns} cannot be opened", os.strerror(self._number))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the caller's path in errors, not ours."""
        try:
            yield
        except CniError as e:
            e.msg = e.msg.replace(self._enter, self._netns)
            e.details = e.details.replace(self._enter, self._netns)
            e.args = (e.msg,)
            raise
