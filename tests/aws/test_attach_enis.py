"""``install/cloudformation/attach_enis.py``, which gives new nodes their ENIs, on the simulated EC2.

Its calls go over HTTP and are recorded; what it needs of IAM is judged by the policy in the template.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError

from lab.ec2 import SimulatedEC2
from lab.ec2.cloud import access_key
from lab.ec2.journal import Call
from lab.ec2.sample import IMAGE
from lab.webserver import open_socket
from tests.aws import policies
from tests.aws.policies import Request
from tests.aws.template import SHIPPED, THIRD_ZONE, Stack, plain

NO_MANAGE = "node.k8s.amazonaws.com/no_manage"
ZONES = ("a", "b", "c")


class AutoScaling:
    """Auto Scaling's side of a lifecycle hook."""

    def __init__(self) -> None:
        self.completed: list[dict[str, str]] = []

    def complete_lifecycle_action(self, **output: str) -> None:
        self.completed.append(output)


class Place:
    """A VPC with two floating subnets in each zone, an instance launched by a group, and the function."""

    def __init__(self, ec2: SimulatedEC2, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ec2, self.aws = ec2, ec2.client()
        self.client = client
        self.autoscaling = AutoScaling()
        self.slept: list[float] = []
        vpc = self.aws.create_vpc(CidrBlock="10.10.0.0/16")["Vpc"]["VpcId"]
        self.subnets = {
            zone: [self._subnet(vpc, zone, 10 * z + n) for n in (0, 1, 2)] for z, zone in _numbered()
        }
        self.group = self.aws.create_security_group(GroupName="eni", Description="eni", VpcId=vpc)["GroupId"]
        floating = {f"{ec2.region}{zone}": subnets[1:] for zone, subnets in self.subnets.items()}
        settings = {"SUBNETS": json.dumps(floating), "GROUP": self.group, "TAG": "core", "IPV6": "false"}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        self.module = _load()

    def _subnet(self, vpc: str, zone: str, number: int) -> str:
        made = self.aws.create_subnet(
            VpcId=vpc, CidrBlock=f"10.10.{number}.0/24", AvailabilityZone=f"{self.ec2.region}{zone}"
        )
        return str(made["Subnet"]["SubnetId"])

    def launch(self, zone: str = "a") -> str:
        tags = [{"Key": "Name", "Value": "core-floatip-nodes"}]
        started = self.aws.run_instances(
            ImageId=IMAGE,
            MinCount=1,
            MaxCount=1,
            SubnetId=self.subnets[zone][0],
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        return str(started["Instances"][0]["InstanceId"])

    def call(self, instance: str) -> str:
        """Let EventBridge call the function; return what Auto Scaling was told."""
        detail = {
            "EC2InstanceId": instance,
            "AutoScalingGroupName": "floatip-nodes-a",
            "LifecycleHookName": "floating-enis",
            "LifecycleActionToken": "t",
        }
        self.module.handler({"detail": detail}, None, self.client, self.autoscaling, self.slept.append)
        assert self.autoscaling.completed[-1]["InstanceId"] == instance
        return self.autoscaling.completed[-1]["LifecycleActionResult"]

    def enis(self, instance: str) -> dict[int, dict[str, Any]]:
        filters = [{"Name": "attachment.instance-id", "Values": [instance]}]
        result = self.aws.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
        return {eni["Attachment"]["DeviceIndex"]: eni for eni in result}

    def count(self) -> int:
        return len(self.aws.describe_network_interfaces()["NetworkInterfaces"])


def _numbered() -> list[tuple[int, str]]:
    return list(enumerate(ZONES, 1))


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("attach_enis", SHIPPED / "attach_enis.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def function(cloud: SimulatedEC2, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    cloud.reset()
    listener = cloud.listen(open_socket("127.0.0.1", 0), "function")
    host, port = listener.address
    client = boto3.client(
        "ec2",
        region_name=cloud.region,
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id=access_key(cloud.account),
        aws_secret_access_key="made-up",
    )
    yield Place(cloud, client, monkeypatch)
    listener.close()


@pytest.mark.parametrize("zone", ZONES)
def test_two_interfaces_of_the_instances_zone(function: Place, zone: str) -> None:
    instance = function.launch(zone)
    assert function.call(instance) == "CONTINUE"
    enis = function.enis(instance)
    assert sorted(enis) == [0, 1, 2]
    for index in (1, 2):
        eni = enis[index]
        tags = {tag["Key"]: tag["Value"] for tag in eni["TagSet"]}
        assert eni["SubnetId"] == function.subnets[zone][index]
        assert eni["SourceDestCheck"] is False
        assert (tags[NO_MANAGE], tags["floatip"]) == ("true", "core")
        assert [group["GroupId"] for group in eni["Groups"]] == [function.group]
    primary = {tag["Key"] for tag in enis[0]["TagSet"]}
    assert enis[0]["SourceDestCheck"] is True
    assert not primary & {NO_MANAGE, "floatip"}


def test_they_end_with_the_instance(function: Place) -> None:
    instance = function.launch()
    function.call(instance)
    changed = function.ec2.journal.of("ModifyNetworkInterfaceAttribute")
    kept = [call.params["Attachment"] for call in changed if "Attachment" in call.params]
    assert [item["DeleteOnTermination"] for item in kept] == [True, True]
    request = {f"{item['AttachmentId']}" for item in kept}
    assert request == {eni["Attachment"]["AttachmentId"] for n, eni in function.enis(instance).items() if n}


def test_they_end_with_it_also_if_the_first_call_died_before_it_said_so(function: Place) -> None:
    """Otherwise they outlive the instance, and the stack's subnets cannot be deleted."""
    instance = function.launch()
    function.call(instance)
    function.ec2.journal.clear()
    assert function.call(instance) == "CONTINUE"
    changed = function.ec2.journal.of("ModifyNetworkInterfaceAttribute")
    assert [call.params["Attachment"]["DeleteOnTermination"] for call in changed] == [True, True]


def test_a_call_that_died_before_attaching_is_taken_up(function: Place) -> None:
    """By the token EC2 knows a request that it has answered, and gives the same interface."""
    one, other = function.launch(), function.launch()
    for instance in (one, one, other):
        for attached in (eni for index, eni in function.enis(instance).items() if index):
            function.aws.detach_network_interface(
                AttachmentId=attached["Attachment"]["AttachmentId"], Force=True
            )
        function.call(instance)
    made = [call.params["ClientToken"] for call in function.ec2.journal.of("CreateNetworkInterface")]
    tokens = [f"{instance}-{index}" for instance in (one, one, other) for index in (1, 2)]
    assert [token for token in made if token.startswith("i-")] == tokens


def test_a_second_call_attaches_nothing(function: Place) -> None:
    """EventBridge repeats itself, and an instance of a warm pool is launched twice."""
    instance = function.launch()
    function.call(instance)
    before = function.enis(instance).keys(), function.count()
    assert function.call(instance) == "CONTINUE"
    assert (function.enis(instance).keys(), function.count()) == before


def test_one_was_attached(function: Place) -> None:
    """An earlier call died half way."""
    instance = function.launch()
    function.call(instance)
    second = function.enis(instance)[2]
    function.aws.detach_network_interface(AttachmentId=second["Attachment"]["AttachmentId"], Force=True)
    assert function.call(instance) == "CONTINUE"
    assert sorted(function.enis(instance)) == [0, 1, 2]


def test_somebody_elses_interface_in_its_place(function: Place) -> None:
    """VPC CNI was quicker: such a node is replaced."""
    instance = function.launch()
    other = function.aws.create_network_interface(SubnetId=function.subnets["a"][0])["NetworkInterface"]
    function.aws.attach_network_interface(
        NetworkInterfaceId=other["NetworkInterfaceId"], InstanceId=instance, DeviceIndex=1
    )
    with pytest.raises(RuntimeError, match="device 1 is eni-"):
        function.call(instance)
    assert function.autoscaling.completed[-1]["LifecycleActionResult"] == "ABANDON"
    assert function.count() == 2


def test_what_cannot_be_attached_is_not_left_behind(function: Place) -> None:
    instance = function.launch()
    function.ec2.faults.error("AttachNetworkInterface", "AttachmentLimitExceeded", "too many", times=1)
    with pytest.raises(function.client.exceptions.ClientError, match="AttachmentLimitExceeded"):
        function.call(instance)
    assert function.autoscaling.completed[-1]["LifecycleActionResult"] == "ABANDON"
    assert function.count() == 1


def test_device_numbers_count_per_network_card(function: Place) -> None:
    """An instance type with two network cards, and an interface at device 1 of the second one."""
    instance = function.launch()
    other = function.aws.create_network_interface(SubnetId=function.subnets["a"][0])["NetworkInterface"]
    function.aws.attach_network_interface(
        NetworkInterfaceId=other["NetworkInterfaceId"],
        InstanceId=instance,
        NetworkCardIndex=1,
        DeviceIndex=1,
    )
    assert function.call(instance) == "CONTINUE"
    filters = [{"Name": "attachment.instance-id", "Values": [instance]}]
    result = function.aws.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
    at = {(eni["Attachment"]["NetworkCardIndex"], eni["Attachment"]["DeviceIndex"]): eni for eni in result}
    assert sorted(at) == [(0, 0), (0, 1), (0, 2), (1, 1)]
    assert [at[0, index]["SubnetId"] for index in (1, 2)] == function.subnets["a"][1:]
    request = [call.params for call in function.ec2.journal.of("AttachNetworkInterface")]
    assert [int(params["NetworkCardIndex"]) for params in request] == [0, 0], "said, not left to a default"
    before = function.count()
    assert (function.call(instance), function.count()) == ("CONTINUE", before)


def test_vpc_cni_is_quicker_while_we_attach(function: Place) -> None:
    instance = function.launch()
    attach = function.client.attach_network_interface

    def cni_first(**output: Any) -> Any:
        other = function.aws.create_network_interface(SubnetId=function.subnets["a"][0])["NetworkInterface"]
        attach(NetworkInterfaceId=other["NetworkInterfaceId"], InstanceId=instance, DeviceIndex=1)
        function.ec2.faults.error("AttachNetworkInterface", "InvalidParameterValue", "taken", times=1)
        return attach(**output)

    function.client.attach_network_interface = cni_first
    with pytest.raises(RuntimeError, match="device 1 is eni-"):
        function.call(instance)
    assert function.autoscaling.completed[-1]["LifecycleActionResult"] == "ABANDON"
    assert function.count() == 2


def test_an_answer_that_is_lost(function: Place) -> None:
    """EC2 has attached the interface, and we have not heard it."""
    instance = function.launch()
    attach = function.client.attach_network_interface

    def unheard(**output: Any) -> Any:
        function.client.attach_network_interface = attach
        attach(**output)
        raise ReadTimeoutError(endpoint_url="https://ec2")

    function.client.attach_network_interface = unheard
    assert function.call(instance) == "CONTINUE"
    assert sorted(function.enis(instance)) == [0, 1, 2]
    assert function.count() == 3


def test_two_calls_at_once(function: Place) -> None:
    """The other one attaches first: ours are not needed, and all is well. (moto lets two share an index.)"""
    instance = function.launch()
    attach = function.client.attach_network_interface

    def other_first(**output: Any) -> Any:
        function.client.attach_network_interface = attach
        function.module.give(function.client, instance, function.slept.append)
        taken = "already has an interface attached at this device index"
        function.ec2.faults.error("AttachNetworkInterface", "InvalidParameterValue", taken, times=2)
        return attach(**output)

    function.client.attach_network_interface = other_first
    assert function.call(instance) == "CONTINUE"
    assert sorted(function.enis(instance)) == [0, 1, 2]
    assert function.count() == 3


def test_an_instance_that_does_not_run_yet(function: Place) -> None:
    instance = function.launch()
    function.ec2.faults.error("DescribeInstances", "InvalidInstanceID.NotFound", "not yet", times=2)
    assert function.call(instance) == "CONTINUE"
    assert function.slept == [3, 3]


@pytest.mark.parametrize("action", ["ModifyNetworkInterfaceAttribute", "AttachNetworkInterface"])
def test_an_interface_that_ec2_does_not_know_yet(function: Place, action: str) -> None:
    """What has just been made can be unknown for some seconds: no reason to replace the node."""
    instance = function.launch()
    function.ec2.faults.error(action, "InvalidNetworkInterfaceID.NotFound", "not yet", times=2)
    assert function.call(instance) == "CONTINUE"
    assert sorted(function.enis(instance)) == [0, 1, 2]
    assert function.slept == [3, 3]
    assert function.count() == 3


def test_an_interface_that_never_attaches_ends_in_an_error(function: Place) -> None:
    instance = function.launch()
    function.ec2.faults.error("AttachNetworkInterface", "InvalidInstanceID.NotFound", "never", times=99)
    with pytest.raises(function.client.exceptions.ClientError, match="NotFound"):
        function.call(instance)
    assert function.autoscaling.completed[-1]["LifecycleActionResult"] == "ABANDON"
    assert sum(function.slept) < 60
    assert function.count() == 1


def test_an_instance_that_is_gone(function: Place) -> None:
    instance = function.launch()
    function.aws.terminate_instances(InstanceIds=[instance])
    with pytest.raises(RuntimeError, match="is terminated"):
        function.call(instance)
    assert function.autoscaling.completed[-1]["LifecycleActionResult"] == "ABANDON"


# -- what it may do ----------------------------------------------------------------------------------------


GROUPS = tuple(f"floatip-nodes-{zone}" for zone in "abc")


def _needs(key: Place, call: Call) -> Iterator[Request]:
    """Yield what a call needs ("Actions, resources, and condition keys for Amazon EC2")."""
    arn = f"arn:aws:ec2:{key.ec2.region}:{key.ec2.account}"
    action, params, text = f"ec2:{call.action}", call.params, str(call)
    if call.action == "CreateNetworkInterface":
        (given,) = params["TagSpecification"] if "TagSpecification" in params else params["TagSpecifications"]
        request = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in given["Tags"]}
        yield Request(action, f"{arn}:network-interface/*", request, said=text)
        yield Request(action, f"{arn}:subnet/{params['SubnetId']}", said=text)
        for group in params["Groups"]:
            yield Request(action, f"{arn}:security-group/{group}", said=text)
        made = {"ec2:CreateAction": call.action}
        yield Request("ec2:CreateTags", f"{arn}:network-interface/*", made, said=text)
    elif call.action == "DescribeInstances":
        yield Request(action, "*", said=text)
    else:
        eni = {"aws:ResourceTag/floatip": "core"}
        yield Request(action, f"{arn}:network-interface/{params['NetworkInterfaceId']}", eni, said=text)
        if call.action == "AttachNetworkInterface" or "Attachment" in params:
            for group in GROUPS:  # Auto Scaling's own tag, which nobody else can set
                node = {"aws:ResourceTag/aws:autoscaling:groupName": group}
                yield Request(action, f"{arn}:instance/i-1", node, said=text)


def _policy(key: Place) -> policies.Policy:
    (policy,) = Stack(**THIRD_ZONE).of("AWS::IAM::Policy").values()
    text = json.dumps(plain(policy["PolicyDocument"])).replace("[EniSecurityGroup]", key.group)
    for zone in ZONES:
        for n in (1, 2):
            text = text.replace(f"[EniSubnet{zone.upper()}{n}]", key.subnets[zone][n])
    return policies.parse(json.loads(text))


def test_the_functions_policy_allows_its_calls(function: Place) -> None:
    """All that it calls is allowed, and nothing is allowed that it does not call."""
    for zone in ZONES:
        function.call(function.launch(zone))
    function.ec2.faults.error("AttachNetworkInterface", "AttachmentLimitExceeded", "too many", times=1)
    with pytest.raises(function.client.exceptions.ClientError):
        function.call(function.launch())
    policy = _policy(function)
    needed = [need for call in function.ec2.journal for need in _needs(function, call)]
    groups = "arn:aws:autoscaling:eu-central-1:111122223333:autoScalingGroup"
    complete = "autoscaling:CompleteLifecycleAction"
    needed += [Request(complete, f"{groups}:0a-1b:autoScalingGroupName/{group}") for group in GROUPS]
    needed += [
        Request(f"logs:{name}", "[FloatingEnisLog.Arn]") for name in ("CreateLogStream", "PutLogEvents")
    ]
    assert [str(need) for need in needed if not policy.allows(need)] == []
    assert [what for what, less in policy.smaller() if all(less.allows(need) for need in needed)] == []


def test_it_touches_nothing_of_others(function: Place) -> None:
    policy = _policy(function)
    arn = "arn:aws:ec2:eu-central-1:111122223333"
    ours = {"aws:ResourceTag/floatip": "core"}
    for action in ("ModifyNetworkInterfaceAttribute", "DeleteNetworkInterface", "AttachNetworkInterface"):
        assert policy.allows(Request(f"ec2:{action}", f"{arn}:network-interface/eni-1", ours))
        assert not policy.allows(Request(f"ec2:{action}", f"{arn}:network-interface/eni-1"))
    whoever_tags = {"aws:ResourceTag/Name": "core-floatip-nodes"}
    another_stack = {"aws:ResourceTag/aws:autoscaling:groupName": "floatip-nodes-2-a"}
    for tags in ({}, whoever_tags, another_stack):
        assert not policy.allows(Request("ec2:AttachNetworkInterface", f"{arn}:instance/i-1", tags)), tags
    groups = "arn:aws:autoscaling:eu-central-1:111122223333:autoScalingGroup:0a-1b:autoScalingGroupName"
    complete = "autoscaling:CompleteLifecycleAction"
    assert policy.allows(Request(complete, f"{groups}/floatip-nodes-a"))
    for group in ("floatip-nodes-2-a", "floatip-nodes-d", "floatip-nodes"):
        assert not policy.allows(Request(complete, f"{groups}/{group}")), group
    assert not policy.allows(Request("ec2:CreateTags", f"{arn}:network-interface/eni-1"))
    assert not policy.allows(Request("ec2:CreateNetworkInterface", f"{arn}:subnet/subnet-1"))
