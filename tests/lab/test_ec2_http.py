"""The simulated EC2 as a server: journal, subscribers, side door, many connections, the command line."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from lab.ec2 import SimulatedEC2, sample
from lab.ec2.sample import Sample

FLOATING = "192.168.0.2/32"


def fetch(method: Any, url: Any, path: Any, body: Any = None, **headers: Any) -> tuple[Any, str]:
    """Return status and text of one HTTP call."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=5)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def ask(url: Any, path: Any, document: Any = None, *, status: int = 200) -> Any:
    """Call the side door and return its JSON."""
    body = None if document is None else json.dumps(document)
    got, text = fetch("GET" if document is None else "POST", url, path, body)
    assert got == status, text
    return json.loads(text)


@pytest.fixture
def url(aws: Any, callers: dict[str, Any]) -> Any:
    return callers["a1"]


class TestJournal:
    def test_who_asked_what_and_what_came_of_it(
        self, ec2: SimulatedEC2, vpc: Sample, connect: Callable[..., Any], refused: Callable[..., Any]
    ) -> None:
        where = {"RouteTableId": vpc.tables["a"], "DestinationCidrBlock": FLOATING}
        before = time.time()
        connect("a1").create_route(**where, NetworkInterfaceId=vpc.enis["a"])
        with refused("RouteAlreadyExists"):
            connect("b1").create_route(**where, NetworkInterfaceId=vpc.enis["b"])
        first, second = ec2.journal.of("CreateRoute")
        assert (first.caller, first.outcome, second.caller, second.outcome) == (
            "a1",
            "ok",
            "b1",
            "RouteAlreadyExists",
        )
        assert first.params == {**where, "NetworkInterfaceId": vpc.enis["a"]}
        assert first.account == ec2.account
        assert before <= first.at <= second.at <= time.time()
        assert ec2.journal.of(caller="b1") == [second]

    def test_when_a_call_was_answered(
        self, ec2: SimulatedEC2, vpc: Sample, connect: Callable[..., Any]
    ) -> None:
        """By the monotonic clock, which is one for all processes of a machine."""
        client = connect("a1")
        ec2.faults.latency(1.0)
        before = time.monotonic()
        client.describe_route_tables(RouteTableIds=[vpc.tables["a"]])
        (call,) = ec2.journal.of("DescribeRouteTables")
        assert before + 1.0 <= call.answered <= time.monotonic()

    def test_the_labs_own_calls_are_not_in_it(self, ec2: SimulatedEC2, vpc: Sample) -> None:
        assert len(ec2.journal) == 0


class TestSubscribers:
    def test_are_told_after_the_change_and_before_the_answer(
        self, ec2: SimulatedEC2, vpc: Sample, connect: Callable[..., Any]
    ) -> None:
        views = []
        ec2.subscribe(lambda: views.append(dict(ec2.truth(vpc.tables["a"]))))
        ec2.faults.lose_answer("CreateRoute")
        with pytest.raises(Exception, match="Connection was closed"):
            connect().create_route(
                RouteTableId=vpc.tables["a"], DestinationCidrBlock=FLOATING, NetworkInterfaceId=vpc.enis["a"]
            )
        assert len(views) == 1
        assert FLOATING in views[0]

    def test_hear_of_the_labs_own_changes_and_not_of_reads_or_refusals(
        self, ec2: SimulatedEC2, vpc: Sample, aws: Any, refused: Callable[..., Any]
    ) -> None:
        sentences = []
        ec2.subscribe(lambda: sentences.append(1))
        aws.describe_route_tables()
        with refused("InvalidRoute.NotFound"):
            aws.delete_route(RouteTableId=vpc.tables["a"], DestinationCidrBlock=FLOATING)
        assert not sentences
        ec2.client().stop_instances(InstanceIds=[vpc.instances["a"]])
        assert sentences == [1]

    def test_hold_no_lock(self, ec2: SimulatedEC2, vpc: Sample) -> None:
        """A subscriber may wait for a thread that calls EC2 itself."""

        def look_elsewhere() -> None:
            thread = threading.Thread(target=ec2.truth, args=(vpc.tables["a"],))
            thread.start()
            thread.join(5)
            assert not thread.is_alive()

        ec2.subscribe(look_elsewhere)
        ec2.client().stop_instances(InstanceIds=[vpc.instances["a"]])


