"""``floatipctl sweep`` against the simulated EC2 and instance metadata, over HTTP.

The world is the sample VPC; we are the instance in zone a. Dead nodes are further instances of zone b whose
second interface a route leads to.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cni_floatip
from cni_floatip import cli
from cni_floatip.edges import imds
from cni_floatip.edges.ec2 import client
from cni_floatip.edges.store import Store
from cni_floatip.model.claim_state import State
from cni_floatip.model.values import Attachment, RouteTable
from cni_floatip.operations import sweep as operation
from lab.ec2 import SimulatedEC2, sample
from lab.ec2.cloud import access_key
from lab.imds import Imds
from lab.webserver import open_socket
from tests.fakes.vpc import Routes
from tests.support.claims import a_claim, a_route

RANGE = "192.168.0.0/24"
VIP = "192.168.0.{}/32"
PARTICIPANT = "444455556666"


class Here:
    """This node, the VPC around it, and what a sweep says and leaves."""

    def __init__(self, ec2: SimulatedEC2, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.ec2, self.aws, self.vpc = ec2, ec2.client(), sample.fresh(ec2)
        self.a, self.b = self.vpc.tables["a"], self.vpc.tables["b"]
        self.store = Store(str(directory / "state"), sleep=lambda _: None, clock=lambda: 0.0)
        self._config = directory / "config.json"
        self._directory, self._capsys = directory, capsys
        self.names = {self.a: "rtb-a", self.b: "rtb-b", self.vpc.main_table: "rtb-main"}
        self._nodes = 0
        self.policy()

    def policy(self, **output: Any) -> None:
        document = {
            "allowedDestinations": [{"cidr": RANGE, "namespaces": ["core-*"]}, {"cidr": "10.10.254.0/28"}],
            "allowedRouteTables": {"tags": {"floatip": "*"}},
            "dataDir": str(self._directory / "state"),
        }
        self._config.write_text(json.dumps(document | output))

    def node(self) -> tuple[str, str]:
        """Start another instance with a second interface; return both."""
        self._nodes += 1
        image, subnet = sample.IMAGE, self.vpc.subnets["b"]
        started = self.aws.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=subnet)
        instance = started["Instances"][0]["InstanceId"]
        eni = self.aws.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
        attached = self.aws.attach_network_interface(
            NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=1
        )
        self.names |= {eni: f"eni-{self._nodes}", instance: f"i-{self._nodes}"}
        self._attachment = attached["AttachmentId"]
        return instance, eni

    def route(self, table: str, cidr: str, eni: str) -> None:
        family = "DestinationCidrBlock" if ":" not in cidr else "DestinationIpv6CidrBlock"
        self.aws.create_route(RouteTableId=table, NetworkInterfaceId=eni, **{family: cidr})

    def gone(self, *cidrs: str, table: str = "") -> str:
        """Leave routes to an interface that was deleted with its node; return the interface."""
        instance, eni = self.node()
        for cidr in cidrs:
            self.route(table or self.a, cidr, eni)
        self.aws.terminate_instances(InstanceIds=[instance])
        self.aws.detach_network_interface(AttachmentId=self._attachment, Force=True)
        self.aws.delete_network_interface(NetworkInterfaceId=eni)
        return eni

    def left(self, table: str = "") -> set[str]:
        """What the table holds that somebody made."""
        views = self.ec2.truth(table or self.a)
        return {cidr for cidr, route in views.items() if route.target != "local"}

    def has_state(self) -> bool:
        return (self._directory / "state").exists()

    def deletes(self) -> int:
        return len(self.ec2.journal.of(action="DeleteRoute"))

    def named(self, text: str) -> str:
        for given, name in self.names.items():
            text = text.replace(given, name)
        return text

    def sweep(self, *argv: str) -> tuple[int, list[str]]:
        status = cli.main(["sweep", "--range", RANGE, "--config", str(self._config), *argv])
        output = self._capsys.readouterr()
        return status, self.named(output.out + output.err).splitlines()

    def in_a_process(self, *argv: str) -> subprocess.Popen[str]:
        code = "import sys; from cni_floatip.cli import main; sys.exit(main())"
        return subprocess.Popen(
            [sys.executable, "-c", code, "sweep", "--range", RANGE, "--config", str(self._config), *argv],
            env=os.environ | {"PYTHONPATH": str(Path(cni_floatip.__file__).parents[1])},
            stdout=subprocess.PIPE,
            text=True,
        )

    def claim(self, table: str, cidr: str, state: State, eni: str, **fields: Any) -> None:
        self.store.put(
            a_claim(
                a_route(state, table, cidr),
                attachment=Attachment("vip", "c1", "net1"),
                eni=eni,
                region=self.ec2.region,
                **fields,
            )
        )


@pytest.fixture
def here(
    served_cloud: tuple[SimulatedEC2, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Here]:
    ec2, url = served_cloud
    result = Here(ec2, tmp_path, capsys)
    metadata = Imds(lambda: ec2.instance(result.vpc.instances["a"]))
    host, port = metadata.listen(open_socket("127.0.0.1", 0)).address
    for service in ("EC2", "STS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key(ec2.account))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setattr(operation, "PAUSE_SECONDS", 0.01)
    yield result
    metadata.close()


def test_what_dead_nodes_left_goes_and_all_else_stays(here: Here) -> None:
    here.gone(VIP.format(1), VIP.format(2), "192.168.1.9/32")  # the last one: outside the range
    here.gone(VIP.format(1), table=here.b)
    here.gone(VIP.format(3), table=here.vpc.main_table)  # policy does not give this table
    stopped, eni = here.node()
    here.route(here.a, VIP.format(4), eni)
    here.aws.stop_instances(InstanceIds=[stopped])
    here.route(here.a, VIP.format(5), here.vpc.enis["b"])  # works
    here.aws.create_route(
        RouteTableId=here.a, DestinationCidrBlock=VIP.format(6), GatewayId=here.vpc.internet_gateway
    )
    here.aws.detach_internet_gateway(InternetGatewayId=here.vpc.internet_gateway, VpcId=here.vpc.vpc)
    assert here.ec2.truth(here.a)[VIP.format(6)].state == "blackhole"
    here.names[here.vpc.internet_gateway] = "igw-1"
    before = {table: here.ec2.truth(table) for table in here.names if table.startswith("rtb")}

    status, texts = here.sweep("--dry-run")
    to_go = [
        "rtb-a 192.168.0.1/32 -> eni-1 (blackhole)",
        "rtb-a 192.168.0.2/32 -> eni-1 (blackhole)",
        "rtb-b 192.168.0.1/32 -> eni-2 (blackhole)",
    ]
    to_stay = [
        (
            "rtb-a 192.168.0.4/32 -> eni-4 (blackhole): kept: attached to i-4: works again when that starts"
            " (--stopped removes it)"
        ),
        "rtb-a 192.168.0.6/32 -> igw-1 (blackhole): kept: it does not lead to a network interface",
        (
            "rtb-main 192.168.0.3/32 -> eni-3 (blackhole): kept: the table is not in allowedRouteTables of"
            " the node configuration"
        ),
    ]
    assert status == 0
    assert sorted(texts[:-1]) == sorted([f"{item}: to be removed" for item in to_go] + to_stay)
    assert texts[-1] == "3 to be removed, 3 kept"
    assert {table: here.ec2.truth(table) for table in before} == before
    assert here.deletes() == 0

    status, texts = here.sweep()
    assert status == 0
    assert sorted(texts[:-1]) == sorted([f"{item}: removed" for item in to_go] + to_stay)
    assert texts[-1] == "3 removed, 3 kept"
    assert here.left() == {"192.168.1.9/32", VIP.format(4), VIP.format(5), VIP.format(6)}
    assert here.left(here.b) == set()
    assert here.left(here.vpc.main_table) == {VIP.format(3)}
    assert here.deletes() == 3

    status, texts = here.sweep()
    assert (status, texts[-1]) == (0, "3 kept")


def test_both_families_and_a_whole_subnet(here: Here) -> None:
    here.gone("fd00:192::1/128", "10.10.254.0/28", VIP.format(1))
    here.policy(allowedDestinations=[{"cidr": RANGE}, {"cidr": "fd00:192::/64"}, {"cidr": "10.10.254.0/28"}])
    status, texts = here.sweep("--range", "fd00:192::/64", "--range", "10.10.254.0/28")
    assert (status, texts[-1]) == (0, "3 removed")
    assert here.left() == set()


def test_tables_of_gateways_only_by_their_id(here: Here) -> None:
    edge = here.vpc.edge_table
    here.gone("10.10.254.0/28", table=edge)
    status, texts = here.sweep("--range", "10.10.254.0/28")
    assert status == 0
    assert "a gateway's table" in texts[0]
    here.policy(allowedRouteTables={"ids": [edge]})
    assert here.sweep("--range", "10.10.254.0/28")[1][-1] == "1 removed"


def test_what_is_wide_must_be_allowed_exactly(here: Here) -> None:
    here.gone("172.16.0.0/14", "172.20.0.0/14", "172.24.0.0/16")
    here.policy(allowedDestinations=[{"cidr": RANGE}, {"cidr": "172.16.0.0/12"}, {"cidr": "172.20.0.0/14"}])
    status, texts = here.sweep("--range", "172.16.0.0/12")
    assert (status, texts[-1]) == (0, "2 removed, 1 kept")
    assert here.left() == {"172.16.0.0/14"}
    assert "must name exactly it" in texts[0]


def test_more_interfaces_than_one_filter_takes(here: Here) -> None:
    edge = client.Vpc(here.ec2.region, {})
    unknown = [f"eni-{number:017x}" for number in range(250)]
    _, eni = here.node()
    results = edge.attachments([*unknown, eni, here.vpc.enis["a"]])
    assert results.keys() == {eni, here.vpc.enis["a"]}
    assert all(to.startswith("i-") for to in results.values())


def test_nothing_to_do(here: Here) -> None:
    assert here.sweep() == (0, [f"no blackhole inside {RANGE}"])
    assert not here.has_state()  # it may look where it cannot write


def test_stopped_instances_only_when_told(here: Here) -> None:
    instance, eni = here.node()
    here.route(here.a, VIP.format(1), eni)
    here.aws.stop_instances(InstanceIds=[instance])
    assert here.sweep()[1][-1] == "1 kept"
    assert here.sweep("--stopped") == (
        0,
        ["rtb-a 192.168.0.1/32 -> eni-1 (blackhole): removed", "1 removed"],
    )


def test_an_interface_that_was_detached(here: Here) -> None:
    _, eni = here.node()
    here.route(here.a, VIP.format(1), eni)
    here.aws.detach_network_interface(AttachmentId=here._attachment, Force=True)
    assert here.sweep()[1][-1] == "1 removed"


def test_a_propagated_route(here: Here) -> None:
    """A VPC Route Server's lead to network interfaces, too, and are not ours, whatever their state."""
    _, eni = here.node()
    here.ec2.propagate(here.a, VIP.format(1), eni)
    here.aws.detach_network_interface(AttachmentId=here._attachment, Force=True)
    status, texts = here.sweep()
    assert (status, texts[-1]) == (0, "1 kept")
    assert texts[0] == "rtb-a 192.168.0.1/32 -> eni-1 (blackhole): kept: it is propagated"
    assert here.deletes() == 0


