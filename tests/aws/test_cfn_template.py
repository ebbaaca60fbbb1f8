"""``install/cloudformation``: the templates are clean under cfn-lint, and what a linter does not see."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_floatip.config.nodeconf import NodeConf
from tests.aws import policies
from tests.aws.template import ALERTS, DUMMY, GIVEN, NODES, PSEUDO, SHIPPED, THIRD_ZONE, TRANSIT, Stack, plain

EVERYTHING: dict[str, Any] = {
    **THIRD_ZONE,
    **TRANSIT,
    "EniSubnetIpv6Cidrs": ",".join(f"2001:db8:0:{n}::/64" for n in range(6)),
    "FloatingIpv6Cidr": "fd00:192:168::/64",
    "VpcIpv6Cidr": "2001:db8::/56",
    "ClientIpv6Cidr": "2001:db8:1000::/36",
    "TransitGatewaySubnetIpv6Cidrs": ",".join(f"2001:db8:0:{n}::/64" for n in (6, 7, 8)),
    "WarmPerZone": "2",
    "Endpoints": "true",
    "AgentServiceAccount": "cni-floatip",
    "Namespaces": "core-*,signalling",
}
SHAPES = {
    "two zones, nothing else": {},
    "everything": EVERYTHING,
    "three zones": THIRD_ZONE,
    "transit": TRANSIT,
    "attached already": {**TRANSIT, "TransitGatewayAttachment": "tgw-attach-0a"},
    "IPv6 clients alone": {**EVERYTHING, "ClientCidr": ""},
}
NODE = SHIPPED / "node"
REGIONS = ("us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1")
"""Not every region has every resource type; one of each partition, and one that gets new types late."""


@pytest.fixture(params=list(SHAPES.values()), ids=list(SHAPES))
def stack(request: pytest.FixtureRequest) -> Stack:
    return Stack(**request.param)


@pytest.fixture(scope="module")
def full() -> Stack:
    return Stack(**EVERYTHING)


# -- the file ----------------------------------------------------------------------------------------------


@pytest.mark.thorough(sample="test_templates_fit_into_cloudformations_limits")
def test_clean_under_cfn_lint() -> None:
    """With the informational rules, against today's resource schemas. One finding is ignored, in place."""
    linter = Path(sys.executable).with_name("cfn-lint")
    argv = [
        str(linter),
        "--include-checks",
        "I",
        "--regions",
        *REGIONS,
        "--",
        *map(str, (NODES, DUMMY, ALERTS)),
    ]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert re.findall(r"ignore_checks: (\[.*?\])", NODES.read_text()) == ["[W1035]"]
    assert "cfn-lint" not in DUMMY.read_text()


def test_the_programs_in_it_are_the_files_beside_it() -> None:
    spec = importlib.util.spec_from_file_location("embed", SHIPPED / "embed.py")
    assert spec is not None
    assert spec.loader is not None
    embed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(embed)
    for template, programs in ((NODES, 5), (DUMMY, 1)):
        text = template.read_text()
        assert embed.embedded(text) == text
        for _, _, name, program in embed.BLOCK.findall(text):
            left = [line.strip() for line in program.splitlines() if line.strip()]
            file = [line.strip() for line in (SHIPPED / name).read_text().splitlines() if line.strip()]
            assert left == [line for line in file if not re.match("#(?!!)", line)], name
        assert embed.embedded(text.replace("import json", "import nothing").replace("9001", "1500")) == text
        assert len(embed.BLOCK.findall(text)) == programs


def test_templates_fit_into_cloudformations_limits(full: Stack) -> None:
    """What CloudFormation takes without a bucket, and what EC2 takes."""
    assert len(NODES.read_bytes()) <= 51_200
    assert len(full.user_data().encode()) <= 16_384


