"""A node of the lab as a node of the cluster: containerd, Multus and a kubelet, in the node's namespaces.

The node's network namespace is the lab's. Mounts and processes get namespaces of their own, whose first
process is the node's: when it is killed, everything that runs on the node ends with it, pods included, as at
a power cut. What a node keeps on its disk (``DISK``) are directories in memory, mounted where programs
look for them; ``/run`` is empty after each start.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from lab import cgroups, cmdline, private
from lab.chain import find_plugin
from lab.errors import LabError
from lab.kubernetes import podimage
from lab.kubernetes.apilinks import ApiLinks
from lab.kubernetes.build import Programs
from lab.kubernetes.controlplane import MULTUS, SERVICE_ADDRESS, SERVICE_PORT, ControlPlane
from lab.kubernetes.process import Process, child_of
from lab.node import PATH, Node

REGION = "eu-central-1"
POD_NETWORK = IPv4Network("10.244.0.0/16")

CONTAINERD = "/run/containerd/containerd.sock"
IMPORT = ("ctr", "--address", CONTAINERD, "--namespace", "k8s.io", "images", "import", "-")
NETWORKS = "/etc/cni/net.d"
PLUGINS = "/opt/cni/bin"
ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"
DISK = (NETWORKS, PLUGINS, "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet", "/var/log")
CONTAINERD_CONFIG_FILE = "/var/lib/containerd/config.toml"
MULTUS_CONFIG_FILE = "/var/lib/cni/multus/daemon-config.json"
STARTS_WITHIN = 60.0
IMPORTED_WITHIN = 300.0
NODE_LABELS = {"floatip": "true", "topology.kubernetes.io/region": REGION}
REFERENCE_PLUGINS = ("bridge", "host-device", "host-local", "ipvlan", "loopback", "macvlan", "ptp", "static")
SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""What a kubelet sets for the whole machine: here it finds files of its own with these values."""

# The node's first process. "shared", so that what a container mounts with propagation is seen by the others.
INIT = """\
sysctls=$1 boot_id=$2
for file in "$sysctls"/*; do
  [ -f "$file" ]
  path=/proc/sys/$(basename "$file" | tr . /)
  [ ! -e "$path" ] || mount --bind "$file" "$path"
done
[ ! -e "$boot_id" ] || mount --bind "$boot_id" /proc/sys/kernel/random/boot_id
# Beside the older hierarchies runc makes cgroups of this one at its top, not below the node's.
[ ! -d /sys/fs/cgroup/unified ] || umount /sys/fs/cgroup/unified
# Last, because it hides where these files are.
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/containerd /run/lock
mount --make-rshared /
echo ready
sleep infinity &
wait
"""

# What holds the disk: mounts go with the namespace, which goes with this process.
HOLD = """\
mount -t tmpfs tmpfs "$1"
echo ready
exec sleep infinity
"""

