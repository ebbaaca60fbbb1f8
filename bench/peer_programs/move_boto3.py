"""Leads an address to an ENI in every route table with a tag, by a fresh Python process with boto3.

    python move_boto3.py MAC ADDRESS TAG

It works as the published solution's init container does (``assign-vip.py`` of the repository
aws-samples/eks-automated-multiaz-floating-ip): it reads instance metadata of every interface, asks
DescribeRouteTables once by VPC and tag, makes a boto3 resource for each table, and forks a process for each,
which replaces the route, and creates it where that fails. What else the published one does is left out, which
is kind to it: ``requests`` for metadata, a shell pipeline to find the interfaces, the pod's rules, its log.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import urllib.request
from typing import Any

import boto3
from botocore.exceptions import ClientError

METADATA = "http://169.254.169.254/latest"
ITEMS = ("interface-id", "vpc-id", "subnet-ipv4-cidr-block", "device-number")


def main() -> int:
    """Move the address; return 1 if a table was not written."""
    mac, address, tag = sys.argv[1:]
    region, interfaces = metadata()
    own = interfaces[mac]
    vpcs = sorted({interface["vpc-id"] for interface in interfaces.values()})
    filters = [{"Name": "vpc-id", "Values": vpcs}, {"Name": "tag-key", "Values": [tag]}]
    client: Any = boto3.client("ec2", region_name=region)
    answer = client.describe_route_tables(Filters=filters)
    tables = [table["RouteTableId"] for table in answer["RouteTables"]]
    resources = {table: boto3.resource("ec2", region_name=region) for table in tables}
    fork = multiprocessing.get_context("fork")
    writers = [
        fork.Process(target=write, args=(resource, table, f"{address}/32", own["interface-id"]))
        for table, resource in resources.items()
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    return 1 if any(writer.exitcode for writer in writers) else 0


def metadata() -> tuple[str, dict[str, dict[str, str]]]:
    """Return the Region, and the items of every interface by its MAC address."""
    token = fetch("api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}, "PUT")
    headers = {"X-aws-ec2-metadata-token": token}
    region = json.loads(fetch("dynamic/instance-identity/document", headers))["region"]
    macs = "meta-data/network/interfaces/macs"
    names = [name.rstrip("/") for name in fetch(f"{macs}/", headers).splitlines()]
    return region, {mac: {item: fetch(f"{macs}/{mac}/{item}", headers) for item in ITEMS} for mac in names}


def fetch(path: str, headers: dict[str, str], method: str = "GET") -> str:
    """Return one item of instance metadata."""
    request = urllib.request.Request(f"{METADATA}/{path}", headers=headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - instance metadata
        text: str = answer.read().decode()
    return text


def write(resource: Any, table: str, destination: str, eni: str) -> None:
    """Point the route at the interface."""
    try:
        resource.Route(table, destination).replace(NetworkInterfaceId=eni)
    except ClientError:
        resource.RouteTable(table).create_route(DestinationCidrBlock=destination, NetworkInterfaceId=eni)


if __name__ == "__main__":
    sys.exit(main())