def test_every_parameter_is_checked(stack: Stack) -> None:
    for name, parameter in stack.document["Parameters"].items():
        assert parameter["Description"].endswith("."), name
        if parameter["Type"] == "Number":
            assert {"MinValue", "MaxValue"} <= set(parameter), name
        elif parameter["Type"] in ("String", "CommaDelimitedList") and "AllowedValues" not in parameter:
            pattern = parameter["AllowedPattern"]
            assert pattern.startswith("^"), name
            assert pattern.endswith("$"), name
            for value in stack.parameters[name].split(","):
                assert re.search(pattern, value), (name, value)
            assert not re.search(pattern, "a b"), name
    groups = stack.document["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(stack.document["Parameters"])


# -- the rules ---------------------------------------------------------------------------------------------


def test_what_is_accepted(stack: Stack) -> None:
    assert stack.refusals() == []


IPV6 = {"VpcIpv6Cidr": "2001:db8::/56", "FloatingIpv6Cidr": "fd00:192:168::/64"}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"ZoneC": "eu-central-1c"}, "A third zone needs NodeSubnetC"),
        ({"TransitGatewayRouteTable": "tgw-rtb-0a"}, "TransitGatewayRouteTable needs TransitGateway"),
        ({"TransitGatewayAttachment": "tgw-attach-0a"}, "TransitGatewayAttachment needs TransitGateway"),
        ({**TRANSIT, "ClientCidr": ""}, "TransitGateway needs ClientCidr or ClientIpv6Cidr"),
        ({"ClientCidr": "10.10.0.0/16"}, "let in anyway; leave ClientCidr empty"),
        ({"ClientCidr": "192.168.0.0/24"}, "let in anyway; leave ClientCidr empty"),
        ({"FloatingCidr": "10.10.0.0/16"}, "FloatingCidr lies outside the VPC"),
        ({**IPV6, "ClientIpv6Cidr": "2001:db8::/56"}, "let in anyway; leave ClientIpv6Cidr empty"),
        ({**IPV6, "ClientIpv6Cidr": "fd00:192:168::/64"}, "let in anyway; leave ClientIpv6Cidr empty"),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, dict) else "",
)
def test_what_is_refused(parameters: dict[str, Any], said: str) -> None:
    """Of equal ranges EC2 makes one permission: it refuses the second, and one that is taken back is both."""
    (refusal,) = Stack(**parameters).refusals()
    assert said in refusal


# -- the network -------------------------------------------------------------------------------------------


def test_two_subnets_per_zone_on_one_tagged_table(stack: Stack) -> None:
    subnets = {n: s for n, s in stack.of("AWS::EC2::Subnet").items() if n.startswith("Eni")}
    zones = [stack.parameters[f"Zone{z}"] for z in "ABC" if stack.parameters[f"Zone{z}"]]
    assert sorted(s["AvailabilityZone"] for s in subnets.values()) == sorted(zones * 2)
    assert len({s["CidrBlock"] for s in subnets.values()}) == len(subnets)
    assert all(
        ("Ipv6CidrBlock" in s) == bool(stack.parameters["EniSubnetIpv6Cidrs"]) for s in subnets.values()
    )
    (table,) = stack.of("AWS::EC2::RouteTable").values()
    assert {"Key": "floatip", "Value": "core"} in table["Tags"]
    served = stack.of("AWS::EC2::SubnetRouteTableAssociation").values()
    assert {a["RouteTableId"] for a in served} == {"[RouteTable]"}
    assert {f"[{name}]" for name in subnets} <= {a["SubnetId"] for a in served}


def test_transit_gateway_attached_in_every_zone_through_the_tagged_table(stack: Stack) -> None:
    """A packet from it is routed by its attachment's subnets: their table must carry the floating routes."""
    attachments = list(stack.of("AWS::EC2::TransitGatewayAttachment").values())
    subnets = stack.of("AWS::EC2::Subnet")
    if not stack.parameters["TransitGateway"] or stack.parameters["TransitGatewayAttachment"]:
        assert attachments == []
        assert all(name.startswith("Eni") for name in subnets)
        return
    (attached,) = attachments
    zones = {subnets[s.strip("[]")]["AvailabilityZone"] for s in attached["SubnetIds"]}
    assert zones == {stack.parameters[f"Zone{z}"] for z in "ABC"} - {""}
    served = {a["SubnetId"] for a in stack.of("AWS::EC2::SubnetRouteTableAssociation").values()}
    assert set(attached["SubnetIds"]) <= served
    families = {"Ipv6CidrBlock" in subnets[s.strip("[]")] for s in attached["SubnetIds"]}
    assert families == {attached["Options"]["Ipv6Support"] == "enable"}
    assert families == {bool(stack.parameters["TransitGatewaySubnetIpv6Cidrs"])}


