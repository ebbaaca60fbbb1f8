"""What a person needs to use a running lab by hand: scripts that enter nodes and clients, conflists, pods.

It all stands in the lab's state directory; ``/run/floatip-lab/current`` leads to that of ``lab up``.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from lab import cmdline
from lab.node import PATH, Node
from lab.world import Lab

ENTER = """\
#!/bin/sh
# {what}: a shell there, or one command. CNI's cache and results stay in the node's own directory.
# The environment is the node's, too: a proxy or an AWS profile of yours leads nowhere there.
exec env -i HOME="$HOME" TERM="${{TERM:-dumb}}" LANG=C.UTF-8 PATH="$PATH" \\
  {variables} \\
  ip netns exec {ns} sh -c '
  command -v "$1" >/dev/null || {{ echo "{what}: no program $1 here" >&2; exit 127; }}
  [ -d /var/lib/cni ] || {{ mount -t tmpfs lab /var/lib && mkdir /var/lib/cni; }}
  mount --bind {cache} /var/lib/cni && exec "$@"' lab "${{@:-bash}}"
"""


def prepare(lab: Lab) -> None:
    """Write scripts and conflists, and make a pod sandbox on each node."""
    networks = lab.state / "net.d"
    networks.mkdir()
    for conflist in conflists(lab):
        (networks / f"{conflist['name']}.conflist").write_text(json.dumps(conflist, indent=2) + "\n")
    for node in lab.nodes.values():
        pod = node.pod(f"web-{node.name}")
        (lab.state / pod.name).symlink_to(pod.netns)
        what, variables = f"Node {node.name}", _variables(lab, node)
        _script(lab.state / f"on-{node.name}", what, node.ns, variables, node.state / "cni")
    for client in lab.clients.values():
        path, what = lab.state / f"on-{client.name}-client", f"The {client.name} client"
        _script(path, what, client.namespace, {}, lab.state / "client-cni")


def _variables(lab: Lab, node: Node) -> dict[str, str]:
    client = {"FLOATIP_BIN_DIR": str(node.bin_dir)} if lab.agents else {}
    return {
        **node.env,
        **client,
        "CNI_PATH": os.pathsep.join(map(str, node.plugin_path())),
        "NETCONFPATH": str(lab.state / "net.d"),
        "CNI_IFNAME": "net1",
        "PATH": f"{_programs()}:{PATH}",
    }


def conflists(lab: Lab) -> list[dict[str, object]]:
    """Return the networks that ``cnitool`` finds: one address per pattern and family."""
    two = lab.dummy_subnets[0]
    return [
        lab.conflist(["192.168.0.2/32"], name="floating"),
        lab.conflist(["192.168.0.3/32", "fd00:192:168::3/128"], name="floating-dual"),
        lab.conflist([f"{two.cidr[5]}/28", f"{two.cidr6[5]}/64"], name="floating-subnet"),
    ]


def _without_cnitool() -> str:
    if shutil.which("cnitool", path=f"{_programs()}:{PATH}"):
        return ""
    return f"(cnitool is not here: Go builds it; install golang, then `{cmdline.SETUP}`)\n"


def _programs() -> str:
    """Return where floatip and cnitool are: beside this interpreter, where make or Go puts them."""
    places = (Path(sys.executable).parent, Path(__file__).parents[1] / ".cache/bin", Path.home() / "go/bin")
    return ":".join(map(str, places))


def _script(path: Path, what: str, ns: str, variables: dict[str, str], cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    assigned = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    path.write_text(ENTER.format(what=what, variables=assigned, ns=ns, cache=shlex.quote(str(cache))))
    path.chmod(0o755)


def guide(lab: Lab, at: Path) -> str:
    """Return what ``lab up`` prints."""
    tables = "  ".join(f"{name} {table}" for name, table in lab.tables.items())
    clients = "  ".join(f"{name} {c.addresses[0]}" for name, c in lab.clients.items())
    first = next(iter(lab.nodes.values()))
    exports = "\n".join(f"  export {name}={value}" for name, value in _variables(lab, first).items())
    return f"""\
The lab is up: VPC {lab.vpc_cidr}, {lab.vpc_cidr6}. EC2 and instance metadata are simulated, packets are real.

{chr(10).join(_node(node, at) for node in lab.nodes.values())}
route tables  {tables}
clients       {clients}
networks      {", ".join(str(c["name"]) for c in conflists(lab))} (in {at}/net.d)

A shell on a node, or one command:
  {at}/on-{first.name}
  {at}/on-{first.name} cnitool add floating {at}/web-{first.name}
{_without_cnitool()}which is "ip netns exec {first.ns}", a directory of the node's own as /var/lib/cni, and
{exports}

{_agents(first, at) if lab.agents else ""}{_failover(lab, first, at)}"""


def _failover(lab: Lab, first: Node, at: Path) -> str:
    """Tell how the address moves from the first node to one of another zone, or else of its own."""
    others = [node for node in lab.nodes.values() if node is not first]
    second = next((node for node in others if node.az != first.az), others[0] if others else None)
    command = cmdline.lab
    lines = ["Who answers, what EC2 holds", command("ask", str(lab.floating[2])), command("routes")]
    if second is not None:
        lost = first.name if second.az == first.az else first.az
        lines[0] += f", and how {'a node' if lost == first.name else 'an Availability Zone'} fails"
        lines += [
            command("fail", lost),
            f"{at}/on-{second.name} cnitool add floating {at}/web-{second.name}",
            command("recover", lost),
            f"{at}/on-{first.name} cnitool del floating {at}/web-{first.name}",
        ]
    lines[0] += ":"
    return "\n  ".join([*lines, command("down")]) + "\n"


def _agents(node: Node, at: Path) -> str:
    return f"""\
Each node runs the agent, and its plugin is the client. What a node claims, where each route points now, and
what the agent says (DEL leaves the routes for a grace of 60 s, in which the next owner replaces them):
  {at}/on-{node.name} floatipctl status
  tail -f {at}/{node.name}/agent.log

"""


def _node(node: Node, at: Path) -> str:
    enis = "  ".join(f"{e.ifname} {e.id} {e.addresses[0]}" for e in node.enis)
    return f"node {node.name} ({node.instance_id}): {enis}\n        a pod's namespace: {at}/web-{node.name}"
