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
from ..catalog import make_finding
from ..facts import ClaimedPod, FloatingLink
from ..finding import Finding, fine, not_checked
from ..judge import node
from ..probe import Probe

TRIED_AT_ONCE = 32


def policy(probe: Probe) -> Iterable[Finding]:
    try:
        conf = probe.policy
    except CniError as e:
        path = probe.policy_path
        if isinstance(e.__cause__, FileNotFoundError):
            what = f"{path} does not exist, so nothing may be claimed"
            return [make_finding("policy-missing", "", what, path=path, minimal=MINIMAL)]
        return [make_finding("policy-unusable", path, e.msg.removeprefix(path).lstrip(": "), path=path)]
    wrong = list(node.policy(probe.policy_path, conf))
    count = len(conf.allowed_destinations)
    return wrong or [fine(probe.policy_path, f"{count} range{'s' * (count != 1)} allowed")]


def client(probe: Probe) -> Iterable[Finding]:
    path, directory = probe.bin_dir / "floatip", str(probe.bin_dir)
    try:
        text = path.read_text(errors="replace")
    except OSError as e:
        return [
            make_finding("client-missing", str(path), f"cannot be read: {e.strerror}", directory=directory)
        ]
    if wrong := host.answer_to_version(path):
        return [make_finding("client-broken", str(path), wrong, directory=directory, path=path)]
    wrong_one = list(node.client(str(path), text, probe.policy.socket_path, __version__))
    return wrong_one or [fine(str(path), f"answers VERSION, release {__version__}")]


def agent(probe: Probe) -> Iterable[Finding]:
    socket = probe.policy.socket_path
    try:
        document = probe.status
    except (TryAgain, IoFailure) as e:
        return [make_finding("agent-silent", socket, e.msg, **_here(probe))]
    raw = document["agent"]
    what = f"{raw.get('release', '?')} ready, {len(document['claims'])} claims"
    return list(node.agent(document)) or [fine(socket, what)]


def _here(probe: Probe) -> dict[str, str]:
    """Return how kubectl finds this node's agent."""
    namespace, name = probe.environ.get("POD_NAMESPACE"), probe.environ.get("NODE_NAME")
    return {"namespace": namespace or "kube-system", "node": name or "NODE"}


def metadata(probe: Probe) -> Iterable[Finding]:
    try:
        here, enis = probe.node, probe.enis
    except CniError as e:
        return [make_finding("metadata-unreachable", "instance metadata", e.msg, instance="INSTANCE")]
    unknown = [
        not_checked("instance metadata", text, "run floatipctl doctor again") for text in probe.undescribed
    ]
    return unknown or [fine(here.instance, f"{len(enis)} ENIs in {probe.vpc}, {here.region}")]


def metadata_guard(probe: Probe) -> Iterable[Finding]:
    """Try it: from the host through each ENI that is in use, and from every pod with a floating IP."""
    tries = [partial(_judge_guard, probe, link) for link in probe.links if link.in_use and link.name]
    tries += [partial(_in_a_pod, probe, link) for link in probe.links if link.in_use and not link.name]
    tries += [partial(_judge_from_inside, probe, claim) for claim in probe.claims]
    if not tries:
        if why := host.why_no_guard():
            return [make_finding("guard-impossible", "metadata guard", why)]
        return [
            fine("", "no floating IP is here yet; its ENI's guard, which works here, comes with the first")
        ]
    with ThreadPoolExecutor(TRIED_AT_ONCE) as pool:  # what is closed to metadata waits for a second each
        return [finding for findings in pool.map(lambda item: list(item()), tries) for finding in findings]


def _judge_guard(probe: Probe, floating_link: FloatingLink) -> Iterator[Finding]:
    try:
        link = host_link(floating_link.index)
        answered, present = host.metadata_answers(link.name), guard.present(link)
    except CniError as e:
        yield not_checked(floating_link.name, e.msg)
        return
    if answered:
        yield make_finding(
            "metadata-open", link.name, f"{answered} answers the host", link=link.name, **_here(probe)
        )
    elif not present:
        yield make_finding(
            "guard-missing", link.name, "one of our filters is missing, on egress or ingress", link=link.name
        )
    else:
        yield fine(link.name, "metadata does not answer, and the guard is there")


def _in_a_pod(probe: Probe, link: FloatingLink) -> Iterator[Finding]:
    """Name an ENI that is itself in a pod; one that is nowhere is for another check to name."""
    if host.macs_in_pods({link.mac}):
        allowed = "true" if probe.policy.allow_host_device else "false (pods that run stay)"
        yield make_finding("eni-in-pod", link.eni, f"is itself in a pod; allowHostDevice is {allowed}")


def _judge_from_inside(probe: Probe, claim: ClaimedPod) -> Iterator[Finding]:
    subject = f"{claim.pod} {claim.ifname}"
    try:
        answered = host.metadata_answers_in(claim.netns, claim.ifname, claim.addresses)
    except CniError as e:
        yield not_checked(subject, e.msg)
        return
    if answered:
        yield make_finding(
            "metadata-open", subject, f"{answered} answers the pod", link=claim.ifname, **_here(probe)
        )
    else:
        yield fine(subject, "metadata does not answer (as it should be)")


def clock(probe: Probe) -> Iterable[Finding]:
    answered = probe.endpoint_answer
    return list(node.clock(answered)) or [fine("clock", "as EC2's, within a minute")]
