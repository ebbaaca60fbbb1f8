"""EC2 as this node reaches it: endpoint, credentials, roles, permissions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from ...edges.ec2.proxies import proxied_metadata
from ...model.errors import Ec2Error
from ..catalog import found
from ..causes import is_out_of_reach, is_unsigned, whom
from ..ec2_reads import proxy_between
from ..facts import Asked
from ..finding import Finding, fine, listed, not_checked
from ..judge import node
from ..probe import Looks

T = TypeVar("T")

ANSWER_SECONDS = 15.0
"""Less than all checks have together: an endpoint whose name nobody resolves is a finding, not "too late"."""
TABLES_TRIED = 10
"""On how many tables permissions are tried: dry runs count against the account's request rate as well."""


def endpoint(looks: Looks) -> Iterable[Finding]:
    try:
        answered = _within(ANSWER_SECONDS, lambda: looks.answered)
    except Ec2Error as e:
        if not is_out_of_reach(e):
            raise
        where = whom(e, looks.audit.endpoint())
        proxy = proxy_between(e, where)
        what = f"{e} (through the proxy {proxy} of HTTP_PROXY or HTTPS_PROXY)" if proxy else str(e)
        return [found("endpoint-unreachable", where, what, endpoint=where)]
    except TimeoutError:
        where = looks.audit.endpoint()
        what = f"no answer in {ANSWER_SECONDS:g} s: is its name resolved?"
        return [found("endpoint-unreachable", where, what, endpoint=where)]
    region = looks.region
    said = fine(answered.endpoint, f"answers in {answered.seconds * 1000:.0f} ms")
    return list(node.endpoint(answered, region)) or [said]


def _within(seconds: float, look: Callable[[], T]) -> T:
    """Return what a look sees. Raises TimeoutError: to look a name up has no bound of its own."""
    seen: Future[T] = Future()

    def run() -> None:
        try:
            seen.set_result(look())
        except Exception as e:  # noqa: BLE001 (raised again, where it is waited for)
            seen.set_exception(e)

    threading.Thread(target=run, daemon=True, name="within").start()
    return seen.result(seconds)


def identity(looks: Looks) -> Iterable[Finding]:
    try:
        who = looks.identity
    except Ec2Error as e:
        if is_out_of_reach(e):
            raise
        what = "; ".join(filter(None, (str(e), proxied_metadata() if is_unsigned(e) else "")))
        return [found("no-credentials", "credentials", what)]
    return list(node.identity(who)) or [fine(who.arn, f"found by {who.how}")]


def roles(looks: Looks) -> Iterable[Finding]:
    findings: list[Finding] = []
    for account, role in looks.policy.roles.items():
        try:
            looks.audit.vpc.call("describe_route_tables", {"MaxResults": 5}, account)
            findings.append(fine(role, f"assumed for account {account}"))
        except Ec2Error as e:
            if e.action != "AssumeRole":
                raise
            if is_out_of_reach(e):
                findings.append(found("sts-unreachable", role, str(e), region=looks.region))
            else:
                findings.append(found("role-refused", role, str(e), role=role, identity=_name(looks)))
    return findings or [fine("", "none: the tables are this account's")]


def permissions(looks: Looks) -> Iterable[Finding]:
    own, owner = _name(looks), looks.owner
    of_tables = looks.policy.roles[owner] if owner else own
    asked = {own: list(_of_enis(looks))}
    asked.setdefault(of_tables, []).extend(_of_tables(looks))
    wrong = [finding for who, each in asked.items() for finding in node.permissions(each, who)]
    if len(looks.allowed) > TABLES_TRIED:
        left = listed([table.id for table in looks.allowed[TABLES_TRIED:]])
        wrong.append(not_checked("permissions", f"only tried on {TABLES_TRIED} tables, not on {left}"))
    return wrong or [
        fine(who, f"may {', '.join(sorted({one.action for one in each}))}") for who, each in asked.items()
    ]


def _name(looks: Looks) -> str:
    """Return who we are to AWS. STS, which tells, is not needed for what the agent does: it may be away."""
    try:
        return looks.identity.arn
    except Ec2Error as e:
        if not is_out_of_reach(e):
            raise
        return "the agent's identity"


def _of_enis(looks: Looks) -> Iterator[Asked]:
    yield from looks.audit.reads()
    if looks.policy.source_dest_check == "disable":
        for eni in looks.floating:
            arn = node.eni_arn(looks.region, looks.node.account, eni.id)
            yield looks.audit.check_off(eni.id, arn)


def _of_tables(looks: Looks) -> Iterator[Asked]:
    if looks.owner:
        yield from looks.audit.reads(looks.owner)
    eni = looks.floating[0].id if looks.floating else looks.enis[0].id
    for table in looks.allowed[:TABLES_TRIED]:
        arn = node.table_arn(looks.region, table.account, table.id)
        yield from looks.audit.routes(table.id, arn, eni, looks.owner)
