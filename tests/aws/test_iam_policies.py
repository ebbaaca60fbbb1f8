"""The policies of ``install/iam`` against what agents really call: nothing is missing, nothing is unused.

The journal of the simulated EC2 (``agents_at_work``) is judged by the policies, with the real tags and ARNs
of tables and interfaces.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cni_floatip import doctor, sdk
from lab.ec2.journal import Call
from tests.aws.agents_at_work import GUEST, TAG, Played, playing
from tests.aws.policies import PLACEHOLDER, SHIPPED, Policy, Request, parse, read
from tests.conftest import require

pytestmark = pytest.mark.needs("root", "ip", "unshare", "macvlan-plugin", "static-plugin")


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    require("root", "ip")
    with playing() as done:
        yield done


# -- nothing missing, nothing unused -----------------------------------------------------------------------

CASES = {
    "agent-by-tag": ("a1", False),
    "agent-in-shared-vpc": ("b1", False),
    "owner-role": ("b1", True),
}
"""Policy -> who has it: a node, in its own name or in the name of the owner of the VPC."""


def _needed(played: Played, name: str, calls: tuple[Call, ...] | None = None) -> tuple[Policy, list[Request]]:
    node, as_owner = CASES[name]
    own = GUEST if node == "b1" else played.owner
    return played.fill(name, own), played.needs(node, played.owner if as_owner else own, calls=calls)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_missing(played: Played, name: str) -> None:
    policy, needed = _needed(played, name)
    assert len({need.action for need in needed}) >= 5
    assert [str(need) for need in needed if not policy.allows(need)] == []


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_unused(played: Played, name: str) -> None:
    """Take anything away, a statement or one action, and a call that was made is denied."""
    policy, needed = _needed(played, name)
    idle = [what for what, less in policy.smaller() if all(less.allows(need) for need in needed)]
    assert idle == []


@pytest.mark.parametrize("name", CASES)
def test_a_sweep_needs_no_more(played: Played, name: str) -> None:
    policy, needed = _needed(played, name, played.swept)
    assert [str(need) for need in needed if not policy.allows(need)] == []
    deletes = [need for need in needed if need.action == "ec2:DeleteRoute"]
    assert bool(deletes) == (name != "agent-in-shared-vpc")


BEYOND = {
    "agent-by-tag": {"SecurityGroups", "NetworkAcls", "TransitGatewayVpcAttachments"},
    "agent-in-shared-vpc": {"SecurityGroups", "NetworkAcls"},
    "owner-role": {"TransitGatewayVpcAttachments"},
}


@pytest.mark.parametrize("name", CASES)
def test_doctor_needs_its_own_policy_beside_the_agents(played: Played, name: str) -> None:
    """In a shared VPC both roles: what is attached to the VPC only its owner sees."""
    policy, needed = _needed(played, name, played.diagnosed)
    beyond = [need for need in needed if not policy.allows(need)]
    assert [str(need) for need in beyond if not read("doctor").allows(need)] == []
    assert {need.action for need in beyond} == {f"ec2:Describe{what}" for what in BEYOND[name]}


def test_by_arn(played: Played) -> None:
    """As by tag, for the calls that were about the two tables that it names."""
    policy = played.fill("agent-by-arn", played.owner)
    needed = [n for n in played.needs("a1", played.owner) if _table(n) in _listed(played) | {""}]
    assert [str(need) for need in needed if not policy.allows(need)] == []
    assert [what for what, less in policy.smaller() if all(less.allows(need) for need in needed)] == []


def _table(need: Request) -> str:
    """Return the route table that a request is about."""
    return need.resource.rpartition("route-table/")[2] if "route-table/" in need.resource else ""


def _listed(played: Played) -> set[str]:
    return {played.lab.tables[name] for name in ("a", "client")}


def test_the_owner_lets_the_agents_role_in(played: Played) -> None:
    trust = played.fill("owner-role-trust", GUEST)
    agent, other = (f"arn:aws:iam::{GUEST}:role/{name}" for name in ("floatip-agent", "somebody"))
    needed = [n for n in played.needs("b1", GUEST) if n.action.startswith("sts:")]
    asked = [Request(n.action, n.resource, n.context, agent) for n in needed]
    assert asked
    assert all(trust.allows(each) for each in asked)
    assert not any(trust.allows(Request(n.action, n.resource, n.context, other)) for n in needed)
    assert [what for what, less in trust.smaller() if all(less.allows(each) for each in asked)] == []


def test_a_node_calls_nothing_in_a_name_that_is_not_judged(played: Played) -> None:
    names = {(call.caller, call.account) for call in played.calls}
    assert names == {("a1", played.owner), ("b1", GUEST), ("b1", played.owner)}


# -- what is to be denied ----------------------------------------------------------------------------------


def _one(played: Played, name: str, action: str) -> tuple[Policy, Request]:
    policy, needed = _needed(played, name)
    return policy, next(need for need in needed if need.action == action)


@pytest.mark.parametrize("name", ["agent-by-tag", "owner-role"])
@pytest.mark.parametrize("action", ["ec2:CreateRoute", "ec2:ReplaceRoute", "ec2:DeleteRoute"])
def test_tables_without_the_tag(played: Played, name: str, action: str) -> None:
    policy, need = _one(played, name, action)
    assert policy.allows(need)
    assert not policy.allows(Request(action, need.resource, {}))
    assert not policy.allows(Request(action, need.resource, {"aws:ResourceTag/floatip": "another"}))
    assert not policy.allows(Request(action, need.resource, {"aws:ResourceTag/Name": TAG}))
    elsewhere = need.resource.replace(":eu-", ":us-")
    assert not policy.allows(Request(action, elsewhere, need.context))


def test_another_table_by_arn(played: Played) -> None:
    policy = played.fill("agent-by-arn", played.owner)
    needed = [need for need in played.needs("a1", played.owner) if _table(need)]
    assert {_table(need) for need in needed} > _listed(played)
    assert {_table(need) for need in needed if policy.allows(need)} == _listed(played)


@pytest.mark.parametrize("name", ["agent-by-tag", "agent-in-shared-vpc"])
def test_other_attributes_and_other_interfaces(played: Played, name: str) -> None:
    """The same action also changes security groups; and only tagged interfaces are ours."""
    policy, need = _one(played, name, "ec2:ModifyNetworkInterfaceAttribute")
    modify, eni = need.action, need.resource.rpartition("/")[2]
    tag = {"aws:ResourceTag/floatip": TAG}
    assert policy.allows(need)
    for params in (
        {"NetworkInterfaceId": eni, "Groups": ["sg-1"]},
        {"NetworkInterfaceId": eni, "Description": {"Value": "false"}},
        {"NetworkInterfaceId": eni, "SourceDestCheck": {"Value": True}},
    ):
        call = Call(0, "a1", "ModifyNetworkInterfaceAttribute", params, "ok")
        (asked,) = played.cloud.needs(call)
        assert asked.context["aws:ResourceTag/floatip"] == TAG
        assert not policy.allows(asked), params
    off = {"ec2:Attribute/SourceDestCheck": "false"}
    assert policy.allows(Request(modify, need.resource, tag | off))
    assert not policy.allows(Request(modify, need.resource, off))
    assert not policy.allows(Request(modify, need.resource.replace(f":{eni}", ":i-1"), off))


def test_the_primary_interface_is_not_the_agents(played: Played) -> None:
    """It carries no tag; its check protects the cluster's own network."""
    policy = played.fill("agent-by-tag", played.owner)
    primary = played.lab.nodes["a1"].primary.id
    params = {"NetworkInterfaceId": primary, "SourceDestCheck": {"Value": False}}
    (asked,) = played.cloud.needs(Call(0, "a1", "ModifyNetworkInterfaceAttribute", params, "ok"))
    assert not policy.allows(asked)


