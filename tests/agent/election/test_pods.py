"""Which pods of which group a node has claims of."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from cni_floatip.agent.election.objects import PodView
from cni_floatip.agent.election.pods import ClaimJudge, PodBook
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.election.fitness import PodStatus
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute
from cni_floatip.model.recorded_config import RecordedConfig
from cni_floatip.model.values import Attachment, PodIdentity, RouteKey

NETWORK = {"cniVersion": "1.0.0", "name": "floating", "type": "floatip", "routeTables": {"ids": ["rtb-a"]}}
RAN = PodView("core", "web", True, PodStatus("uid-1", ready=True))


class Desk:
    def __init__(self) -> None:
        self.cut_off: set[Attachment] = set()
        policy = NodeConf.parse({"allowedDestinations": [{"cidr": "192.168.0.0/16"}, {"cidr": "fd00::/16"}]})
        self.book = PodBook(ClaimJudge(policy, 1000.0, lambda it: it in self.cut_off))

    def claim(
        self,
        address: str = "192.168.0.5/32",
        ifname: str = "net1",
        *,
        container: str = "c1",
        election: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Claim:
        network = ip_interface(address).network
        claim = Claim(
            Attachment("floating", container, ifname),
            f"eni-{ifname}",
            "eu-west-1",
            "/run/netns/web",
            1,
            "boot",
            PodIdentity("core", "web", "uid-1"),
            "release",
            (ClaimedRoute.begin(RouteKey("rtb-a", network), "1"),),
            addresses=(ip_interface(address),),
            created_at=5000.7,
            config=RecordedConfig({**NETWORK, "activate": "ready", "election": election or {}}),
            group=(election or {}).get("group", ""),
        )
        return replace(claim.admit(), **fields)

    def see(self, *claims: Claim) -> None:
        for claim in claims:
            self.book.see_claim(claim.attachment, claim)

    def groups(self) -> set[str]:
        return set(self.book.groups())

    def form(self) -> None:
        """Record the names of groups that can be named, as the elections do."""
        for attachment, name in list(self.book.unnamed()):
            claim = self.book._claims[attachment]
            self.see(replace(claim, group=name))


@pytest.fixture
def book_of_pods() -> Desk:
    return Desk()


def test_a_group_is_formed_when_its_pod_is_first_seen_to_run(book_of_pods: Desk) -> None:
    book_of_pods.see(book_of_pods.claim())
    book_of_pods.form()
    assert book_of_pods.groups() == set()
    assert book_of_pods.book.unformed() == {("core", "web")}
    book_of_pods.book.see_pod(replace(RAN, ran=False))
    book_of_pods.form()
    assert book_of_pods.groups() == set()
    book_of_pods.book.see_pod(RAN)
    book_of_pods.form()
    assert book_of_pods.groups() == {"core/192.168.0.5"}
    assert book_of_pods.book.unformed() == frozenset()


def test_interfaces_of_a_pod_are_one_group_named_after_the_lowest_address(book_of_pods: Desk) -> None:
    book_of_pods.book.see_pod(RAN)
    book_of_pods.see(
        book_of_pods.claim("fd00::1/128", "net1"),
        book_of_pods.claim("192.168.0.9/32", "net2"),
        book_of_pods.claim("192.168.0.7/32", "net3"),
    )
    book_of_pods.form()
    [group] = book_of_pods.book.groups()
    assert group == "core/192.168.0.7"
    [pod] = book_of_pods.book.pods_of(group)
    assert pod.enis == ("eni-net1", "eni-net2", "eni-net3")
    assert len(pod.keys) == 3


def test_a_group_that_is_named_is_apart(book_of_pods: Desk) -> None:
    book_of_pods.book.see_pod(RAN)
    book_of_pods.see(
        book_of_pods.claim("192.168.0.9/32", "net1"),
        book_of_pods.claim("192.168.0.7/32", "net2", election={"group": "b"}),
    )
    book_of_pods.form()
    assert sorted(book_of_pods.book.groups()) == ["core/192.168.0.9", "core/b"]


def test_an_add_that_runs_keeps_its_group_from_being_named(book_of_pods: Desk) -> None:
    book_of_pods.book.see_pod(RAN)
    claiming = book_of_pods.claim()
    book_of_pods.see(replace(claiming, routes=tuple(ClaimedRoute.begin(r.key, "1") for r in claiming.routes)))
    assert list(book_of_pods.book.unnamed()) == []


def test_what_a_member_learns_of_a_pod(book_of_pods: Desk) -> None:
    book_of_pods.see(book_of_pods.claim(group="g"))
    [pod] = book_of_pods.book.pods_of("core/g")
    assert (pod.uid, pod.pod, pod.added, pod.complete, pod.allowed) == ("uid-1", "web", 5000, True, True)
    assert pod.destinations == (ip_network("192.168.0.5/32"),)
    assert (pod.keep, pod.active_on_disk, pod.ended_at) == (False, False, None)
    book_of_pods.see(book_of_pods.claim(group="g", on_delete="keep").elect(1.0))
    [pod] = book_of_pods.book.pods_of("core/g")
    assert (pod.keep, pod.active_on_disk) == (True, True)


def test_a_pod_without_its_eni_is_not_complete(book_of_pods: Desk) -> None:
    claim = book_of_pods.claim(group="g")
    book_of_pods.see(claim)
    book_of_pods.cut_off = {claim.attachment}
    [pod] = book_of_pods.book.pods_of("core/g")
    assert not pod.complete


def test_a_destination_that_policy_does_not_give_is_not_allowed(book_of_pods: Desk) -> None:
    book_of_pods.see(book_of_pods.claim("10.0.0.1/32", group="g"))
    [pod] = book_of_pods.book.pods_of("core/g")
    assert not pod.allowed


def test_an_active_that_ended_stays_until_it_is_released(book_of_pods: Desk) -> None:
    ended = book_of_pods.claim(group="g").elect(1.0).release(5100.0, 5050.0)
    book_of_pods.see(ended)
    [pod] = book_of_pods.book.pods_of("core/g")
    assert pod.ended_at == pytest.approx(4050.0, abs=0.01)
    assert book_of_pods.book.pods_of("core/g") == book_of_pods.book.pods_of("core/g")
    book_of_pods.see(ended.finish([route.key for route in ended.routes]))
    assert (book_of_pods.book.pods_of("core/g"), book_of_pods.book.groups()) == ((), [])


def test_a_new_sandbox_is_what_counts(book_of_pods: Desk) -> None:
    """Its pod has yet to become Ready in it."""
    former = book_of_pods.claim(group="g").elect(1.0).release(5100.0, 5050.0)
    new = book_of_pods.claim(group="g", container="c2", created_at=6000.2)
    book_of_pods.see(former, new)
    [pod] = book_of_pods.book.pods_of("core/g")
    assert (pod.added, pod.ended_at, pod.active_on_disk) == (6000, None, False)


def test_a_runtime_that_tells_no_uid(book_of_pods: Desk) -> None:
    claim = book_of_pods.claim(group="g", pod=PodIdentity("core", "web", ""))
    book_of_pods.see(claim)
    assert book_of_pods.book.pods_of("core/g") == ()
    book_of_pods.book.see_pod(RAN)
    [pod] = book_of_pods.book.pods_of("core/g")
    assert pod.uid == "uid-1"
