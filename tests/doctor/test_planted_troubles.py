"""Each trouble is planted where nothing is wrong: the doctor names it, its object and what mends it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.doctor import host, probe
from cni_floatip.doctor.catalog import KINDS
from cni_floatip.doctor.checks import aws as checks_aws
from cni_floatip.doctor.checks import node as checks_node
from cni_floatip.doctor.ec2_reads import Ec2Reads
from cni_floatip.doctor.finding import Severity
from cni_floatip.doctor.judge import node as judge_node
from cni_floatip.edges import agent_socket
from cni_floatip.edges.ec2.client import Vpc
from cni_floatip.edges.imds import Metadata
from cni_floatip.edges.podnet import forwarding, guard, link_by_mac
from cni_floatip.model.errors import PodNetworkFailure, TryAgain
from cni_floatip.model.values import Eni, Link
from lab import netns
from lab.vpc import FLOATING
from tests.doctor.healthy_node import OWN, Scene
from tests.support.waiting import until

pytestmark = pytest.mark.needs("root", "ip", "macvlan-plugin")

Plant = Callable[[Scene], AbstractContextManager[str | None]]
"""Makes something wrong for a while; yields what the remedy must name."""


@dataclass(frozen=True)
class Trouble:
    finding: str
    plant: Plant
    subject: str = ""

    @property
    def name(self) -> str:
        return f"{self.finding}-{self.plant.__name__}"


TROUBLES: list[Trouble] = []


def trouble(finding: str, subject: str = "") -> Callable[[Callable[[Scene], Iterator[str | None]]], Plant]:
    """Register a planter; ``subject`` is (part of) what the finding is about."""

    def register(planter: Callable[[Scene], Iterator[str | None]]) -> Plant:
        plant = contextlib.contextmanager(planter)
        TROUBLES.append(Trouble(finding, plant, subject))
        return plant

    return register


# -- this node ----------------------------------------------------------------------------------------------


@trouble("policy-missing")
def no_policy_file(scene: Scene) -> Iterator[str]:
    with scene.environment(FLOATIP_CONFIG="/nowhere/config.json"):
        yield "/nowhere/config.json"


@trouble("policy-unusable")
def policy_with_an_unknown_key(scene: Scene) -> Iterator[str]:
    with scene.policy(allowedDestination=[]):
        yield str(scene.config)


@trouble("policy-empty", "allowedDestinations")
def nothing_allowed(scene: Scene) -> Iterator[str]:
    with scene.policy(allowedDestinations=None):
        yield str(scene.config)


@contextlib.contextmanager
def client_like(scene: Scene, old: str, new: str) -> Iterator[None]:
    """The installed client with a word changed."""
    path = scene.bin_dir / "floatip"
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(before)


@trouble("client-missing")
def no_client(scene: Scene) -> Iterator[str]:
    path = scene.bin_dir / "floatip"
    away = path.rename(path.with_name("elsewhere"))
    try:
        yield str(scene.bin_dir)
    finally:
        away.rename(path)


@trouble("client-broken")
def client_without_its_interpreter(scene: Scene) -> Iterator[str]:
    with client_like(scene, "#!/", "#!/gone/"):
        yield str(scene.bin_dir / "floatip")


@trouble("client-broken")
def client_that_says_nothing(scene: Scene) -> Iterator[str]:
    with client_like(scene, "#!", "#!/bin/true\n#"):
        yield str(scene.bin_dir / "floatip")


@trouble("client-elsewhere")
def client_of_another_socket(scene: Scene) -> Iterator[str]:
    with client_like(scene, str(scene.node.agent.socket), "/run/other.sock"):
        yield str(scene.bin_dir)


@trouble("client-of-another-release")
def client_of_an_older_release(scene: Scene) -> Iterator[str]:
    from cni_floatip import __version__

    with client_like(scene, f"RELEASE = {__version__!r}", "RELEASE = '0.0.9'"):
        yield str(scene.bin_dir)


@trouble("agent-silent")
def no_agent(scene: Scene) -> Iterator[str]:
    with scene.policy(socketPath="/run/nobody.sock"), scene.environment(NODE_NAME="ip-10-0-0-1"):
        yield "ip-10-0-0-1"


@trouble("agent-claims")
def a_claim_file_that_nobody_can_read(scene: Scene) -> Iterator[None]:
    path = scene.node.data_dir / "claims" / "broken.json"
    path.write_text("{")
    scene.node.stop_agent()
    scene.node.start_agent()
    try:
        yield None
    finally:
        for left in scene.node.data_dir.rglob("broken*"):
            left.unlink()
        scene.restart_agent()


@trouble("metadata-unreachable")
def no_instance_metadata(scene: Scene) -> Iterator[str]:
    with (
        scene.environment(AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:9"),
        pytest.MonkeyPatch.context() as p,
    ):
        p.setattr(probe, "METADATA_SECONDS", 0.3)
        yield "--http-endpoint enabled"


@contextlib.contextmanager
def unguarded(scene: Scene) -> Iterator[None]:
    link = netns.inside(scene.node.ns, link_by_mac, scene.eth1.mac)
    assert link is not None
    netns.inside(scene.node.ns, guard.remove, link)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(host, "TRY_SECONDS", 4)  # a busy machine's metadata answers late
            yield
    finally:
        netns.inside(scene.node.ns, guard.ensure, link)


@trouble("metadata-open", "default/db net1")
def metadata_answers_a_pod(scene: Scene) -> Iterator[str]:
    with unguarded(scene), scene.environment(NODE_NAME="ip-10-0-0-1"):
        yield "ip-10-0-0-1"


@trouble("guard-missing", "eth1")
def no_guard(scene: Scene) -> Iterator[str]:
    with unguarded(scene):
        yield "eth1"


@trouble("clock-skew")
def clock_two_minutes_behind(scene: Scene) -> Iterator[str]:
    scene.lab.ec2.faults.clock(120)
    yield "chronyc"


@trouble("clock-skew")
def clock_so_far_ahead_that_ec2_refuses(scene: Scene) -> Iterator[str]:
    scene.lab.ec2.faults.clock(-400)
    yield "chronyc"


# -- credentials and permissions ----------------------------------------------------------------------------


@trouble("endpoint-unreachable")
def nobody_at_the_endpoint(scene: Scene) -> Iterator[str]:
    with scene.environment(AWS_ENDPOINT_URL_EC2="http://127.0.0.1:9"):
        yield "http://127.0.0.1:9"


PROXY = "http://somebody:secret@127.0.0.1:9"
"""Nobody listens there."""


def only_endpoint_says(scene: Scene, *output: str) -> None:
    """The proxy is the one reason: nothing calls itself a mistake, and no password is shown."""
    (finding,) = scene.complaints("endpoint")
    assert all(item in finding.what for item in output), finding
    results = [finding for findings in scene.findings().values() for finding in findings]
    assert not [finding for finding in results if "mistake" in finding.what or "secret" in str(finding)]
    assert [finding.id for finding in results if finding.severity is Severity.ERROR] == [
        "endpoint-unreachable"
    ]


@trouble("endpoint-unreachable", "http://")
def proxy_that_nobody_is_at(scene: Scene) -> Iterator[str]:
    with scene.environment(HTTP_PROXY=PROXY, NO_PROXY=None):
        only_endpoint_says(scene, "DescribeRouteTables", "proxy http://127.0.0.1:9 of HTTP_PROXY")
        yield "NO_PROXY (chart: extraEnv) names"


@trouble("endpoint-unreachable", "http://")
def proxy_before_the_credentials(scene: Scene) -> Iterator[str]:
    """EC2 would be reached, but instance metadata, which has the credentials, is asked through the proxy."""
    own = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    ec2 = os.environ["AWS_ENDPOINT_URL_EC2"].partition("://")[2].partition(":")[0]
    with scene.environment(**own, HTTP_PROXY=PROXY, NO_PROXY=ec2):
        only_endpoint_says(scene, "proxy http://127.0.0.1:9 of HTTP_PROXY")
        yield "169.254.169.254"


@trouble("endpoint-unreachable")
def a_name_that_nobody_resolves(scene: Scene) -> Iterator[str]:
    """The resolver does not answer, and asking it has no bound."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks_aws, "ANSWER_SECONDS", 0.1)
        patch.setattr(Ec2Reads, "time_answer", lambda _: time.sleep(1))
        yield os.environ["AWS_ENDPOINT_URL_EC2"]


