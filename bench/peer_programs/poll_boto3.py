"""A sidecar that polls its pod's interfaces and leads what addresses it sees there to their ENI.

    python -m bench.peer_programs.poll_boto3 TAG PEER...

It works as the published solution's sidecar does (``assign-vip.py`` of the repository
aws-samples/eks-automated-multiaz-floating-ip): it reads instance metadata and DescribeRouteTables once, then
every half second a shell pipeline lists the pod's interfaces; where they changed, it writes every address, a
process for each route table. On the first pass it routes the peers by the new interface.
"""

from __future__ import annotations

import ipaddress
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import boto3

from bench.peer_programs.move_boto3 import metadata, write

SECONDS = 0.5
LISTED = """\
for link in $(ip -o link show | cut -d: -f2 | tr -d ' ' | cut -d@ -f1 | grep -v -E '^(eth0|lo)$'); do
  mac=$(ip -o link show dev $link | sed 's/.*link.ether \\([0-9a-f:]*\\).*/\\1/')
  ip -o -4 addr show dev $link scope global | awk -v mac=$mac -v link=$link '{print mac, link, $4}'
done
"""


def main() -> int:
    """Poll until the container ends."""
    tag, *peers = sys.argv[1:]
    region, own = metadata()
    vpcs = sorted({interface["vpc-id"] for interface in own.values()})
    filters = [{"Name": "vpc-id", "Values": vpcs}, {"Name": "tag-key", "Values": [tag]}]
    answer = boto3.client("ec2", region_name=region).describe_route_tables(Filters=filters)
    resources: dict[str, Any] = {
        table["RouteTableId"]: boto3.resource("ec2", region_name=region) for table in answer["RouteTables"]
    }
    known: set[tuple[str, str, str]] = set()
    while True:
        listed = subprocess.run(["sh", "-c", LISTED], capture_output=True, text=True, check=False).stdout
        there = {(mac, link, net) for mac, link, net in (line.split() for line in listed.splitlines())}
        if there - known:
            assign(there, own, resources)
            if not known:
                route(there, own, peers)
            known = there
        time.sleep(SECONDS)


def assign(
    there: set[tuple[str, str, str]], own: Mapping[str, Mapping[str, str]], resources: Mapping[str, Any]
) -> None:
    """Write every address, in every table at once."""
    fork = multiprocessing.get_context("fork")
    for mac, _, net in sorted(there):
        eni = own[mac]["interface-id"]
        host = f"{net.partition('/')[0]}/32"
        writers = [
            fork.Process(target=write, args=(resource, table, host, eni))
            for table, resource in resources.items()
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(10)


def route(
    there: set[tuple[str, str, str]], own: Mapping[str, Mapping[str, str]], peers: Sequence[str]
) -> None:
    """Lead answers to the peers out by the interface, over the subnet's first host."""
    for mac, link, _ in sorted(there):
        gateway = ipaddress.ip_network(own[mac]["subnet-ipv4-cidr-block"])[1]
        for peer in peers:
            argv = ["ip", "route", "replace", peer, "via", str(gateway), "dev", link, "onlink"]
            subprocess.run(argv, check=False)


if __name__ == "__main__":
    sys.exit(main())
