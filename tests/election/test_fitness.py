"""Which Ready counts, when a pod serves, and who goes first."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from cni_floatip.election.fitness import ElectedInterface, LocalPod, PodClaims, PodStatus
from cni_floatip.election.lease import Entry, Offer, Reason
from cni_floatip.election.rank import may_take, order, rank

NET = ip_network("192.168.0.2/32")
OTHER = ip_network("192.168.0.9/32")
CLAIMS = PodClaims("u", "web", 500, (ElectedInterface("eni-2", (OTHER,)), ElectedInterface("eni-1", (NET,))))
READY = PodStatus("u", ready=True, started=(500, 507))


def pod(status: PodStatus | None = READY, claims: PodClaims = CLAIMS) -> LocalPod:
    return LocalPod(claims, 10.0).see(status, 11.0, 10.5)


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        pytest.param(READY, True, id="all containers started since the ADD"),
        pytest.param(replace(READY, started=(499, 507)), False, id="one container is older than the sandbox"),
        pytest.param(replace(READY, started=()), False, id="no container runs"),
        pytest.param(replace(READY, ready=False), False, id="not Ready"),
        pytest.param(None, False, id="no such pod"),
    ],
)
def test_ready_counts_only_in_a_status_of_this_sandbox(status: PodStatus | None, ready: bool) -> None:
    assert pod(status).ready is ready


def test_an_old_ready_counts_after_a_get_that_showed_it_not_ready() -> None:
    old = replace(READY, started=(499,))
    unready = replace(old, ready=False)
    assert LocalPod(CLAIMS, 10.0).see(unready, 11.0, 10.0).see(old, 12.0).ready
    assert not LocalPod(CLAIMS, 10.0).see(unready, 11.0, 9.9).see(old, 12.0).ready  # it began before the ADD
    assert not LocalPod(CLAIMS, 10.0).see(unready, 11.0).see(old, 12.0).ready  # the watch may be late


def test_no_time_out_makes_an_old_ready_count() -> None:
    old = pod(replace(READY, started=(499,)))
    for at in (50.0, 5000.0):
        old = old.see(old.status, at, at - 0.1).count(at)
    assert not old.serves


def test_a_new_sandbox_has_yet_to_become_ready() -> None:
    anew = pod().claim(replace(CLAIMS, added=600), 20.0)
    assert (anew.ready, anew.read_began, anew.added_at) == (False, float("-inf"), 20.0)
    assert pod().claim(replace(CLAIMS, allowed=False), 20.0).ready


@pytest.mark.parametrize(
    ("status", "claims", "serves", "fit", "ending"),
    [
        pytest.param(READY, CLAIMS, True, True, None, id="fit"),
        pytest.param(
            READY, replace(CLAIMS, complete=False), False, False, None, id="an interface is missing"
        ),
        pytest.param(READY, replace(CLAIMS, allowed=False), True, False, None, id="policy does not allow it"),
        pytest.param(READY, replace(CLAIMS, ended_at=5.0), False, False, Reason.GONE, id="its DEL came"),
        pytest.param(
            replace(READY, terminating=True), CLAIMS, False, False, Reason.TERMINATING, id="terminating"
        ),
        pytest.param(None, CLAIMS, False, False, Reason.GONE, id="not found"),
    ],
)
def test_what_makes_a_pod_fit(
    status: PodStatus | None,
    claims: PodClaims,
    serves: bool,
    fit: bool,
    ending: Reason | None,
) -> None:
    assert (pod(status, claims).serves, pod(status, claims).fit, pod(status, claims).ending) == (
        serves,
        fit,
        ending,
    )


def test_a_pod_that_was_never_read_is_neither_unready_nor_gone() -> None:
    fresh = LocalPod(CLAIMS, 10.0).count(99.0)
    assert (fresh.ending, fresh.unready_since, fresh.serves) == (None, None, False)


def test_unready_counts_from_its_first_sight() -> None:
    unready = pod().see(replace(READY, ready=False), 20.0)
    assert unready.see(replace(READY, ready=False), 30.0, 29.0).unready_since == 20.0
    assert unready.see(READY, 31.0).unready_since is None
    assert unready.claim(replace(CLAIMS, complete=False), 32.0).unready_since == 20.0


def test_what_its_claims_say() -> None:
    assert CLAIMS.enis == ("eni-1", "eni-2")
    assert CLAIMS.destinations == (NET, OTHER)


BEST = Entry("u", "p", "n", "z1", 0, 5, 100, 0, (), (NET,))


@pytest.mark.parametrize(
    "worse",
    [
        pytest.param(replace(BEST, destinations=(OTHER,), created=999), id="other destinations"),
        pytest.param(replace(BEST, level=1, created=999), id="a higher level"),
        pytest.param(replace(BEST, zone="z2", created=999), id="a zone further down"),
        pytest.param(replace(BEST, zone="elsewhere", created=999), id="no preferred zone"),
        pytest.param(replace(BEST, created=99), id="older"),
        pytest.param(replace(BEST, pod="q"), id="its name"),
    ],
)
def test_the_order_of_members(worse: Entry) -> None:
    def key(entry: Entry) -> object:
        return order(entry, ("z1", "z2"), (NET,))

    me = replace(worse, uid="me")
    assert key(BEST) < key(me)  # type: ignore[operator]
    assert rank(me, [BEST, me], key) == 1  # type: ignore[arg-type]
    assert rank(BEST, [BEST, me], key) == 0  # type: ignore[arg-type]
    assert rank(me, [replace(BEST, fit_since=0)], key) == 0  # type: ignore[arg-type]


def test_the_level_goes_before_the_zone() -> None:
    near, level = replace(BEST, level=1), replace(BEST, zone="z2")
    assert order(level, ("z1", "z2"), (NET,)) < order(near, ("z1", "z2"), (NET,))


@pytest.mark.parametrize(
    ("offer", "entry", "may"),
    [
        (Offer(Reason.TERMINATING), replace(BEST, level=2, zone="z9"), True),
        (Offer(Reason.UNREADY), replace(BEST, level=2), True),
        (Offer(Reason.LEVEL, level=1), BEST, True),
        (Offer(Reason.LEVEL, level=1), replace(BEST, level=1), False),
        (Offer(Reason.LEVEL, level=2), replace(BEST, level=1), True),
        (Offer(Reason.LEVEL, level=2), replace(BEST, level=2), False),
        (Offer(Reason.ZONE), BEST, True),
        (Offer(Reason.ZONE), replace(BEST, zone="z2"), False),
        (Offer(Reason.ZONE), replace(BEST, level=1), False),
        (Offer(Reason.MOVE), BEST, True),
        (Offer(Reason.MOVE), replace(BEST, level=1), False),
        (Offer(Reason.MOVE, node="n"), replace(BEST, level=1), True),
        (Offer(Reason.MOVE, node="m"), BEST, False),
    ],
)
def test_who_may_take_an_offer(offer: Offer, entry: Entry, may: bool) -> None:
    assert may_take(entry, offer, ("z1", "z2")) is may
