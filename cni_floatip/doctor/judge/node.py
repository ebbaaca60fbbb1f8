"""Judges the node itself: its policy, agent, clock, and AWS identity."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...config.nodeconf import NodeConf
from ...model.claim_state import State
from ..catalog import make_finding
from ..facts import DryRun, EndpointAnswer, Identity
from ..finding import Finding, list_names, not_checked

SKEW_SECONDS = 60
"""A clock this far off will be 5 minutes off one day; the Date of an answer has whole seconds."""
SLOW_SECONDS = 0.5
_WRITTEN = re.compile(r"(?m)^(SOCKET|RELEASE) = ('[^'\n]*')$")


def policy(path: str, conf: NodeConf) -> Iterator[Finding]:
    """Judge what the node configuration allows."""
    for key, value, raw in (
        ("allowedDestinations", "config.allowedDestinations", conf.allowed_destinations),
        (
            "allowedRouteTables",
            "config.allowedRouteTables",
            conf.allowed_route_tables.ids or conf.allowed_route_tables.tags,
        ),
    ):
        if not raw:
            yield make_finding("policy-empty", key, f"{path} allows none", key=key, path=path, value=value)


def client(path: str, text: str, socket: str, release: str) -> Iterator[Finding]:
    """Judge an installed client by what the installer wrote at its head: is it for this agent?"""
    written = {name: ast.literal_eval(value) for name, value in _WRITTEN.findall(text)}
    directory = path.rpartition("/")[0]
    if written.get("SOCKET", socket) != socket:
        what = f"it asks {written['SOCKET']}; the agent's socket is {socket}"
        yield make_finding("client-elsewhere", path, what, directory=directory)
    if written.get("RELEASE", release) != release:
        what = f"it is of release {written['RELEASE']}; this is {release}"
        yield make_finding("client-of-another-release", path, what, directory=directory)


def agent(document: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge what the agent tells."""
    raw = document.get("agent", {})
    for problem in raw.get("problems", ()):
        because = ("endpoint", "identity") if "AWS credentials" in problem else ()
        yield replace(make_finding("agent-not-ready", "agent", problem), because=because)
    for warning in raw.get("warnings", ()):
        yield make_finding("agent-warns", "agent", warning)
    for record in document.get("records", ()):
        yield make_finding("agent-claims", str(record.get("path")), str(record.get("reason")))
    for claim in document.get("claims", ()):
        explain: tuple[str, ...] = ("addresses",) if claim.get("cutOff") else ("endpoint", "identity")
        for route in claim.get("routes", ()):
            if route.get("error") and route.get("state") != State.GONE:  # nobody wants that any more
                subject = f"{route['table']} {route['destination']}"
                yield replace(make_finding("agent-claims", subject, route["error"]), because=explain)


def clock(answered: EndpointAnswer) -> Iterator[Finding]:
    """Judge this node's clock by the Date of an answer."""
    if answered.ahead is None:
        yield not_checked("clock", f"{answered.endpoint} sends no Date", "run: chronyc tracking")
    elif abs(answered.ahead) > SKEW_SECONDS:
        way = "behind" if answered.ahead > 0 else "ahead of"
        yield make_finding("clock-skew", "clock", f"{abs(answered.ahead):.0f} s {way} EC2's")


def endpoint(answered: EndpointAnswer, region: str) -> Iterator[Finding]:
    """Judge how quickly EC2 answers."""
    if answered.seconds > SLOW_SECONDS:
        what = f"an answer over a warm connection takes {answered.seconds * 1000:.0f} ms"
        yield make_finding("endpoint-slow", answered.endpoint, what, region=region)


def identity(who: Identity) -> Iterator[Finding]:
    """Judge where the credentials come from (botocore's name for instance metadata is iam-role)."""
    if who.how == "iam-role":
        yield make_finding("identity-of-node", who.arn, "taken from instance metadata", identity=who.arn)


def permissions(runs: Iterable[DryRun], identity: str) -> Iterator[Finding]:
    """Judge dry runs: one finding for each action and resource that is denied."""
    unclear: dict[str, list[str]] = {}
    for run in runs:
        if run.allowed is False:
            text = run.answer.partition(" Encoded authorization failure message:")[0]  # a page of base64
            what = f"denied on {run.resource}: {text}"
            names = {"action": run.action, "resource": run.resource, "identity": identity}
            denied = make_finding("action-denied", f"ec2:{run.action}", what, **names)
            yield replace(denied, place=run.resource)
        elif run.allowed is None:
            unclear.setdefault(f"{run.action}: {run.answer}", []).append(run.resource)
    for text, resources in unclear.items():
        again = "run floatipctl doctor again; if it says the same: aws iam simulate-principal-policy"
        yield not_checked("permissions", f"{text} ({list_names(resources)})", again)


def table_arn(region: str, account: str, table: str) -> str:
    """Return a route table's ARN; the partition follows from the region."""
    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if "-gov-" in region else "aws"
    return f"arn:{partition}:ec2:{region}:{account}:route-table/{table}"


def eni_arn(region: str, account: str, eni: str) -> str:
    """Return a network interface's ARN."""
    return table_arn(region, account, "").replace("route-table/", f"network-interface/{eni}")


def tag_arguments(tags: Mapping[str, str]) -> str:
    """Return tags as ``aws ec2 create-tags`` takes them; "*" stands for any value."""
    shown: Sequence[str] = [f"Key={key},Value={'...' if v == '*' else v}" for key, v in tags.items()]
    return " ".join(map(shlex.quote, shown)) or "Key=...,Value=..."
