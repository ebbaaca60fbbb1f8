"""EC2 as the benches have it: it answers as EC2 does, and is not what is measured."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from botocore.parsers import create_parser

from bench import responder
from bench.responder import Cloud

TABLES = ("rtb-0", "rtb-1")
READ = "Action=DescribeRouteTables"


def cloud(fill: int = 0) -> Cloud:
    return Cloud("vpc-1", "111122223333", {"floatip": "x"}, {table: {} for table in TABLES}, fill=fill)


def parsed(text: str) -> Any:
    """Return what botocore makes of an answer."""
    model = botocore.session.get_session().get_service_model("ec2").operation_model("DescribeRouteTables")
    assert model.output_shape is not None
    response = {"status_code": 200, "headers": {}, "body": text.encode()}
    return create_parser("ec2").parse(response, model.output_shape)


def test_routes_are_written_as_ec2_writes_them() -> None:
    ec2 = cloud(fill=1000)
    ec2.put({"rtb-0": {"192.168.0.2/32": "eni-here"}})
    _, outcome, status, text = ec2.ask(READ)
    assert (outcome, status) == ("ok", 200)
    assert 420 <= len(text) / 2000 <= 450, "bytes a route"
    tables = {table["RouteTableId"]: table["Routes"] for table in parsed(text)["RouteTables"]}
    assert [len(routes) for routes in tables.values()] == [1001, 1000]
    assert len({route["DestinationCidrBlock"] for route in tables["rtb-0"]}) == 1001
    assert tables["rtb-0"][0] == {
        "DestinationCidrBlock": "192.168.0.2/32",
        "InstanceId": responder.INSTANCE,
        "InstanceOwnerId": "111122223333",
        "NetworkInterfaceId": "eni-here",
        "Origin": "CreateRoute",
        "State": "active",
    }


def test_a_write_renders_no_route_that_nobody_touches() -> None:
    class Counting(Cloud):
        rendered = 0

        def _route(self, cidr: str, eni: str) -> str:
            self.rendered += 1
            return super()._route(cidr, eni)

    ec2 = Counting("vpc-1", "1", {}, {table: {} for table in TABLES}, fill=500)
    assert ec2.rendered == 500, "once for all tables"
    for number in range(3):
        write = f"RouteTableId=rtb-0&DestinationCidrBlock=192.168.0.{number}/32&NetworkInterfaceId=eni-1"
        assert ec2.ask(f"Action=CreateRoute&{write}")[1] == "ok"
        ec2.ask(READ)
    assert ec2.rendered == 500 + 1 + 2 + 3


def test_routes_of_pods_can_be_cleared() -> None:
    ec2 = cloud(fill=2)
    ec2.put({"rtb-0": {"192.168.0.2/32": "eni-here"}})
    ec2.ask(READ)
    ec2.clear()
    assert [len(table["Routes"]) for table in parsed(ec2.ask(READ)[3])["RouteTables"]] == [2, 2]


@contextmanager
def served(fill: int) -> Iterator[tuple[str, int]]:
    """Yield where the responder's process listens."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        about = {"vpc": "vpc-1", "account": "1", "tags": {}, "tables": TABLES, "items": {}, "fill": fill}
        with subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(responder.__file__))],
            stdin=subprocess.PIPE,
            pass_fds=[door.fileno()],
            text=True,
        ) as process:
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps({**about, "doors": [door.fileno()]}) + "\n")
                process.stdin.flush()
                yield door.getsockname()
            finally:
                process.kill()


def connection(address: tuple[str, int]) -> socket.socket:
    """Return a connection on which the tables have been asked for."""
    sock = socket.create_connection(address, 30)
    sock.sendall(f"POST / HTTP/1.1\r\nContent-Length: {len(READ)}\r\n\r\n{READ}".encode())
    return sock


def answer(sock: socket.socket) -> str:
    stream = sock.makefile("rb")
    length = 0
    while line := stream.readline().strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return stream.read(length).decode()


def test_a_peer_that_does_not_read_keeps_nobody_waiting() -> None:
    with served(fill=20_000) as address, connection(address) as slow, connection(address) as quick:
        first = answer(quick)
        assert len(first) > 16e6, "more than sockets hold"
        assert answer(slow) == first, "it gets all of its own, when it reads"