def test_routes_through_the_transit_gateway_both_ways(stack: Stack) -> None:
    there = list(stack.of("AWS::EC2::TransitGatewayRoute").values())
    back = list(stack.of("AWS::EC2::Route").values())
    if not stack.parameters["TransitGateway"]:
        assert (there, back) == ([], [])
        return
    given = stack.parameters
    assert {r["DestinationCidrBlock"] for r in there} == {
        given["FloatingCidr"],
        given["FloatingIpv6Cidr"],
    } - {""}
    through = given["TransitGatewayAttachment"] or "[TransitAttachment]"
    assert {r["TransitGatewayAttachmentId"] for r in there} == {through}
    assert stack.outputs()["TransitAttachment"] == through
    assert {(r["RouteTableId"], r["TransitGatewayId"]) for r in back} == {("[RouteTable]", "tgw-0a")}
    clients = [r.get("DestinationCidrBlock", r.get("DestinationIpv6CidrBlock")) for r in back]
    assert set(clients) == {given["ClientCidr"], given["ClientIpv6Cidr"]} - {""}


def test_transit_route_tables_of_another_account_are_left_to_it() -> None:
    stack = Stack(NODES, **{**TRANSIT, "TransitGatewayRouteTable": ""})
    assert stack.of("AWS::EC2::TransitGatewayAttachment")
    assert not stack.of("AWS::EC2::TransitGatewayRoute")


@pytest.mark.parametrize("ipv6", ["", "2001:db8:0:fe::/64"], ids=["IPv4", "both families"])
def test_dummy_subnet_is_reserved_whole(ipv6: str) -> None:
    stack = Stack(DUMMY, Zone="eu-central-1a", Cidr="10.10.254.0/28", Ipv6Cidr=ipv6)
    (subnet,) = stack.of("AWS::EC2::Subnet").values()
    reserved = stack.of("Custom::SubnetCidrReservation").values()
    assert {item["SubnetId"] for item in reserved} == {"[Subnet]"}
    ranges = {subnet["CidrBlock"], subnet.get("Ipv6CidrBlock", "")} - {""}
    assert {item["Cidr"] for item in reserved} == ranges == {"10.10.254.0/28", ipv6} - {""}
    output = yaml.safe_load(stack.outputs()["AllowedDestinations"])
    policy = NodeConf.parse({"allowedDestinations": output})
    assert {str(destination.cidr) for destination in policy.allowed_destinations} == ranges
    assert {destination.namespaces for destination in policy.allowed_destinations} == {("core-*",)}


def test_floating_ranges_are_let_in_as_ranges(stack: Stack) -> None:
    wanted = [f"{whose}{family}Cidr" for whose in ("Floating", "Vpc", "Client") for family in ("", "Ipv6")]
    assert sorted(_let_in(stack)) == sorted({stack.parameters[name] for name in wanted} - {""})


def test_nobody_beyond_the_vpc_is_let_in_unasked() -> None:
    assert _let_in(Stack()) == ["192.168.0.0/24", GIVEN["VpcCidr"]]


def _let_in(stack: Stack) -> list[str]:
    group = stack.of("AWS::EC2::SecurityGroup")["EniSecurityGroup"]
    return [rule.get("CidrIp", rule.get("CidrIpv6")) for rule in group["SecurityGroupIngress"]]


def test_template_creates_the_endpoints(full: Stack) -> None:
    made = full.of("AWS::EC2::VPCEndpoint")
    assert {item["ServiceName"].rpartition(".")[2] for item in made.values()} == {"ec2", "sts"}
    (rule,) = full.of("AWS::EC2::SecurityGroup")["EndpointSecurityGroup"]["SecurityGroupIngress"]
    assert (rule["CidrIp"], rule["FromPort"], rule["ToPort"]) == (GIVEN["VpcCidr"], 443, 443)
    for item in made.values():
        assert item["SecurityGroupIds"] == ["[EndpointSecurityGroup]"]
        assert item["PrivateDnsEnabled"] is True
        assert item["SubnetIds"] == ["subnet-a", "subnet-b", "subnet-0c"]
    assert Stack().of("AWS::EC2::VPCEndpoint") == {}


