"""Instance metadata remembered: asked as rarely as may be, and an ENI that is new is found."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from cni_floatip.agent.metadata import ENI_SECONDS, MetadataCache
from cni_floatip.edges.imds import Metadata
from cni_floatip.model.errors import TryAgain
from cni_floatip.model.values import Eni, Node
from lab.ec2.sample import Sample
from lab.ec2.simulated import SimulatedEC2
from lab.imds import Imds
from lab.webserver import open_socket

ENI = Eni("eni-1", "02:00:00:00:00:01", 1, "vpc-1", "subnet-1", (ip_network("10.0.0.0/24"),), ())
SECOND = replace(ENI, id="eni-2", mac="02:00:00:00:00:02")


class FakeMetadata:
    """An instance whose ENIs come and go. Counts what it is asked."""

    def __init__(self) -> None:
        self.enis = {ENI.mac: ENI}
        self.asked: list[str] = []
        self.open = 0
        self.free = threading.Event()
        self.free.set()
        self.away = False
        self.role_name = "node"

    def __call__(self, deadline: float) -> FakeMetadata:
        self.open += 1
        return self

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        self.free.wait(10)
        if self.away:
            raise TryAgain("instance metadata does not answer")

    def node(self) -> Node:
        self._answer("node")
        return Node("i-1", "111122223333", "eu-central-1")

    def macs(self) -> tuple[str, ...]:
        self._answer("macs")
        return tuple(self.enis)

    def primary_mac(self) -> str:
        self._answer("primary")
        return ENI.mac

    def role(self) -> str:
        self._answer("role")
        return self.role_name

    def eni(self, mac: str) -> Eni:
        self._answer(f"eni {mac}")
        return self.enis[mac]

    def interface_id(self, mac: str) -> str:
        self._answer(f"id {mac}")
        return self.enis[mac].id

    def ask_again(self) -> bool:
        return False

    def close(self) -> None:
        self.open -= 1


class Clock:
    at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def service() -> Iterator[FakeMetadata]:
    fake_metadata = FakeMetadata()
    yield fake_metadata
    assert fake_metadata.open == 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def remembered(service: FakeMetadata, clock: Clock) -> MetadataCache:
    return MetadataCache(service, clock)  # type: ignore[arg-type]


@pytest.fixture
def metadata(remembered: MetadataCache, clock: Clock) -> Any:
    return remembered(clock.at + 5)


def test_what_cannot_change_is_asked_once(
    service: FakeMetadata, remembered: MetadataCache, clock: Clock
) -> None:
    for _ in range(3):
        call = remembered(clock.at + 5)
        assert call.node().instance == "i-1"
        assert call.primary_mac() == ENI.mac
        call.close()
        clock.at += 1e6
    assert service.asked == ["node", "primary"]


def test_eni_is_remembered_for_a_minute(service: FakeMetadata, metadata: Any, clock: Clock) -> None:
    assert metadata.eni(ENI.mac) == metadata.eni(ENI.mac) == ENI
    assert len(service.asked) == 1
    service.enis[ENI.mac] = replace(ENI, subnet_cidrs=())
    clock.at += ENI_SECONDS + 1
    assert metadata.eni(ENI.mac).subnet_cidrs == ()


def test_mac_that_is_not_known_is_asked_for_again(service: FakeMetadata, metadata: Any) -> None:
    assert metadata.knows(ENI.mac)
    assert metadata.knows(ENI.mac)
    assert service.asked == ["macs"]
    assert not metadata.knows(SECOND.mac)
    service.enis[SECOND.mac] = SECOND  # plugged in this moment
    assert metadata.knows(SECOND.mac)
    assert metadata.knows(ENI.mac)
    assert service.asked == ["macs"] * 3


def test_list_of_macs_is_as_of_now_and_what_is_unplugged_is_forgotten(
    service: FakeMetadata, metadata: Any
) -> None:
    service.enis[SECOND.mac] = SECOND
    assert metadata.eni(SECOND.mac) == SECOND
    assert metadata.macs() == (ENI.mac, SECOND.mac)
    del service.enis[SECOND.mac]
    assert metadata.macs() == (ENI.mac,)
    assert not metadata.knows(SECOND.mac)
    service.enis[SECOND.mac] = replace(SECOND, subnet="subnet-2")
    assert metadata.eni(SECOND.mac).subnet == "subnet-2"


def test_asking_again_believes_nothing_of_before_the_call(
    service: FakeMetadata, remembered: MetadataCache, clock: Clock
) -> None:
    remembered(clock.at + 5).eni(ENI.mac)
    service.enis[ENI.mac] = replace(ENI, subnet_cidrs=())
    clock.at += 1
    call = remembered(clock.at + 5)
    clock.at += 1
    assert call.eni(ENI.mac) == ENI
    assert call.ask_again(), "it was remembered"
    assert call.eni(ENI.mac).subnet_cidrs == ()
    clock.at += 1
    assert call.eni(ENI.mac).subnet_cidrs == ()
    assert service.asked == [f"eni {ENI.mac}"] * 2, "of this call: it is not asked for a third time"


def test_what_a_call_has_read_itself_is_not_asked_again(
    service: FakeMetadata, metadata: Any, clock: Clock
) -> None:
    metadata.eni(ENI.mac)
    clock.at += 1
    assert not metadata.ask_again()


def test_that_there_is_no_role_is_not_remembered(service: FakeMetadata, metadata: Any) -> None:
    service.role_name = ""
    assert [metadata.role() for _ in range(2)] == ["", ""]
    service.role_name = "node"
    assert [metadata.role() for _ in range(2)] == ["node", "node"]
    assert service.asked == ["role"] * 3


def test_id_alone_is_remembered_too(service: FakeMetadata, metadata: Any) -> None:
    assert [metadata.interface_id(ENI.mac) for _ in range(3)] == [ENI.id] * 3
    assert service.asked == [f"id {ENI.mac}"]


def test_failure_is_not_remembered(service: FakeMetadata, metadata: Any) -> None:
    service.away = True
    with pytest.raises(TryAgain):
        metadata.node()
    service.away = False
    assert metadata.node()


def test_what_many_want_to_know_is_asked_once(
    service: FakeMetadata, remembered: MetadataCache, clock: Clock
) -> None:
    service.free.clear()
    enis = []
    threads = [
        threading.Thread(target=lambda: enis.append(remembered(clock.at + 5).eni(ENI.mac))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    service.free.set()
    for thread in threads:
        thread.join()
    assert enis == [ENI] * 20
    assert service.asked == [f"eni {ENI.mac}"]


def test_waiting_for_others_ends_at_the_deadline(
    service: FakeMetadata, remembered: MetadataCache, clock: Clock
) -> None:
    service.free.clear()
    other = threading.Thread(target=remembered(clock.at + 60).node)
    other.start()
    while not service.asked:
        pass
    with pytest.raises(TryAgain, match="other calls wait for it too"):
        remembered(clock.at + 0.05).node()
    service.free.set()
    other.join()


def test_the_real_service(ec2: SimulatedEC2, world: Sample, clock: Clock) -> None:
    service = Imds(lambda: ec2.instance(world.instances["a"]))
    address = service.listen(open_socket("127.0.0.1", 0)).address
    endpoint = "http://{}:{}".format(*address)
    remembered = MetadataCache(lambda deadline: Metadata(deadline, endpoint=endpoint, clock=clock), clock)
    try:
        call = remembered(clock.at + 5)
        primary = call.primary_mac()
        assert call.node().instance == world.instances["a"]
        (second,) = (mac for mac in call.macs() if mac != primary)
        assert call.knows(second)
        assert call.eni(second).id == world.enis["a"]
        assert call.role() == "node"
    finally:
        service.close()
    assert call.eni(second).id == world.enis["a"]  # from memory
