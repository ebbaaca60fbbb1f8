"""Instance metadata over HTTP.

Sources: "Use the Instance Metadata Service to access instance metadata" (tokens, status codes) and "Instance
metadata categories", Amazon EC2 User Guide.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.ec2 import SimulatedEC2
from lab.ec2.sample import Sample
from lab.imds import Imds, InstanceView, InterfaceView
from lab.webserver import open_socket

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
MACS = "/latest/meta-data/network/interfaces/macs/"


class Caller:
    """An instance's own HTTP client, on one connection."""

    def __init__(self, address: Any) -> None:
        self.connection = http.client.HTTPConnection(address[0], address[1], timeout=5)
        self.token: str | None = None

    def ask(self, method: Any, path: Any, **headers: Any) -> tuple[Any, str]:
        self.connection.request(method, path, headers=headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read().decode()

    def get(self, path: Any) -> Any:
        if self.token is None:
            status, self.token = self.ask("PUT", "/latest/api/token", **{TTL: "21600"})
            assert status == 200
        return self.ask("GET", path, **{TOKEN: self.token})

    def text(self, path: Any) -> Any:
        status, text = self.get(path)
        assert status == 200, f"{path}: {status} {text}"
        return text


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """Serve a view and return the service and a caller."""
    services = []

    def start(view: Any, **more: Any) -> tuple[Imds, Caller]:
        service = Imds(view, **more)
        services.append(service)
        return service, Caller(service.listen(open_socket("127.0.0.1", 0)).address)

    yield start
    for service in services:
        service.close()


@pytest.fixture
def caller(ec2: SimulatedEC2, vpc: Sample, serve: Callable[..., Any]) -> Any:
    """The caller on instance a of the sample VPC."""
    return serve(lambda: ec2.instance(vpc.instances["a"]))[1]


@pytest.fixture
def plain(serve: Callable[..., Any]) -> Any:
    """A caller whose instance has one IPv4 interface and no role."""
    eni = InterfaceView("02:00:00:00:00:01", "eni-1", 0, "111122223333", "subnet-1", "vpc-1", ("10.0.0.1",))
    return serve(lambda: InstanceView("i-1", "111122223333", "eu-central-1", "eu-central-1a", (eni,)))[1]


class TestToken:
    def test_nothing_without_one(self, plain: Caller) -> None:
        assert plain.ask("GET", "/latest/meta-data/")[0] == 401
        assert plain.ask("GET", "/latest/meta-data/nonsense")[0] == 401

    def test_nothing_with_a_wrong_one(self, plain: Caller) -> None:
        assert plain.ask("GET", "/latest/meta-data/", **{TOKEN: "x"})[0] == 401

    @pytest.mark.parametrize("ttl", ["0", "21601", "-1", "x", "", "1.5"])
    def test_a_ttl_that_is_not_taken(self, plain: Caller, ttl: str) -> None:
        assert plain.ask("PUT", "/latest/api/token", **{TTL: ttl})[0] == 400

    def test_a_token_needs_a_ttl(self, plain: Caller) -> None:
        assert plain.ask("PUT", "/latest/api/token")[0] == 400

    def test_not_through_a_proxy(self, plain: Caller) -> None:
        assert plain.ask("PUT", "/latest/api/token", **{TTL: "60", "X-Forwarded-For": "10.0.0.9"})[0] == 403

    def test_the_ttl_comes_back(self, plain: Caller) -> None:
        plain.connection.request("PUT", "/latest/api/token", headers={TTL: "60"})
        answer = plain.connection.getresponse()
        answer.read()
        assert answer.getheader(TTL) == "60"

    def test_a_token_expires(self, serve: Callable[..., Any]) -> None:
        now = [0.0]
        view = InstanceView("i-1", "111122223333", "eu-central-1", "eu-central-1a", ())
        _, caller = serve(lambda: view, clock=lambda: now[0])
        _, caller.token = caller.ask("PUT", "/latest/api/token", **{TTL: "60"})
        now[0] = 59.0
        assert caller.get("/latest/meta-data/instance-id") == (200, "i-1")
        now[0] = 60.0
        assert caller.get("/latest/meta-data/instance-id")[0] == 401

    def test_other_methods_are_refused(self, plain: Caller) -> None:
        for method in ("POST", "PUT", "DELETE"):
            assert plain.ask(method, "/latest/meta-data/")[0] == 405


class TestItems:
    def test_of_the_instance(self, ec2: SimulatedEC2, vpc: Sample, caller: Caller) -> None:
        document = json.loads(caller.text("/latest/dynamic/instance-identity/document"))
        assert (document["instanceId"], document["accountId"], document["region"]) == (
            vpc.instances["a"],
            ec2.account,
            "eu-central-1",
        )
        assert document["availabilityZone"] == caller.text("/latest/meta-data/placement/availability-zone")
        assert document["privateIp"] == caller.text("/latest/meta-data/local-ipv4") == "10.10.1.10"
        assert caller.text("/latest/meta-data/placement/region") == "eu-central-1"
        assert caller.text("/latest/meta-data/instance-id") == vpc.instances["a"]

    def test_directories_are_listed(self, caller: Caller) -> None:
        top = caller.text("/latest/meta-data/").splitlines()
        assert {"instance-id", "mac", "placement/", "network/", "iam/"} <= set(top)
        macs = caller.text(MACS).splitlines()
        assert len(macs) == 2
        assert all(mac.endswith("/") for mac in macs)
        assert caller.text("/latest/meta-data/mac") + "/" in macs
        assert "interface-id" in caller.text(MACS + macs[0]).splitlines()

    def test_of_an_interface(self, ec2: SimulatedEC2, vpc: Sample, caller: Caller) -> None:
        (eni,) = ec2.client().describe_network_interfaces(NetworkInterfaceIds=[vpc.enis["a"]])[
            "NetworkInterfaces"
        ]
        mac = eni["MacAddress"]
        raw = {name: caller.text(f"{MACS}{mac}/{name}") for name in caller.text(f"{MACS}{mac}/").splitlines()}
        assert raw == {
            "device-number": "1",
            "interface-id": vpc.enis["a"],
            "ipv6s": "fd10:0:0:1::20",
            "local-ipv4s": "10.10.1.20",
            "mac": mac,
            "network-card": "0",
            "owner-id": ec2.account,
            "security-group-ids": eni["Groups"][0]["GroupId"],
            "subnet-id": vpc.subnets["a"],
            "subnet-ipv4-cidr-block": "10.10.1.0/24",
            "subnet-ipv6-cidr-blocks": "fd10:0:0:1::/64",
            "vpc-id": vpc.vpc,
            "vpc-ipv4-cidr-block": "10.10.0.0/16",
            "vpc-ipv4-cidr-blocks": "10.10.0.0/16",
            "vpc-ipv6-cidr-blocks": "fd10::/48",
        }

    def test_what_an_interface_has_not_is_not_found(self, plain: Caller) -> None:
        assert plain.text(f"{MACS}02:00:00:00:00:01/local-ipv4s") == "10.0.0.1"
        for name in ("ipv6s", "subnet-ipv6-cidr-blocks", "vpc-ipv6-cidr-blocks", "nonsense"):
            assert plain.get(f"{MACS}02:00:00:00:00:01/{name}")[0] == 404
        for path in (f"{MACS}02:00:00:00:00:99/", "/latest/nonsense", "/latest/meta-data/iam/", "/"):
            assert plain.get(path)[0] == 404

    def test_a_hot_plugged_interface_appears(self, ec2: SimulatedEC2, vpc: Sample, caller: Caller) -> None:
        aws = ec2.client()
        made = aws.create_network_interface(SubnetId=vpc.subnets["a"])["NetworkInterface"]
        assert made["MacAddress"] not in caller.text(MACS)
        attached = aws.attach_network_interface(
            NetworkInterfaceId=made["NetworkInterfaceId"], InstanceId=vpc.instances["a"], DeviceIndex=2
        )
        assert made["MacAddress"] in caller.text(MACS)
        assert caller.text(f"{MACS}{made['MacAddress']}/device-number") == "2"
        aws.detach_network_interface(AttachmentId=attached["AttachmentId"])
        assert made["MacAddress"] not in caller.text(MACS)

    def test_device_numbers_count_per_network_card(
        self, ec2: SimulatedEC2, vpc: Sample, caller: Caller
    ) -> None:
        aws = ec2.client()
        made = aws.create_network_interface(SubnetId=vpc.subnets["a"])["NetworkInterface"]
        where = {"InstanceId": vpc.instances["a"], "NetworkCardIndex": 1, "DeviceIndex": 1}
        attached = aws.attach_network_interface(NetworkInterfaceId=made["NetworkInterfaceId"], **where)
        assert attached["NetworkCardIndex"] == 1
        here = MACS + made["MacAddress"]
        assert (caller.text(f"{here}/network-card"), caller.text(f"{here}/device-number")) == ("1", "1")
        assert len(caller.text(MACS).splitlines()) == 3
        (instance,) = aws.describe_instances(InstanceIds=[vpc.instances["a"]])["Reservations"][0]["Instances"]
        at = [eni["Attachment"] for eni in instance["NetworkInterfaces"]]
        assert sorted((item["NetworkCardIndex"], item["DeviceIndex"]) for item in at) == [
            (0, 0),
            (0, 1),
            (1, 1),
        ]
        aws.detach_network_interface(AttachmentId=attached["AttachmentId"])
        assert len(caller.text(MACS).splitlines()) == 2

    def test_shows_what_it_is_told_to_until_it_is_healed(
        self, ec2: SimulatedEC2, serve: Callable[..., Any], vpc: Sample
    ) -> None:
        service, a = serve(lambda: ec2.instance(vpc.instances["a"]))
        mac, path = a.text("/latest/meta-data/mac"), "network/interfaces/macs"
        service.show("mac", "")
        service.show(f"{path}/{mac}/device-number", "7")
        assert (a.text("/latest/meta-data/mac"), a.text(f"{MACS}{mac}/device-number")) == ("", "7")
        service.show(f"{path}/{mac}", None)
        assert a.get(f"{MACS}{mac}/device-number")[0] == 404
        assert f"{mac}/" not in a.text(MACS).splitlines()
        service.heal()
        assert (a.text("/latest/meta-data/mac"), a.text(f"{MACS}{mac}/device-number")) == (mac, "0")

    def test_a_second_block_of_the_vpc_appears(self, ec2: SimulatedEC2, vpc: Sample, caller: Caller) -> None:
        ec2.client().associate_vpc_cidr_block(VpcId=vpc.vpc, CidrBlock="100.64.0.0/16")
        mac = caller.text("/latest/meta-data/mac")
        assert caller.text(f"{MACS}{mac}/vpc-ipv4-cidr-blocks").splitlines() == [
            "10.10.0.0/16",
            "100.64.0.0/16",
        ]
        assert caller.text(f"{MACS}{mac}/vpc-ipv4-cidr-block") == "10.10.0.0/16"


class TestCredentials:
    def test_of_the_role_are_the_instances_identity(
        self, ec2: SimulatedEC2, vpc: Sample, caller: Caller, connect: Callable[..., Any]
    ) -> None:
        role = caller.text("/latest/meta-data/iam/security-credentials/")
        assert role == "node"
        got = json.loads(caller.text(f"/latest/meta-data/iam/security-credentials/{role}"))
        assert (got["Code"], got["Type"]) == ("Success", "AWS-HMAC")
        assert got["Expiration"] > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        sts = connect(
            "a1",
            "sts",
            aws_access_key_id=got["AccessKeyId"],
            aws_secret_access_key=got["SecretAccessKey"],
            aws_session_token=got["Token"],
        )
        identity = sts.get_caller_identity()
        assert identity["Account"] == ec2.account
        assert identity["Arn"].endswith(f":assumed-role/node/{vpc.instances['a']}")

    def test_stay_the_same_until_they_are_old(self, caller: Caller) -> None:
        path = "/latest/meta-data/iam/security-credentials/node"
        assert json.loads(caller.text(path))["AccessKeyId"] == json.loads(caller.text(path))["AccessKeyId"]

    def test_of_another_role(self, caller: Caller) -> None:
        assert caller.get("/latest/meta-data/iam/security-credentials/nonsense")[0] == 404

    def test_an_instance_without_a_role(self, plain: Caller) -> None:
        assert plain.get("/latest/meta-data/iam/security-credentials/")[0] == 404

    def test_botocore_finds_them(
        self, ec2: SimulatedEC2, vpc: Sample, caller: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from botocore.credentials import InstanceMetadataProvider
        from botocore.utils import InstanceMetadataFetcher

        host, port = caller.connection.host, caller.connection.port
        fetcher = InstanceMetadataFetcher(base_url=f"http://{host}:{port}", num_attempts=1)
        result = InstanceMetadataProvider(fetcher).load()
        assert result
        assert str(result.get_frozen_credentials().access_key).startswith("ASIA")


class TestService:
    def test_metadata_answers_quickly(self, caller: Caller) -> None:
        caller.text(MACS)
        started = time.perf_counter()
        for _ in range(100):
            caller.text(MACS)
        assert (time.perf_counter() - started) / 100 < 0.01  # 0.4 ms on an idle machine

    def test_two_links_share_tokens(self, ec2: SimulatedEC2, vpc: Sample, serve: Callable[..., Any]) -> None:
        service, first = serve(lambda: ec2.instance(vpc.instances["a"]))
        second = Caller(service.listen(open_socket("127.0.0.1", 0)).address)
        first.text(MACS)
        second.token = first.token
        assert second.text(MACS) == first.text(MACS)

    def test_a_node_in_a_shared_vpc(self, ec2: SimulatedEC2, vpc: Sample, serve: Callable[..., Any]) -> None:
        other = "444455556666"
        ec2.share_vpc(vpc.vpc, other)
        started = ec2.client(account=other).run_instances(
            ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1, SubnetId=vpc.subnets["a"]
        )
        instance = started["Instances"][0]["InstanceId"]
        _, caller = serve(lambda: ec2.instance(instance))
        mac = caller.text("/latest/meta-data/mac")
        assert caller.text(f"{MACS}{mac}/owner-id") == other
        assert caller.text(f"{MACS}{mac}/vpc-ipv4-cidr-blocks") == "10.10.0.0/16"
        assert json.loads(caller.text("/latest/dynamic/instance-identity/document"))["accountId"] == other

    def test_an_instance_that_is_gone_is_an_error_not_silence(
        self, ec2: SimulatedEC2, serve: Callable[..., Any]
    ) -> None:
        _, caller = serve(lambda: ec2.instance("i-0"))
        assert caller.get("/latest/meta-data/instance-id")[0] == 500

    def test_cut_and_heal(self, ec2: SimulatedEC2, vpc: Sample, serve: Callable[..., Any]) -> None:
        service, caller = serve(lambda: ec2.instance(vpc.instances["a"]))
        caller.text(MACS)
        service.cut()
        for _ in range(2):
            with pytest.raises((OSError, http.client.HTTPException)):
                caller.get(MACS)
            caller.connection.close()
        service.heal()
        caller.text(MACS)