def test_a_participant_writes_no_route_in_its_own_name(played: Played) -> None:
    policy, _ = _needed(played, "agent-in-shared-vpc")
    routes = [n for n in played.needs("b1", played.owner) if n.action.endswith("Route")]
    assert routes
    assert not any(policy.allows(need) for need in routes)


def test_another_role_is_not_to_be_taken(played: Played) -> None:
    policy, need = _one(played, "agent-in-shared-vpc", "sts:AssumeRole")
    assert policy.allows(need)
    assert not policy.allows(Request(need.action, f"arn:aws:iam::{played.owner}:role/admin"))


def test_without_pod_identity_no_tags_are_carried(played: Played) -> None:
    needed = {need.action for need in played.needs("b1", GUEST, pod_identity=False)}
    assert "sts:AssumeRole" in needed
    assert "sts:TagSession" not in needed


# -- who gets the role ---------------------------------------------------------------------------------------

PODS, ISSUER = "pods.eks.amazonaws.com", "oidc.eks.eu-central-1.amazonaws.com/id/0A1B2C"
CLUSTER = "arn:aws:eks:eu-central-1:111122223333:cluster/core"
PROVIDER = f"arn:aws:iam::111122223333:oidc-provider/{ISSUER}"
FILLED = {
    "REGION": "eu-central-1",
    "ACCOUNT": "111122223333",
    "CLUSTER": "core",
    "NAMESPACE": "kube-system",
    "SERVICE_ACCOUNT": "cni-floatip",
    "OIDC_PROVIDER": ISSUER,
}


