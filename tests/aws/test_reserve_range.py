"""``install/cloudformation/reserve_range.py``: a custom resource, called as CloudFormation calls it."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws import policies
from tests.aws.policies import Request
from tests.aws.template import DUMMY, SHIPPED, Stack, plain

SUBNET = "arn:aws:ec2:eu-central-1:111122223333:subnet/[Subnet]"


class Reservations:
    """EC2's reservations of one subnet (moto has none); it refuses what overlaps, as EC2 does."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.called: list[str] = []
        self.refuses: dict[str, str] = {}  # error codes, by action
        self._made = 0

    def create_subnet_cidr_reservation(self, *, SubnetId: str, Cidr: str, **output: str) -> Any:  # noqa: N803
        self._call("CreateSubnetCidrReservation")
        assert output["ReservationType"] == "explicit"
        if Cidr in self.held.values():
            raise ValueError(f"{Cidr} is reserved")
        self._made += 1
        self.held[f"scr-{self._made}"] = Cidr
        return {"SubnetCidrReservation": {"SubnetCidrReservationId": f"scr-{self._made}"}}

    def get_subnet_cidr_reservations(self, *, SubnetId: str) -> Any:  # noqa: N803
        self._call("GetSubnetCidrReservations")
        families: dict[bool, list[dict[str, str]]] = {False: [], True: []}
        for name, cidr in self.held.items():
            families[":" in cidr].append({"SubnetCidrReservationId": name})
        return {"SubnetIpv4CidrReservations": families[False], "SubnetIpv6CidrReservations": families[True]}

    def delete_subnet_cidr_reservation(self, *, SubnetCidrReservationId: str) -> None:  # noqa: N803
        self._call("DeleteSubnetCidrReservation")
        del self.held[SubnetCidrReservationId]

    def _call(self, action: str) -> None:
        self.called.append(action)
        if action in self.refuses:
            raise ClientError({"Error": {"Code": self.refuses[action], "Message": ""}}, action)


class CloudFormation:
    """The address that a custom resource answers to, and what it was told there."""

    def __init__(self) -> None:
        sentences = self.told = []  # type: list[dict[str, str]]

        class Answered(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                typed = self.headers["Content-Type"] != ""  # what S3 then answers: the signature is for none
                if not typed:
                    sentences.append(json.loads(body))
                self.send_response(403 if typed else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Answered)
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    made = CloudFormation()
    yield made
    made.close()


@pytest.fixture
def call(cloudformation: CloudFormation) -> Any:
    spec = importlib.util.spec_from_file_location("reserve_range", SHIPPED / "reserve_range.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(ec2: Reservations, kind: str, cidr: str, known: str = "") -> dict[str, str]:
        host, port = cloudformation.server.server_address[:2]
        event = {
            "RequestType": kind,
            "ResponseURL": f"http://{host!s}:{port}/answer",
            "StackId": "s",
            "RequestId": "r",
            "LogicalResourceId": "Reservation",
            "ResourceProperties": {"SubnetId": "subnet-1", "Cidr": cidr},
            **({"PhysicalResourceId": known} if known else {}),
        }
        module.handler(event, None, ec2)
        return cloudformation.told[-1]

    return call


@pytest.mark.parametrize("cidr", ["10.10.254.0/28", "2001:db8:0:fe::/64"])
def test_made_and_given_back(call: Any, cidr: str) -> None:
    ec2 = Reservations()
    sentence = call(ec2, "Create", cidr)
    assert (sentence["Status"], sentence["PhysicalResourceId"], sentence["StackId"]) == (
        "SUCCESS",
        "scr-1",
        "s",
    )
    assert ec2.held == {"scr-1": cidr}
    for _ in range(2):  # also when somebody else was quicker
        assert call(ec2, "Delete", cidr, "scr-1")["Status"] == "SUCCESS"
        assert ec2.held == {}


def test_update_is_a_new_one(call: Any) -> None:
    ec2 = Reservations()
    call(ec2, "Create", "10.10.254.0/28")
    assert call(ec2, "Update", "10.10.254.16/28", "scr-1")["PhysicalResourceId"] == "scr-2"
    assert call(ec2, "Delete", "10.10.254.0/28", "scr-1")["Status"] == "SUCCESS"
    assert ec2.held == {"scr-2": "10.10.254.16/28"}


def test_failure_is_told_and_can_be_rolled_back(call: Any) -> None:
    ec2 = Reservations()
    ec2.held["scr-0"] = "10.10.254.0/28"
    sentence = call(ec2, "Create", "10.10.254.0/28")
    assert (sentence["Status"], sentence["PhysicalResourceId"]) == ("FAILED", "none")
    assert "is reserved" in sentence["Reason"]
    assert call(ec2, "Delete", "10.10.254.0/28", "none")["Status"] == "SUCCESS"
    assert ec2.held == {"scr-0": "10.10.254.0/28"}


@pytest.mark.parametrize(
    ("action", "code", "status"),
    [
        ("GetSubnetCidrReservations", "InvalidSubnetID.NotFound", "SUCCESS"),
        ("DeleteSubnetCidrReservation", "InvalidSubnetCidrReservationID.NotFound", "SUCCESS"),
        ("GetSubnetCidrReservations", "UnauthorizedOperation", "FAILED"),
        ("DeleteSubnetCidrReservation", "UnauthorizedOperation", "FAILED"),
    ],
    ids=lambda item: item.rpartition(".")[2],
)
def test_what_is_gone_is_given_back(call: Any, action: str, code: str, status: str) -> None:
    """Somebody has deleted the subnet by hand, before the call or in the middle of it."""
    ec2 = Reservations()
    call(ec2, "Create", "10.10.254.0/28")
    ec2.refuses[action] = code
    sentence = call(ec2, "Delete", "10.10.254.0/28", "scr-1")
    assert (sentence["Status"], sentence["PhysicalResourceId"]) == (status, "scr-1")


def test_nothing_is_reserved_in_a_subnet_that_is_gone(call: Any) -> None:
    ec2 = Reservations()
    ec2.refuses["CreateSubnetCidrReservation"] = "InvalidSubnetID.NotFound"
    assert call(ec2, "Create", "10.10.254.0/28")["Status"] == "FAILED"


def test_the_functions_policy_allows_its_calls(call: Any) -> None:
    ec2 = Reservations()
    call(ec2, "Create", "10.10.254.0/28")
    call(ec2, "Delete", "10.10.254.0/28", "scr-1")
    stack = Stack(DUMMY, Zone="eu-central-1a", Cidr="10.10.254.0/28")
    (output,) = stack.of("AWS::IAM::Policy").values()
    policy = policies.parse(plain(output["PolicyDocument"]))
    arns = {"CreateSubnetCidrReservation": SUBNET}
    needed = [Request(f"ec2:{action}", arns.get(action, "*")) for action in ec2.called]
    needed += [Request(f"logs:{name}", "[ReserveLog.Arn]") for name in ("CreateLogStream", "PutLogEvents")]
    assert [str(need) for need in needed if not policy.allows(need)] == []
    assert [what for what, less in policy.smaller() if all(less.allows(need) for need in needed)] == []
    assert not policy.allows(Request("ec2:CreateSubnetCidrReservation", SUBNET.replace("[Subnet]", "s-2")))
