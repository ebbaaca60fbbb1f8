"""Pods in real namespaces: net1 is a macvlan (passthru) on a link of the node."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

PREFIX = f"fl-{os.getpid()}-watch"
NETNS = Path("/run/netns")
_numbers = itertools.count(1)


def ip(*command: str, netns: str = "", check: bool = True, stdin: str = "") -> str:
    """Run ``ip`` in a namespace; return what it prints."""
    place = ["-n", netns] if netns else []
    done = subprocess.run(["ip", *place, *command], check=check, capture_output=True, text=True, input=stdin)
    return done.stdout


def fresh_number() -> int:
    """Return a number that no name of this run has yet."""
    return next(_numbers)


class Pod:
    """A pod with one interface, ``net1``, on a link of its own of the node ``host``."""

    def __init__(self, host: str, parent: str = "", *, plugged: bool = True) -> None:
        number = fresh_number()
        self.host = host
        self.name = f"{PREFIX}-p{number}"
        self.path = str(NETNS / self.name)
        self.mac = f"02:00:00:01:{number // 256:02x}:{number % 256:02x}"
        self.parent = parent or f"eth{number}"
        if not parent:
            ip(
                *f"link add {self.parent} address {self.mac} type veth peer name r{number}".split(),
                netns=host,
            )
            ip("link", "set", f"r{number}", "up", netns=host)
            ip("link", "set", self.parent, "up", netns=host)
        ip("netns", "add", self.name)
        if plugged:
            self.plug()

    def plug(self) -> None:
        """Make net1, as the plugin before us does."""
        options = f"link {self.parent} name net1 netns {self.name} type macvlan mode passthru"
        ip("link", "add", *options.split(), netns=self.host)
        self.ip("link set net1 up")

    def ip(self, command: str, *, check: bool = True) -> str:
        return ip(*command.split(), netns=self.name, check=check)

    def batch(self, *commands: str) -> None:
        """Run many commands in one go, as fast as the kernel takes them."""
        ip("-batch", "-", netns=self.name, stdin="\n".join(commands))

    @property
    def inode(self) -> int:
        return Path(self.path).stat().st_ino

    @property
    def net1_mac(self) -> str:
        return self.ip("-o link show net1").split("link/ether ")[1].split()[0]

    def unlink(self) -> None:
        """Take the namespace's path away, as a runtime does."""
        ip("netns", "del", self.name)

    def remove(self) -> None:
        ip("netns", "del", self.name, check=False)
        ip("link", "del", self.parent, netns=self.host, check=False)
