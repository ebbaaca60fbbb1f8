"""A Kubernetes whose nodes are the lab's: a context manager that starts all of it and ends all of it.

    with Lab(2, 1, machines=MACHINES) as lab, Cluster(lab, materials()) as cluster:
        cluster.kubectl.apply(...)

What it starts, in order: etcd and the API servers, on the nodes containerd (which imports images meanwhile),
then what needs the API: controllers, Multus, kubelets, the chart. It must be entered by a thread that stays
(``process``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from lab import images
from lab.kubernetes import build, manifests, podimage
from lab.kubernetes.build import Programs
from lab.kubernetes.chart import Chart, helm_program
from lab.kubernetes.controlplane import ADMIN, MACHINES, ControlPlane
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.worker import Worker
from lab.world import Lab, undisturbed

__all__ = ["MACHINES", "QUICK", "Cluster", "Materials", "Settings", "materials"]


@dataclass(frozen=True, slots=True)
class Materials:
    """What a cluster is made of: the programs, and the product's image as an archive (``None``: no chart)."""

    programs: Programs
    product: Path | None


def materials(*, chart: bool = True) -> Materials:
    """Build what is not built yet; that takes minutes. ``chart``: the product's image, too."""
    if chart:
        helm_program()  # what is missing is noticed before anything is built
    return Materials(build.programs(), images.archive() if chart else None)


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs from Kubernetes' defaults: flags, kubelet configuration, nodes with thin Multus."""

    controller_manager: Sequence[str] = ()
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    thin: Sequence[str] = ()


QUICK = Settings(
    ("--node-monitor-grace-period=6s", "--node-monitor-period=1s"),
    {"nodeLeaseDurationSeconds": 4, "nodeStatusUpdateFrequency": "2s"},
)
"""For tests of a node's failure: noticed after 6 s, not after 40 to 55."""


class Cluster:
    """``kubectl``, ``chart``, ``control`` and ``workers`` (by the node's name) are what there is to use."""

    def __init__(self, lab: Lab, materials: Materials, settings: Settings = QUICK) -> None:
        """The lab must have been made with ``machines=MACHINES``."""
        self.lab = lab
        self.materials = materials
        self.settings = settings
        self.spent: dict[str, float] = {}
        """Step -> seconds after the start of ``with`` when it was done."""
        programs = materials.programs
        self.control = ControlPlane(lab.state, programs, lab.machines, lab.nodes)
        self.kubeconfig = self.control.kubeconfig(ADMIN, str(self.control.endpoints[0]))
        client = lab.clients["vpc"].namespace
        self.kubectl = Kubectl(programs["kubectl"], client, self.kubeconfig)
        self.chart = Chart(lab, self.kubectl)
        self.workers = {
            node.name: Worker(node, number, self.control, programs)
            for number, node in enumerate(lab.nodes.values(), 1)
        }

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        began = time.monotonic()

        def done(step: str) -> None:
            self.spent[step] = time.monotonic() - began

        self.control.start()
        archives = [podimage.write(self.lab.state / "pod.tar", self.materials.programs["pod"])]
        archives += [self.materials.product] if self.materials.product else []
        for name, worker in self.workers.items():
            worker.prepare(self.settings.kubelet, multus="thin" if name in self.settings.thin else "thick")
            worker.start(archives)
        done("containerd")
        self.control.wait()
        done("API servers")
        self.kubectl.apply(*manifests.multus())
        self.control.start_controllers(self.settings.controller_manager)
        self.kubectl.wait("--for=condition=Established", f"crd/{manifests.NETWORKS_CRD}")
        for worker in self.workers.values():
            worker.join()
        done("images")
        self.wait_nodes()
        self.kubectl.wait_created("serviceaccount/default")
        done("nodes")
        if self.materials.product:
            self.chart.install()
            done("chart")

    def wait_nodes(self, *names: str, seconds: float = 120) -> None:
        """Wait until these nodes (none named: all) are ready."""
        nodes = [f"node/{name}" for name in names or self.workers]
        self.kubectl.wait_created(*nodes, seconds=seconds)
        self.kubectl.wait("--for=condition=Ready", *nodes, seconds=seconds)

    def _end(self) -> None:
        with undisturbed():
            for worker in self.workers.values():
                worker.close()
            self.control.close()
