"""A node's ways to the API servers: a proxy that can fail for each, and the rules that lead packets there.

What the node and its pods send to an API server's own address goes through that server's proxy. What they
send to the service's address (10.96.0.1) goes through either, connection by connection, as kube-proxy does
it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from lab import netns
from lab.errors import LabError
from lab.kubernetes import proxy
from lab.kubernetes.controlplane import SERVICE_ADDRESS, SERVICE_PORT, Endpoint
from lab.kubernetes.process import Process
from lab.node import Node

FIRST_PORT = 16443
MARK = 0x6443
ANSWERS_WITHIN = 30.0

# For what the node sends itself ("output") and what its pods send ("prerouting").
RULES = """\
table ip kubernetes
delete table ip kubernetes
table ip kubernetes {{
  chain api {{
    meta mark {mark} return
    {servers}
    ip daddr {service} tcp dport {service_port} dnat to numgen inc mod {count} map {{ {either} }}
  }}
  chain output {{ type nat hook output priority -100; jump api; }}
  chain prerouting {{ type nat hook prerouting priority -100; jump api; }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    ip saddr {pods} ip daddr != {pods} oifname "eth0" masquerade
  }}
}}
"""


class ApiLinks:
    """The ways from one node to each API server: ``cut``, ``delay``, ``swallow``, ``mend``."""

    def __init__(self, node: Node, endpoints: Sequence[Endpoint], pods: IPv4Network, state: Path) -> None:
        """``pods``: the cluster network, which needs the node's address to leave it."""
        self._node = node
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._pods = pods
        self._control = node.state / "api-links"
        self._address = str(node.primary.addresses[0])
        links = {
            endpoint.name: {"listen": [self._address, port], "to": [endpoint.address, endpoint.port]}
            for port, endpoint in enumerate(endpoints, FIRST_PORT)
        }
        self._ports = {name: link["listen"][1] for name, link in links.items()}
        configuration = json.dumps({"control": str(self._control), "mark": MARK, "links": links})
        argv = [sys.executable, "-I", "-S", str(Path(proxy.__file__)), configuration]
        self.process = Process(f"api-links-{node.name}", node.ns, argv, state)

    def start(self) -> None:
        """Start the proxies, and lead there what the node sends to an API server."""
        self._control.unlink(missing_ok=True)
        self.process.start_and_wait(stdin=subprocess.PIPE)
        netns.inside(self._node.ns, self._load_rules)

    def cut(self, server: str | None = None) -> None:
        """Reset connections to this API server (``None``: to all) and refuse new ones."""
        self._order(server, {"do": "cut"})

    def swallow(self, server: str | None = None, what: str = "both") -> None:
        """Let bytes vanish with no word to anybody: ``requests``, ``answers`` or ``both``."""
        self._order(server, {"do": "swallow", "what": what})

    def delay(self, server: str | None = None, *, seconds: float) -> None:
        """Let each byte arrive so much later, in both directions; 0 ends that."""
        self._order(server, {"do": "delay", "seconds": seconds})

    def mend(self, server: str | None = None) -> None:
        """Let everything pass again, in time."""
        self._order(server, {"do": "pass"})
        self._order(server, {"do": "delay", "seconds": 0})

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what each way does and what went over it (see ``proxy.Link.state``)."""
        return self._send([{"do": "state"}])

    def _order(self, server: str | None, order: dict[str, Any]) -> None:
        self._send([{"link": name, **order} for name in ([server] if server else self._endpoints)])

    def _send(self, orders: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Send orders; return the last answer. When this returns they are carried out."""
        answer: dict[str, Any] = {}
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ANSWERS_WITHIN)
            sock.connect(str(self._control))
            with sock.makefile("rw") as lines:
                for order in orders:
                    lines.write(json.dumps(order) + "\n")
                    lines.flush()
                    answer = json.loads(lines.readline())
                    if "error" in answer:
                        raise LabError(f"the proxies of node {self._node}: {answer['error']}")
        return answer

    def _load_rules(self) -> None:
        places = {name: f"{self._address} . {port}" for name, port in self._ports.items()}
        servers = [
            f"ip daddr {endpoint.address} tcp dport {endpoint.port}"
            f" dnat to {self._address}:{self._ports[name]}"
            for name, endpoint in self._endpoints.items()
        ]
        script = RULES.format(
            mark=MARK,
            servers="\n    ".join(servers),
            service=SERVICE_ADDRESS,
            service_port=SERVICE_PORT,
            count=len(places),
            either=", ".join(f"{number} : {place}" for number, place in enumerate(places.values())),
            pods=self._pods,
        )
        done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"nft on node {self._node}: {done.stderr.strip()}")
