"""EC2 as this node reaches it: endpoint, credentials, roles, permissions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from ...edges.ec2.proxies import proxied_metadata
from ...model.errors import Ec2Error
from ..catalog import make_finding
from ..causes import is_out_of_reach, is_unsigned, whom
from ..ec2_reads import proxy_between
from ..facts import DryRun
from ..finding import Finding, fine, list_names, not_checked
from ..judge import node
from ..probe import Probe

T = TypeVar("T")

ANSWER_SECONDS = 15.0
"""Less than the time of all checks, so that an unresolvable endpoint is a finding, not "too late"."""
TABLES_TRIED = 10
"""How many tables permissions are tried on; few, because dry runs count against the request rate too."""


def endpoint(probe: Probe) -> Iterable[Finding]:
    try:
        answered = _within(ANSWER_SECONDS, lambda: probe.endpoint_answer)
    except Ec2Error as e:
        if not is_out_of_reach(e):
            raise
        where = whom(e, probe.audit.endpoint())
        proxy = proxy_between(e, where)
        what = f"{e} (through the proxy {proxy} of HTTP_PROXY or HTTPS_PROXY)" if proxy else str(e)
        return [make_finding("endpoint-unreachable", where, what, endpoint=where)]
    except TimeoutError:
        where = probe.audit.endpoint()
        what = f"no answer in {ANSWER_SECONDS:g} s: is its name resolved?"
        return [make_finding("endpoint-unreachable", where, what, endpoint=where)]
    region = probe.region
    finding = fine(answered.endpoint, f"answers in {answered.seconds * 1000:.0f} ms")
    return list(node.endpoint(answered, region)) or [finding]


def _within(seconds: float, look: Callable[[], T]) -> T:
    """Return the result of a read. Raises TimeoutError, because a name lookup has no limit of its own."""
    observed: Future[T] = Future()

    def run() -> None:
        try:
            observed.set_result(look())
        except Exception as e:  # noqa: BLE001 (raised again, where it is waited for)
            observed.set_exception(e)

    threading.Thread(target=run, daemon=True, name="within").start()
    return observed.result(seconds)


def identity(probe: Probe) -> Iterable[Finding]:
    try:
        who = probe.identity
    except Ec2Error as e:
        if is_out_of_reach(e):
            raise
        what = "; ".join(filter(None, (str(e), proxied_metadata() if is_unsigned(e) else "")))
        return [make_finding("no-credentials", "credentials", what)]
    return list(node.identity(who)) or [fine(who.arn, f"found by {who.how}")]


def roles(probe: Probe) -> Iterable[Finding]:
    findings: list[Finding] = []
    for account, role in probe.policy.roles.items():
        try:
            probe.audit.vpc.call("describe_route_tables", {"MaxResults": 5}, account)
            findings.append(fine(role, f"assumed for account {account}"))
        except Ec2Error as e:
            if e.action != "AssumeRole":
                raise
            if is_out_of_reach(e):
                findings.append(make_finding("sts-unreachable", role, str(e), region=probe.region))
            else:
                findings.append(make_finding("role-refused", role, str(e), role=role, identity=_name(probe)))
    return findings or [fine("", "none: the tables are this account's")]


def permissions(probe: Probe) -> Iterable[Finding]:
    own, owner = _name(probe), probe.owner
    of_tables = probe.policy.roles[owner] if owner else own
    runs = {own: list(_of_enis(probe))}
    runs.setdefault(of_tables, []).extend(_of_tables(probe))
    wrong = [finding for who, runs in runs.items() for finding in node.permissions(runs, who)]
    if len(probe.allowed) > TABLES_TRIED:
        left = list_names([table.id for table in probe.allowed[TABLES_TRIED:]])
        wrong.append(not_checked("permissions", f"only tried on {TABLES_TRIED} tables, not on {left}"))
    return wrong or [
        fine(who, f"may {', '.join(sorted({one.action for one in runs}))}") for who, runs in runs.items()
    ]


def _name(probe: Probe) -> str:
    """Return our identity from STS. STS may be away, because the agent does not need it."""
    try:
        return probe.identity.arn
    except Ec2Error as e:
        if not is_out_of_reach(e):
            raise
        return "the agent's identity"


def _of_enis(probe: Probe) -> Iterator[DryRun]:
    yield from probe.audit.reads()
    if probe.policy.source_dest_check == "disable":
        for eni in probe.floating:
            arn = node.eni_arn(probe.region, probe.node.account, eni.id)
            yield probe.audit.check_off(eni.id, arn)


def _of_tables(probe: Probe) -> Iterator[DryRun]:
    if probe.owner:
        yield from probe.audit.reads(probe.owner)
    eni = probe.floating[0].id if probe.floating else probe.enis[0].id
    for table in probe.allowed[:TABLES_TRIED]:
        arn = node.table_arn(probe.region, table.account, table.id)
        yield from probe.audit.routes(table.id, arn, eni, probe.owner)