class TestSideDoor:
    def test_faults_through_the_side_door(
        self, ec2: SimulatedEC2, vpc: Sample, url: Any, aws: Any, refused: Callable[..., Any]
    ) -> None:
        error = {"action": "DeleteRoute", "code": "Unavailable"}
        assert ask(url, "/_lab/faults", {"method": "error", "args": error}) == {"ok": True}
        with refused("Unavailable", status=503):
            aws.delete_route(RouteTableId=vpc.tables["a"], DestinationCidrBlock=FLOATING)

    @pytest.mark.parametrize(
        "wrong", [{"method": "take"}, {"method": "cut"}, {"method": "cut", "args": {"x": 1}}, {}, []]
    )
    def test_no_such_fault(self, ec2: SimulatedEC2, url: Any, wrong: list[Any] | dict[str, Any]) -> None:
        assert "error" in ask(url, "/_lab/faults", wrong, status=400)

    def test_the_side_door_shows_journal_and_tables(
        self, ec2: SimulatedEC2, vpc: Sample, url: Any, aws: Any
    ) -> None:
        aws.create_route(
            RouteTableId=vpc.tables["a"], DestinationCidrBlock=FLOATING, NetworkInterfaceId=vpc.enis["a"]
        )
        (call,) = ask(url, "/_lab/journal")
        assert (call["action"], call["outcome"], call["caller"]) == ("CreateRoute", "ok", "a1")
        truth = ask(url, f"/_lab/truth/{vpc.tables['a']}")
        assert truth[FLOATING] == {"target": vpc.enis["a"], "state": "active", "origin": "CreateRoute"}
        assert "InvalidRouteTableID.NotFound" in ask(url, "/_lab/truth/rtb-0", status=404)["error"]

    def test_reset_through_the_side_door(
        self, ec2: SimulatedEC2, vpc: Sample, url: Any, aws: Any, refused: Callable[..., Any]
    ) -> None:
        ask(url, "/_lab/reset", {})
        with refused("InvalidRouteTableID.NotFound"):
            aws.describe_route_tables(RouteTableIds=[vpc.tables["a"]])


class TestHttp:
    @pytest.fixture
    def raw(self, url: Any) -> Iterator[Any]:
        where = urlsplit(url)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=5)
        yield connection
        connection.close()

    def test_a_request_without_signature(self, raw: Any) -> None:
        raw.request("POST", "/", "Action=DescribeRouteTables&Version=2016-11-15")
        answer = raw.getresponse()
        assert (answer.status, b"<Code>AuthFailure</Code>" in answer.read()) == (401, True)

    def test_an_unknown_action(self, raw: Any) -> None:
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/ec2/aws4_request"}
        raw.request("POST", "/", "Action=Nonsense&Version=2016-11-15", signed)
        answer = raw.getresponse()
        assert (answer.status, b"<Code>InvalidAction</Code>" in answer.read()) == (400, True)

    def test_what_is_not_http(self, raw: Any) -> None:
        raw.connect()
        raw.sock.sendall(b"hello\r\n\r\n")
        assert raw.sock.recv(100).startswith(b"HTTP/1.1 400")

    def test_fifty_connections_kept_alive(self, ec2: SimulatedEC2, vpc: Sample, url: Any) -> None:
        where = urlsplit(url)
        body = "Action=DescribeRouteTables&Version=2016-11-15"
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/ec2/aws4_request"}
        open_now = [http.client.HTTPConnection(where.hostname, where.port, timeout=10) for _ in range(50)]
        for _ in range(3):
            for connection in open_now:
                connection.request("POST", "/", body, signed)
            statuses = []
            for connection in open_now:
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
            assert statuses == [200] * 50
        for connection in open_now:
            connection.close()

    def test_writers_do_not_lose_each_others_routes(
        self, ec2: SimulatedEC2, vpc: Sample, connect: Callable[..., Any]
    ) -> None:
        clients = [connect(f"n{n}") for n in range(8)]

        def write(n: Any) -> None:
            for i in range(5):
                clients[n].create_route(
                    RouteTableId=vpc.tables["a"],
                    DestinationCidrBlock=f"192.168.{n}.{i}/32",
                    NetworkInterfaceId=vpc.enis["a"],
                )

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([cidr for cidr in ec2.truth(vpc.tables["a"]) if cidr.startswith("192.168.")]) == 40


