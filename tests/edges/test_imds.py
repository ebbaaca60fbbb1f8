"""Instance metadata through our door: one token for all, and patience that ends."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from cni_floatip.edges.imds import Metadata
from cni_floatip.model.errors import TryAgain
from lab.ec2.sample import Sample
from lab.ec2.simulated import SimulatedEC2
from lab.imds import Imds
from lab.webserver import Answer, Listener, Request, open_socket


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def service(ec2: SimulatedEC2, world: Sample) -> Iterator[Imds]:
    imds = Imds(lambda: ec2.instance(world.instances["a"]))
    yield imds
    imds.close()


@pytest.fixture
def endpoint(service: Imds) -> str:
    return "http://{}:{}".format(*service.listen(open_socket("127.0.0.1", 0)).address)


@pytest.fixture
def metadata(endpoint: str) -> Iterator[Metadata]:
    clock = Clock()
    result = Metadata(10, endpoint=endpoint, clock=clock, sleep=clock.sleep)
    yield result
    result.close()


def test_this_instance_and_its_interfaces(ec2: SimulatedEC2, world: Sample, metadata: Metadata) -> None:
    node = metadata.node()
    assert (node.instance, node.account, node.region) == (world.instances["a"], ec2.account, ec2.region)
    enis = {mac: metadata.eni(mac) for mac in metadata.macs()}
    assert enis[metadata.primary_mac()].device_number == 0
    (second,) = (eni for mac, eni in enis.items() if mac != metadata.primary_mac())
    assert second.id == world.enis["a"]
    assert (second.vpc, second.subnet, second.device_number) == (world.vpc, world.subnets["a"], 1)
    assert second.subnet_cidrs == (ip_network("10.10.1.0/24"), ip_network("fd10:0:0:1::/64"))
    assert ip_network("10.10.0.0/16") in second.vpc_cidrs
    assert ip_network("fd10::/48") in second.vpc_cidrs


def test_what_is_not_there_is_empty(ec2: SimulatedEC2, world: Sample, metadata: Metadata) -> None:
    metadata.macs()
    assert metadata.role()
    primary = metadata.eni(metadata.primary_mac())
    assert all(network.version in (4, 6) for network in primary.subnet_cidrs)


def test_one_token_for_all_and_a_new_one_when_it_ends(service: Imds, metadata: Metadata) -> None:
    metadata.macs()
    metadata.node()
    before = dict(service._tokens)
    assert len(before) == 1
    service.forget_tokens()
    metadata.node()
    assert len(service._tokens) == 1
    assert dict(service._tokens) != before


def test_service_away_ends_at_the_deadline(service: Imds, metadata: Metadata) -> None:
    service.cut()
    with pytest.raises(TryAgain, match="does not answer"):
        metadata.node()
    service.heal()
    metadata._deadline += 100
    assert metadata.node()


def test_connection_broken_in_between_is_made_anew(service: Imds, metadata: Metadata) -> None:
    metadata.macs()
    for listener in service._listeners:
        listener.sever()
    assert metadata.macs()


@pytest.fixture
def spoilt(service: Imds) -> Iterator[Any]:
    """The same service with ``answers`` of its own for some paths, by how they end."""
    answers: dict[str, Answer] = {}

    def handle(request: Request) -> Answer:
        planted = (answer for end, answer in answers.items() if request.path.endswith(end))
        return next(planted, None) or service.handle(request)

    listener = Listener(open_socket("127.0.0.1", 0), handle)
    clock = Clock()
    url = "http://{}:{}".format(*listener.address)
    result: Any = Metadata(10, endpoint=url, clock=clock, sleep=clock.sleep)
    result.answers, result.slept = answers, clock
    yield result
    result.close()
    listener.close()


@pytest.mark.parametrize(
    "shown", [Answer(404), Answer(200, b""), Answer(200, b"\n")], ids=["absent", "empty", "blank"]
)
@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (["interface-id"], "interface-id"),
        (["device-number"], "device-number"),
        (["vpc-id"], "vpc-id"),
        (["subnet-id"], "subnet-id"),
        (["vpc-ipv4-cidr-blocks", "vpc-ipv6-cidr-blocks"], "vpc-ipv4-cidr-blocks"),
        (["subnet-ipv4-cidr-block", "subnet-ipv6-cidr-blocks"], "subnet-ipv4-cidr-block"),
    ],
    ids=str,
)
def test_interface_that_is_not_described_in_full_yet(
    spoilt: Any, missing: list[str], says: str, shown: Answer
) -> None:
    """Without the VPC's own networks every address would look as if it lay outside them."""
    spoilt.answers |= dict.fromkeys(missing, shown)
    with pytest.raises(TryAgain) as caught:
        spoilt.eni(spoilt.macs()[0])
    assert says in caught.value.msg or spoilt.macs()[0] in caught.value.msg


