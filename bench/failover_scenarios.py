"""What happens to the application in the failover bench, and what each time costs its client.

A scenario is a function that brings about its event in a ``FailoverLab`` and returns a ``Result`` for each
way to lead an address that took part in it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bench.failover_lab import ADDRESS, AFTER, OWN, POLLED, VIP, WITHIN, FailoverLab, Observation, observe
from bench.timeline import Marks, Span, split
from cni_floatip import __version__
from lab import images
from lab.cmdline import CHECKOUT
from lab.errors import LabError
from lab.kubernetes.cluster import QUICK, Settings
from lab.kubernetes.manifests import deployment, pod
from lab.kubernetes.process import Process
from lab.node import PATH
from lab.vpc import TAG
from lab.world import EC2_PORT

OURS, SIDECAR, KEEPALIVED = "floatip", "polling sidecar", "keepalived, followed by floatip"
DEFAULTS = Settings()
SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
RECREATE = {"type": "Recreate"}
SETTLES = 1.0
TAKES_OVER = 5.0
"""Seconds until both of keepalived's pods have heard each other."""

POLLER = "bench.peer_programs.poll_boto3"
MACHINE = "/machine"
KEEPALIVED_CONF = """\
global_defs {{
  router_id {node}
  vrrp_garp_master_delay 0
}}
vrrp_instance V {{
  state BACKUP
  interface net1
  virtual_router_id 51
  priority {priority}
  advert_int 1
  version 3
  unicast_src_ip {own}
  unicast_peer {{
    {peer}
  }}
  virtual_ipaddress {{
    {vip}/32 dev net1
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One outage: its seconds, who spent them (``timeline.PARTS``), datagrams lost."""

    seconds: float
    parts: Mapping[str, float]
    lost: int


Results = Mapping[str, Result]
"""By who leads the address."""


def result(what: Observation, marks: Marks) -> Result:
    return Result(what.outage.seconds, split(what.outage, marks), what.lost)


@dataclass(frozen=True, eq=False)
class Scenario:
    """A row: its number, what happens, and on a cluster with which settings."""

    row: int
    name: str
    run: Callable[[FailoverLab], Results]
    settings: Settings = DEFAULTS


# -- events -------------------------------------------------------------------------------------------------


def apply(world: FailoverLab) -> Results:
    """Apply a new Deployment."""
    began, what = world.during(
        lambda: world.kubectl.apply(deployment("web", networks="floating")), "web", ADDRESS
    )
    marks = replace(world.marks(what.by, began), created=None)  # there is nobody to evict
    return {OURS: result(what, marks)}


def rollout(strategy: Mapping[str, Any], starts_after: float) -> Callable[[FailoverLab], Results]:
    """Return the scenario of a rollout with this strategy, of an application that needs so many seconds."""

    def run(world: FailoverLab) -> Results:
        world.deploy(strategy=strategy, starts_after=starts_after)
        return move(world, lambda: world.kubectl("rollout", "restart", "deployment/web"))

    return run


def drain(world: FailoverLab) -> Results:
    """Drain the application's node."""
    world.deploy()
    return move(world, lambda: world.kubectl_within("drain", "a1", "--ignore-daemonsets"))


def move(world: FailoverLab, happens: Callable[[], object]) -> Results:
    began, what = world.during(happens, "web", ADDRESS)
    return {OURS: result(what, world.marks(what.by, began))}


def power_cut(world: FailoverLab) -> Results:
    """Cut the power of the application's node."""
    world.deploy()
    time.sleep(SETTLES)
    with recovery(world):
        began, what = world.during(world.cluster.workers["a1"].crash, "web", ADDRESS)
        return {OURS: result(what, world.marks(what.by, began, lost="a1"))}


@contextmanager
def recovery(world: FailoverLab) -> Iterator[None]:
    """Boot the node ``a1`` afterwards."""
    try:
        yield
    finally:
        if not world.cluster.workers["a1"].node.is_up:
            world.recover("a1")


# -- others -------------------------------------------------------------------------------------------------


def power_cut_beside_sidecar(world: FailoverLab) -> Results:
    """Cut the power of a node with two applications: one's address is led by us, one's by a sidecar."""
    world.deploy()
    world.deploy("polled", networks="polled", **sidecar(world))
    with world.asking(POLLED) as (probe,):
        world.await_answer(probe, lambda pod: pod.startswith("polled-"))
    time.sleep(SETTLES)
    with recovery(world):
        crash = world.cluster.workers["a1"].crash
        began, (ours, polled) = world.during_both(crash, {"web": ADDRESS, "polled": POLLED})
        return {
            OURS: result(ours, world.marks(ours.by, began, lost="a1")),
            SIDECAR: result(polled, world.marks(polled.by, began, lost="a1", mover="sidecar")),
        }