CONTAINERD_CONFIG = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd/state"
disabled_plugins = [
  "io.containerd.internal.v1.restart",
  "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # No limits by cgroups: what runc makes all the same is below the node's. Nor may we lower an oom_score_adj.
  disable_cgroup = true
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
"""

KUBELET_CONFIG: Mapping[str, Any] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
    # No cgroups either: two kubelets on one machine would remove each other's.
    "cgroupDriver": "cgroupfs",
    "cgroupsPerQOS": False,
    "enforceNodeAllocatable": [],
    "failCgroupV1": False,
    "failSwapOn": False,
    "featureGates": {"KubeletInUserNamespace": True},
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    # The machine's disk and memory are not this node's to defend.
    "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
    "imageGCHighThresholdPercent": 100,
    "localStorageCapacityIsolation": False,
    "makeIPTablesUtilChains": False,
    # It ends where it would have to set a sysctl of the kernel: SYSCTLS are in place before it starts.
    "protectKernelDefaults": True,
    "resolvConf": "",
    "maxPods": 250,
    "volumePluginDir": "/var/lib/kubelet/volume-plugins",
}

# As its daemon set's config map says: https://github.com/k8snetworkplumbingwg/multus-cni (deployments).
MULTUS_CONFIG: Mapping[str, Any] = {
    "cniVersion": "0.3.1",
    "logLevel": "verbose",
    "logToStderr": True,
    "cniConfigDir": NETWORKS,
    "multusAutoconfigDir": NETWORKS,
    "multusConfigFile": "auto",
    "socketDir": "/run/multus",  # of the daemon
    "daemonSocketDir": "/run/multus",  # of the shim
    "binDir": PLUGINS,
    "cniDir": "/var/lib/cni/multus",
}


class Worker:
    """One node's part of the cluster: ``start``, ``join``; ``kill`` is a power cut, ``close`` the end."""

    def __init__(self, node: Node, number: int, control: ControlPlane, programs: Programs) -> None:
        self.node = node
        self._control = control
        self._programs = programs
        self._state = node.state.parent
        self._place = node.state / "machine"
        self._pods = list(POD_NETWORK.subnets(new_prefix=24))[number]
        self.links = ApiLinks(node, control.endpoints, POD_NETWORK, self._state)
        self._thick = True
        self._groups: list[Path] = []
        self._disk: Process | None = None
        self._init: Process | None = None
        self._imports: list[Process] = []
        self._started: list[Process] = []
        self.containerd: Process
        self.kubelet: Process
        self.multus: Process | None = None

    # -- its life -----------------------------------------------------------------------------------------

    def prepare(self, kubelet: Mapping[str, Any], *, multus: str) -> None:
        """Write the node's disk. ``kubelet``: more of its configuration. ``multus``: thick or thin."""
        self._groups = cgroups.make(self.node.ns)
        self._mount_disk()
        for path in DISK:
            self.path(path).mkdir(parents=True, exist_ok=True)
        sysctls = self._place / "sysctls"
        sysctls.mkdir(exist_ok=True)
        for name, value in SYSCTLS.items():
            (sysctls / name.replace("/", ".")).write_text(f"{value}\n")
        self._thick = multus == "thick"
        self._install_plugins()
        config = CONTAINERD_CONFIG.format(
            socket=CONTAINERD,
            pause=podimage.NAME,
            plugins=PLUGINS,
            networks=NETWORKS,
        )
        self.path(CONTAINERD_CONFIG_FILE).write_text(config)
        service = f"https://{SERVICE_ADDRESS}:{SERVICE_PORT}"
        provider = {"providerID": f"aws:///{self._zone}/{self.node.instance_id}"}
        self._write("/var/lib/kubelet/config.json", {**KUBELET_CONFIG, **provider, **kubelet})
        user = f"system:node:{self.node.name}"
        self._write("/var/lib/kubelet/kubeconfig", self._control.kubeconfig_document(user, service))
        self._write(f"{NETWORKS}/10-cluster.conflist", self.cluster_network)
        if self._thick:
            self._write(MULTUS_CONFIG_FILE, MULTUS_CONFIG)
        else:
            kubeconfig = f"{NETWORKS}/multus.d/multus.kubeconfig"
            self._write(kubeconfig, self._control.kubeconfig_document(MULTUS, service))
            self._write(f"{NETWORKS}/00-multus.conf", self._thin(kubeconfig))

    def _mount_disk(self) -> None:
        """Hold the node's disk in memory, in a mount namespace that outlives the node's boots.

        On this machine's disk it would take longer to remove than everything else of a cluster.
        """
        (self._place / "disk").mkdir(parents=True)
        argv = ("unshare", "--mount", "sh", "-euc", HOLD, "sh", str(self._place / "disk"))
        self._disk = Process(f"disk-{self.node.name}", self.node.ns, argv, self._state)
        self._disk.start_and_wait()

    def start(self, archives: Sequence[Path]) -> None:
        """Boot: start the first process, the ways to the API, containerd, and the import of these images."""
        assert self._disk is not None, "prepare comes first"
        scratch = self._place / "scratch"
        scratch.mkdir(exist_ok=True)
        argv = [
            *("nsenter", "--target", str(self._disk.pid), "--mount"),
            *private.mounts({path: self._on_disk(path) for path in DISK}, scratch),
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-euc", INIT, "sh", str(self._place / "sysctls"), str(self.node.state / "boot_id")),
        ]
        self._init = Process(f"init-{self.node.name}", self.node.ns, argv, self._state)
        self._init.start_and_wait()
        self.links.start()
        self.containerd = self._process("containerd", "containerd", "--config", CONTAINERD_CONFIG_FILE)
        self.containerd.start()
        self._wait(lambda: self._listens(CONTAINERD), self.containerd)
        self._imports = [self._process(f"import-{path.stem[:12]}", *IMPORT) for path in archives]
        for process, path in zip(self._imports, archives, strict=True):
            with path.open("rb") as archive:
                process.start(stdin=archive)

    def join(self) -> None:
        """Start Multus and the kubelet, which registers the node, and see the images imported."""
        if self._thick:
            self._start_multus_daemon()
        name = self.node.name
        labels = {**NODE_LABELS, "topology.kubernetes.io/zone": self._zone}
        self.kubelet = self._process(
            "kubelet",
            str(self._programs["kubelet"]),
            "--config=/var/lib/kubelet/config.json",
            "--kubeconfig=/var/lib/kubelet/kubeconfig",
            f"--hostname-override={name}",
            f"--node-ip={self.node.primary.addresses[0]}",
            f"--node-labels={','.join(f'{key}={value}' for key, value in labels.items())}",
        )
        self.kubelet.start()
        for process in self._imports:
            assert process.process is not None
            if process.process.wait(IMPORTED_WITHIN):
                raise LabError(f"node {name} cannot import an image:\n{process}")
            process.kill()

    def _start_multus_daemon(self) -> None:
        """Start Multus as its daemon set does, with a service account; it makes itself the first network."""
        account = self._inside(ACCOUNT)
        account.mkdir(parents=True)
        (account / "token").write_text(self._control.tokens[MULTUS])
        (account / "namespace").write_text("kube-system")
        shutil.copy(self._control.authority.certificate, account / "ca.crt")
        first = self.path(NETWORKS) / "00-multus.conf"
        first.unlink(missing_ok=True)
        self.multus = self._process(
            "multus", str(self._programs["multus-daemon"]), "-config", MULTUS_CONFIG_FILE
        )
        service = {"KUBERNETES_SERVICE_HOST": SERVICE_ADDRESS, "KUBERNETES_SERVICE_PORT": str(SERVICE_PORT)}
        self.multus.start({**service, "MULTUS_NODE_NAME": self.node.name})
        self._wait(first.exists, self.multus)

    def kill(self) -> None:
        """End all that runs on the node at once, with no word to anybody. Its disk stays until ``close``."""
        if self._init is not None:
            with contextlib.suppress(LabError, ProcessLookupError):
                os.kill(self.leader, signal.SIGKILL)  # it goes last: then nothing of the node is left
            self._init.kill()
            self._init = None
        for process in (*self._started, self.links.process):
            process.kill()
        self._started.clear()

    def close(self) -> None:
        """End the node for good."""
        self.kill()
        if self._disk is not None:
            self._disk.kill()
        cgroups.remove(self.node.ns)

    def crash(self) -> None:
        """Lose the node by a power cut: nothing runs, no packets, and EC2 sees the instance stopped."""
        self.kill()
        self.node.crash()

    def boot(self) -> None:
        """Start a crashed node: the kubelet finds the disk as it was, under another boot id."""
        self.node.boot(agent=False)
        self.start(())
        self.join()

    # -- what it is like ----------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self._init is not None

    @property
    def leader(self) -> int:
        """The node's first process. Raises ``LabError`` if the node does not run."""
        if self._init is None:
            raise LabError(f"node {self.node} does not run")
        return child_of(self._init.pid)

    def path(self, path: str) -> Path:
        """Return where a directory of the node's disk, or something in it, is on this machine."""
        assert self._disk is not None
        return Path(f"/proc/{self._disk.pid}/root{self._on_disk(path)}")

    def _on_disk(self, path: str) -> Path:
        """Return where that is in the mount namespace that holds the disk."""
        place = max((item for item in DISK if Path(path).is_relative_to(item)), key=len)
        return self._place / "disk" / place.strip("/").replace("/", "-") / Path(path).relative_to(place)

    def enter(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program of the machine on the node, in all of its namespaces."""
        into = ["nsenter", "--target", str(self.leader), "--mount", "--pid", "--net"]
        return subprocess.run(
            [*into, *argv], env={"PATH": PATH}, capture_output=True, text=True, timeout=timeout, check=False
        )

    def pids(self) -> list[int]:
        """Return what runs on the node, containers included, by the node's own numbers."""
        return sorted(int(path.name) for path in self._inside("/proc").iterdir() if path.name.isdigit())

    def proc(self, pid: int) -> Path:
        """Return the directory in ``/proc`` of a process of the node."""
        return self._inside(f"/proc/{pid}")

    @property
    def cluster_network(self) -> dict[str, Any]:
        """The network that every pod gets: addresses of the node's own, which leave it as the node's."""
        ranges = [[{"subnet": str(self._pods)}]]
        ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
        return {"cniVersion": "0.4.0", "name": "cluster", "plugins": [{"type": "ptp", "ipam": ipam}]}

    def _inside(self, path: str) -> Path:
        return Path(f"/proc/{self.leader}/root", path.lstrip("/"))

    def _process(self, name: str, *argv: str) -> Process:
        process = Process(f"{name}-{self.node.name}", self.node.ns, argv, self._state).inside(
            self.leader, self._groups
        )
        self._started.append(process)
        return process

    def _wait(self, condition: Callable[[], bool], process: Process) -> None:
        end = time.monotonic() + STARTS_WITHIN
        while not condition():
            if not process.is_running or time.monotonic() > end:
                raise LabError(f"{process.name} does not start:\n{process}")
            time.sleep(0.02)

    def _listens(self, path: str) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            try:
                sock.connect(str(self._inside(path)))
            except OSError:
                return False
        return True

    def _install_plugins(self) -> None:
        """Copy the reference plugins and Multus' own; the product's comes by the chart."""
        paths = {name: find_plugin(name) for name in REFERENCE_PLUGINS}
        multus = "multus-shim" if self._thick else "multus"
        for name, path in {**paths, multus: self._programs[multus]}.items():
            if path is None:
                raise LabError(f"there is no CNI plugin {name}: `{cmdline.SETUP}` installs it")
            shutil.copy(path, self.path(PLUGINS) / name)

    def _thin(self, kubeconfig: str) -> dict[str, Any]:
        return {
            "cniVersion": "0.3.1",
            "name": "multus-cni-network",
            "type": "multus",
            "kubeconfig": kubeconfig,
            "delegates": [self.cluster_network],
        }

    @property
    def _zone(self) -> str:
        return f"{REGION}{self.node.az}"

    def _write(self, path: str, document: Mapping[str, Any]) -> None:
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
        file.write_text(json.dumps(document, indent=1) + "\n")
