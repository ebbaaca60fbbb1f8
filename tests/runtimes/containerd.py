"""containerd with ``ctr run --cni``: containers of one busybox file whose network is a CNI chain of ours.

Two cases come for free. A foreground container ends with a DEL whose ``CNI_NETNS`` is empty, because the
namespace went with the process. A detached one gets no DEL at all, whatever is done to it.

It is ctr that calls the plugins: always with the interface name ``eth0``, the first file of
``/etc/cni/net.d``, and ``/proc/PID/ns/net`` as the namespace.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lab import private
from tests.support.waiting import until

NAMESPACE = "floatip"
RUN = "/run/containerd"

# Everything below the one tmpfs that hides the machine's /run/containerd (shims' sockets and ctr's pipes are
# there whatever this file says), so it is all gone with the mount namespace.
CONFIG = f"""\
version = 2
root = "{RUN}/root"
state = "{RUN}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.restart",
  "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{RUN}/containerd.sock"
[ttrpc]
  address = "{RUN}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{RUN}/opt"
"""

# The first process of the process namespace: it reaps, and when it goes all go, shims and containers too.
INIT = """\
mount -t tmpfs tmpfs /run/containerd
containerd --config "$1" &
echo ready
wait
"""


class Node(Protocol):
    """Where containerd runs: a lab node."""

    @property
    def netns(self) -> str | Path: ...
    @property
    def env(self) -> Mapping[str, str]: ...


class RunFailed(Exception):
    """ctr's exit status was not 0; the message is what it said, the plugin's error included."""


class Containerd:
    """A containerd of its own on one node, from ``with`` to the end of it."""

    def __init__(self, node: Node, directory: Path, plugins: Path) -> None:
        self._node = node
        self._directory = directory
        self._networks = directory / "net.d"
        self._rootfs = directory / "rootfs"
        self._log = directory / "containerd.log"
        self._places = {
            "/etc/cni/net.d": self._networks,
            "/opt/cni/bin": plugins,
            "/var/lib/cni": directory / "cache",
            RUN: directory / "run",
        }
        self._init: subprocess.Popen[str] | None = None

    def __enter__(self) -> Containerd:
        for made in (
            *(p for path, p in self._places.items() if path != "/opt/cni/bin"),
            self._directory / "scratch",
        ):
            made.mkdir(parents=True, exist_ok=True)
        self._make_rootfs()
        config = self._directory / "config.toml"
        config.write_text(CONFIG)
        command = [
            *("setpriv", "--pdeathsig", "KILL"),
            *("nsenter", f"--net={self._node.netns}"),
            *private.mounts(self._places, self._directory / "scratch"),
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-euc", INIT, "sh", str(config)),
        ]
        with self._log.open("w") as log:
            self._init = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=self._env()
            )
        assert self._init.stdout is not None
        self._init.stdout.readline()
        self._await_answer()
        return self

    def __exit__(self, *_: object) -> None:
        if self._init is None:
            return
        # The kernel lets the first process of a process namespace go last: then no container is left.
        if leader := self._leader():
            os.kill(leader, signal.SIGKILL)
        else:
            self._init.kill()
        self._init.communicate()

    def network(self, conflist: Mapping[str, Any]) -> None:
        """Make this the network that containers get."""
        self._networks.mkdir(parents=True, exist_ok=True)
        (self._networks / "10-network.conflist").write_text(json.dumps(conflist))

    def run(self, name: str, *command: str) -> str:
        """Run a container to its end: ADD, the command, DEL with no namespace left. Returns the output."""
        return self._ctr(*self._container("--rm"), str(self._rootfs), name, *command)

    def start(self, name: str, *command: str) -> None:
        """Start a container and leave it running. Its DEL never comes."""
        self._ctr(*self._container("--detach", "--null-io"), str(self._rootfs), name, *command)

    def foreground(self, name: str, *command: str) -> subprocess.Popen[str]:
        """Start a container that ends by itself, without waiting for it."""
        argv = self._argv(*self._container("--rm"), str(self._rootfs), name, *command)
        return subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._env()
        )

    def is_running(self, name: str) -> bool:
        """Say whether the container's process was started, which ctr does when ADD has succeeded."""
        return self._task(name)[-1:] == ["RUNNING"]

    def kill(self, name: str) -> None:
        """End a container's process. What the runtime then does is another matter."""
        self._ctr("task", "kill", "--signal", "KILL", name)

    def exec(self, name: str, *command: str) -> str:
        """Run a program of the container in it."""
        return self._ctr("task", "exec", "--exec-id", f"e{time.monotonic_ns()}", name, *command)

    def inside(self, name: str, *command: str) -> str:
        """Run a program of the machine in the container's network namespace."""
        pid = self._task(name)[1]
        return self._run(*self._enter("--mount", "--pid"), "nsenter", "--target", pid, "--net", *command)

    def stop(self, name: str) -> None:
        """Kill a detached container and remove it, which runs no plugin."""
        self._ctr("task", "rm", "--force", name)
        self._ctr("container", "rm", name)

    def container_id(self, name: str) -> str:
        """Return the ``CNI_CONTAINERID`` that plugins see."""
        return f"{NAMESPACE}-{name}"

    def _container(self, *options: str) -> tuple[str, ...]:
        # No cgroup: an empty one would stay behind on the machine.
        return (
            "run",
            "--cni",
            "--rootfs",
            "--env",
            "PATH=/bin",
            "--cgroup",
            "",
            "--runc-root",
            f"{RUN}/runc",
            *options,
        )

    def _task(self, name: str) -> list[str]:
        """Return name, process id and state; nothing if there is no such container."""
        tasks = [line.split() for line in self._ctr("task", "ls").splitlines()]
        return next((task for task in tasks if task[0] == name), [])

    def _ctr(self, *arguments: str) -> str:
        return self._run(*self._argv(*arguments))

    def _run(self, *argv: str) -> str:
        done = subprocess.run(argv, env=self._env(), capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise RunFailed((done.stderr or done.stdout).strip())
        return done.stdout

    def _argv(self, *arguments: str) -> list[str]:
        return [*self._enter("--mount", "--pid", "--net"), "ctr", *arguments]

    def _enter(self, *namespaces: str) -> list[str]:
        return ["nsenter", "--target", str(self._leader()), *namespaces]

    def _leader(self) -> int | None:
        """Return the first process of containerd's process namespace, by its number outside."""
        assert self._init is not None
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def _env(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
            "CONTAINERD_ADDRESS": f"{RUN}/containerd.sock",
            "CONTAINERD_NAMESPACE": NAMESPACE,
            **self._node.env,
        }

    def _make_rootfs(self) -> None:
        for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
            (self._rootfs / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self._rootfs / "bin")
        for applet in ("sh", "sleep", "ping", "ip", "cat", "nc"):
            (self._rootfs / "bin" / applet).symlink_to("busybox")

    def _await_answer(self) -> None:
        def answers() -> bool:
            try:
                self._ctr("version")
            except RunFailed:
                return False
            return True

        until(answers, self._log.read_text)
