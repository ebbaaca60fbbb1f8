"""Gives a worker that Auto Scaling has launched its floating ENIs: device index 1 and 2, check off.

The lifecycle hook holds the instance until we say CONTINUE; with ABANDON it is replaced. Called again for an
instance (EventBridge repeats, a warm pool launches twice) it finds what is there.
"""

import json
import os
import time

import boto3
from botocore.exceptions import ClientError

PATIENCE = 240  # seconds; less than the function's timeout


def handler(event, _context, ec2=None, autoscaling=None, sleep=time.sleep):
    """Attach what is missing, then tell Auto Scaling how it went."""
    detail, result = event["detail"], "ABANDON"
    try:
        give(ec2 or boto3.client("ec2"), detail["EC2InstanceId"], sleep)
        result = "CONTINUE"
    finally:
        (autoscaling or boto3.client("autoscaling")).complete_lifecycle_action(
            AutoScalingGroupName=detail["AutoScalingGroupName"],
            LifecycleHookName=detail["LifecycleHookName"],
            LifecycleActionToken=detail["LifecycleActionToken"],
            InstanceId=detail["EC2InstanceId"],
            LifecycleActionResult=result,
        )


def give(ec2, instance, sleep):
    """Have one ENI per floating subnet of the instance's zone. Each ends with the instance."""
    result = running(ec2, instance, sleep)
    subnets = json.loads(os.environ["SUBNETS"])[result["Placement"]["AvailabilityZone"]]
    for index, subnet in enumerate(subnets, 1):
        eni, attachment = at(result, index, subnet) or attach(ec2, instance, index, subnet, sleep)
        ends = {"AttachmentId": attachment, "DeleteOnTermination": True}
        soon(sleep, ec2.modify_network_interface_attribute, NetworkInterfaceId=eni, Attachment=ends)


def soon(sleep, call, **raw):
    """Call; EC2 can need some seconds to know what it has just made."""
    left = 10
    while True:
        try:
            return call(**raw)
        except ClientError as e:
            left -= 1
            if not left or not e.response["Error"]["Code"].endswith(".NotFound"):
                raise
        sleep(3)


def at(result, index, subnet):
    """Return ENI and attachment at this index of card 0, if any. One of another subnet is an error."""
    for eni in result["NetworkInterfaces"]:
        to = eni["Attachment"]
        if (to.get("NetworkCardIndex", 0), to["DeviceIndex"]) == (0, index):
            if eni["SubnetId"] == subnet:
                return eni["NetworkInterfaceId"], to["AttachmentId"]
            raise RuntimeError(f"device {index} is {eni['NetworkInterfaceId']} in {eni['SubnetId']}")
    return None


def running(ec2, instance, sleep):
    """Return the instance once it runs: before, nothing can be attached."""
    until = time.monotonic() + PATIENCE
    while True:
        result = look(ec2, instance, sleep)
        state = result["State"]["Name"]
        if state == "running":
            return result
        if state in ("shutting-down", "terminated") or time.monotonic() > until:
            raise RuntimeError(f"{instance} is {state}")
        sleep(3)


def look(ec2, instance, sleep):
    """Return the instance as EC2 describes it."""
    answer = soon(sleep, ec2.describe_instances, InstanceIds=[instance])
    return answer["Reservations"][0]["Instances"][0]


def attach(ec2, instance, index, subnet, sleep):
    """Make an ENI and attach it. A repeated call makes no second one (token); an unused one is deleted."""
    tags = {
        "Name": f"{instance}-floatip{index}",
        "floatip": os.environ["TAG"],
        "node.k8s.amazonaws.com/no_manage": "true",  # VPC CNI leaves it alone
    }
    more = {"Ipv6AddressCount": 1} if os.environ["IPV6"] == "true" else {}
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    eni = ec2.create_network_interface(
        ClientToken=f"{instance}-{index}",
        SubnetId=subnet,
        Groups=[os.environ["GROUP"]],
        TagSpecifications=[{"ResourceType": "network-interface", "Tags": pairs}],
        **more,
    )["NetworkInterface"]["NetworkInterfaceId"]
    try:
        off = {"NetworkInterfaceId": eni, "SourceDestCheck": {"Value": False}}
        soon(sleep, ec2.modify_network_interface_attribute, **off)
        to = {"NetworkInterfaceId": eni, "InstanceId": instance, "DeviceIndex": index}
        made = soon(sleep, ec2.attach_network_interface, NetworkCardIndex=0, **to)
        return eni, made["AttachmentId"]
    except Exception:
        result = look(ec2, instance, sleep)
        if eni not in [item["NetworkInterfaceId"] for item in result["NetworkInterfaces"]]:
            soon(sleep, ec2.delete_network_interface, NetworkInterfaceId=eni)
        there = at(result, index, subnet)  # a call beside this one was quicker
        if not there:
            raise
        return there
