"""What the product relies on of the Kubernetes API, on two kube-apiservers; and our client against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from cni_floatip.edges.kubernetes.account import ServiceAccount
from cni_floatip.edges.kubernetes.client import CallTimes, KubernetesClient
from cni_floatip.edges.kubernetes.follow import Follower
from cni_floatip.edges.kubernetes.resources import LEASES, Listing, Selection
from cni_floatip.edges.kubernetes.servers import ApiAddress, ApiServers
from cni_floatip.edges.kubernetes.watch import WatchEvent, WatchTimes
from cni_floatip.model.errors import ApiError, ApiFault
from lab import netns
from lab.kubernetes.build import Programs
from lab.kubernetes.controlplane import PORT
from tests.conftest import require
from tests.kubernetes.api_servers import ADDRESSES, RealApi, running
from tests.support import api_facts
from tests.support.api_facts import FACTS, Facts

T = TypeVar("T")


@pytest.fixture(scope="module")
def api(kubernetes_programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApi]:
    require("root", "ip", "nsenter", "setpriv")
    with running(kubernetes_programs, tmp_path_factory.mktemp("api-servers")) as real:
        yield real


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
def test_a_kube_apiserver_has_the_fact(api: RealApi, fact: Callable[[Facts], None]) -> None:
    fact(Facts(api, api_facts.name_of(fact)))


class Scene:
    """Our client in the namespace of the API servers. ``first`` is the one that it calls first."""

    def __init__(self, api: RealApi, account: Path) -> None:
        self.api = api
        self.servers = ApiServers(ApiAddress(ADDRESSES["api1"], PORT), shuffle=lambda _: None)
        self.account = ServiceAccount(account)
        self.client = KubernetesClient(self.account, self.servers, CallTimes(hedge=0.5, whole=60))
        self.client.read_servers()

    @property
    def first(self) -> str:
        host = self.servers.endpoints[0].host
        return next(name for name, address in ADDRESSES.items() if address == host)


@pytest.fixture
def inside(api: RealApi) -> Iterator[Callable[[Callable[[Scene], T]], T]]:
    """Runs a test's own part in the namespace of the API servers."""
    scenes: list[Scene] = []
    account = api.control.place.parent / "account"

    def run(part: Callable[[Scene], T]) -> T:
        scenes.append(Scene(api, account))
        return part(scenes[-1])

    yield lambda part: netns.inside(api.name, run, part)
    for scene in scenes:
        scene.client.close()


Inside = Callable[[Callable[[Scene], object]], object]


def lease(name: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": RealApi.namespace}, "spec": {"leaseDurationSeconds": 2}}


def test_both_api_servers_are_known_and_a_lease_is_held(inside: Inside) -> None:
    def part(scene: Scene) -> None:
        assert {address.host for address in scene.servers.endpoints} == set(ADDRESSES.values())
        held = scene.client.create(LEASES, lease("held"))
        for count in range(20):
            held["spec"]["leaseTransitions"] = count
            held = scene.client.replace(LEASES, held)
        assert scene.client.get(LEASES, "held", RealApi.namespace) == held
        scene.client.delete(LEASES, held)
        with pytest.raises(ApiError) as raised:
            scene.client.replace(LEASES, held)
        assert raised.value.fault is ApiFault.CONFLICT

    inside(part)


def test_renewals_go_on_while_one_api_server_is_silent(inside: Inside) -> None:
    def part(scene: Scene) -> None:
        held = scene.client.create(LEASES, lease("silent"))
        with scene.api.stopped(scene.first):
            for count in range(5):
                held["spec"]["leaseTransitions"] = count
                held = scene.client.replace(LEASES, held)
        assert held["spec"]["leaseTransitions"] == 4

    inside(part)


def test_without_storage_only_the_cache_answers(inside: Inside) -> None:
    def part(scene: Scene) -> None:
        scene.client.create(LEASES, lease("stored"))
        impatient = KubernetesClient(scene.account, scene.servers, CallTimes(0.2, 1.0, 5.0))
        with scene.api.stopped("etcd"):
            with pytest.raises(ApiError) as raised:
                impatient.get(LEASES, "stored", RealApi.namespace)
            assert raised.value.fault is ApiFault.UNANSWERED
            assert impatient.list(Selection(LEASES, RealApi.namespace, cached=True)).items
        impatient.close()
        assert scene.client.get(LEASES, "stored", RealApi.namespace)

    inside(part)


def test_a_follower_survives_the_restart_of_its_api_server(inside: Inside) -> None:
    """The new one knows only versions since its start: what is older is expired there."""

    def part(scene: Scene) -> None:
        client = scene.client
        client.create(LEASES, lease("before"))
        follower = Follower(client, Selection(LEASES, RealApi.namespace), WatchTimes(), pause=lambda _: None)
        shown: list[str] = []
        for event in follower:
            match event:
                case Listing() if not shown:
                    shown.append("listing")
                    client.create(LEASES, lease("while"))
                case WatchEvent() if event.document["metadata"].get("name") == "while":
                    shown.append("while")
                    scene.api.restart(scene.first)
                    client.create(LEASES, lease("after"))
                case Listing() if any(item["metadata"]["name"] == "after" for item in event.items):
                    shown.append("after")
                    follower.stop()
                case WatchEvent() if event.document["metadata"].get("name") == "after":
                    shown.append("after")
                    follower.stop()
        assert shown == ["listing", "while", "after"]

    inside(part)


def test_a_version_from_before_an_api_servers_start_is_expired(inside: Inside) -> None:
    def part(scene: Scene) -> None:
        old = scene.client.create(LEASES, lease("old"))["metadata"]["resourceVersion"]
        for count in range(3):
            scene.client.create(LEASES, lease(f"old-{count}"))
        scene.api.restart("api1")
        only = ApiServers(ApiAddress(ADDRESSES["api1"], PORT))
        client = KubernetesClient(scene.account, only, CallTimes(whole=60))
        with pytest.raises(ApiError) as raised:
            list(client.watch(Selection(LEASES, RealApi.namespace), old, WatchTimes(whole=1)))
        assert raised.value.fault is ApiFault.EXPIRED
        client.close()

    inside(part)
