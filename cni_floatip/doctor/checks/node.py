"""This node: its configuration, client, agent, metadata and clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ... import __version__
from ...config.nodeconf import MINIMAL
from ...edges.podnet import guard, host_link
from ...model.errors import CniError, IoFailure, TryAgain
from .. import host
from ..catalog import found
from ..facts import Claimed, FloatingLink
from ..finding import Finding, fine, not_checked
from ..judge import node
from ..probe import Looks

TRIED_AT_ONCE = 32


def policy(looks: Looks) -> Iterable[Finding]:
    try:
        conf = looks.policy
    except CniError as e:
        path = looks.policy_path
        if isinstance(e.__cause__, FileNotFoundError):
            what = f"{path} does not exist, so nothing may be claimed"
            return [found("policy-missing", "", what, path=path, minimal=MINIMAL)]
        return [found("policy-unusable", path, e.msg.removeprefix(path).lstrip(": "), path=path)]
    wrong = list(node.policy(looks.policy_path, conf))
    count = len(conf.allowed_destinations)
    return wrong or [fine(looks.policy_path, f"{count} range{'s' * (count != 1)} allowed")]


def client(looks: Looks) -> Iterable[Finding]:
    path, directory = looks.bin_dir / "floatip", str(looks.bin_dir)
    try:
        text = path.read_text(errors="replace")
    except OSError as e:
        return [found("client-missing", str(path), f"cannot be read: {e.strerror}", directory=directory)]
    if wrong := host.answer_to_version(path):
        return [found("client-broken", str(path), wrong, directory=directory, path=path)]
    wrong_one = list(node.client(str(path), text, looks.policy.socket_path, __version__))
    return wrong_one or [fine(str(path), f"answers VERSION, release {__version__}")]


def agent(looks: Looks) -> Iterable[Finding]:
    socket = looks.policy.socket_path
    try:
        document = looks.status
    except (TryAgain, IoFailure) as e:
        return [found("agent-silent", socket, e.msg, **_here(looks))]
    said = document["agent"]
    what = f"{said.get('release', '?')} ready, {len(document['claims'])} claims"
    return list(node.agent(document)) or [fine(socket, what)]


def _here(looks: Looks) -> dict[str, str]:
    """Return how kubectl finds this node's agent."""
    namespace, name = looks.environ.get("POD_NAMESPACE"), looks.environ.get("NODE_NAME")
    return {"namespace": namespace or "kube-system", "node": name or "NODE"}


def metadata(looks: Looks) -> Iterable[Finding]:
    try:
        here, enis = looks.node, looks.enis
    except CniError as e:
        return [found("metadata-unreachable", "instance metadata", e.msg, instance="INSTANCE")]
    unknown = [
        not_checked("instance metadata", said, "run floatipctl doctor again") for said in looks.undescribed
    ]
    return unknown or [fine(here.instance, f"{len(enis)} ENIs in {looks.vpc}, {here.region}")]


def metadata_guard(looks: Looks) -> Iterable[Finding]:
    """Try it: from the host through each ENI that is in use, and from every pod with a floating IP."""
    tries = [partial(_guarded, looks, link) for link in looks.links if link.in_use and link.name]
    tries += [partial(_in_a_pod, looks, link) for link in looks.links if link.in_use and not link.name]
    tries += [partial(_closed_to, looks, claim) for claim in looks.claims]
    if not tries:
        if why := host.why_no_guard():
            return [found("guard-impossible", "metadata guard", why)]
        return [
            fine("", "no floating IP is here yet; its ENI's guard, which works here, comes with the first")
        ]
    with ThreadPoolExecutor(TRIED_AT_ONCE) as pool:  # what is closed to metadata waits for a second each
        return [finding for findings in pool.map(lambda each: list(each()), tries) for finding in findings]


def _guarded(looks: Looks, seen: FloatingLink) -> Iterator[Finding]:
    try:
        link = host_link(seen.index)
        answered, present = host.metadata_answers(link.name), guard.present(link)
    except CniError as e:
        yield not_checked(seen.name, e.msg)
        return
    if answered:
        yield found(
            "metadata-open", link.name, f"{answered} answers the host", link=link.name, **_here(looks)
        )
    elif not present:
        yield found(
            "guard-missing", link.name, "one of our filters is missing, on egress or ingress", link=link.name
        )
    else:
        yield fine(link.name, "metadata does not answer, and the guard is there")


def _in_a_pod(looks: Looks, seen: FloatingLink) -> Iterator[Finding]:
    """Name an ENI that is itself in a pod; one that is nowhere is for another check to name."""
    if host.taken_by_pods({seen.mac}):
        allowed = "true" if looks.policy.allow_host_device else "false (pods that run stay)"
        yield found("eni-in-pod", seen.eni, f"is itself in a pod; allowHostDevice is {allowed}")


def _closed_to(looks: Looks, claim: Claimed) -> Iterator[Finding]:
    subject = f"{claim.pod} {claim.ifname}"
    try:
        answered = host.metadata_answers_in(claim.netns, claim.ifname, claim.addresses)
    except CniError as e:
        yield not_checked(subject, e.msg)
        return
    if answered:
        yield found(
            "metadata-open", subject, f"{answered} answers the pod", link=claim.ifname, **_here(looks)
        )
    else:
        yield fine(subject, "metadata does not answer (as it should be)")


def clock(looks: Looks) -> Iterable[Finding]:
    answered = looks.answered
    return list(node.clock(answered)) or [fine("clock", "as EC2's, within a minute")]