@pytest.mark.parametrize(
    ("partition", "suffix", "endpoint"),
    [
        ("aws", "amazonaws.com", "com.amazonaws"),
        ("aws-us-gov", "amazonaws.com", "com.amazonaws"),
        ("aws-cn", "amazonaws.com.cn", "cn.com.amazonaws"),
    ],
)
def test_names_of_the_partition(
    monkeypatch: pytest.MonkeyPatch, partition: str, suffix: str, endpoint: str
) -> None:
    """No ARN says ``aws`` elsewhere; China has names of its own for EC2's principal and for endpoints."""
    monkeypatch.setitem(PSEUDO, "AWS::Partition", partition)
    monkeypatch.setitem(PSEUDO, "AWS::URLSuffix", suffix)
    stack = Stack(**EVERYTHING)
    services = {item["ServiceName"] for item in stack.of("AWS::EC2::VPCEndpoint").values()}
    assert services == {f"{endpoint}.eu-central-1.{name}" for name in ("ec2", "sts")}
    roles = stack.of("AWS::IAM::Role")
    (output,) = roles["NodeRole"]["AssumeRolePolicyDocument"]["Statement"]
    assert output["Principal"] == {"Service": f"ec2.{suffix}"}
    rights = json.dumps(plain([roles, stack.of("AWS::IAM::Policy")]))
    assert set(re.findall(r"arn:([a-z-]+):", rights)) == {partition}


# -- the nodes ---------------------------------------------------------------------------------------------


def _launch(stack: Stack) -> dict[str, Any]:
    (template,) = stack.of("AWS::EC2::LaunchTemplate").values()
    data: dict[str, Any] = template["LaunchTemplateData"]
    return data