@trouble("endpoint-slow")
def slow_answers(scene: Scene) -> Iterator[str]:
    scene.lab.ec2.faults.latency(0.15, "DescribeRouteTables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_node, "SLOW_SECONDS", 0.1)
        yield "com.amazonaws.eu-central-1.ec2"


@trouble("no-credentials")
def no_credentials(scene: Scene) -> Iterator[str]:
    with scene.environment(
        AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None, AWS_EC2_METADATA_DISABLED="true"
    ):
        yield "create-pod-identity-association"


@trouble("no-credentials")
def credentials_that_have_run_out(scene: Scene) -> Iterator[None]:
    scene.lab.ec2.faults.error("GetCallerIdentity", "ExpiredToken", "The security token is expired")
    yield None


@trouble("identity-of-node", "assumed-role/node/")
def the_nodes_own_role(scene: Scene) -> Iterator[str]:
    with scene.environment(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None):
        yield "assumed-role/node/"


@trouble("role-refused", "arn:aws:iam::222233334444:role/tables")
def a_role_that_trusts_nobody(scene: Scene) -> Iterator[str]:
    scene.lab.ec2.faults.error("AssumeRole", "AccessDenied", "not authorized", times=None)
    with scene.policy(roles={"222233334444": "arn:aws:iam::222233334444:role/tables"}):
        yield "arn:aws:iam::222233334444:role/tables"


@trouble("sts-unreachable", "arn:aws:iam::222233334444:role/tables")
def no_sts_for_a_role(scene: Scene) -> Iterator[str]:
    role = {"222233334444": "arn:aws:iam::222233334444:role/tables"}
    with scene.policy(roles=role), scene.environment(AWS_ENDPOINT_URL_STS="http://127.0.0.1:9"):
        yield "sts.eu-central-1.amazonaws.com"


@trouble("action-denied", "ec2:ReplaceRoute")
def replace_route_denied(scene: Scene) -> Iterator[str]:
    scene.lab.ec2.faults.error("ReplaceRoute", "UnauthorizedOperation", times=None)
    yield f"route-table/{scene.lab.tables['a']}"


@trouble("action-denied", "ec2:ModifyNetworkInterfaceAttribute")
def check_may_not_be_turned_off(scene: Scene) -> Iterator[str]:
    scene.lab.ec2.faults.error("ModifyNetworkInterfaceAttribute", "UnauthorizedOperation", times=None)
    yield f"network-interface/{scene.eth1.id}"


@trouble("action-denied", "ec2:DescribeSubnets")
def describe_subnets_denied(scene: Scene) -> Iterator[str]:
    scene.lab.ec2.faults.error("DescribeSubnets", "UnauthorizedOperation", times=None)
    yield '"Action": "ec2:DescribeSubnets"'


# -- route tables -------------------------------------------------------------------------------------------


@trouble("no-tables")
def tag_that_no_table_has(scene: Scene) -> Iterator[str]:
    with scene.policy(allowedRouteTables={"tags": {"floatip": "prod"}}):
        yield "Key=floatip,Value=prod"


@trouble("table-missing", "rtb-00000000000000000")
def table_that_is_not_there(scene: Scene) -> Iterator[str]:
    with scene.policy(allowedRouteTables={"ids": ["rtb-00000000000000000", scene.lab.tables["a"]]}):
        yield "rtb-00000000000000000"


@contextlib.contextmanager
def routes(scene: Scene, *destinations: str, **target: str) -> Iterator[None]:
    cells = [{"RouteTableId": scene.lab.tables["a"], "DestinationCidrBlock": cidr} for cidr in destinations]
    for cell in cells:
        scene.ec2.create_route(**cell, **target)
    try:
        yield
    finally:
        for cell in cells:
            scene.ec2.delete_route(**cell)


@trouble("quota-near")
def table_nearly_full(scene: Scene) -> Iterator[str]:
    many = [f"172.16.{number}.0/24" for number in range(42)]
    with routes(scene, *many, TransitGatewayId=scene.lab.vpc.tgw):
        yield f"--range {FLOATING}"


@trouble("route-conflict")
def address_that_leads_to_the_transit_gateway(scene: Scene) -> Iterator[str]:
    with routes(scene, "192.168.0.9/32", TransitGatewayId=scene.lab.vpc.tgw):
        yield f"--route-table-id {scene.lab.tables['a']} --destination-cidr-block 192.168.0.9/32"


@trouble("route-blackhole")
def address_of_a_node_that_has_gone(scene: Scene) -> Iterator[str]:
    made = scene.ec2.create_network_interface(SubnetId=scene.lab.vpc.subnets["a"].id)["NetworkInterface"]
    with routes(scene, "192.168.0.9/32", NetworkInterfaceId=made["NetworkInterfaceId"]):
        yield f"floatipctl sweep --range {FLOATING}"
    scene.ec2.delete_network_interface(NetworkInterfaceId=made["NetworkInterfaceId"])


@contextlib.contextmanager
def leading(scene: Scene, eni: str, *tables: str) -> Iterator[None]:
    """The pod's address leads elsewhere in these tables ("": it has no route there); nobody mends it."""
    cells = [{"RouteTableId": table, "DestinationCidrBlock": f"{OWN[0]}/32"} for table in tables]
    for cell in cells:
        scene.ec2.replace_route(**cell, NetworkInterfaceId=eni) if eni else scene.ec2.delete_route(**cell)
    try:
        yield
    finally:
        for cell in cells:
            back = scene.ec2.replace_route if eni else scene.ec2.create_route
            back(**cell, NetworkInterfaceId=scene.eth1.id)


@contextlib.contextmanager
def eni_of_another_node(scene: Scene) -> Iterator[tuple[str, str]]:
    """An instance that this node knows nothing of, and its ENI."""
    subnet = scene.lab.vpc.subnets["a"].id
    made = scene.ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0]
    try:
        yield made["InstanceId"], made["NetworkInterfaces"][0]["NetworkInterfaceId"]
    finally:
        scene.ec2.terminate_instances(InstanceIds=[made["InstanceId"]])