class TestWorld:
    def test_ids_follow_from_the_seed(self, ec2: SimulatedEC2) -> None:
        first = sample.build(ec2)
        ec2.reset()
        assert sample.build(ec2) == first
        other = SimulatedEC2(seed=1)
        assert sample.build(other) != first

    def test_what_was_saved_is_as_it_was_built(self, ec2: SimulatedEC2) -> None:
        built = sample.build(ec2)
        view = ec2.view()
        saved = ec2.save()
        aws = ec2.client()
        made = aws.create_subnet(VpcId=built.vpc, CidrBlock="10.10.9.0/24")["Subnet"]["SubnetId"]
        aws.modify_network_interface_attribute(
            NetworkInterfaceId=built.enis["a"], SourceDestCheck={"Value": False}
        )
        ec2.load(saved)
        assert ec2.view() == view
        again = aws.create_subnet(VpcId=built.vpc, CidrBlock="10.10.9.0/24")["Subnet"]["SubnetId"]
        assert again == made

    def test_a_fresh_sample_has_nothing_of_the_one_before(self, ec2: SimulatedEC2) -> None:
        first = sample.fresh(ec2)
        view = ec2.view()
        ec2.client().create_route(
            RouteTableId=first.tables["a"],
            DestinationCidrBlock="192.168.0.2/32",
            NetworkInterfaceId=first.enis["a"],
        )
        assert ec2.view() != view
        assert sample.fresh(ec2) == first
        assert ec2.view() == view

    def test_an_ipv6_block_of_ones_own(self, ec2: SimulatedEC2, vpc: Sample) -> None:
        # AssociateVpcCidrBlock, Ipv6CidrBlock: moto gives a random one only.
        for table in vpc.tables.values():
            assert ec2.truth(table)["fd10::/48"].target == "local"


@pytest.mark.thorough(sample="tests/lab/test_network_up.py::test_down_leaves_nothing")
class TestCommand:
    @pytest.fixture
    def start(self) -> Iterator[Callable[..., Any]]:
        """Run ``python -m lab <what>`` by its own parser and return the process and what it exports."""
        running = []

        def launch(what: Any, *arguments: Any) -> tuple[Any, dict[str, Any], str]:
            code = (
                "import argparse, sys; import lab.ec2.cli, lab.imds\n"
                "parser = argparse.ArgumentParser(); commands = parser.add_subparsers()\n"
                "lab.ec2.cli.add_parser(commands); lab.imds.add_parser(commands)\n"
                "args = parser.parse_args(); sys.exit(args.run(args))"
            )
            process = subprocess.Popen(
                [sys.executable, "-c", code, what, *arguments], stdout=subprocess.PIPE, text=True
            )
            running.append(process)
            text = ""
            last = "AWS_SECRET_ACCESS_KEY" if what == "ec2" else "AWS_REGION"
            while last not in text:
                assert process.stdout
                line = process.stdout.readline()
                assert line, f"ended with {process.wait()} after {text!r}"
                text += line
            return process, dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE)), text

        yield launch
        for process in running:
            process.kill()
            process.communicate()

    def test_ec2_and_imds_alone(self, start: Callable[..., Any]) -> None:
        ec2, environment, output = start("ec2", "--port", "0", "--sample")
        url = environment["AWS_ENDPOINT_URL_EC2"]
        match = re.search(r"i-[0-9a-f]+", output)
        assert match
        instance = match[0]
        imds, metadata, _ = start("imds", "--port", "0", "--ec2", url, "--instance", instance)
        where = metadata["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        _, token = fetch("PUT", where, "/latest/api/token", **ttl)
        for item, expected in (
            ("meta-data/instance-id", instance),
            ("meta-data/iam/security-credentials/node", '"Code": "Success"'),
        ):
            status, text = fetch("GET", where, f"/latest/{item}", **{"X-aws-ec2-metadata-token": token})
            assert (status, expected in text) == (200, True)
        imds.send_signal(signal.SIGINT)
        ec2.send_signal(signal.SIGTERM)
        assert (imds.wait(10), ec2.wait(10)) == (0, 0)

    def test_a_port_in_use(self, start: Callable[..., Any], url: Any) -> None:
        with pytest.raises(AssertionError, match="ended with 1 after 'cannot listen"):
            start("ec2", "--port", str(urlsplit(url).port))