def test_metadata_is_for_the_host_alone(stack: Stack) -> None:
    options = _launch(stack)["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)


def test_the_root_volume_is_encrypted_and_ends_with_the_node(stack: Stack) -> None:
    (device,) = _launch(stack)["BlockDeviceMappings"]
    assert device["DeviceName"] == "/dev/xvda"  # the root device of the AL2023 images
    assert (device["Ebs"]["Encrypted"], device["Ebs"]["DeleteOnTermination"]) == (True, True)


def test_the_primary_interface_stays_the_clusters(stack: Stack) -> None:
    """Tags of a launch template go to every interface: none is given, and no interface is described."""
    data = _launch(stack)
    assert {item["ResourceType"] for item in data["TagSpecifications"]} == {"instance", "volume"}
    assert "NetworkInterfaces" not in data
    assert data["SecurityGroupIds"] == ["sg-1"]


def test_image_of_the_clusters_version() -> None:
    for arch in ("x86_64", "arm64"):
        image = _launch(Stack(KubernetesVersion="1.35", Architecture=arch))["ImageId"]
        path = f"1.35/amazon-linux-2023/{arch}/standard/recommended/image_id"
        assert image == f"{{{{resolve:ssm:/aws/service/eks/optimized-ami/{path}}}}}"
    name = "amazon-eks-node-al2023-x86_64-standard-1.34-v20260209"
    assert f"/standard/{name}/image_id" in _launch(Stack(Image=name))["ImageId"]


def test_a_group_per_zone_waits_for_its_interfaces(stack: Stack) -> None:
    groups = stack.of("AWS::AutoScaling::AutoScalingGroup")
    wanted = {stack.parameters[f"NodeSubnet{z}"] for z in "ABC"} - {""}
    assert {item["VPCZoneIdentifier"][0] for item in groups.values()} == wanted
    (rule,) = stack.of("AWS::Events::Rule").values()
    for name, group in groups.items():
        (hook,) = group["LifecycleHookSpecificationList"]
        assert hook["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_LAUNCHING"
        assert hook["DefaultResult"] == "ABANDON"
        assert group["AutoScalingGroupName"] in rule["EventPattern"]["detail"]["AutoScalingGroupName"]
        assert hook["LifecycleHookName"] in rule["EventPattern"]["detail"]["LifecycleHookName"]
        assert group["LaunchTemplate"]["Version"] == "[LaunchTemplate.LatestVersionNumber]"
        # Nodes that somebody has added are not ended by an update of the stack.
        update = stack.document["Resources"][name]["UpdatePolicy"]
        assert update == {"AutoScalingScheduledAction": {"IgnoreUnmodifiedGroupSizeProperties": True}}
        # Whoever answers the hook is there before the first instance is launched.
        needs = stack.document["Resources"][name]["DependsOn"]
        assert {"LaunchRule", "LaunchRuleMayInvoke", "FloatingEnisPolicy"} <= set(needs)
    pools = stack.of("AWS::AutoScaling::WarmPool").values()
    # As large as was asked for: without a maximum Auto Scaling fills up to the group's.
    sizes = {(p["PoolState"], p["MinSize"], p["MaxGroupPreparedCapacity"]) for p in pools}
    assert sizes <= {("Stopped", "2", "2")}
    assert {p["AutoScalingGroupName"] for p in pools} == (
        {f"[{name}]" for name in groups} if stack.parameters["WarmPerZone"] != "0" else set()
    )
    # Waiting ends before the function does, which must have the time to say ABANDON, and before the hook.
    (function,) = stack.of("AWS::Lambda::Function").values()
    match = re.search(r"^PATIENCE = (\d+)", function["Code"]["ZipFile"], re.MULTILINE)
    assert match
    patience = int(match[1])
    assert patience + 30 <= function["Timeout"] < hook["HeartbeatTimeout"]


def test_a_launch_calls_the_function(stack: Stack) -> None:
    (rule,) = stack.of("AWS::Events::Rule").values()
    assert rule["EventPattern"]["source"] == ["aws.autoscaling"]
    assert rule["EventPattern"]["detail-type"] == ["EC2 Instance-launch Lifecycle Action"]
    assert [target["Arn"] for target in rule["Targets"]] == ["[FloatingEnis.Arn]"]
    (may,) = stack.of("AWS::Lambda::Permission").values()
    assert (may["FunctionName"], may["Principal"]) == ("[FloatingEnis]", "events.amazonaws.com")
    assert may["SourceArn"] == "[LaunchRule.Arn]"


def test_the_function_knows_the_subnets_of_every_zone(stack: Stack) -> None:
    (function,) = stack.of("AWS::Lambda::Function").values()
    output = json.loads(function["Environment"]["Variables"]["SUBNETS"])
    zones = {stack.parameters[f"Zone{z}"]: z for z in "ABC" if stack.parameters[f"Zone{z}"]}
    assert output == {zone: [f"[EniSubnet{z}1]", f"[EniSubnet{z}2]"] for zone, z in zones.items()}
    given = {name: value for name, value in function["Environment"]["Variables"].items() if name != "SUBNETS"}
    assert given == {
        "TAG": stack.parameters["TagValue"],
        "GROUP": "[EniSecurityGroup]",
        "IPV6": "true" if stack.parameters["EniSubnetIpv6Cidrs"] else "false",
        "AWS_RETRY_MODE": "standard",
        "AWS_MAX_ATTEMPTS": "8",
    }


def test_no_runtime_that_ends_soon() -> None:
    """The linter knows what has ended. This one is not the next to go."""
    dummy = Stack(DUMMY, Zone="eu-central-1a", Cidr="10.10.254.0/28")
    (function,), (other,) = (item.of("AWS::Lambda::Function").values() for item in (Stack(), dummy))
    assert function["Runtime"] == other["Runtime"]
    version = tuple(map(int, function["Runtime"].removeprefix("python").split(".")))
    assert version >= (3, 13)


# -- user data ---------------------------------------------------------------------------------------------


def test_user_data_for_nodeadm(stack: Stack) -> None:
    config = yaml.safe_load(stack.user_data_parts()["application/node.eks.aws"])
    assert (config["apiVersion"], config["kind"]) == ("node.eks.aws/v1alpha1", "NodeConfig")
    assert config["spec"]["cluster"] == {
        "name": GIVEN["ClusterName"],
        "apiServerEndpoint": GIVEN["ClusterEndpoint"],
        "certificateAuthority": GIVEN["ClusterCertificateAuthority"],
        "cidr": GIVEN["ServiceCidr"],
    }
    assert config["spec"]["kubelet"]["config"]["maxPods"] == 30
    assert config["spec"]["kubelet"]["flags"] == ["--node-labels=floatip=true,floatip-group=core"]
    scaled = "k8s.io/cluster-autoscaler/node-template/label/"
    for group in stack.of("AWS::AutoScaling::AutoScalingGroup").values():
        tags = {item["Key"].removeprefix(scaled): item["Value"] for item in group["Tags"]}
        assert tags == {"floatip": "true", "floatip-group": "core"}


def test_the_tags_value_is_one_of_a_label_too() -> None:
    """The kubelet does not start with a label that is none."""
    pattern = Stack().document["Parameters"]["TagValue"]["AllowedPattern"]
    for value in ("core", "a", "A.b_c-1", "x" * 63):
        assert re.search(pattern, value), value
    for value in ("core-", ".core", "", "x" * 64, "a b"):
        assert not re.search(pattern, value), value


def test_nodes_are_let_in_by_their_role(stack: Stack) -> None:
    assert _launch(stack)["IamInstanceProfile"] == {"Arn": "[NodeProfile.Arn]"}
    (profile,) = stack.of("AWS::IAM::InstanceProfile").values()
    assert profile["Roles"] == ["[NodeRole]"]
    (entry,) = stack.of("AWS::EKS::AccessEntry").values()
    assert (entry["PrincipalArn"], entry["Type"]) == ("[NodeRole.Arn]", "EC2_LINUX")
    assert Stack(AccessEntry="false").of("AWS::EKS::AccessEntry") == {}


def test_user_data_writes_the_programs(stack: Stack) -> None:
    text = stack.user_data_parts()["text/cloud-config"]
    assert text.lstrip().startswith("#cloud-config\n")
    config = yaml.safe_load(text)
    written = {item["path"]: item for item in config["write_files"]}
    for path in NODE.iterdir():
        (where,) = [item for item in written if item.endswith(f"/{path.name}")]
        lines = path.read_text().splitlines(keepends=True)
        program = [line for line in lines if not line.lstrip().startswith("#") or line.startswith("#!")]
        assert written[where]["content"] == "".join(program)
    assert written["/usr/local/sbin/floatip-links"]["permissions"] == "0755"
    zones = [z for z in "ABC" if stack.parameters[f"Zone{z}"]]
    subnets = " ".join(f"[EniSubnet{z}{n}]" for z in zones for n in (1, 2))
    assert written["/etc/floatip-links.conf"]["content"].rstrip(' "\n') == f'subnets="{subnets}'
    assert config["runcmd"] == [
        ["udevadm", "control", "--reload"],
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "--now", "floatip-links.service"],
        ["udevadm", "trigger", "--action=change", "--subsystem-match=net"],
    ]


def test_udev_starts_the_unit_for_what_is_added_and_for_what_was_there_before_the_rule() -> None:
    """Behind the rules of systemd that tell the driver (75, 80), whose keys it uses."""
    (path,) = NODE.glob("*.rules")
    assert path.name > "80-net-setup-link.rules"
    (rule,) = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    keys = dict(re.findall(r'(\S+?)(?:==|\+=)"([^"]*)"', rule))
    assert set(keys["ACTION"].split("|")) == {"add", "change"}
    assert (keys["SUBSYSTEM"], keys["ENV{ID_NET_DRIVER}"], keys["TAG"]) == ("net", "ena", "systemd")
    unit = keys["ENV{SYSTEMD_WANTS}"].replace("$attr{address}", "")
    assert (NODE / unit).exists()


@pytest.mark.needs("systemd-analyze")
def test_systemd_units_are_valid(tmp_path: Path) -> None:
    """systemd's own judgement, with the program where the units look for it."""
    (tmp_path / "usr/local/sbin").mkdir(parents=True)
    program = tmp_path / "usr/local/sbin/floatip-links"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in ("floatip-links.service", "floatip-links@.service"):
        text = (NODE / name).read_text()
        assert "/usr/local/sbin/floatip-links" in text
        (units / name).write_text(text.replace("/usr/local/sbin", str(program.parent)))
    names = [units / "floatip-links.service", units / "floatip-links@02:00:00:00:00:01.service"]
    (units / "floatip-links@02:00:00:00:00:01.service").symlink_to(units / "floatip-links@.service")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "floatip" in line]
    assert complaints == []


