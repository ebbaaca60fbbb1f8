"""The policies of ``install/iam`` against what agents really call: nothing is missing, nothing is unused.

The journal of the simulated EC2 (``agents_at_work``) is judged by the policies, with the real tags and ARNs
of tables and interfaces.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_floatip import doctor
from cni_floatip.edges.ec2 import sessions
from lab.ec2.journal import Call
from tests.aws import patterns
from tests.aws.agents_at_work import GUEST, TAG, Played, playing
from tests.aws.policies import PLACEHOLDER, SHIPPED, Policy, Request, Session, parse, read
from tests.aws.template import ALERTS, Stack, plain
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
    "agent-by-tag-from-vpc": ("a1", False),
    "agent-by-cluster": ("a1", False),
    "agent-in-shared-vpc": ("b1", False),
    "owner-role": ("b1", True),
}
"""Policy -> who has it: a node, in its own name or in the name of the owner of the VPC."""
VPC = "vpc-0a1b2c3d4e5f60718"
CARRIED = {
    "agent-by-tag-from-vpc": {"aws:SourceVpc": VPC},
    "agent-by-cluster": {"aws:PrincipalTag/eks-cluster-name": TAG},
}
"""What every request of a case carries besides: whose endpoint it came through, Pod Identity's tags."""


def _needed(played: Played, name: str, calls: tuple[Call, ...] | None = None) -> tuple[Policy, list[Request]]:
    node, as_owner = CASES[name]
    own = GUEST if node == "b1" else played.owner
    needed = played.needs(node, played.owner if as_owner else own, calls=calls)
    return played.fill(name, own), [_carrying(need, CARRIED.get(name, {})) for need in needed]


def _carrying(need: Request, more: Mapping[str, str]) -> Request:
    return replace(need, context={**need.context, **more})


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


