"""EC2 and instance metadata in memory, quick enough that what is measured is the agent and not them.

A process of its own with one thread: answers are put together beforehand, connections are kept, a delay
costs nothing while it passes, and a peer that reads slowly keeps nobody else waiting. It knows what an ADD, a
DEL and the keeper ask for, nothing else; the lab's simulated EC2 is the one that knows AWS. Standard library
only: started as ``python -I -S``.

A table holds the routes that are written, and as many as ``fill`` says that nobody touches: those are
rendered once. Routes look as EC2 writes them, on indented lines of their own: more than 400 bytes each.

The first line of standard input is what it serves (``Served``). A unix socket takes orders, the same way.
"""

from __future__ import annotations

import heapq
import json
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
XMLNS = 'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"'
WRITES = ("CreateRoute", "ReplaceRoute", "DeleteRoute")
FIELDS = ("destinationCidrBlock", "instanceId", "instanceOwnerId", "networkInterfaceId", "state", "origin")
INSTANCE, FILLED = "i-0123456789abcdef0", "eni-0fedcba9876543210"
"""The instance of every interface, and the interface that routes lead to which nobody touches."""


class Refused(Exception):
    """EC2's no: status, code, message."""


class Bucket:
    """EC2's token bucket for one action. It begins full."""

    def __init__(self, burst: float, refill: float) -> None:
        self.burst, self.refill = burst, refill
        self.tokens, self.at = burst, time.monotonic()

    def take(self) -> bool:
        """Take a token; false when there is none."""
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.refill)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Cloud:
    """The route tables of one VPC, and how EC2 behaves. ``log``: action, outcome, came, answered."""

    vpc: str
    account: str
    tags: Mapping[str, str]
    tables: dict[str, dict[str, str]]
    latency: float = 0.0
    held: bool = False
    buckets: dict[str, Bucket] = field(default_factory=dict)
    log: list[tuple[str, str, float, float]] = field(default_factory=list)
    fill: int = 0
    _rendered: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cidrs = (f"172.{16 + n // 65536}.{n // 256 % 256}.{n % 256}/32" for n in range(self.fill))
        self._filling = "".join(self._route(cidr, FILLED) for cidr in cidrs)

    def ask(self, text: str) -> tuple[str, str, int, str]:
        """Return action, outcome, status and document of one request."""
        request = dict(parse_qsl(text))
        action = request.get("Action", "")
        try:
            if action in self.buckets and not self.buckets[action].take():
                raise Refused(503, "RequestLimitExceeded", "Request limit exceeded.")
            if request.get("DryRun") == "true":
                raise Refused(412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
            inner = self._change(action, request) if action in WRITES else self._describe(action, request)
        except Refused as no:
            status, code, message = no.args
            error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            return action, code, status, f"{HEAD}<Response><Errors>{error}</Errors></Response>"
        return action, "ok", 200, f"{HEAD}<{action}Response {XMLNS}>{inner}</{action}Response>"

    def put(self, tables: Mapping[str, Mapping[str, str]]) -> None:
        """Set these routes of these tables; all others stay."""
        for table, routes in tables.items():
            self.tables[table].update(routes)
            self._rendered.pop(table, None)

    def clear(self) -> None:
        """Take every route away but those that nobody touches."""
        for routes in self.tables.values():
            routes.clear()
        self._rendered.clear()

    def _change(self, action: str, request: Mapping[str, str]) -> str:
        table, cidr = request["RouteTableId"], request.get("DestinationCidrBlock", "")
        routes = self.tables[table]
        if action == "CreateRoute" and cidr in routes:
            raise Refused(400, "RouteAlreadyExists", f"The route identified by {cidr} already exists.")
        if action == "ReplaceRoute" and cidr not in routes:
            text = f"There is no route defined for '{cidr}' in the route table."
            raise Refused(400, "InvalidParameterValue", text)
        if action == "DeleteRoute":
            if routes.pop(cidr, None) is None:
                raise Refused(400, "InvalidRoute.NotFound", f"no route with destination {cidr}")
        else:
            routes[cidr] = request["NetworkInterfaceId"]
        self._rendered.pop(table, None)
        return "<return>true</return>"

    def _describe(self, action: str, request: Mapping[str, str]) -> str:
        filters = {request[key]: key.removesuffix("Name") for key in request if key.endswith(".Name")}
        match action:
            case "DescribeRouteTables":
                wanted: list[str] = list(self.tables)
                if named := filters.get("route-table-id"):
                    wanted = [request[key] for key in request if key.startswith(f"{named}Value.")]
                result = "".join(self._table(table) for table in wanted if table in self.tables)
                return f"<routeTableSet>{result}</routeTableSet>"
            case "DescribeNetworkInterfaces":
                result = ""
                if named := filters.get("network-interface-id"):
                    eni = request[f"{named}Value.1"]
                    result = (
                        f"<item><networkInterfaceId>{eni}</networkInterfaceId>"
                        "<sourceDestCheck>false</sourceDestCheck>"
                        "<tagSet><item><key>node.k8s.amazonaws.com/no_manage</key><value>true</value></item>"
                        "</tagSet></item>"
                    )
                return f"<networkInterfaceSet>{result}</networkInterfaceSet>"
            case "DescribeSubnets":
                return "<subnetSet/>"
        raise Refused(400, "InvalidAction", action)

    def _table(self, table: str) -> str:
        if table not in self._rendered:
            routes = "".join(self._route(cidr, eni) for cidr, eni in self.tables[table].items())
            tags = "".join(
                f"<item><key>{key}</key><value>{value}</value></item>" for key, value in self.tags.items()
            )
            self._rendered[table] = (
                f"<item><routeTableId>{table}</routeTableId><vpcId>{self.vpc}</vpcId>"
                f"<ownerId>{self.account}</ownerId><routeSet>{routes}{self._filling}</routeSet><associationSet/>"
                f"<propagatingVgwSet/><tagSet>{tags}</tagSet></item>"
            )
        return self._rendered[table]

    def _route(self, cidr: str, eni: str) -> str:
        values = (cidr, INSTANCE, self.account, eni, "active", "CreateRoute")
        lines = (f"{' ' * 20}<{name}>{value}</{name}>\n" for name, value in zip(FIELDS, values, strict=True))
        return f"{' ' * 16}<item>\n{''.join(lines)}{' ' * 16}</item>\n"


@dataclass(eq=False)
class Peer:
    """One connection. ``unsent`` is what its peer has not read yet."""

    sock: socket.socket
    taken: Callable[[Peer, str, str, str], None]
    held: bytes = b""
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))

    def read(self) -> bool:
        """Take in all that came, and every request that it completes; false when the peer has gone."""
        gone = False
        try:
            while piece := self.sock.recv(1 << 16):
                self.held += piece
            gone = True
        except BlockingIOError:
            pass
        except OSError:
            return False
        while (end := self.held.find(b"\r\n\r\n")) >= 0:
            head = self.held[:end].decode("latin-1").lower()
            _, _, rest = head.partition("content-length:")
            length = int(rest.split("\r\n", 1)[0]) if rest else 0
            if len(self.held) < end + 4 + length:
                break
            method, path = self.held[:end].split(b" ", 2)[:2]
            body = self.held[end + 4 : end + 4 + length]
            self.held = self.held[end + 4 + length :]
            self.taken(self, method.decode(), path.decode(), body.decode())
        return not gone

    def write(self, status: int, body: str, kind: str = "text/xml;charset=UTF-8") -> None:
        """Answer, as far as the peer reads now."""
        content = body.encode()
        head = f"HTTP/1.1 {status} .\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
        self.unsent = memoryview(b"".join((self.unsent, head.encode(), content)))
        self.write_on()

    def write_on(self) -> None:
        """Send more of what is unsent. Who does not read any more is left alone."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.unsent = memoryview(b"")


class Responder:
    """Serves EC2 and metadata on the same sockets: what is asked tells them apart."""

    def __init__(self, cloud: Cloud, items: Mapping[str, str], doors: list[socket.socket]) -> None:
        self._cloud = cloud
        self._items = items
        self._poll = select.epoll()
        self._doors = {door.fileno(): door for door in doors}
        self._peers: dict[int, Peer] = {}
        self._due: list[tuple[float, int, Peer, int, str, str, str, float]] = []
        self._waiting: list[tuple[float, int, Peer, int, str, str, str, float]] = []
        self._number = 0
        for number in self._doors:
            self._poll.register(number, select.EPOLLIN)

    def run(self) -> None:
        """Serve until the process ends."""
        while True:
            pause = max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1
            for number, events in self._poll.poll(pause):
                if number in self._doors:
                    self._open(self._doors[number])
                    continue
                if events & select.EPOLLOUT:
                    self._peers[number].write_on()
                if events & ~select.EPOLLOUT and not self._peers[number].read():
                    self._poll.unregister(number)
                    self._peers.pop(number).sock.close()
            while self._due and self._due[0][0] <= time.monotonic():
                self._answer(heapq.heappop(self._due))

    def _open(self, door: socket.socket) -> None:
        """Accept a peer. Events come once (edge-triggered), so that room to write is no event by itself."""
        sock, _ = door.accept()
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peers[sock.fileno()] = Peer(sock, self._taken)
        self._poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def _answer(self, item: tuple[float, int, Peer, int, str, str, str, float]) -> None:
        _, _, peer, status, document, action, outcome, came = item
        self._cloud.log.append((action, outcome, came, time.monotonic()))
        peer.write(status, document)

    def _taken(self, peer: Peer, method: str, path: str, body: str) -> None:
        if method == "PUT":
            peer.write(200, "token", "text/plain")
        elif path == "/order":
            peer.write(200, json.dumps(self._obey(json.loads(body))), "application/json")
        elif method == "GET":
            result = self._items.get(path.removeprefix("/latest/"))
            peer.write(404 if result is None else 200, result or "", "text/plain")
        else:
            came = time.monotonic()
            action, outcome, status, document = self._cloud.ask(body)
            self._number += 1
            due = came + self._cloud.latency
            item = (due, self._number, peer, status, document, action, outcome, came)
            if self._cloud.held:
                self._waiting.append(item)
            elif self._cloud.latency:
                heapq.heappush(self._due, item)
            else:
                self._answer(item)

    def _obey(self, order: Mapping[str, Any]) -> Any:
        cloud = self._cloud
        if order.get("clear"):
            cloud.clear()
        cloud.put(order.get("routes", {}))
        cloud.latency = order.get("latency", cloud.latency)
        cloud.held = order.get("held", cloud.held)
        if not cloud.held:
            for item in self._waiting:
                heapq.heappush(self._due, item)
            self._waiting.clear()
        if "buckets" in order:
            cloud.buckets = {action: Bucket(*rate) for action, rate in order["buckets"].items()}
        if order.get("log"):
            raw, cloud.log = cloud.log, []
            return raw
        return {"held": len(self._waiting), "tables": cloud.tables if order.get("tables") else None}


def main() -> None:
    """Serve what standard input describes."""
    served = json.loads(sys.stdin.readline())
    tables: dict[str, dict[str, str]] = {table: {} for table in served["tables"]}
    cloud = Cloud(served["vpc"], served["account"], served["tags"], tables, fill=served["fill"])
    doors = [socket.socket(fileno=number) for number in served["doors"]]
    Responder(cloud, served["items"], doors).run()


if __name__ == "__main__":
    main()
