"""Pods to try the pod network on: real namespaces, and the fake that must behave as they do."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from cni_floatip.edges import podnet
from cni_floatip.model.values import PodRule
from tests.fakes.podnet import FakeLink, FakePod, FakePods
from tests.support.waiting import until

PREFIX = f"fl-{os.getpid()}-podnet"
NETNS = Path("/run/netns")
ADDRESSES = ["192.168.0.2/29", "fd00::2/64"]
_numbers = itertools.count()


def ip(*command: str, netns: str = "", check: bool = True) -> str:
    """Run ``ip`` in a namespace; return what it prints."""
    place = ["-n", netns] if netns else []
    return subprocess.run(["ip", *place, *command], check=check, capture_output=True, text=True).stdout


def ip_json(*command: str, netns: str) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = json.loads(ip("-j", *command, netns=netns) or "[]")
    return shown


def fresh_number() -> int:
    """Return a number that no name of this run has yet."""
    return next(_numbers)


class KernelPod:
    """A pod in a namespace: net1 on a link of the node (macvlan passthru), eth0 on the cluster network."""

    def __init__(self, node: str) -> None:
        number = fresh_number()
        self.node = node
        self.name = f"{PREFIX}-p{number}"
        self.path = str(NETNS / self.name)
        self.parent = f"eth{number}"
        ip("netns", "add", self.name)
        for command in (
            f"link add {self.parent} type veth peer name r{number}",
            f"link set r{number} up",
            f"link set {self.parent} up",
            f"link add link {self.parent} name net1 netns {self.name} type macvlan mode passthru",
            f"link add c{number} type veth peer name eth0 netns {self.name}",
            f"link set c{number} up",
        ):
            ip(*command.split(), netns=node)
        # DAD off, but for the tests that are about it.
        self.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        self.run("sysctl", "-qw", "net.ipv6.conf.net1.accept_dad=0", "net.ipv6.conf.eth0.accept_dad=0")
        for command in (
            "link set lo up",
            "link set eth0 up",
            "link set net1 up",
            "addr add 10.0.0.7/32 dev eth0",
            "route add 169.254.1.1 dev eth0 proto static",
            "route add default via 169.254.1.1 dev eth0 proto static",
            *(f"addr add {item} dev net1" for item in ADDRESSES),
        ):
            self.ip(*command.split())
        until(lambda: "tentative" not in self.ip("-6", "addr", "show", "dev", "net1"))

    def ip(self, *command: str, check: bool = True) -> str:
        return ip(*command, netns=self.name, check=check)

    def run(self, *command: str) -> str:
        argv = ["ip", "netns", "exec", self.name, *command]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def open(self, ifname: str = "net1") -> contextlib.AbstractContextManager[podnet.PodNet]:
        return podnet.open_pod(self.path, ifname)

    def clear(self, *args: Any, **kwargs: Any) -> None:
        podnet.clear_pod(self.path, *args, **kwargs)

    def put_route(self, text: str) -> None:
        """Add somebody else's route, in ip's words: ``10.0.0.0/8 dev eth0 table 100 proto 99``."""
        self.ip("-6" if ":" in text.split()[0] else "-4", "route", "add", *text.split())

    def put_rule(self, text: str) -> None:
        """Add somebody else's rule, in ip's words: ``from 192.168.0.9/32 lookup 100 proto 99``."""
        self.ip("-6" if ":" in text.split()[1] else "-4", "rule", "add", *text.split())

    def unplug(self, ifname: str) -> None:
        self.ip("link", "del", ifname)

    def lines(self) -> list[str]:
        """Return what ``ip`` shows, in the fake's words; without the local table and link-local prefixes."""
        results = []
        for family in ("-4", "-6"):
            for item in ip_json("-N", "-d", family, "route", "show", "table", "all", netns=self.name):
                table = int(item.get("table", 254))
                if table != 255 and not item["dst"].startswith("fe80::/"):
                    results.append(_route_line(item, table, family))
            for item in ip_json("-N", family, "rule", "show", netns=self.name):
                if item["src"] != "all" or "oif" in item:
                    results += [_rule_line(item, family)]
        return sorted(results)


def _rule_line(item: dict[str, Any], family: str) -> str:
    anything, longest = {"-4": ("0.0.0.0/0", 32), "-6": ("::/0", 128)}[family]
    source = anything if item["src"] == "all" else f"{item['src']}/{item.get('srclen', longest)}"
    to = f" to {item['dst']}/{item['dstlen']}" if "dst" in item else ""
    oif = f" oif {item['oif']}" if "oif" in item else ""
    action = "unreachable" if item.get("action") in ("7", "unreachable") else f"lookup {item['table']}"
    return f"from {source}{to}{oif} {action} proto {item['protocol']}"


def _route_line(item: dict[str, Any], table: int, family: str) -> str:
    anything = "0.0.0.0/0" if family == "-4" else "::/0"
    destination = anything if item["dst"] == "default" else str(ip_network(item["dst"]))
    kind = {"7": "unreachable", "9": "throw"}.get(str(item.get("type", "1")), item.get("type", "1"))
    linkless = kind in ("unreachable", "throw")
    via = f" via {item['gateway']}" if "gateway" in item else ""
    dev = f" dev {item['dev']}" if "dev" in item and not linkless else ""
    mtu = next((f" mtu {metrics['mtu']}" for metrics in item.get("metrics", []) if "mtu" in metrics), "")
    return (
        f"{f'{kind} ' if linkless else ''}{destination}{via}{dev} table {table} proto {item['protocol']}{mtu}"
    )


class MemoryPod:
    """The same pod in memory."""

    path = "/run/netns/fake"

    def __init__(self) -> None:
        eth0 = FakeLink("eth0", kind="veth", addresses=["10.0.0.7/32"])
        self.pod = FakePod([eth0, FakeLink("net1", addresses=list(ADDRESSES))])
        self.pods = FakePods({self.path: self.pod})
        self.put_route("169.254.1.1/32 dev eth0 proto 4")
        self.put_route("0.0.0.0/0 via 169.254.1.1 dev eth0 proto 4")

    def open(self, ifname: str = "net1") -> contextlib.AbstractContextManager[Any]:
        return self.pods.open_pod(self.path, ifname)

    def clear(self, *args: Any, **kwargs: Any) -> None:
        self.pods.clear_pod(self.path, *args, **kwargs)

    def put_route(self, text: str) -> None:
        words = text.split()
        output = dict(zip(words[1::2], words[2::2], strict=False))
        gateway = ip_address(output["via"]) if "via" in output else None
        self.pod.others.append(
            podnet.OtherRoute(
                ip_network(words[0]),
                int(output.get("table", 254)),
                gateway,
                output["dev"],
                int(output["proto"]),
            )
        )

    def put_rule(self, text: str) -> None:
        words = text.split()
        output = dict(zip(words[::2], words[1::2], strict=True))
        rule = PodRule(ip_network(output["from"]), int(output["lookup"]), output.get("oif", ""))
        self.pod.other_rules.append((rule, int(output["proto"])))

    def unplug(self, ifname: str) -> None:
        self.pod.unplug(ifname)

    def lines(self) -> list[str]:
        return self.pod.lines()
