"""Failover on a real Kubernetes: how long a floating IP's client gets no answer, and who spent that time.

Two nodes in two zones run containerd, Multus, a kubelet and the chart's agent (``lab.kubernetes``). The
client is a machine in the VPC that sends a datagram every 5 ms; its longest silence is the outage. All times
are of one clock (CLOCK_MONOTONIC); a log's wall clock is converted. An outage is split at these marks:

    noticing     until the API shows the node as not ready; for keepalived, until it puts the address on
    eviction     until the API has the replacement: the taint NoExecute, which Kubernetes puts on one node in
                 10 s for each zone; the toleration of it; the end of the old pod; the ReplicaSet
    scheduling   until the replacement has a node
    sandbox      until floatip's ADD begins, and from its end until the application's container runs: kubelet,
                 containerd, the cluster's network, Multus, macvlan
    ADD          floatip's ADD without EC2; for the sidecar, from its start until its last write; for
                 keepalived, from the address until the last write
    EC2          the calls of EC2 therein
    application  until the first answer

Rows 40 to 46 run with Kubernetes' defaults, 47 to 49 with the short settings of the tests:
node-monitor-grace-period 6 s, node-monitor-period 1 s, nodeLeaseDurationSeconds 4, nodeStatusUpdateFrequency
2 s. Pods tolerate a node that is not ready for 5 s.

Needs root, Go, helm, buildah, keepalived and 4 GiB. A round takes about ten minutes, and what is not built
yet ten more.

    python bench/failover.py [--only ROW]... [--rounds N] [--json] [--save]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence

from bench import document, failover_figures
from bench.failover_figures import Rounds
from bench.failover_lab import FailoverLab
from bench.failover_scenarios import SCENARIOS, Results, Scenario
from bench.figure import say
from bench.running import interrupt_at_sigterm
from lab.errors import LabError
from lab.kubernetes.cluster import Materials, materials

ABOUT = """\
A client in the VPC sends a datagram every 5 ms, and its longest silence is the outage.
Rows 40 to 46 run with Kubernetes' defaults, 47 to 49 with short settings.
Short is a node-monitor-grace-period of 6 s and a node-monitor-period of 1 s for the controller manager.
For kubelets it is 4 s of nodeLeaseDurationSeconds and 2 s of nodeStatusUpdateFrequency.
Pods tolerate a node that is not ready for 5 s.
Noticing ends as the API shows the node as not ready, eviction as the API has the replacement, scheduling as \
the replacement has a node.
Sandbox is the time of kubelet, containerd, Multus and the cluster's network, before ADD and after it.
EC2 is the time of its calls within ADD; application is the time from the container's start to an answer.
A sidecar's ADD is the time from its start to its last write; keepalived's noticing ends as it puts the \
address on, and its ADD is what the agent does then.
Parts are those of the round with the median outage.
These rows have no aim, because they are the base line that failover by election must beat."""
SIMULATED = """\
EC2 and instance metadata are simulated; EC2 answers 50 ms late.
A node is lost by the end of all its processes and links at one time, as at a power cut.
API servers, controllers, kubelets, containerd, Multus, keepalived, the kernel and packets are real, on one \
machine.
The sidecar has its interpreter from the machine, so no image is pulled for it."""


def main() -> int:
    """Measure, print the table, and return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    rows = [scenario.row for scenario in SCENARIOS]
    parser.add_argument(
        "--only",
        type=int,
        action="append",
        metavar="ROW",
        choices=rows,
        help="measure this row (again: and that)",
    )
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured (default 1)")
    document.add_options(parser)
    options = parser.parse_args()
    interrupt_at_sigterm()
    wanted = [scenario for scenario in SCENARIOS if scenario.row in (options.only or rows)]
    document.check_save(parser, options, "failover", [scenario.row for scenario in wanted])
    begun = document.begin("failover", "Failover on Kubernetes", about=ABOUT, simulated=SIMULATED)
    try:
        outcomes = measure(materials(), wanted, max(1, options.rounds))
    except LabError as e:
        say(f"cannot measure: {e}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    if all(isinstance(item, str) for rounds in outcomes.values() for item in rounds):
        say("nothing could be measured")
        return 1
    return document.publish(begun, failover_figures.figures(outcomes), options)


def measure(parts: Materials, wanted: Sequence[Scenario], rounds: int) -> dict[Scenario, Rounds]:
    """Return what each scenario gave, in a cluster for each of the settings; rounds are interleaved.

    A cluster that fails ends its own scenarios, and the others go on.
    """
    outcomes: dict[Scenario, list[Results | str]] = {scenario: [] for scenario in wanted}
    for settings, group in itertools.groupby(wanted, lambda scenario: scenario.settings):
        scenarios = list(group)
        say(f"a cluster for rows {', '.join(str(scenario.row) for scenario in scenarios)}")
        try:
            with FailoverLab(parts, settings) as world:
                for number, scenario in itertools.product(range(1, rounds + 1), scenarios):
                    say(f"{scenario.row}, {scenario.name}, round {number} of {rounds}")
                    began = time.monotonic()
                    outcome = attempt(world, scenario)
                    outcomes[scenario].append(outcome)
                    text = outcome if isinstance(outcome, str) else failover_figures.summary(outcome)
                    say(f"   {text}, in {time.monotonic() - began:.0f} s")
                    world.clear()
        except LabError as e:
            say(f"the cluster failed: {e}")
            for scenario in scenarios:
                if len(outcomes[scenario]) < rounds:
                    outcomes[scenario].append(f"not measured: {e}")
    return dict(outcomes)


def attempt(world: FailoverLab, scenario: Scenario) -> Results | str:
    """Return what a scenario gives; if it fails, why."""
    try:
        return scenario.run(world)
    except LabError as e:
        return f"failed: {e}"


if __name__ == "__main__":
    sys.exit(main())