@trouble("address-superseded", "default/db net1")
def route_that_another_node_took(scene: Scene) -> Iterator[str]:
    tables = [scene.lab.tables["a"], scene.lab.tables["tgw"]]
    with eni_of_another_node(scene) as (instance, eni), leading(scene, eni, *tables):
        (output,) = [
            finding for finding in scene.complaints("addresses") if finding.id == "address-superseded"
        ]
        assert output.what.startswith(f"{OWN[0]}/32 leads to {eni} (attached to {instance}) in ")
        assert all(table in output.what for table in tables), "one finding for both"
        yield "kubectl -n default delete pod db"


@trouble("address-unserved", "default/db net1")
def route_that_somebody_deleted(scene: Scene) -> Iterator[str]:
    with leading(scene, "", scene.lab.tables["a"]):
        yield "the LAST ERROR of default/db"


@trouble("address-unserved", "default/db net1")
def route_to_another_eni_of_this_node(scene: Scene) -> Iterator[str]:
    with leading(scene, scene.ens7.id, scene.lab.tables["a"]):
        yield "the LAST ERROR of default/db"


@trouble("address-cut-off", "default/db net1")
def eni_that_was_detached(scene: Scene) -> Iterator[str]:
    """EC2 and metadata have it no more; the pod runs."""
    findings = scene.interface(scene.eth1.id)["Attachment"]
    scene.ec2.detach_network_interface(AttachmentId=findings["AttachmentId"], Force=True)
    try:
        findings = scene.findings("addresses", "conflicts")
        assert [finding.id for finding in findings["addresses"]] == ["address-cut-off"]
        assert [finding.severity for finding in findings["conflicts"]] == [Severity.OK], (
            "no blackhole for a sweep"
        )
        yield f"attach {scene.eth1.id} again, or run: kubectl -n default delete pod db"
    finally:
        scene.ec2.attach_network_interface(
            NetworkInterfaceId=scene.eth1.id, InstanceId=scene.node.instance_id, DeviceIndex=scene.eth1.device
        )


@trouble("route-unclaimed", "192.168.0.9/32")
def route_to_this_node_that_no_pod_has(scene: Scene) -> Iterator[str]:
    with routes(scene, "192.168.0.9/32", NetworkInterfaceId=scene.eth1.id):
        yield f"--route-table-id {scene.lab.tables['a']} --destination-cidr-block 192.168.0.9/32"


@trouble("transit-table")
def attachment_whose_table_is_not_ours(scene: Scene) -> Iterator[str]:
    with scene.policy(allowedRouteTables={"ids": [scene.lab.tables["a"], scene.lab.tables["main"]]}):
        yield scene.lab.tables["tgw"]


@trouble("transit-unselected")
def attachment_that_uses_another_table_now(scene: Scene) -> Iterator[str]:
    """Policy allows it, and the claims do not have it (yet)."""
    before = scene.ec2.describe_route_tables(RouteTableIds=[scene.lab.tables["tgw"]])["RouteTables"][0]
    made = scene.ec2.create_route_table(VpcId=scene.lab.vpc.id)["RouteTable"]["RouteTableId"]
    moved = scene.ec2.replace_route_table_association(
        AssociationId=before["Associations"][0]["RouteTableAssociationId"], RouteTableId=made
    )["NewAssociationId"]
    try:
        with scene.policy(allowedRouteTables={"ids": [made, *scene.lab.tables.values()]}):
            yield f"select {made} too"
    finally:
        scene.ec2.replace_route_table_association(AssociationId=moved, RouteTableId=scene.lab.tables["tgw"])
        scene.ec2.delete_route_table(RouteTableId=made)


@trouble("transit-zone")
def attachment_in_another_zone_alone(scene: Scene) -> Iterator[str]:
    attached = scene.ec2.describe_transit_gateway_vpc_attachments(
        Filters=[{"Name": "vpc-id", "Values": [scene.lab.vpc.id]}]
    )["TransitGatewayVpcAttachments"][0]
    other = scene.ec2.create_subnet(
        VpcId=scene.lab.vpc.id, CidrBlock="10.10.200.16/28", AvailabilityZone=scene.lab.vpc.zone("b")
    )["Subnet"]["SubnetId"]
    which, here = attached["TransitGatewayAttachmentId"], attached["SubnetIds"]
    modify = scene.ec2.modify_transit_gateway_vpc_attachment
    modify(TransitGatewayAttachmentId=which, AddSubnetIds=[other], RemoveSubnetIds=here)
    try:
        yield f"--transit-gateway-attachment-id {which} --add-subnet-ids"
    finally:
        modify(TransitGatewayAttachmentId=which, AddSubnetIds=here, RemoveSubnetIds=[other])
        scene.ec2.delete_subnet(SubnetId=other)


# -- network interfaces -------------------------------------------------------------------------------------


@trouble("no-floating-eni")
def every_eni_is_vpc_cnis(scene: Scene) -> Iterator[str]:
    ours = [scene.eth1.id, scene.ens7.id]
    tag = {"Key": "eks:eni:owner", "Value": "eks-vpc-resource-controller"}
    scene.ec2.create_tags(Resources=ours, Tags=[tag])
    yield scene.node.instance_id
    scene.ec2.delete_tags(Resources=ours, Tags=[tag])


@trouble("eni-not-allowed")
def tags_that_no_eni_has(scene: Scene) -> Iterator[str]:
    with scene.policy(allowedInterfaces={"tags": {"team": "core"}}):
        yield f"create-tags --resources {scene.eth1.id} --tags Key=team,Value=core"


@contextlib.contextmanager
def tagged(scene: Scene, *enis: str) -> Iterator[None]:
    """Policy wants a tag of the administrator's own, which these ENIs have."""
    tag = {"Key": "team", "Value": "core"}
    scene.ec2.create_tags(Resources=list(enis), Tags=[tag])
    try:
        with scene.policy(allowedInterfaces={"tags": {"team": "core"}}):
            yield
    finally:
        scene.ec2.delete_tags(Resources=list(enis), Tags=[tag])


@trouble("eni-not-allowed")
def eni_of_a_pod_that_lost_its_tag(scene: Scene) -> Iterator[str]:
    with tagged(scene, scene.ens7.id):
        assert [finding.subject for finding in scene.complaints("enis")] == [scene.eth1.id], (
            "the other has it"
        )
        assert not scene.complaints("links"), "it is in use: it is judged"
        yield scene.eth1.id