ALL_THREE = {"SecurityGroups", "NetworkAcls", "TransitGatewayVpcAttachments"}
BEYOND = {
    "agent-by-tag": ALL_THREE,
    "agent-by-tag-from-vpc": ALL_THREE,
    "agent-by-cluster": ALL_THREE,
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


def test_tables_named_by_arn(played: Played) -> None:
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


def _group(played: Played) -> Session:
    """One role for several groups of nodes, with the session policy of the group of these two tables."""
    role = played.fill("agent-by-tag", played.owner) | read("doctor")
    return Session(role, played.fill("session-of-a-group", played.owner))


def test_a_groups_session(played: Played) -> None:
    """All that its agents and its doctor call, about its own tables; and nothing in it is unused."""
    group = _group(played)
    called = played.calls + played.diagnosed
    needed = [
        n for n in played.needs("a1", played.owner, calls=called) if _table(n) in _listed(played) | {""}
    ]
    assert {_table(need) for need in needed} == _listed(played) | {""}
    assert [str(need) for need in needed if not group.allows(need)] == []
    smaller = [(what, Session(group.role, less)) for what, less in group.policy.smaller()]
    assert [what for what, less in smaller if all(less.allows(need) for need in needed)] == []


def test_the_owner_lets_the_agents_role_in(played: Played) -> None:
    trust = played.fill("owner-role-trust", GUEST)
    agent, other = (f"arn:aws:iam::{GUEST}:role/{name}" for name in ("floatip-agent", "somebody"))
    needed = [n for n in played.needs("b1", GUEST) if n.action.startswith("sts:")]
    requests = [Request(n.action, n.resource, n.context, agent) for n in needed]
    assert requests
    assert all(trust.allows(request) for request in requests)
    assert not any(trust.allows(Request(n.action, n.resource, n.context, other)) for n in needed)
    assert [what for what, less in trust.smaller() if all(less.allows(request) for request in requests)] == []


def test_a_node_calls_nothing_in_a_name_that_is_not_judged(played: Played) -> None:
    names = {(call.caller, call.account) for call in played.calls}
    assert names == {("a1", played.owner), ("b1", GUEST), ("b1", played.owner)}


# -- what is to be denied ----------------------------------------------------------------------------------


def _one(played: Played, name: str, action: str) -> tuple[Policy, Request]:
    policy, needed = _needed(played, name)
    return policy, next(need for need in needed if need.action == action)


@pytest.mark.parametrize("name", ["agent-by-tag", "agent-by-tag-from-vpc", "owner-role"])
@pytest.mark.parametrize("action", ["ec2:CreateRoute", "ec2:ReplaceRoute", "ec2:DeleteRoute"])
def test_tables_without_the_tag(played: Played, name: str, action: str) -> None:
    policy, need = _one(played, name, action)
    assert policy.allows(need)
    more = CARRIED.get(name, {})
    for tags in ({}, {"aws:ResourceTag/floatip": "another"}, {"aws:ResourceTag/Name": TAG}):
        assert not policy.allows(Request(action, need.resource, {**tags, **more})), tags
    elsewhere = need.resource.replace(":eu-", ":us-")
    assert not policy.allows(Request(action, elsewhere, need.context))


def test_another_table_by_arn(played: Played) -> None:
    policy = played.fill("agent-by-arn", played.owner)
    needed = [need for need in played.needs("a1", played.owner) if _table(need)]
    assert {_table(need) for need in needed} > _listed(played)
    assert {_table(need) for need in needed if policy.allows(need)} == _listed(played)


ROUTES = ("ec2:CreateRoute", "ec2:ReplaceRoute", "ec2:DeleteRoute")


def test_a_table_of_another_group(played: Played) -> None:
    """It has the same tag, so the role may write it; the group's session may not."""
    group = _group(played)
    writes = [n for n in played.needs("a1", played.owner) if _table(n) not in _listed(played) | {""}]
    assert writes
    others = [replace(need, action=action) for need in writes for action in ROUTES]
    assert all(group.role.allows(need) for need in others)
    assert not any(group.allows(need) for need in others)


def test_a_session_gives_nothing_that_the_role_has_not(played: Played) -> None:
    group = _group(played)
    routes = [n for n in played.needs("a1", played.owner) if _table(n) in _listed(played)]
    assert routes
    assert not any(group.allows(replace(need, context={})) for need in routes), "a table that lost its tag"


def test_a_session_policy_is_small_enough() -> None:
    """STS takes 2048 characters of it; EKS passes it on as it is given. Ten tables are possible."""
    arn = "arn:aws:ec2:ap-southeast-2:111122223333:route-table/rtb-0a1b2c3d4e5f60718"
    output = json.loads((SHIPPED / "session-of-a-group.json").read_text())
    (writes,) = [item for item in output["Statement"] if item["Sid"] == "WriteRoutesInTheseTables"]
    writes["Resource"] = [arn] * 10
    assert len(json.dumps(output, separators=(",", ":"))) <= 2048


@pytest.mark.parametrize("way", [{}, {"aws:SourceVpc": "vpc-0"}, {"aws:SourceIp": "198.51.100.7"}], ids=str)
def test_stolen_credentials_are_of_no_use_outside_the_vpc(played: Played, way: Mapping[str, str]) -> None:
    """Without an endpoint the request names no VPC. Looking is possible from anywhere."""
    policy, needed = _needed(played, "agent-by-tag-from-vpc")
    outside = [replace(need, context={**_without(need, "aws:SourceVpc"), **way}) for need in needed]
    assert {need.action for need in outside if not policy.allows(need)} == {
        *ROUTES,
        "ec2:ModifyNetworkInterfaceAttribute",
    }


def _without(need: Request, key: str) -> dict[str, str]:
    return {name: value for name, value in need.context.items() if name != key}


@pytest.mark.parametrize("cluster", [None, "another", "", "*"], ids=str)
def test_tables_of_another_cluster(played: Played, cluster: str | None) -> None:
    """A session without Pod Identity's tags writes nothing, not even in a table that has no tag either."""
    policy, needed = _needed(played, "agent-by-cluster")
    writes = [need for need in needed if not need.action.startswith("ec2:Describe")]
    key = "aws:PrincipalTag/eks-cluster-name"
    tags = {} if cluster is None else {key: cluster}
    assert {need.action for need in writes} == {*ROUTES, "ec2:ModifyNetworkInterfaceAttribute"}
    for need in writes:
        assert policy.allows(need)
        assert not policy.allows(replace(need, context=_without(need, key) | tags)), str(need)
    untagged = [replace(need, context=_without(need, "aws:ResourceTag/floatip")) for need in writes]
    assert not any(policy.allows(replace(need, context=_without(need, key))) for need in untagged)


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
        (request,) = played.cloud.needs(call)
        assert request.context["aws:ResourceTag/floatip"] == TAG
        assert not policy.allows(request), params
    off = {"ec2:Attribute/SourceDestCheck": "false"}
    assert policy.allows(Request(modify, need.resource, tag | off))
    assert not policy.allows(Request(modify, need.resource, off))
    assert not policy.allows(Request(modify, need.resource.replace(f":{eni}", ":i-1"), off))


def test_the_primary_interface_is_not_the_agents(played: Played) -> None:
    """It carries no tag; its check protects the cluster's own network."""
    policy = played.fill("agent-by-tag", played.owner)
    primary = played.lab.nodes["a1"].primary.id
    params = {"NetworkInterfaceId": primary, "SourceDestCheck": {"Value": False}}
    (request,) = played.cloud.needs(Call(0, "a1", "ModifyNetworkInterfaceAttribute", params, "ok"))
    assert not policy.allows(request)


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


# -- what is reported ----------------------------------------------------------------------------------------


def _alerts(played: Played) -> dict[str, Any]:
    """The rule of the alerts' template, for the tables and ranges of what was played."""
    ids = ",".join(played.lab.tables.values())
    ranges = {"Beginnings": "192.168.0.,fd00:192:168:,10.10.254.", "Lengths": "/32,/128,/28,/64"}
    (rule,) = Stack(ALERTS, RouteTables=ids, **ranges).of("AWS::Events::Rule").values()
    pattern: dict[str, Any] = plain(rule["EventPattern"])
    return pattern


def test_nothing_that_agents_do_is_reported(played: Played) -> None:
    pattern = _alerts(played)
    calls = [c for c in played.calls + played.swept + played.diagnosed if c.action in patterns.ROUTES]
    ours = [patterns.event(call, played.cloud.region) for call in calls]
    assert {our["detail"]["eventName"] for our in ours} == set(patterns.ROUTES)
    assert {len(our["detail"]["requestParameters"]) for our in ours} >= {2, 3}
    assert [our["detail"] for our in ours if patterns.matches(pattern, our)] == []
    carried_out = [our for our in ours if "errorCode" not in our["detail"]]
    for item in carried_out:  # the same by another program
        item["detail"]["userAgent"] = "aws-cli/2.31.0"
    assert carried_out
    assert all(patterns.matches(pattern, item) for item in carried_out)


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
    output = {"namespace": "kube-system", "account": "cni-floatip", "cluster": CLUSTER, **changed}
    context = {
        "aws:SourceAccount": "111122223333",
        "aws:SourceArn": output["cluster"],
        "aws:RequestTag/kubernetes-namespace": output["namespace"],
        "aws:RequestTag/kubernetes-service-account": output["account"],
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
    request = _pod_identity("sts:AssumeRole")
    for key in request.context:
        assert not trust.allows(replace(request, context={**request.context, key: "another"})), key


def test_pod_identity_without_tags_lets_the_clusters_associations_in_alone() -> None:
    """A session policy goes with no tags. Which service accounts have the role, associations say."""
    tagged, trust = (read(name, **FILLED) for name in ("trust-pod-identity", UNTAGGED))
    for action in ("sts:AssumeRole", "sts:TagSession"):
        output = _pod_identity(action)
        request = replace(
            output, context={key: output.context[key] for key in ("aws:SourceAccount", "aws:SourceArn")}
        )
        assert not tagged.allows(request)
        assert trust.allows(request)
        for key in request.context:
            assert not trust.allows(
                replace(request, context={**request.context, key: f"{request.context[key]}2"})
            )
            assert not trust.allows(replace(request, context=_without(request, key)))
        assert not trust.allows(replace(request, principal="ec2.amazonaws.com"))


UNTAGGED = "trust-pod-identity-without-tags"


def test_irsa_lets_the_service_account_in_alone() -> None:
    trust = read("trust-irsa", **FILLED)
    assert trust.allows(_web_identity())
    assert not trust.allows(_web_identity("system:serviceaccount:default:cni-floatip"))
    assert not trust.allows(_web_identity(**{f"{ISSUER}:aud": "somebody"}))


def test_doctor_has_what_it_calls_beyond_the_agent() -> None:
    """Its operations, by the names that it calls them by."""
    sources = "".join(path.read_text() for path in Path(doctor.__file__).parent.rglob("*.py"))
    called = {f"ec2:{_camel(name)}" for name in re.findall(r'"(describe_[a-z_]+)"', sources)}
    agents = {
        action
        for statement in read("owner-role", **FILLED_FOR_OWNER).statements
        for action in statement.actions
    }
    extra = {action for statement in read("doctor").statements for action in statement.actions}
    assert extra == called - agents


FILLED_FOR_OWNER = {"REGION": "eu-central-1", "OWNER_ACCOUNT": "111122223333", "TAG_VALUE": TAG}


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


# -- the documents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_every_document_is_explained(path: Path) -> None:
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
    assert f'RoleSessionName="{name}"' in inspect.getsource(sessions)


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
        {"Action": "a:b", "Resource": "*", "Condition": {"StringEquals": {"k": "${aws:username}"}}},
        {"Action": "a:b", "Resource": "*", "Condition": {"NumericLessThan": {"k": "1"}}},
    ],
    ids=["NotAction", "variable", "another variable", "operator"],
)
def test_what_is_not_modelled_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        parse({"Version": "2012-10-17", "Statement": [{"Sid": "X", "Effect": "Allow", **said}]})