def sidecar(world: FailoverLab) -> dict[str, Any]:
    """Return what a pod's specification has more with a polling sidecar.

    No image here has boto3, so it runs in the machine's root, with this interpreter.
    """
    peer = str(world.lab.clients["vpc"].addresses[0])
    command = ["chroot", MACHINE, sys.executable, "-m", POLLER, next(iter(TAG)), peer]
    container = {
        "name": "sidecar",
        "image": f"{images.NAME}:{__version__}",
        "imagePullPolicy": "Never",
        "command": command,
        "env": [
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            {"name": "AWS_ENDPOINT_URL_EC2", "value": f"http://$(NODE):{EC2_PORT}"},
            {"name": "PYTHONPATH", "value": str(CHECKOUT)},
            {"name": "PATH", "value": PATH},
        ],
        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN", "SYS_CHROOT"]}},
        "volumeMounts": [{"name": "machine", "mountPath": MACHINE}],
    }
    answering = pod("x")["spec"]["containers"]
    machine = {"name": "machine", "hostPath": {"path": "/"}}
    return {"containers": [*answering, container], "volumes": [machine]}


def keepalived(world: FailoverLab) -> Results:
    """Cut the power of the node where keepalived holds the address; its other pod takes over."""
    program = shutil.which("keepalived", path=PATH)
    if program is None:
        raise LabError("there is no keepalived here")
    pods = [pod(f"kept-{node}", networks=f"watched-{node}", nodeName=node, tolerates=600) for node in OWN]
    world.kubectl.apply(*pods)
    world.kubectl.wait("--for=condition=Ready", "pods", "--all", seconds=WITHIN)
    with ExitStack() as ends:
        for priority, node in zip((150, 100), OWN, strict=True):
            ends.callback(start_keepalived(world, program, node, priority).kill)
        with world.asking(VIP) as (probe,):
            world.await_answer(probe, lambda by: by == "kept-a1")
            time.sleep(TAKES_OVER)
        ends.enter_context(recovery(world))
        appearances = ends.enter_context(appearances_of(world, "b1"))
        with world.asking(VIP) as (probe,):
            time.sleep(SETTLES)
            began = time.monotonic()
            world.cluster.workers["a1"].crash()
            end = world.await_answer(probe, lambda by: by == "kept-b1") + AFTER
            time.sleep(AFTER)
        what = observe(probe.report, Span(began, end))
        appeared = min(at for at in appearances if at > began)
        return {KEEPALIVED: result(what, world.watched_marks("b1", appeared))}


def start_keepalived(world: FailoverLab, program: str, node: str, priority: int) -> Process:
    """Start keepalived in the network namespace of a node's pod, with its defaults but for unicast."""
    peer = next(own for name, own in OWN.items() if name != node)
    text = KEEPALIVED_CONF.format(node=node, priority=priority, own=OWN[node], peer=peer, vip=VIP)
    (world.disk(node) / "keepalived.conf").write_text(text)
    place = "/var/lib/kubelet/keepalived"
    files = [f"-{flag}{place}.{flag}.pid" for flag in "prc"]
    process = world.in_pod(node, "keepalived", program, "-n", "-l", "-f", f"{place}.conf", *files)
    process.start()
    return process


@contextmanager
def appearances_of(world: FailoverLab, node: str) -> Iterator[list[float]]:
    """Yield a list that grows by the time whenever keepalived's address appears in the node's pod."""
    times: list[float] = []
    monitor = world.in_pod(node, "addresses", "ip", "-o", "monitor", "address")
    monitor.start(stdout=subprocess.PIPE, text=True)
    assert monitor.process is not None
    lines = monitor.process.stdout

    def read() -> None:
        for line in lines or ():
            at = time.monotonic()
            if f" {VIP}/" in line and not line.startswith("Deleted"):
                times.append(at)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield times
    finally:
        monitor.kill()
        thread.join(5)


SCENARIOS: Sequence[Scenario] = (
    Scenario(40, "kubectl apply", apply),
    Scenario(41, "rollout, maxSurge 1, application ready at once", rollout(SURGE, 0)),
    Scenario(42, "rollout, maxSurge 1, application ready after 10 s", rollout(SURGE, 10)),
    Scenario(43, "rollout, Recreate, application ready at once", rollout(RECREATE, 0)),
    Scenario(44, "rollout, Recreate, application ready after 10 s", rollout(RECREATE, 10)),
    Scenario(45, "drain", drain),
    Scenario(46, "node lost, Kubernetes' defaults", power_cut),
    Scenario(47, "node lost, short settings", power_cut, QUICK),
    Scenario(48, "node lost, short settings, beside a sidecar that polls", power_cut_beside_sidecar, QUICK),
    Scenario(49, "node lost, keepalived in two pods", keepalived, QUICK),
)