# -- rights ------------------------------------------------------------------------------------------------


def test_the_agents_policy_is_the_one_of_install_iam(full: Stack) -> None:
    role = full.of("AWS::IAM::Role")["AgentRole"]
    output = {
        policy["PolicyName"]: policies.parse(plain(policy["PolicyDocument"])) for policy in role["Policies"]
    }
    assert output == {
        "floatip": policies.read(
            "agent-by-tag", REGION="eu-central-1", ACCOUNT="111122223333", TAG_VALUE="core"
        ),
        "floatip-doctor": policies.read("doctor"),
    }
    trust = policies.read(
        "trust-pod-identity",
        REGION="eu-central-1",
        ACCOUNT="111122223333",
        CLUSTER="core",
        NAMESPACE="kube-system",
        SERVICE_ACCOUNT="cni-floatip",
    )
    assert policies.parse(plain(role["AssumeRolePolicyDocument"])) == trust
    assert "AgentRole" not in Stack().of("AWS::IAM::Role")


def test_the_agents_write_through_the_vpcs_endpoint_alone() -> None:
    stack = Stack(AgentServiceAccount="cni-floatip", WritesThroughEndpoint="true")
    (policy, _) = stack.of("AWS::IAM::Role")["AgentRole"]["Policies"]
    where = {"REGION": "eu-central-1", "ACCOUNT": "111122223333", "TAG_VALUE": "core", "VPC": GIVEN["VpcId"]}
    shipped = policies.read("agent-by-tag-from-vpc", **where)
    assert policies.parse(plain(policy["PolicyDocument"])) == shipped