@trouble("eni-managed")
def no_tag_no_manage(scene: Scene) -> Iterator[str]:
    tag = {"Key": "node.k8s.amazonaws.com/no_manage", "Value": "true"}
    scene.ec2.delete_tags(Resources=[scene.ens7.id], Tags=[tag])
    yield scene.ens7.id
    scene.ec2.create_tags(Resources=[scene.ens7.id], Tags=[tag])


@trouble("eni-managed")
def eni_that_vpc_cni_has_taken(scene: Scene) -> Iterator[str]:
    """It was attached without the tag when VPC CNI started."""
    tag = {"Key": "node.k8s.amazonaws.com/instance_id", "Value": scene.node.instance_id}
    scene.ec2.create_tags(Resources=[scene.ens7.id], Tags=[tag])
    with no_tag_no_manage(scene):
        yield f"create-tags --resources {scene.ens7.id}"
    assert not scene.complaints("enis"), "what the remedy says is enough"
    scene.ec2.delete_tags(Resources=[scene.ens7.id], Tags=[tag])


@trouble("interface-unknown", "ens9")
def a_name_that_no_link_has(scene: Scene) -> Iterator[str]:
    with scene.asked_for("eth1", "ens9"):
        yield "ip link"


@trouble("interface-unknown", "eth0")
def the_primary_eni_is_named(scene: Scene) -> Iterator[None]:
    with scene.asked_for("eth0"):
        yield None


@trouble("link-missing")
def no_link_with_the_macs_address(scene: Scene) -> Iterator[str]:
    scene.ip("link set ens7 address 02:00:00:00:ff:01")
    yield scene.ens7.id
    scene.ip(f"link set ens7 address {scene.ens7.mac}")


@trouble("link-down", "ens7")
def link_down(scene: Scene) -> Iterator[str]:
    scene.ip("link set ens7 down")
    yield "ip link set ens7 up"
    scene.ip("link set ens7 up")


@contextlib.contextmanager
def agent_that_sleeps(scene: Scene) -> Iterator[None]:
    """It mends nothing meanwhile, and the doctor hears what it said before."""
    output = scene.status()
    scene.node.agent.freeze()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(agent_socket, "status", lambda *_: output)
            yield
    finally:
        scene.node.agent.thaw()


@trouble("link-down-in-use", "eth1")
def link_of_a_pod_down(scene: Scene) -> Iterator[str]:
    with agent_that_sleeps(scene):
        scene.ip("link set eth1 down")
        try:
            (text,) = [
                finding.what for finding in scene.complaints("links") if finding.id == "link-down-in-use"
            ]
            assert text == "is down: default/db cannot be reached"
            yield "ip link set eth1 up"
        finally:
            scene.ip("link set eth1 up")


@trouble("no-carrier", "ens7")
def no_carrier(scene: Scene) -> Iterator[str]:
    netns.ip(scene.lab.router.netns, ["link set a1-ens7 down"])
    yield "ip link show ens7"
    netns.ip(scene.lab.router.netns, ["link set a1-ens7 up"])


@trouble("mtu-small", "ens7")
def mtu_1500(scene: Scene) -> Iterator[str]:
    scene.ip("link set ens7 mtu 1500")
    yield "ip link set ens7 mtu 9001"
    scene.ip("link set ens7 mtu 9001")


@trouble("link-name", "ens7")
def named_by_its_slot(scene: Scene) -> Iterator[str]:
    scene.ip("link property del dev ens7 altname floatip2")
    yield "altname floatip2"
    scene.ip("link property add dev ens7 altname floatip2")


@trouble("check-on")
def somebody_turned_the_check_on_again(scene: Scene) -> Iterator[str]:
    change = {"NetworkInterfaceId": scene.eth1.id}
    scene.ec2.modify_network_interface_attribute(**change, SourceDestCheck={"Value": True})
    yield scene.eth1.id
    scene.ec2.modify_network_interface_attribute(**change, SourceDestCheck={"Value": False})


@trouble("check-on")
def check_on_where_policy_wants_it_off(scene: Scene) -> Iterator[str]:
    with scene.policy(sourceDestCheck="require"):
        yield scene.ens7.id


@trouble("security-group-inbound")
def group_that_admits_only_itself(scene: Scene) -> Iterator[str]:
    scene.ec2.revoke_security_group_ingress(GroupId=scene.group, IpPermissions=[scene.permission])
    itself = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": scene.group}]}
    scene.ec2.authorize_security_group_ingress(GroupId=scene.group, IpPermissions=[itself])
    yield f"--group-id {scene.group}"
    scene.ec2.revoke_security_group_ingress(GroupId=scene.group, IpPermissions=[itself])
    scene.ec2.authorize_security_group_ingress(GroupId=scene.group, IpPermissions=[scene.permission])


@trouble("security-group-reference")
def database_that_admits_our_group(scene: Scene) -> Iterator[str]:
    vpc = scene.lab.vpc.id
    peer = scene.ec2.create_security_group(GroupName="db", Description="db", VpcId=vpc)["GroupId"]
    ours = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": scene.group}]}
    scene.ec2.authorize_security_group_ingress(GroupId=peer, IpPermissions=[ours])
    yield f"--group-id {peer}"
    scene.ec2.delete_security_group(GroupId=peer)


@trouble("security-group-outbound")
def group_that_lets_nothing_out(scene: Scene) -> Iterator[str]:
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    scene.ec2.revoke_security_group_egress(GroupId=scene.group, IpPermissions=everything)
    yield '"CidrIp":"192.168.0.0/24"'
    scene.ec2.authorize_security_group_egress(GroupId=scene.group, IpPermissions=everything)


@trouble("network-acl-denies")
def acl_that_denies_the_range(scene: Scene) -> Iterator[str]:
    result = scene.ec2.describe_network_acls(
        Filters=[{"Name": "association.subnet-id", "Values": [scene.eth1.subnet.id]}]
    )
    acl = result["NetworkAcls"][0]["NetworkAclId"]
    rule = {"NetworkAclId": acl, "RuleNumber": 50, "Egress": False}
    scene.ec2.create_network_acl_entry(**rule, Protocol="-1", RuleAction="deny", CidrBlock="192.168.0.0/16")
    yield f"--network-acl-id {acl} --ingress"
    scene.ec2.delete_network_acl_entry(**rule)


@trouble("rp-filter-strict", "ens7")
def strict_filtering(scene: Scene) -> Iterator[str]:
    scene.sysctl(ipv4__conf__ens7__rp_filter=1)
    yield "net.ipv4.conf.ens7.rp_filter=2"
    scene.sysctl(ipv4__conf__ens7__rp_filter=0)


@trouble("host-uses-eni", "ens7")
def host_on_an_eni(scene: Scene) -> Iterator[str]:
    scene.ip("addr add 10.10.1.77/24 dev ens7")
    scene.ip("route add default via 10.10.1.1 dev ens7 metric 9999 onlink")
    yield "ip addr flush dev ens7"
    scene.ip("addr del 10.10.1.77/24 dev ens7")