def test_this_nodes_own_interfaces_and_live_claims(here: Here) -> None:
    eni = here.vpc.enis["a"]
    here.route(here.a, VIP.format(1), eni)
    gone = here.gone(VIP.format(2))
    here.claim(here.a, VIP.format(2), State.SUPERSEDED, eni)
    here.aws.stop_instances(InstanceIds=[here.vpc.instances["a"]])
    status, texts = here.sweep("--stopped")
    assert status == 0
    assert here.left() == {VIP.format(1), VIP.format(2)}
    assert any("an interface of this node" in line for line in texts)
    assert any("claimed here by vip/c1/net1" in line for line in texts)
    here.claim(here.a, VIP.format(2), State.GONE, eni)
    assert here.sweep()[1][-2:] == [
        f"rtb-a 192.168.0.2/32 -> {here.named(gone)} (blackhole): removed",
        "1 removed, 1 kept",
    ]


def test_routes_that_cannot_be_read_are_read_again(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.gone(VIP.format(1))
    real, reads = client.Vpc.route_tables, []

    def route_tables(self: client.Vpc, *filters: Any) -> tuple[RouteTable, ...]:
        tables = real(self, *filters)
        reads.append(tables)
        if len(reads) > 1:
            return tables
        return tuple(replace(table, routes=Routes({}, unreadable=True)) for table in tables)

    monkeypatch.setattr(client.Vpc, "route_tables", route_tables)
    status, texts = here.sweep("--dry-run")
    assert status == 0
    assert texts == ["rtb-a 192.168.0.1/32 -> eni-1 (blackhole): to be removed", "1 to be removed"]
    assert len(reads) == 2


def whenever_a_table_is_read_again(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """Let something happen between the look at all tables and the one before a delete."""
    real = client.Vpc.route_tables

    def route_tables(self: Any, filters: Any, account: str = "") -> Any:
        if "route-table-id" in filters:
            then()
        return real(self, filters, account)

    monkeypatch.setattr(client.Vpc, "route_tables", route_tables)


def test_a_route_that_works_again_when_it_is_to_be_deleted(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.gone(VIP.format(1))
    whenever_a_table_is_read_again(
        monkeypatch,
        lambda: here.aws.replace_route(
            RouteTableId=here.a,
            DestinationCidrBlock=VIP.format(1),
            NetworkInterfaceId=here.vpc.enis["b"],
        ),
    )
    here.names[here.vpc.enis["b"]] = "eni-b"
    assert here.sweep() == (
        0,
        ["rtb-a 192.168.0.1/32 -> eni-1 (blackhole): kept: it leads to eni-b now", "1 kept"],
    )
    assert here.deletes() == 0


def test_a_route_that_somebody_else_deletes_first(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.gone(VIP.format(1))
    whenever_a_table_is_read_again(
        monkeypatch, lambda: here.aws.delete_route(RouteTableId=here.a, DestinationCidrBlock=VIP.format(1))
    )
    assert here.sweep()[1] == ["rtb-a 192.168.0.1/32 -> eni-1 (blackhole): gone already", "1 gone already"]


def test_a_table_that_is_withdrawn_meanwhile(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.gone(VIP.format(1))
    whenever_a_table_is_read_again(
        monkeypatch, lambda: here.aws.delete_tags(Resources=[here.a], Tags=[{"Key": "floatip"}])
    )
    status, texts = here.sweep()
    assert (status, texts[-1]) == (0, "1 kept")
    assert "not in allowedRouteTables" in texts[0]
    assert here.deletes() == 0


def test_a_table_that_is_gone_meanwhile(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.gone(VIP.format(1))
    monkeypatch.setattr(operation, "table_now", lambda *_: None)
    assert here.sweep()[1][-1] == "1 gone already"
    assert here.deletes() == 0


@pytest.mark.parametrize("code", ["InvalidRoute.NotFound", "InvalidRouteTableID.NotFound"])
def test_a_delete_that_comes_too_late(here: Here, code: str) -> None:
    here.gone(VIP.format(1))
    here.ec2.faults.error("DeleteRoute", code, "gone", times=None)
    status, texts = here.sweep()
    assert (status, texts[-1]) == (0, "1 gone already")
    assert here.deletes() == 1


def test_a_claim_that_is_made_meanwhile(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.gone(VIP.format(1))
    eni = here.vpc.enis["a"]
    whenever_a_table_is_read_again(
        monkeypatch, lambda: here.claim(here.a, VIP.format(1), State.CLAIMING, eni)
    )
    assert here.sweep()[1][-1] == "1 kept"
    assert here.deletes() == 0


def test_an_interface_that_is_attached_meanwhile(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """To an instance that is stopped: the route stays a blackhole, and works when that starts."""
    instance, eni = here.node()
    here.route(here.a, VIP.format(1), eni)
    here.aws.detach_network_interface(AttachmentId=here._attachment, Force=True)
    here.aws.stop_instances(InstanceIds=[instance])
    real, looks = client.Vpc.attachments, []

    def attachments(self: Any, *args: Any) -> Any:
        looks.append(args)
        if len(looks) == 2:
            here.aws.attach_network_interface(NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=1)
        return real(self, *args)

    monkeypatch.setattr(client.Vpc, "attachments", attachments)
    status, texts = here.sweep()
    assert (status, texts[-1]) == (0, "1 kept")
    assert "attached to i-1" in texts[0]
    assert here.deletes() == 0


def test_a_look_that_took_too_long_is_not_acted_on(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.gone(VIP.format(1))
    monkeypatch.setattr(operation, "FRESH_SECONDS", 0.2)
    here.ec2.faults.latency(0.25, "DescribeRouteTables")
    monkeypatch.setattr(operation, "ROUTE_SECONDS", 1.0)
    assert here.sweep()[0] == 1
    assert here.deletes() == 0


def test_half_of_the_request_rate_is_left_to_others(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    assert operation.PAUSE_SECONDS == 0.01, "shortened for tests"
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    here.gone(*(VIP.format(n) for n in range(1, 4)))
    assert here.sweep()[1][-1] == "3 removed"
    assert slept.count(0.01) == 2


def test_throttled_it_waits(here: Here) -> None:
    here.gone(*(VIP.format(n) for n in range(1, 4)))
    here.ec2.faults.error("DeleteRoute", "RequestLimitExceeded", "slow down", times=3, status=503)
    here.ec2.faults.error("DescribeRouteTables", "RequestLimitExceeded", "slow down", times=2, status=503)
    assert here.sweep()[1][-1] == "3 removed"
    assert here.left() == set()


def test_throttled_for_good_it_ends(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.gone(*(VIP.format(n) for n in range(1, 4)))
    monkeypatch.setattr(operation, "ROUTE_SECONDS", 0.5)
    here.ec2.faults.error("DeleteRoute", "RequestLimitExceeded", "slow down", times=None, status=503)
    status, texts = here.sweep()
    assert status == 1
    assert "RequestLimitExceeded" in texts[0]
    assert all("not tried: EC2 does not answer" in line for line in texts[1:3])
    here.ec2.faults.clear()
    assert here.sweep()[1][-1] == "3 removed"


def test_an_answer_that_is_lost(here: Here) -> None:
    here.gone(VIP.format(1))
    here.ec2.faults.lose_answer("DeleteRoute")
    assert here.sweep()[1] == ["rtb-a 192.168.0.1/32 -> eni-1 (blackhole): removed", "1 removed"]


def test_without_permission_each_table_is_asked_once(here: Here) -> None:
    here.gone(VIP.format(1), VIP.format(2))
    here.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "not you", times=None, status=403)
    status, texts = here.sweep()
    assert status == 1
    assert texts == [
        "rtb-a 192.168.0.1/32 -> eni-1 (blackhole): failed: DeleteRoute: UnauthorizedOperation: not you",
        "rtb-a 192.168.0.2/32 -> eni-1 (blackhole): failed: not tried: rtb-a could not be written",
        "2 failed",
    ]
    assert here.deletes() == 1


def test_without_permission_to_look(here: Here) -> None:
    here.ec2.faults.error("DescribeRouteTables", "UnauthorizedOperation", "not you", status=403)
    status, texts = here.sweep()
    assert status == 1
    assert texts == [
        (
            f"floatipctl: cannot read the route tables of {here.vpc.vpc}: DescribeRouteTables:"
            " UnauthorizedOperation: not you"
        )
    ]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("range_", "why"),
    [
        ("0.0.0.0/0", "0.0.0.0/0 is the default route: never a destination"),
        ("192.168.0.0/16", "is not inside allowedDestinations of the node configuration (192.168.0.0/24, "),
        ("169.254.0.0/24", "is link-local"),
        ("172.16.0.0/24", "is not inside allowedDestinations"),
    ],
)
def test_a_range_that_nobody_gave(here: Here, range_: str, why: str) -> None:
    here.gone(VIP.format(1))
    status, texts = here.sweep("--range", range_)
    assert status == 1
    assert why in texts[0]
    assert here.left() == {VIP.format(1)}
    assert not here.ec2.journal.of(caller="a1")


def test_a_range_that_is_no_cidr(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        here.sweep("--range", "192.168.0.7/24")
    assert ended.value.code == 2
    assert "host bits set; write 192.168.0.0/24" in capsys.readouterr().err


def test_sweep_prints_json(here: Here) -> None:
    here.gone(VIP.format(1))
    status, texts = here.sweep("--json")
    document = json.loads("\n".join(texts))
    assert (status, document["interrupted"], document["ranges"]) == (0, False, [RANGE])
    assert document["routes"] == [
        {
            "table": "rtb-a",
            "destination": VIP.format(1),
            "target": "eni-1",
            "account": "",
            "outcome": "removed",
            "why": "",
        }
    ]
    assert document["counts"]["removed"] == 1


def test_tables_of_a_shared_vpc_are_swept_in_the_owners_name(here: Here) -> None:
    owner = here.ec2.account
    here.gone(VIP.format(1))
    here.policy(roles={owner: f"arn:aws:iam::{owner}:role/floatip-routes"})
    assert here.sweep()[1][-1] == "1 removed"
    assert len(here.ec2.journal.of(action="AssumeRole")) == 1


def test_a_stopped_instance_of_another_participant(here: Here) -> None:
    here.ec2.share_vpc(here.vpc.vpc, PARTICIPANT)
    other, subnet = here.ec2.client(account=PARTICIPANT), here.vpc.subnets["b"]
    started = other.run_instances(ImageId=sample.IMAGE, MinCount=1, MaxCount=1, SubnetId=subnet)
    instance = started["Instances"][0]["InstanceId"]
    eni = other.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    attached = other.attach_network_interface(NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=1)
    here.route(here.a, VIP.format(1), eni)
    other.stop_instances(InstanceIds=[instance])
    status, texts = here.sweep()
    assert (status, texts[-1]) == (0, "1 kept")
    assert f"attached to {instance}" in texts[0]
    other.detach_network_interface(AttachmentId=attached["AttachmentId"], Force=True)
    assert here.sweep()[1][-1] == "1 removed"


def test_what_one_account_sees_attached_is_attached(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a shared VPC the participant's view and the owner's may differ: neither makes the other blind."""
    owner = here.ec2.account
    here.policy(roles={owner: f"arn:aws:iam::{owner}:role/floatip-routes"})
    routes = {}
    for number in (1, 2):
        instance, eni = here.node()
        here.route(here.a, VIP.format(number), eni)
        here.aws.stop_instances(InstanceIds=[instance])
        routes[eni] = instance
    first, second = routes
    observed = {"": {first: routes[first], second: ""}, owner: {first: "", second: routes[second]}}
    monkeypatch.setattr(
        client.Vpc, "attachments", lambda _, enis, account="": {eni: observed[account][eni] for eni in enis}
    )
    assert here.sweep()[1][-1] == "2 kept"
    observed[owner][second] = ""
    assert here.sweep()[1][-1] == "1 removed, 1 kept"


def test_an_attachment_that_is_not_shown(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _, eni = here.node()
    real = client.Vpc.pages

    def pages(self: Any, *args: Any) -> Any:
        for item in real(self, *args):
            yield {key: value for key, value in item.items() if key != "Attachment"}

    monkeypatch.setattr(client.Vpc, "pages", pages)
    assert all(client.Vpc(here.ec2.region, {}).attachments([eni]).values())
    here.aws.detach_network_interface(AttachmentId=here._attachment, Force=True)
    assert client.Vpc(here.ec2.region, {}).attachments([eni]) == {eni: ""}


@pytest.mark.parametrize("with_what", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_ended_in_the_middle_and_run_again(here: Here, with_what: signal.Signals) -> None:
    here.gone(*(VIP.format(n) for n in range(1, 7)))
    running = here.in_a_process()
    assert running.stdout is not None
    with running, running.stdout:
        assert running.stdout.readline().endswith("(blackhole): removed\n")
        running.send_signal(with_what)
        rest = running.stdout.read()
    assert running.returncode == (-9 if with_what is signal.SIGKILL else 1)
    assert ("interrupted: run it again" in rest) == (with_what is signal.SIGINT)
    left = len(here.left())
    assert 0 < left < 6
    assert here.sweep()[1][-1] == f"{left} removed"


def test_sweep_without_metadata_ends_in_an_error(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(operation, "READ_SECONDS", 0.3)
    status, texts = here.sweep()
    assert status == 1
    assert "instance metadata at 127.0.0.1 does not answer" in texts[0]
    assert imds.ENDPOINT not in texts[0]


def test_what_a_standby_of_this_node_may_be_elected_for(here: Here) -> None:
    """Its agent replaces the blackhole; a delete would only be in its way."""
    here.gone(VIP.format(2))
    here.claim(here.a, VIP.format(2), State.STANDBY, here.vpc.enis["a"], group="")
    status, texts = here.sweep()
    assert status == 0
    assert here.left() == {VIP.format(2)}
    assert any("vip/c1/net1 here may be elected" in line for line in texts)
