"""A pod of the DaemonSet without Kubernetes: its containers as runc runs them, told by the manifest.

What Kubernetes makes of ``install/manifests/cni-floatip.yaml`` is made here: command, environment,
capabilities, read-only root, volumes with their propagation, memory limit. The host is a lab node, whose
directories stand for the host's paths; inside, every path is the product's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lab import leftovers
from lab.images import ROOT, Image
from tests.support.waiting import until

MANIFEST = ROOT / "install" / "manifests" / "cni-floatip.yaml"
STARTS_WITHIN = 30.0
Document = Mapping[str, Any]

# As containerd gives them to every container that is not privileged (oci/spec.go).
MASKED = (
    "acpi",
    "asound",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
)
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
SECCOMP = Path("/usr/share/containers/seccomp.json")
"""A runtime's default filter of system calls, with conditions: Debian's, much like containerd's."""
STANDARD = [
    ("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
]
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def daemon_set() -> dict[str, Any]:
    """Return the DaemonSet that an administrator applies."""
    results = yaml.safe_load_all(MANIFEST.read_text())
    return next(item for item in results if item and item["kind"] == "DaemonSet")


def node_policy() -> dict[str, Any]:
    """Return the node configuration in the manifest's ConfigMap."""
    results = yaml.safe_load_all(MANIFEST.read_text())
    document = next(item for item in results if item and item["kind"] == "ConfigMap")
    policy: dict[str, Any] = json.loads(document["data"]["config.json"])
    return policy


class Container:
    """One container of the DaemonSet's pod on a host: ``start``, or ``run`` to its end."""

    def __init__(
        self,
        image: Image,
        name: str,
        netns: str,
        host: Mapping[str, Path],
        state: Path,
        env: Mapping[str, str],
    ) -> None:
        self._image = image
        self._host = host
        self._state = state
        self._env = env
        self._netns = netns
        self.name = name
        self.id = f"{state.parent.name}-{state.name}-{name}"
        self.log_file = state / f"{name}.log"
        self._bundle = state / f"oci-{name}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it goes when whoever started it does (``leftovers``)."""
        self._write_bundle()
        pid_file = self._bundle / "pid"
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._runc("run"), "--bundle", str(self._bundle), "--pid-file", str(pid_file), self.id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process = self._process

        def has_started() -> bool:
            assert process.poll() is None or pid_file.exists(), self.log
            return pid_file.exists() and pid_file.read_text() != ""

        until(has_started, lambda: self.log, seconds=STARTS_WITHIN)
        with contextlib.suppress(OSError):  # the init container may have ended already
            leftovers.note_process(self._state / leftovers.AGENT, int(pid_file.read_text()))

    def run(self, seconds: float = 60) -> int:
        """Run it to its end; return the exit status."""
        self.start()
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        finally:
            self.remove()

    def execute(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a program in it, as ``kubectl exec`` does."""
        command = [*self._runc("exec"), self.id, *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def stop(self, seconds: float = 60) -> int:
        """Ask it to end, as the kubelet does; return the exit status."""
        assert self._process is not None
        subprocess.run([*self._runc("kill"), self.id, "TERM"], check=True)
        try:
            return self._process.wait(seconds)
        finally:
            self.remove()

    def remove(self) -> None:
        """End it at once, and leave nothing of it."""
        subprocess.run([*self._runc("delete"), "--force", self.id], capture_output=True, check=False)
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        (self._state / leftovers.AGENT).unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        return int((self._bundle / "pid").read_text())

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _runc(self, command: str) -> list[str]:
        return ["runc", "--root", str(self._state / "runc"), command]

    def _write_bundle(self) -> None:
        self._bundle.mkdir(exist_ok=True)
        (self._bundle / "config.json").write_text(json.dumps(self.specification(), indent=1))

    def specification(self) -> dict[str, Any]:
        """Return what runc reads: https://github.com/opencontainers/runtime-spec."""
        pod = daemon_set()["spec"]["template"]["spec"]
        sentence = next(
            item for item in (*pod["initContainers"], *pod["containers"]) if item["name"] == self.name
        )
        rights = sentence["securityContext"]
        assert pod["hostNetwork"]
        assert not rights.get("privileged")
        assert rights["capabilities"]["drop"] == ["ALL"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        capabilities = [f"CAP_{item}" for item in rights["capabilities"].get("add", [])]
        plain = {item["name"]: item["value"] for item in sentence.get("env", []) if "value" in item}
        env = {**self._image.environment(), **plain, "NODE_NAME": "node", **self._env}
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": rights["runAsUser"], "gid": rights["runAsGroup"]},
                "args": self._image.command(sentence.get("args")),
                "env": [f"{name}={value}" for name, value in env.items()],
                "cwd": "/",
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
                "noNewPrivileges": not rights["allowPrivilegeEscalation"],
            },
            "root": {"path": str(self._image.rootfs), "readonly": rights["readOnlyRootFilesystem"]},
            "mounts": [*_standard(), *self._volumes(pod, sentence)],
            "linux": {
                "namespaces": [
                    {"type": "pid"},
                    {"type": "ipc"},
                    {"type": "mount"},
                    {"type": "network", "path": self._netns},
                ],
                "resources": {
                    "devices": [{"allow": False, "access": "rwm"}],
                    "memory": {"limit": _bytes(sentence["resources"]["limits"]["memory"])},
                },
                "cgroupsPath": f"/{self.id}",
                "seccomp": _seccomp(capabilities),
                "rootfsPropagation": "rslave",  # as containerd does for a volume with HostToContainer
                "maskedPaths": [*(f"/proc/{item}" for item in MASKED), "/sys/firmware"],
                "readonlyPaths": [f"/proc/{item}" for item in READ_ONLY],
            },
        }

    def _volumes(self, pod: Document, message: Document) -> list[dict[str, Any]]:
        volumes = {item["name"]: item for item in pod["volumes"]}
        return [self._mount(volumes[item["name"]], item) for item in message["volumeMounts"]]

    def _mount(self, volume: Document, mount: Document) -> dict[str, Any]:
        path = (
            volume["hostPath"]["path"] if "hostPath" in volume else f"configMap:{volume['configMap']['name']}"
        )
        propagation = {"HostToContainer": "rslave", None: "rprivate"}[mount.get("mountPropagation")]
        options = ["rbind", propagation, "ro" if mount.get("readOnly") else "rw"]
        source = str(self._host[path])
        return {"destination": mount["mountPath"], "type": "bind", "source": source, "options": options}


def _standard() -> list[dict[str, Any]]:
    mounts = [
        {"destination": where, "type": kind, "source": source, "options": options}
        for where, kind, source, options in STANDARD
    ]
    # With the host's network a container gets the host's /sys, to read.
    return [
        *mounts,
        {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "nosuid", "ro"]},
    ]


def _seccomp(capabilities: list[str]) -> dict[str, Any]:
    """Return the default filter for who has these capabilities."""
    profile = json.loads(SECCOMP.read_text())
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]

    def applies(rule: Document) -> bool:
        only, never = rule.get("includes") or {}, rule.get("excludes") or {}
        return (
            set(only.get("caps", ())) <= set(capabilities)
            and machine in only.get("arches", [machine])
            and not set(never.get("caps", ())) & set(capabilities)
        )

    rules = [
        {name: rule[name] for name in ("names", "action", "args", "errnoRet") if rule.get(name)}
        for rule in profile["syscalls"]
        if applies(rule)
    ]
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [
            name
            for item in profile["archMap"]
            if item["architecture"] == f"SCMP_ARCH_{os.uname().machine.upper()}"
            for name in (item["architecture"], *item["subArchitectures"])
        ],
        "syscalls": rules,
    }


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * UNITS[quantity[-2:]]
