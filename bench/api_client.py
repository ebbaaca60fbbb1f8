"""What the door to the Kubernetes API costs an agent: memory, and CPU of a renewal, against the stand-in.

    python -m bench.api_client

A process that has loaded what an agent loads (botocore's client, the keeper) loads the door, and does what an
agent with elections does: two clients, polling, three watches, renewals. Memory is what the process alone has
(private pages), so shared libraries do not blur it. The API server runs in another process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

RENEWALS = 400
MOST_MIB = 3.0
"""What the door may cost an agent."""


def private_mib() -> float:
    """Return the memory that this process has to itself."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(rows[name].split()[0]) for name in ("Private_Dirty", "Private_Clean")) / 1024


def measure(host: str, port: str, account: str) -> NoReturn:
    """Be the agent: print what each step costs, and end."""
    import botocore.session

    import cni_floatip.agent.main
    import cni_floatip.edges.ec2.client  # noqa: F401

    botocore.session.get_session().create_client("sts", region_name="eu-central-1")
    memory = [private_mib()]

    from cni_floatip.edges.kubernetes.account import ServiceAccount
    from cni_floatip.edges.kubernetes.client import CallTimes, KubernetesClient
    from cni_floatip.edges.kubernetes.follow import Follower
    from cni_floatip.edges.kubernetes.resources import LEASES, NODES, PODS, Selection
    from cni_floatip.edges.kubernetes.servers import ApiAddress, ApiServers

    memory.append(private_mib())
    servers = ApiServers(ApiAddress(host, int(port)))
    patient = CallTimes(hedge=60, whole=60)  # a machine that is busy hedges nothing here
    shared, renewing = (KubernetesClient(ServiceAccount(Path(account)), servers, patient) for _ in range(2))
    shared.read_servers()
    lease: dict[str, Any] = renewing.create(
        LEASES, {"metadata": {"name": "node.a1", "namespace": "elections"}, "spec": {}}
    )
    memory.append(private_mib())
    shared.keep_servers_current()
    for resource in (LEASES, PODS, NODES):
        follower = Follower(shared, Selection(resource))
        threading.Thread(target=deque, args=[follower, 0], daemon=True).start()  # it keeps none
    spent, began = time.process_time(), time.monotonic()
    for count in range(RENEWALS):
        lease["spec"]["leaseTransitions"] = count + 1
        lease = renewing.replace(LEASES, lease)
    spent, took = time.process_time() - spent, time.monotonic() - began
    memory.append(private_mib())
    steps = [f"{after - before:.2f}" for before, after in pairwise(memory)]
    whole = memory[-1] - memory[0]
    print(f"an agent without it: {memory[0]:.1f} MiB")
    print(f"import {steps[0]}, first calls {steps[1]}, watches and {RENEWALS} renewals {steps[2]} MiB more")
    print(f"in all {whole:.2f} MiB of {MOST_MIB:g}, with {threading.active_count() - 1} threads")
    print(f"{RENEWALS / took:.0f} renewals a second, {spent / RENEWALS * 1000:.2f} ms CPU each", flush=True)
    os._exit(int(whole > MOST_MIB))


def main() -> int:
    from lab.kubernetes.standin import StandIn

    with tempfile.TemporaryDirectory() as place, StandIn(Path(place) / "api") as api:
        api.add_namespace("elections")
        host, port = api.addresses[0]
        command = [sys.executable, "-m", "bench.api_client", host, str(port), str(api.account)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(*sys.argv[1:])
    sys.exit(main())
