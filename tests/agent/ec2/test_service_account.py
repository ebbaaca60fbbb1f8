"""In whose name the agent speaks to EC2: what its service account is given, by either way that EKS has.

IRSA: the pod's token, exchanged at STS by a request that nobody signs ("IAM roles for service accounts").
Pod Identity: an agent of EKS on the node hands out credentials over HTTP ("EKS Pod Identity"). Both come
before the node's own role, which instance metadata would give.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lab import netns
from lab.ec2.cloud import KEY_PREFIX
from lab.node import Node
from lab.webserver import Answer, Listener, Request, open_socket
from lab.world import Lab

pytestmark = [
    pytest.mark.needs("root", "ip", "macvlan-plugin", "static-plugin"),
    pytest.mark.lab(azs=1, nodes_per_az=1, agents=True, warm=True),
    pytest.mark.usefixtures("lab_as_new"),
]

ROLE = "arn:aws:iam::111122223333:role/floatip-agent"
REGION = {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"}
"""What EKS' webhook adds beside the rest; clusters that run another one do without."""


@pytest.fixture
def bare(lab: Lab) -> Iterator[Node]:
    """Yield the node without an agent; afterwards it has the one that it is used to."""
    a1 = lab.nodes["a1"]
    a1.agent.stop()
    yield a1
    a1.agent.stop()
    a1.agent.start(a1.env)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    part = base64.urlsafe_b64encode(b'{"sub": "system:serviceaccount:kube-system:cni-floatip"}').decode()
    path = tmp_path / "token"
    path.write_text(f"{part}.{part}.{part}")
    return path


def add(lab: Lab, node: Node) -> None:
    node.add(node.pod("web"), lab.conflist(["192.168.0.2/32"]))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("region", [REGION, {}], ids=["with a Region", "without one"])
def test_agent_uses_irsa_credentials(lab: Lab, bare: Node, token: Path, region: dict[str, str]) -> None:
    irsa = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": str(token)}
    bare.agent.start(bare.env | region | irsa)
    bare.agent.wait_ready()
    add(lab, bare)

    (exchanged,) = lab.ec2.journal.of(action="AssumeRoleWithWebIdentity")
    assert (exchanged.params["RoleArn"], exchanged.outcome) == (ROLE, "ok")
    assert lab.ec2.journal.of(action="CreateRoute")


def test_token_that_sts_does_not_accept(lab: Lab, bare: Node, token: Path) -> None:
    token.write_text("nonsense")
    bare.agent.start(bare.env | REGION | {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": str(token)})
    assert not bare.agent.is_ready

    token.write_text("a.b.c")  # the kubelet writes a new one in time
    bare.agent.wait_ready()


def test_agent_uses_pod_identity_credentials(lab: Lab, bare: Node, token: Path) -> None:
    requests: list[Request] = []

    def hand_out(request: Request) -> Answer:
        requests.append(request)
        if request.headers.get("authorization") != token.read_text():
            return Answer(401)
        until = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
        key = KEY_PREFIX + lab.ec2.account
        given = {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": until}
        return Answer(200, json.dumps(given).encode(), content_type="application/json")

    sock = netns.inside(bare.ns, open_socket, "127.0.0.1", 0)
    listener = Listener(sock, hand_out)
    try:
        uri = f"http://127.0.0.1:{sock.getsockname()[1]}/v1/credentials"
        pod_identity = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": uri,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        }
        bare.agent.start(bare.env | REGION | pod_identity)
        bare.agent.wait_ready()
        add(lab, bare)
    finally:
        listener.close()
    assert [request.path for request in requests] == ["/v1/credentials"]
    assert lab.ec2.journal.of(action="CreateRoute")
