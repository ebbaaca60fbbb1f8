"""The race: how long an address takes to move, by us and by the ways in use today, in one run.

Movers: the agent with its client; direct mode; a fresh Python process with boto3 for each move, as the
published solution's init container works; a shell script around the AWS CLI; ClusterLabs' aws-vpc-move-ip
(Pacemaker). Settings: one address in 1, 3 and 10 route tables, and 50 addresses at once in one table. More
would measure EC2's request rate, because its burst is 50 writes. Each setting runs with EC2 answering at once
and 50 ms later. Rounds are interleaved, and medians are compared.

A move begins as its program is started, and ends as EC2 has answered the last ReplaceRoute, by EC2's journal;
50 moves begin together. CPU is that of the program with all its children until it ends, and for the agent
that of client and agent. Memory is the highest resident set of a move's largest process, times the moves that
run side by side, and for the agent its own on top; pages that processes share are counted in each of them.
Calls are those that reached EC2. The keeper's looks are left out, because they are no part of a move; their
CPU is in the agent's.

What favours the peers:
  * no TLS: each process, and each call of the AWS CLI, would make a handshake; the agent keeps connections
  * EC2 is on the same machine, and there is neither DNS nor the start of a container
  * the AWS CLI script reads the tables once, and looks at none of them again
  * the boto3 process leaves out what the published one does besides EC2 and metadata (``move_boto3.py``)
  * EC2 does not throttle, and the agent keeps to EC2's published request rates all the same
  * an ADD also configures the pod (routes, rules, the guard of instance metadata), in direct mode too
  * the client runs with this interpreter, and the node bundle's starts faster
What favours us:
  * the agent is resident: it takes its memory between moves too, when the peers take none
  * everybody has the node's role from instance metadata: the agent has it already, each process asks anew
  * pods and their interfaces are there before the ADD, as a runtime makes them; no peer needs a pod
What takes longer than ``--seconds`` is stopped, and its figure is "> N". A mover that cannot be had is "not
measured", and one that fails is "failed", each with the reason. The peers' programs are fetched into
``.cache/peers`` (``peer_tools.py``). Needs root and 4 GiB; a round takes about ten minutes.

    python bench/peers.py [--rounds N] [--seconds N] [--side-by-side N] [--json] [--save]
"""

from __future__ import annotations

import argparse
import sys

from bench import document, movers, peer_figures
from bench.figure import say
from bench.peer_lab import PeerLab
from bench.race import ADDRESSES, Race
from bench.running import Failed, interrupt_at_sigterm
from bench.scene import compile_package
from lab.errors import LabError

ABOUT = """\
Each mover leads addresses from another node's ENI to its own, in every route table with a tag.
The time is that from the start of its program to EC2's answer to the last ReplaceRoute.
CPU and memory are those of the program with its children; those of the agent's moves are client and agent.
An ADD also configures the pod, which no peer does.
Rounds are interleaved, and medians are compared.
"> N" was stopped after N seconds, and is drawn as N."""
SIMULATED = """\
EC2 and instance metadata are simulated on the same machine, and they are the same for every mover.
There is no TLS and no throttling, which favours those who start a process for each call.
Processes, the kernel and namespaces are real; every mover has the node's role from instance metadata."""


def main() -> int:
    """Measure, print the table, and return 0: an aim that is missed is a figure, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each moves (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=300, help="what takes longer is stopped (default 300)"
    )
    parser.add_argument(
        "--side-by-side",
        type=int,
        default=ADDRESSES,
        help="of 50 moves so many run at a time (default all, which takes 4 GiB)",
    )
    document.add_options(parser)
    options = parser.parse_args()
    interrupt_at_sigterm()
    compile_package()
    begun = document.begin("peers", "The race against peers", about=ABOUT, simulated=SIMULATED)
    try:
        with PeerLab(ADDRESSES) as world:
            race = Race(world, movers.movers(world), options.seconds, max(1, options.side_by_side))
            results = race.run(max(1, options.rounds))
    except (Failed, LabError) as e:
        say(f"cannot measure: {e}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return document.publish(begun, peer_figures.figures(results), options)


if __name__ == "__main__":
    sys.exit(main())