def test_vpc_cni_may_have_a_role_of_its_own() -> None:
    role = Stack(VpcCniPolicy="false").of("AWS::IAM::Role")["NodeRole"]
    assert [arn.rpartition("/")[2] for arn in role["ManagedPolicyArns"]] == [
        "AmazonEKSWorkerNodePolicy",
        "AmazonEC2ContainerRegistryPullOnly",
    ]


def test_nodes_have_no_route_rights(full: Stack) -> None:
    role = full.of("AWS::IAM::Role")["NodeRole"]
    names = {arn.rpartition("/")[2] for arn in role["ManagedPolicyArns"]}
    assert names == {
        "AmazonEKSWorkerNodePolicy",
        "AmazonEC2ContainerRegistryPullOnly",
        "AmazonEKS_CNI_Policy",
    }
    assert "Policies" not in role
    for policy in full.of("AWS::IAM::Policy").values():
        assert "[NodeRole]" not in policy["Roles"]


# -- what the administrator takes from it ------------------------------------------------------------------


def test_outputs_are_values_for_the_chart(stack: Stack) -> None:
    values = yaml.safe_load(stack.outputs()["ChartValues"])
    policy = NodeConf.parse(values["config"])
    ranges = {str(destination.cidr) for destination in policy.allowed_destinations}
    wanted = ("FloatingCidr", "FloatingIpv6Cidr")
    assert ranges == {str(ip_network(stack.parameters[name])) for name in wanted if stack.parameters[name]}
    namespaces = {destination.namespaces for destination in policy.allowed_destinations}
    assert namespaces == {tuple(stack.parameters["Namespaces"].split(","))}
    assert values["config"]["allowedRouteTables"] == {"tags": {"floatip": "core"}}
    assert values["nodeSelector"] == {"floatip": "true"}
    assert ("serviceAccount" in values) == bool(stack.parameters["AgentServiceAccount"])
    assert stack.outputs()["InterfaceNames"] == "floatip1,floatip2"


# -- the README --------------------------------------------------------------------------------------------


def test_the_documented_deployment_gives_what_must_be_given() -> None:
    """Every parameter that it names exists, and none without a default is missing."""
    readme = (SHIPPED / "README.md").read_text()
    match = re.search(r"```sh\ncluster=core\n(.*?)```", readme, re.DOTALL)
    assert match
    block = match[1]
    given = set(re.findall(r"\b([A-Z][A-Za-z0-9]+)=", block)) - {"Key", "Value"}
    declared = Stack().document["Parameters"]
    assert given <= set(declared)
    assert {name for name, item in declared.items() if "Default" not in item} <= given
    for template in (DUMMY, ALERTS):
        (output,) = re.findall(rf"--template-file {template.name} ((?:.*\\\n)*.*)", readme)
        given = set(re.findall(r"\b([A-Z][A-Za-z0-9]+)=", output))
        parameters = yaml.safe_load(re.sub(r"![A-Z]\w*", "", template.read_text()))["Parameters"]
        assert (
            {name for name, item in parameters.items() if "Default" not in item} <= given <= set(parameters)
        )
    for name in set(re.findall(r"`([A-Z][a-z]+[A-Z][A-Za-z0-9]+)(?:=[a-z]+)?`", readme)):
        known = {**declared, **Stack(**EVERYTHING).document["Outputs"], "AllowedDestinations": 1}
        assert name in known or name.startswith(("Amazon", "Network")), name