@trouble("eni-in-pod", "")
def eni_in_a_pod(scene: Scene) -> Iterator[str]:
    pod = netns.path(scene.pod.ns).name
    scene.ip(f"link set eth1 netns {pod} name gift")
    try:
        yield "drop NET_RAW and NET_ADMIN in that pod"
    finally:
        netns.ip(pod, [f"link set gift netns {scene.node.ns} name eth1"])
        scene.ip("link set eth1 up")
        link = netns.inside(scene.node.ns, link_by_mac, scene.eth1.mac)
        assert link is not None
        netns.inside(scene.node.ns, guard.ensure, link)  # it did not go along


@trouble("forwarding-on", "eth1")
def host_forwards(scene: Scene) -> Iterator[str]:
    netns.inside(scene.node.ns, forwarding.resume)
    yield "a rule of preference 110 there (ip -4 rule)"

    def stop() -> None:
        link = link_by_mac(scene.node.eni("eth1").mac)
        assert link
        forwarding.stop(link)

    netns.inside(scene.node.ns, stop)


@trouble("ra-default-route", "default/db")
def pod_that_heard_a_router(scene: Scene) -> Iterator[str]:
    netns.inside(scene.lab.router.netns, advertise, "a1-eth1", 1800)
    yield "net1"
    netns.inside(scene.lab.router.netns, advertise, "a1-eth1", 0)


def advertise(link: str, lifetime: int) -> None:
    """Send a router advertisement (RFC 4861, 4.2) to all nodes behind a link."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(link))
        sock.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0), ("ff02::1", 0))


@trouble("pod-lost", "default/db")
def pod_that_lost_an_address(scene: Scene) -> Iterator[str]:
    """Not a route: the agent would put that back meanwhile."""
    netns.ip(scene.pod.ns, [f"addr del {OWN[1]}/128 dev net1"])
    try:
        yield "net1"
    finally:
        netns.ip(scene.pod.ns, [f"addr add {OWN[1]}/128 dev net1 nodad"])


# -- address ranges -----------------------------------------------------------------------------------------


@trouble("range-populated", "10.10.1.0/24")
def range_where_nodes_live(scene: Scene) -> Iterator[str]:
    with scene.policy(allowedDestinations=[{"cidr": "10.10.1.0/24"}]):
        yield scene.lab.vpc.subnets["a"].id


@trouble("range-without-subnet", "10.10.77.0/28")
def range_where_no_subnet_is(scene: Scene) -> Iterator[str]:
    with scene.policy(allowedDestinations=[{"cidr": "10.10.77.0/28"}]):
        yield f"--vpc-id {scene.lab.vpc.id} --cidr-block 10.10.77.0/28"


@trouble("range-contains-vpc", "10.0.0.0/8")
def range_around_the_vpc(scene: Scene) -> Iterator[str]:
    with scene.policy(allowedDestinations=[{"cidr": "10.0.0.0/8"}]):
        yield "10.0.0.0/8"


# -- cluster ------------------------------------------------------------------------------------------------


@trouble("snat", "192.168.0.0/24")
def range_that_vpc_cni_rewrites(scene: Scene) -> Iterator[str]:
    env = scene.cluster.daemonsets["aws-node"]["spec"]["template"]["spec"]["containers"][0]["env"]
    env[-1]["value"] = "10.99.0.0/16"
    yield "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS=10.99.0.0/16,192.168.0.0/24"


@trouble("multus-missing")
def no_multus(scene: Scene) -> Iterator[str]:
    del scene.cluster.daemonsets["kube-multus-ds"]
    yield "install/README.md"


@trouble("multus-old")
def multus_that_knows_no_newer_results(scene: Scene) -> Iterator[str]:
    multus = scene.cluster.daemonsets["kube-multus-ds"]["spec"]["template"]["spec"]["containers"][0]
    multus["image"] = "registry.example/eks/multus-cni:v3.9.2-eksbuild.1"
    multus["command"] = ["/entrypoint.sh"]
    yield '"cniVersion": "0.4.0"'


@trouble("multus-memory")
def multus_with_the_memory_that_it_comes_with(scene: Scene) -> Iterator[str]:
    multus = scene.cluster.daemonsets["kube-multus-ds"]["spec"]["template"]["spec"]["containers"][0]
    multus["resources"]["limits"]["memory"] = "50Mi"
    yield "-c kube-multus --limits=memory=256Mi"


@trouble("multus-not-ready")
def multus_that_does_not_run_everywhere(scene: Scene) -> Iterator[str]:
    scene.cluster.daemonsets["kube-multus-ds"]["status"]["numberReady"] = 3
    yield "-l name=multus"


@pytest.fixture(autouse=True)
def nothing_is_left(scene: Scene) -> Iterator[None]:
    yield
    scene.lab.ec2.faults.clear()
    scene.cluster.reset()


@pytest.mark.one_in(5)
@pytest.mark.parametrize("planted", TROUBLES, ids=[item.name for item in TROUBLES])
def test_trouble_is_found(scene: Scene, planted: Trouble) -> None:
    kind = KINDS[planted.finding]
    with planted.plant(scene) as named:
        findings = scene.complaints(kind.check)
    mine = [
        finding
        for finding in findings
        if finding.id == planted.finding and planted.subject in finding.subject
    ]
    assert mine, findings
    assert any((named or "") in finding.remedy for finding in mine), mine
    assert all(finding.severity is kind.severity and finding.why and finding.what for finding in mine)


def test_nothing_is_wrong_where_nothing_is(scene: Scene) -> None:
    """After every trouble above was planted and taken away again."""
    findings = scene.findings()
    assert not [(check, f) for check, fs in findings.items() for f in fs if f.severity is not Severity.OK]


def test_every_finding_is_planted() -> None:
    elsewhere = {
        *("agent-not-ready", "agent-warns"),  # what an agent in trouble says: test_judge
        "guard-impossible",  # below: a process with fewer rights
    }
    assert {item.finding for item in TROUBLES} | elsewhere == KINDS.keys()


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize(
    ("rights", "wanted"), [((), "ok"), (("--bounding-set", "-net_admin"), "guard-impossible")]
)
def test_whether_a_guard_can_be_is_tried_before_the_first_pod(rights: tuple[str, ...], wanted: str) -> None:
    before_any_pod = """if True:
        from cni_floatip.doctor.checks.node import metadata_guard
        from cni_floatip.doctor.probe import Probe

        class NoPods(Probe):
            claims = links = ()

        print(*(finding.id for finding in metadata_guard(NoPods({}))))
    """
    command = ["setpriv", *rights, sys.executable, "-c", before_any_pod]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [wanted]


def test_metadata_through_an_eni_with_an_address_of_its_own(scene: Scene) -> None:
    """Such an ENI (AL2023 gives it one at launch) is answered, whatever the source/dest check is."""
    address = f"{scene.ens7.addresses[0]}/24 dev ens7"
    scene.ip(f"addr add {address}")
    try:
        assert netns.inside(scene.node.ns, host.metadata_answers, "ens7") == "169.254.169.254"
        link = netns.inside(scene.node.ns, link_by_mac, scene.ens7.mac)
        assert link is not None
        netns.inside(scene.node.ns, guard.ensure, link)
        assert netns.inside(scene.node.ns, host.metadata_answers, "ens7") == ""
        netns.inside(scene.node.ns, guard.remove, link)
    finally:
        scene.ip(f"addr del {address}")


@pytest.mark.thorough(sample="test_metadata_through_an_eni_with_an_address_of_its_own")
def test_metadata_from_a_floating_address_that_is_routed_there(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod with NET_ADMIN removed its unreachable route: what is bound to the address gets through."""
    monkeypatch.setattr(host, "TRY_SECONDS", 0.4)
    barred = "unreachable 169.254.0.0/16 table 100 proto 241"

    def answers() -> str:
        return netns.inside(scene.pod.ns, host.metadata_answers, "lo", [OWN[0]])

    with unguarded(scene):
        assert answers() == ""
        netns.ip(scene.pod.ns, [f"route del {barred}"])
        try:
            assert answers() == "169.254.169.254"
            for kind in ("blackhole", "prohibit"):  # what an administrator may have put there
                netns.ip(scene.pod.ns, [f"route add {kind} 169.254.0.0/16 table 100"])
                assert answers() == ""
                netns.ip(scene.pod.ns, [f"route del {kind} 169.254.0.0/16 table 100"])
        finally:
            netns.ip(scene.pod.ns, [f"route add {barred}"])