@pytest.mark.one_in(4)
@pytest.mark.parametrize("text", [b"soon", b"-1", b"<html>", "\u0663".encode()], ids=ascii)
@pytest.mark.parametrize(
    "path", ["interface-id", "device-number", "network-card", "vpc-id", "subnet-id", "vpc-ipv4-cidr-blocks"]
)
def test_item_that_makes_no_sense(spoilt: Any, path: str, text: bytes) -> None:
    spoilt.answers[path] = Answer(200, text)
    with pytest.raises(TryAgain):
        spoilt.eni(spoilt.macs()[0])


@pytest.mark.parametrize(
    ("path", "ask"), [("meta-data/mac", Metadata.primary_mac), ("macs/", Metadata.macs)], ids=["mac", "macs"]
)
@pytest.mark.parametrize("text", [b"", b"soon", b"02:00:00:00:00"], ids=ascii)
def test_what_is_no_mac_address(spoilt: Any, path: str, ask: Any, text: bytes) -> None:
    spoilt.answers[path] = Answer(200, text)
    with pytest.raises(TryAgain):
        ask(spoilt)


def second(spoilt: Any) -> str:
    (result,) = set(spoilt.macs()) - {spoilt.primary_mac()}
    return str(result)


def test_device_number_0_of_one_that_is_not_primary_is_too_early(spoilt: Any) -> None:
    mac = second(spoilt)
    spoilt.answers[f"{mac}/device-number"] = Answer(200, b"0")
    with pytest.raises(TryAgain, match=f"{mac} is not complete yet: device number 0"):
        spoilt.eni(mac)
    spoilt.answers[f"{mac}/network-card"] = Answer(404)
    with pytest.raises(TryAgain, match="not complete yet"):
        spoilt.eni(mac)
    assert spoilt.eni(spoilt.primary_mac()).device_number == 0


def test_device_numbers_count_per_network_card(spoilt: Any) -> None:
    mac = second(spoilt)
    spoilt.answers |= {f"{mac}/device-number": Answer(200, b"0"), f"{mac}/network-card": Answer(200, b"1")}
    result = spoilt.eni(mac)
    assert (result.network_card, result.device_number) == (1, 0)


@pytest.mark.parametrize("item", ["vpc-ipv4-cidr-blocks", "vpc-ipv6-cidr-blocks"])
def test_network_of_the_subnet_that_the_vpc_has_not_is_too_early(spoilt: Any, item: str) -> None:
    """One family can be there before the other."""
    spoilt.answers[item] = Answer(404)
    with pytest.raises(TryAgain, match="not complete yet: its subnet has"):
        spoilt.eni(second(spoilt))


@pytest.mark.parametrize("path", ["api/token", "mac"])
def test_service_that_is_switched_off_is_not_waited_for(spoilt: Any, path: str) -> None:
    spoilt.answers[path] = Answer(403)
    with pytest.raises(TryAgain, match="switched off"):
        spoilt.primary_mac()
    assert spoilt.slept() == 0