def _pod_identity(action: str, **changed: str) -> Request:
    said = {"namespace": "kube-system", "account": "cni-floatip", "cluster": CLUSTER, **changed}
    context = {
        "aws:SourceAccount": "111122223333",
        "aws:SourceArn": said["cluster"],
        "aws:RequestTag/kubernetes-namespace": said["namespace"],
        "aws:RequestTag/kubernetes-service-account": said["account"],
    }
    return Request(action, "", context, PODS)


def _web_identity(subject: str = "system:serviceaccount:kube-system:cni-floatip", **more: str) -> Request:
    context = {f"{ISSUER}:aud": "sts.amazonaws.com", f"{ISSUER}:sub": subject, **more}
    return Request("sts:AssumeRoleWithWebIdentity", "", context, PROVIDER)


def test_pod_identity_lets_the_service_account_in_alone() -> None:
    trust = read("trust-pod-identity", **FILLED)
    assert trust.allows(_pod_identity("sts:AssumeRole"))
    assert trust.allows(_pod_identity("sts:TagSession"))
    assert not trust.allows(_pod_identity("sts:AssumeRole", account="default"))
    assert not trust.allows(_pod_identity("sts:AssumeRole", namespace="default"))
    assert not trust.allows(_pod_identity("sts:AssumeRole", cluster=f"{CLUSTER}-2"))
    asked = _pod_identity("sts:AssumeRole")
    for key in asked.context:
        assert not trust.allows(replace(asked, context={**asked.context, key: "another"})), key


def test_irsa_lets_the_service_account_in_alone() -> None:
    trust = read("trust-irsa", **FILLED)
    assert trust.allows(_web_identity())
    assert not trust.allows(_web_identity("system:serviceaccount:default:cni-floatip"))
    assert not trust.allows(_web_identity(**{f"{ISSUER}:aud": "somebody"}))


def test_doctor_has_what_it_calls_beyond_the_agent() -> None:
    """Its operations, by the names that it calls them by."""
    sources = "".join(path.read_text() for path in Path(doctor.__file__).parent.rglob("*.py"))
    called = {f"ec2:{_camel(name)}" for name in re.findall(r'"(describe_[a-z_]+)"', sources)}
    agents = {action for each in read("owner-role", **FILLED_FOR_OWNER).statements for action in each.actions}
    extra = {action for each in read("doctor").statements for action in each.actions}
    assert extra == called - agents


FILLED_FOR_OWNER = {"REGION": "eu-central-1", "OWNER_ACCOUNT": "111122223333", "TAG_VALUE": TAG}


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


# -- the documents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_every_document_is_explained(path) -> None:
    document, readme = json.loads(path.read_text()), (SHIPPED / "README.md").read_text()
    assert f"`{path.name}`" in readme
    for statement in document["Statement"]:
        assert f"`{statement['Sid']}`" in readme, statement["Sid"]
        assert statement["Effect"] == "Allow"
        assert "*" not in str(statement["Action"])
    for placeholder in PLACEHOLDER.findall(path.read_text()):
        assert f"`{placeholder}`" in readme, placeholder


def test_the_session_has_the_name_that_the_owner_expects() -> None:
    trust = json.loads((SHIPPED / "owner-role-trust.json").read_text())
    name = trust["Statement"][0]["Condition"]["StringEquals"]["sts:RoleSessionName"]
    assert f'RoleSessionName="{name}"' in inspect.getsource(sdk)


# -- the judge ---------------------------------------------------------------------------------------------


def test_an_explicit_deny_beats_every_allow() -> None:
    allow = {"Sid": "A", "Effect": "Allow", "Action": "ec2:*", "Resource": "*"}
    deny = {"Sid": "D", "Effect": "Deny", "Action": "ec2:Delete*", "Resource": "arn:*:route-table/rtb-?"}
    judge = parse({"Version": "2012-10-17", "Statement": [allow, deny]})
    assert judge.allows(Request("ec2:deleteroute", "arn:aws:route-table/rtb-12"))
    assert not judge.allows(Request("ec2:DeleteRoute", "arn:aws:route-table/rtb-1"))
    assert not judge.allows(Request("sts:AssumeRole", "*"))


@pytest.mark.parametrize(
    "said",
    [
        {"NotAction": "ec2:*"},
        {"Action": "a:b", "Resource": "${aws:PrincipalTag/x}"},
        {"Action": "a:b", "Resource": "*", "Condition": {"NumericLessThan": {"k": "1"}}},
    ],
    ids=["NotAction", "variable", "operator"],
)
def test_what_is_not_modelled_is_refused(said) -> None:
    with pytest.raises(AssertionError):
        parse({"Version": "2012-10-17", "Statement": [{"Sid": "X", "Effect": "Allow", **said}]})