def test_metadata_is_tried_without_ipv6_and_with_many_files_open(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel with ipv6.disable=1; and pods with so many addresses that select() would not do."""
    real = socket.socket

    def without_ipv6(family: int, *more: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *more)

    monkeypatch.setattr(host, "TRY_SECONDS", 0.2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with contextlib.ExitStack() as opened:
        for _ in range(1100):
            opened.enter_context(open(os.devnull))  # noqa: PTH123 (a descriptor, no more)
        monkeypatch.setattr(socket, "socket", without_ipv6)
        try:
            assert netns.inside(scene.pod.ns, host.metadata_answers, "net1", [OWN[0], OWN[1]]) == ""
        finally:
            monkeypatch.undo()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_route_of_a_pod_that_has_just_ended_is_not_unclaimed(scene: Scene) -> None:
    """It stays for ``releaseGraceSeconds``, and the agent has it in its records."""
    pod, conflist = scene.node.pod("ended"), scene.lab.conflist(["192.168.0.3/32"], eth="ens7")
    scene.node.add(pod, conflist)
    scene.node.delete(pod, conflist)
    try:
        assert "192.168.0.3/32" in str(scene.lab.ec2.truth(scene.lab.tables["a"]))
        assert not scene.complaints("addresses")
    finally:
        scene.node.remove_pod(pod)
        scene.restart_agent()  # which releases it


def test_agent_whose_proxy_keeps_it_from_credentials_says_so(scene: Scene) -> None:
    scene.node.stop_agent()
    scene.node.start_agent(env={"HTTP_PROXY": PROXY}, wait=False)
    try:
        scene.node.agent.wait()
        until(lambda: "ProxyConnectionError" in str(scene.status()["agent"]["problems"]))
        text = str(scene.status()["agent"]["problems"])
    finally:
        scene.restart_agent()
    assert "127.0.0.1:9" in text
    assert "secret" not in text


def test_a_link_that_a_pod_has_taken_is_not_missing(scene: Scene) -> None:
    """host-device, and no floating IP on it: the agent knows nothing of that pod."""
    pod = netns.path(scene.pod.ns).name
    scene.ip(f"link set ens7 netns {pod}")
    try:
        assert not scene.complaints("links")
    finally:
        netns.ip(pod, [f"link set ens7 netns {scene.node.ns}"])
        scene.ip("link set ens7 up")


def test_permissions_are_tried_while_sts_is_away(scene: Scene) -> None:
    with scene.environment(AWS_ENDPOINT_URL_STS="http://127.0.0.1:9"):
        findings = scene.findings("identity", "permissions")
    assert [finding.severity for finding in findings["identity"]] == [Severity.UNCHECKED]
    assert [finding.severity for finding in findings["permissions"]] == [Severity.OK]


ABOUT_ENIS = ("permissions", "enis", "links", "source-dest-check", "security-groups", "rp-filter")


@contextlib.contextmanager
def for_storage(scene: Scene) -> Iterator[None]:
    """ens7 is there for something else: what is right for that is wrong for floating IPs."""
    vpc, eni = scene.lab.vpc.id, {"NetworkInterfaceId": scene.ens7.id}
    group = scene.ec2.create_security_group(GroupName="nfs", Description="nfs", VpcId=vpc)["GroupId"]
    scene.ec2.modify_network_interface_attribute(**eni, Groups=[group])
    scene.ec2.modify_network_interface_attribute(**eni, SourceDestCheck={"Value": True})
    try:
        with (
            no_tag_no_manage(scene),
            mtu_1500(scene),
            named_by_its_slot(scene),
            strict_filtering(scene),
            scene.policy(sourceDestCheck="require"),
        ):
            yield
    finally:
        scene.ec2.modify_network_interface_attribute(**eni, SourceDestCheck={"Value": False})
        scene.ec2.modify_network_interface_attribute(**eni, Groups=[scene.group])
        scene.ec2.delete_security_group(GroupId=group)


def test_eni_for_something_else(scene: Scene) -> None:
    """Nobody tells that it is: it is judged. With the others named it is not, and that is said once."""
    with for_storage(scene):
        judged = scene.findings(*ABOUT_ENIS)
        with scene.asked_for("eth1"):
            results = scene.findings(*ABOUT_ENIS)
    assert [finding.id for check in ABOUT_ENIS for finding in judged[check]] == [
        "ok",
        "eni-managed",
        *("mtu-small", "link-name"),
        "check-on",
        "security-group-inbound",
        "rp-filter-strict",
    ]
    ours, other = results.pop("enis")
    assert (ours.severity, scene.eth1.id in ours.what) == (Severity.OK, True)
    assert (other.severity, other.subject) == (Severity.UNCHECKED, scene.ens7.id)
    assert [finding.severity for findings in results.values() for finding in findings] == [Severity.OK] * 5


@contextlib.contextmanager
def made_by_vpc_cni(scene: Scene) -> Iterator[None]:
    """Its tag alone says less: it puts that on ENIs of others too."""
    eni = {"NetworkInterfaceId": scene.ens7.id}
    scene.ec2.modify_network_interface_attribute(**eni, Description={"Value": "aws-K8S-i-0123"})
    yield
    scene.ec2.modify_network_interface_attribute(**eni, Description={"Value": "for floating IPs"})


@contextlib.contextmanager
def efa_only(scene: Scene) -> Iterator[None]:
    """Metadata describes such an ENI like any other, and the kernel has no link for it."""
    answered = Vpc.pages

    def pages(vpc: Vpc, *request: Any) -> Iterator[dict[str, Any]]:
        for item in answered(vpc, *request):
            kind = {"InterfaceType": "efa-only"} if item.get("NetworkInterfaceId") == scene.ens7.id else {}
            yield {**item, **kind}

    with pytest.MonkeyPatch.context() as patch, no_link_with_the_macs_address(scene):
        patch.setattr(Vpc, "pages", pages)
        yield


@pytest.mark.parametrize(
    ("never", "why"),
    [(made_by_vpc_cni, "VPC CNI's own"), (efa_only, "EFA-only, which has no IP")],
    ids=["made by VPC CNI", "EFA-only"],
)
def test_what_floating_ips_can_never_use_is_named_and_not_judged(
    scene: Scene, never: Callable[[Scene], AbstractContextManager[None]], why: str
) -> None:
    with for_storage(scene), never(scene):
        results = scene.findings(*ABOUT_ENIS)
        with scene.asked_for(scene.ens7.id):
            complaints = scene.complaints("enis")
    assert not [
        finding
        for findings in results.values()
        for finding in findings
        if finding.severity is not Severity.OK
    ]
    assert f"{scene.ens7.id}: {why}" in results["enis"][0].what
    (named,) = complaints
    assert (named.id, named.what) == ("interface-unknown", f"is {scene.ens7.id}: {why}")


@pytest.mark.parametrize("by", ["link", "second name", "id"])
def test_named_eni_is_judged(scene: Scene, by: str) -> None:
    name = {"link": "ens7", "second name": "floatip2", "id": scene.ens7.id}[by]
    with mtu_1500(scene), scene.asked_for(name):
        findings = scene.findings("enis", "links")
    assert [finding.id for finding in findings["links"]] == ["mtu-small"]
    assert [finding.id for finding in findings["enis"]] == ["ok"], "eth1 has live claims: it is not left out"


def test_eni_that_policy_does_not_allow_is_named_and_not_judged(scene: Scene) -> None:
    """An administrator who tags those for pods says what the others are not."""
    with for_storage(scene), tagged(scene, scene.eth1.id), scene.policy(sourceDestCheck="require"):
        results = scene.findings(*ABOUT_ENIS)
        with scene.asked_for("ens7"):
            (named,) = scene.complaints("enis")
    assert not [
        finding
        for findings in results.values()
        for finding in findings
        if finding.severity is not Severity.OK
    ]
    assert f"{scene.ens7.id}: without the tags of allowedInterfaces (team=core)" in results["enis"][0].what
    assert named.id == "interface-unknown"


@contextlib.contextmanager
def on_the_second_card(scene: Scene) -> Iterator[None]:
    """ens7 is device 0 of network card 1, to metadata and to EC2."""
    answered, items = Vpc.pages, f"network/interfaces/macs/{scene.ens7.mac}"
    metadata = scene.lab.imds["a1"]

    def pages(vpc: Vpc, *request: Any) -> Iterator[dict[str, Any]]:
        for item in answered(vpc, *request):
            if item.get("NetworkInterfaceId") == scene.ens7.id:
                place = {"DeviceIndex": 0, "NetworkCardIndex": 1}
                yield {**item, "Attachment": {**item["Attachment"], **place}}
            else:
                yield dict(item)

    metadata.show(f"{items}/device-number", "0")
    metadata.show(f"{items}/network-card", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Vpc, "pages", pages)
        try:
            yield
        finally:
            metadata.heal()


def test_eni_of_the_second_network_card_is_judged_like_any_other(scene: Scene) -> None:
    """Device indexes count per card: its 0 is not the primary one."""
    with on_the_second_card(scene):
        findings = scene.findings("enis", "links")
        scene.ip("link property add dev ens7 altname floatip1-0")
        try:
            with mtu_1500(scene), scene.asked_for("floatip1-0"):
                named = scene.findings("enis", "links")
        finally:
            scene.ip("link property del dev ens7 altname floatip1-0")
    assert [finding.id for finding in (*findings["enis"], *findings["links"])] == ["ok", "link-name"]
    assert f"{scene.ens7.id} (device 1-0)" in findings["enis"][0].what
    assert "altname floatip1-0" in findings["links"][0].remedy
    assert [finding.id for finding in (*named["enis"], *named["links"])] == ["ok", "mtu-small"]


def test_named_by_its_device_index_while_its_link_is_away(scene: Scene) -> None:
    with no_link_with_the_macs_address(scene), scene.asked_for("floatip2"):
        findings = scene.findings("enis", "links")
    assert [finding.id for finding in (*findings["enis"], *findings["links"])] == ["ok", "link-missing"]


def test_eni_with_claims_is_judged_whatever_is_named(scene: Scene) -> None:
    with scene.asked_for("ens7"), somebody_turned_the_check_on_again(scene), no_guard(scene):
        findings = scene.findings("source-dest-check", "metadata-guard")
    assert [finding.subject for finding in findings["source-dest-check"]] == [scene.eth1.id]
    assert "guard-missing" in [finding.id for finding in findings["metadata-guard"]]


def test_right_to_turn_the_check_off_is_tried_where_it_is_wanted(scene: Scene) -> None:
    """IAM grants it by a tag that an ENI for something else does not have."""

    def tried(*named: str) -> list[str]:
        scene.lab.ec2.journal.clear()
        with scene.asked_for(*named):
            scene.findings("permissions")
        calls = scene.lab.ec2.journal.of("ModifyNetworkInterfaceAttribute")
        return sorted(call.params["NetworkInterfaceId"] for call in calls)

    assert tried() == sorted([scene.eth1.id, scene.ens7.id])
    assert tried("eth1") == [scene.eth1.id]


def test_enis_that_may_not_be_seen_are_judged(scene: Scene) -> None:
    """Whose they are EC2 does not tell; which were named is still respected, and said."""
    scene.lab.ec2.faults.error("DescribeNetworkInterfaces", "UnauthorizedOperation", times=None)
    with mtu_1500(scene):
        every = scene.findings("links")
        with scene.asked_for("eth1"):
            findings = scene.findings("enis", "links")
    assert [finding.id for finding in (*every["links"], *findings["links"])] == ["mtu-small", "ok"]
    assert [finding.subject for finding in findings["enis"]] == ["", scene.ens7.id]
    assert {finding.severity for finding in findings["enis"]} == {Severity.UNCHECKED}


def test_what_was_not_looked_at_is_not_fine(scene: Scene) -> None:
    """No ENI for floating IPs: nothing can be said of links, checks, groups and ACLs."""
    with every_eni_is_vpc_cnis(scene):
        results = scene.findings("links", "source-dest-check", "security-groups", "network-acls")
    assert [finding.severity for findings in results.values() for finding in findings] == [
        Severity.UNCHECKED
    ] * 4


def test_what_ec2_keeps_to_itself_is_not_fine(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network ACLs of a shared VPC are their owner's: a participant's answer is empty."""
    monkeypatch.setattr(Ec2Reads, "network_acls", lambda *_: ())
    (finding,) = scene.findings("network-acls")["network-acls"]
    assert finding.severity is Severity.UNCHECKED
    assert scene.eth1.subnet.id in finding.what


def test_an_eni_that_metadata_does_not_describe_yet(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """VPC CNI is attaching one: it is said, and judged is what there is."""
    described = Metadata.eni

    def eni(metadata: Metadata, mac: str) -> Eni:
        if mac == scene.ens7.mac:
            raise TryAgain(f"instance metadata has none of it for {mac} yet")
        return described(metadata, mac)

    monkeypatch.setattr(Metadata, "eni", eni)
    findings = scene.findings("metadata", "enis", "links")
    (output,) = findings["metadata"]
    assert (output.severity, scene.ens7.mac in output.what) == (Severity.UNCHECKED, True)
    assert [finding.severity for finding in (*findings["enis"], *findings["links"])] == [Severity.OK] * 2
    monkeypatch.setattr(Metadata, "eni", lambda _, mac: eni(_, scene.ens7.mac))
    assert [finding.id for finding in scene.findings("metadata")["metadata"]] == ["metadata-unreachable"]


def test_one_link_that_cannot_be_tried_hides_no_pod(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: int) -> Link:
        raise PodNetworkFailure("link 3 of the host: it is gone")

    monkeypatch.setattr(checks_node, "host_link", refused)
    findings = scene.findings("metadata-guard")["metadata-guard"]
    assert [finding.severity for finding in findings] == [Severity.UNCHECKED, Severity.OK]


def test_names_that_amazon_ec2_net_utils_gives(scene: Scene) -> None:
    with named_by_its_slot(scene):
        scene.ip("link property add dev ens7 altname device-number-2.0")
        assert not scene.complaints("links")
        scene.ip("link property del dev ens7 altname device-number-2.0")
        assert [finding.id for finding in scene.complaints("links")] == ["link-name"]


def test_settings_that_cannot_be_read_are_not_fine(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host, "_SYSCTL", tmp_path)
    results = scene.findings("rp-filter", "forwarding")
    assert [finding.severity for findings in results.values() for finding in findings] == [
        Severity.UNCHECKED
    ] * 2


def test_doctor_changes_nothing(scene: Scene) -> None:
    scene.lab.ec2.journal.clear()
    before = {name: scene.lab.ec2.truth(table) for name, table in scene.lab.tables.items()}
    scene.findings()
    assert before == {name: scene.lab.ec2.truth(table) for name, table in scene.lab.tables.items()}
    writes = [
        call
        for call in scene.lab.ec2.journal.of(caller="a1")
        if not call.action.startswith(("Describe", "Get")) and not call.params.get("DryRun")
    ]
    assert not writes
    assert OWN[0] in str(before["a"])


def test_what_may_not_be_read_is_said_with_what_allows_it(scene: Scene) -> None:
    for action in ("DescribeSecurityGroups", "DescribeNetworkAcls", "DescribeTransitGatewayVpcAttachments"):
        scene.lab.ec2.faults.error(action, "UnauthorizedOperation", times=None)
    findings = scene.findings("security-groups", "network-acls", "transit")
    for (finding,) in findings.values():
        assert finding.severity is Severity.UNCHECKED
        assert "allow ec2:Describe" in finding.remedy


def test_zones_that_are_not_told_are_not_fine(scene: Scene) -> None:
    """The tables are judged all the same."""
    scene.lab.ec2.faults.error("DescribeSubnets", "UnauthorizedOperation", times=None)
    with attachment_whose_table_is_not_ours(scene):
        table, zone = scene.findings("transit")["transit"]
    assert table.id == "transit-table"
    assert (zone.severity, "DescribeSubnets" in zone.what) == (Severity.UNCHECKED, True)


def test_table_of_the_enis_own_subnet(scene: Scene) -> None:
    """Many want no calls from one floating IP to another: that there can be none is said, and not blamed."""
    own = scene.lab.tables["a"]
    (every,) = scene.findings("tables")["tables"]
    with scene.policy(allowedRouteTables={"ids": [scene.lab.tables["tgw"], scene.lab.tables["client"]]}):
        (finding,) = scene.findings("tables")["tables"]
    assert {every.severity, finding.severity} == {Severity.OK}
    assert f"not {own} of the ENIs' own subnets" in finding.what
    assert "own subnets" not in every.what


def test_no_more_is_said_of_network_acls_than_was_judged(scene: Scene) -> None:
    """One that opens a single port is an administrator's own choice: no finding, and not "every range"."""
    of_eni = [{"Name": "association.subnet-id", "Values": [scene.eth1.subnet.id]}]
    acl = scene.ec2.describe_network_acls(Filters=of_eni)["NetworkAcls"][0]["NetworkAclId"]
    rule = {"NetworkAclId": acl, "RuleNumber": 100, "Egress": False, "RuleAction": "allow"}
    ssh = {"Protocol": "6", "PortRange": {"From": 22, "To": 22}}
    scene.ec2.replace_network_acl_entry(**rule, **ssh, CidrBlock="0.0.0.0/0")
    try:
        (finding,) = scene.findings("network-acls")["network-acls"]
    finally:
        scene.ec2.replace_network_acl_entry(**rule, Protocol="-1", CidrBlock="0.0.0.0/0")
    assert (finding.severity, finding.what) == (
        Severity.OK,
        f"no rule of {acl} denies a range, in or out (ports are not judged)",
    )


def test_an_authority_without_key_ids_is_enough(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of EKS clusters that were made before 1.17: Python 3.13 would refuse them."""
    made = ssl.create_default_context

    def strict(**more: Any) -> ssl.SSLContext:
        context = made(**more)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    results = scene.findings("snat", "multus")
    assert [finding.severity for findings in results.values() for finding in findings] == [Severity.OK] * 2


@pytest.mark.parametrize("how", ["forbidden", "no token", "another authority", "nobody there"])
def test_cluster_that_does_not_tell(scene: Scene, how: str, tmp_path: Path) -> None:
    account = scene.cluster.account
    env: dict[str, str | None] = {}
    if how == "forbidden":
        scene.cluster.allowed = False
    elif how == "no token":
        scene.cluster.account = tmp_path
    elif how == "another authority":
        (tmp_path / "token").write_text("x")
        (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        scene.cluster.account = tmp_path
    else:
        env = {"KUBERNETES_SERVICE_PORT": "9"}
    try:
        with scene.environment(**env):
            findings = scene.findings("snat", "multus")
    finally:
        scene.cluster.account = account
    for (finding,) in findings.values():
        assert finding.severity is Severity.UNCHECKED
        assert finding.remedy.startswith("run: kubectl -n kube-system get daemonset")
