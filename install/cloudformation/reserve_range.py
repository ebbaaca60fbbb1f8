"""Reserves the whole range of a subnet, so that no network interface gets an address there by chance.

A custom resource, because CloudFormation's own AWS::EC2::SubnetCidrReservation exists in few regions so far.
"""

import json
import urllib.request

import boto3
from botocore.exceptions import ClientError


def handler(event, _context, ec2=None):
    """Create or delete the reservation, and tell CloudFormation how it went."""
    known = event.get("PhysicalResourceId", "none")
    message = {"Status": "SUCCESS", "PhysicalResourceId": known}
    try:
        message["PhysicalResourceId"] = act(ec2 or boto3.client("ec2"), event, known)
    except Exception as e:  # noqa: BLE001 (without an answer CloudFormation waits for an hour)
        message |= {"Status": "FAILED", "Reason": f"{type(e).__name__}: {e}"}
    message |= {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    body, untyped = json.dumps(message).encode(), {"Content-Type": ""}  # the URL is signed for no type
    answer = urllib.request.Request(event["ResponseURL"], body, untyped, method="PUT")  # noqa: S310
    urllib.request.urlopen(answer, timeout=10)  # noqa: S310


def act(ec2, event, known):
    """Return the reservation's id; an update makes a new one, and CloudFormation then deletes the old."""
    wanted = event["ResourceProperties"]
    if event["RequestType"] != "Delete":
        made = ec2.create_subnet_cidr_reservation(
            SubnetId=wanted["SubnetId"],
            Cidr=wanted["Cidr"],
            ReservationType="explicit",
            Description="floating addresses; no network interface",
        )
        return made["SubnetCidrReservation"]["SubnetCidrReservationId"]
    try:
        give_back(ec2, wanted["SubnetId"], known)
    except ClientError as e:  # somebody has deleted the subnet, and the reservation with it
        if not e.response["Error"]["Code"].endswith(".NotFound"):
            raise
    return known


def give_back(ec2, subnet, known):
    """Delete the reservation, if the subnet still has it."""
    there = ec2.get_subnet_cidr_reservations(SubnetId=subnet)
    both = there["SubnetIpv4CidrReservations"] + there["SubnetIpv6CidrReservations"]
    if known in [item["SubnetCidrReservationId"] for item in both]:
        ec2.delete_subnet_cidr_reservation(SubnetCidrReservationId=known)
