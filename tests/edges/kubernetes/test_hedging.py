"""Which API server is called, and what happens when one is silent, slow, cut off or gone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cni_floatip.edges.kubernetes.client import CallTimes
from cni_floatip.edges.kubernetes.resources import LEASES, NODES
from cni_floatip.edges.kubernetes.senders import MOST_IDLE
from cni_floatip.edges.kubernetes.servers import ApiAddress, ApiServers
from cni_floatip.model.errors import ApiError, ApiFault
from lab.kubernetes.standin import Oddity
from tests.edges.kubernetes.conftest import LONG, NAMESPACE, Scene
from tests.edges.kubernetes.test_calls import refusal
from tests.support.waiting import until

SOON = 0.05
"""Seconds until a hedge: the test waits as long, and nothing else depends on it."""
HURRIED, PATIENT = CallTimes(SOON, LONG, LONG), CallTimes(LONG, LONG, LONG)
"""A hurried client hedges on a busy machine although nobody is silent, so a scene is set by a patient one."""
READ = "get nodes/a1 -> 200"


pytestmark = pytest.mark.usefixtures("one_node")


def test_one_server_is_called_while_it_answers(api_scene: Scene) -> None:
    client = api_scene.client()
    for _ in range(3):
        client.get(NODES, "a1")
    assert api_scene.calls() == [f"api1: {READ}"] * 3
    assert api_scene.second.accepted == 0


def test_a_silent_server_is_hedged_and_the_other_comes_first_from_then_on(api_scene: Scene) -> None:
    client = api_scene.client(hedge=SOON)
    api_scene.first.swallow()
    client.get(NODES, "a1")
    client._times = PATIENT
    accepted = api_scene.first.accepted
    for _ in range(3):
        client.get(NODES, "a1")
    assert api_scene.calls() == [f"api2: {READ}"] * 4
    assert api_scene.first.accepted == accepted


@pytest.mark.parametrize("how", ["refused", "reset", "cut in the head", "cut in the body", "no whole answer"])
def test_a_server_that_fails_is_replaced_at_once(api_scene: Scene, how: str) -> None:
    client = api_scene.client()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"
    if how == "refused":
        api_scene.first.stop()
    elif how == "reset":
        client.get(NODES, "a1")
        api_scene.first.oddities.append(Oddity(cut=0))
    elif how == "no whole answer":
        api_scene.first.oddities.append(Oddity(raw=head + b"Connection: close\r\n\r\n{}", cut=1000))
    else:
        raw = head + b'\r\n{"metadata": {'
        api_scene.first.oddities.append(Oddity(raw=raw, cut=len(raw) if "body" in how else 20))
    api_scene.forget_calls()
    assert client.get(NODES, "a1")["metadata"]["name"] == "a1"
    assert api_scene.calls()[-1] == f"api2: {READ}"


def test_a_connection_that_the_server_has_ended_is_opened_anew(api_scene: Scene) -> None:
    client = api_scene.client()
    client.get(NODES, "a1")
    api_scene.first.reset()
    until(lambda: api_scene.first.open == 0)
    client.get(NODES, "a1")
    assert api_scene.calls()[-1].endswith(READ)


def test_nobody_answers(api_scene: Scene) -> None:
    client = api_scene.client(hedge=SOON, whole=3 * SOON)
    for server in api_scene.api.servers:
        server.swallow()
    error = refusal(client.get, NODES, "a1")
    assert error.fault is ApiFault.UNANSWERED
    assert all(str(address) in error.message for address in api_scene.addresses[:2])
    for server in api_scene.api.servers:
        server.mend()
    until(lambda: _answers(client))


def _answers(client: Any) -> bool:
    try:
        return bool(client.get(NODES, "a1"))
    except ApiError:
        return False


def test_a_slow_answer_that_comes_after_the_hedge_counts_if_the_hedge_fails(api_scene: Scene) -> None:
    client = api_scene.client(hedge=SOON)
    api_scene.first.delay(4 * SOON)
    api_scene.second.oddities.append(Oddity(status=503, body=b"{}", applies=False))
    assert client.get(NODES, "a1")["metadata"]["name"] == "a1"
    assert api_scene.calls() == [f"api1: {READ}"]


def test_an_answer_that_is_lost_makes_the_hedged_write_a_conflict_with_itself(api_scene: Scene) -> None:
    client = api_scene.client()
    lease = client.create(LEASES, api_scene.lease())
    client._times = HURRIED
    api_scene.first.swallow("answers")
    lease["spec"]["holderIdentity"] = "me"
    assert refusal(client.replace, LEASES, lease).fault is ApiFault.CONFLICT
    assert client.get(LEASES, "a", NAMESPACE)["spec"]["holderIdentity"] == "me"
    assert [call.status for call in api_scene.api.calls if call.verb == "update"] == [200, 409]


def test_a_write_that_lands_late_changes_nothing(api_scene: Scene) -> None:
    client = api_scene.client()
    lease = client.create(LEASES, api_scene.lease())
    client._times = HURRIED
    api_scene.first.swallow("requests")
    lease["spec"]["holderIdentity"] = "me"
    written = client.replace(LEASES, lease)
    api_scene.first.mend()
    until(lambda: [call.status for call in api_scene.api.calls if call.verb == "update"] == [200, 409])
    assert client.get(LEASES, "a", NAMESPACE) == written


def test_the_service_is_called_only_if_no_endpoint_answers(api_scene: Scene) -> None:
    client = api_scene.client()
    api_scene.first.stop()
    api_scene.second.oddities.append(Oddity(status=503, body=b'{"message": "ends"}', applies=False))
    error = refusal(client.get, NODES, "a1")
    assert (error.fault, api_scene.service.accepted) == (
        ApiFault.UNANSWERED,
        1,
    )  # the first read of the addresses
    api_scene.second.stop()
    client.get(NODES, "a1")
    assert api_scene.calls() == [f"api3: {READ}"]


def test_the_service_comes_first_while_all_endpoints_are_silent(api_scene: Scene) -> None:
    client = api_scene.client(hedge=SOON, whole=4 * SOON)
    api_scene.first.swallow()
    api_scene.second.swallow()
    assert refusal(client.get, NODES, "a1").fault is ApiFault.UNANSWERED
    until(lambda: _answers(client))
    assert api_scene.calls()[-1] == f"api3: {READ}"


def test_an_endpoint_that_is_back_comes_first_again(api_scene: Scene) -> None:
    client = api_scene.client()
    for server in (api_scene.first, api_scene.second):
        server.stop()
    client.get(NODES, "a1")
    for server in (api_scene.first, api_scene.second):
        server.start()
    client.read_servers()
    api_scene.forget_calls()
    client.get(NODES, "a1")
    assert api_scene.calls()[0].partition(":")[0] in ("api1", "api2")


def test_with_one_address_there_are_two_connections_to_it(api_scene: Scene) -> None:
    api_scene.api.publish_endpoints(api_scene.api.addresses[:1])
    client = api_scene.client()
    client.get(NODES, "a1")
    accepted = api_scene.first.accepted
    client._times = HURRIED
    hold = threading.Event()
    api_scene.first.oddities.append(Oddity(hold=hold))
    client.get(NODES, "a1")
    hold.set()
    assert api_scene.first.accepted == accepted + 1
    assert api_scene.second.accepted == 0


def test_without_any_address_there_are_two_connections_to_the_service(api_scene: Scene) -> None:
    client = api_scene.client(hedge=SOON, knows=False)
    hold = threading.Event()
    api_scene.service.oddities.append(Oddity(hold=hold))
    client.get(NODES, "a1")
    hold.set()
    assert api_scene.service.accepted == 2


def test_a_new_address_is_learnt_by_polling_and_an_old_one_left(api_scene: Scene) -> None:
    client = api_scene.client()
    client.get(NODES, "a1")
    api_scene.api.publish_endpoints(api_scene.api.addresses[1:2])
    client.keep_servers_current(every=SOON, tick=SOON)
    until(lambda: api_scene.servers.endpoints == (api_scene.addresses[1],))
    api_scene.forget_calls()
    client.get(NODES, "a1")
    assert f"api2: {READ}" in api_scene.calls()
    until(lambda: api_scene.first.open == 0)


def test_addresses_are_read_anew_when_nobody_answers(api_scene: Scene) -> None:
    client = api_scene.client(hedge=SOON, whole=4 * SOON)
    client.keep_servers_current(every=3600, tick=SOON)
    for server in api_scene.api.servers[:2]:
        server.stop()
    api_scene.api.publish_endpoints(api_scene.api.addresses[2:])
    until(lambda: _answers(client) and api_scene.servers.endpoints == (api_scene.addresses[2],))


def test_a_poll_shows_that_a_silent_server_is_back(api_scene: Scene) -> None:
    client = api_scene.client(hedge=SOON)
    api_scene.first.swallow()
    client.get(NODES, "a1")
    api_scene.first.mend()
    until(lambda: _first_answers(api_scene, client))


def _first_answers(api_scene: Scene, client: Any) -> bool:
    client.read_servers()
    api_scene.forget_calls()
    client.get(NODES, "a1")
    return f"api1: {READ}" in api_scene.calls()


@pytest.mark.parametrize(
    "head", [b"X: ", b"\r\n", b"Connection: close\r\n\r\n"], ids=["head", "body", "last body"]
)
def test_a_server_that_sends_bit_by_bit_holds_no_thread(api_scene: Scene, head: bytes) -> None:
    client = api_scene.client(hedge=SOON, whole=4 * SOON)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n" + head + b"x" * 9000
    before = _senders()
    for server in api_scene.api.servers[:2]:
        server.oddities.append(Oddity(raw=answer, pause=SOON / 2))
    assert refusal(client.get, NODES, "a1").fault is ApiFault.UNANSWERED
    until(lambda: _is_idle(client))
    assert _senders() <= before + 2


def _senders() -> int:
    return sum(thread.name == "kubernetes sender" for thread in threading.enumerate())


def _is_idle(client: Any) -> bool:
    client.cut_late()
    return not client._senders._busy


def test_many_threads_call_at_once(api_scene: Scene) -> None:
    client = api_scene.client()
    before = _senders()

    def work(number: int) -> int:
        lease = client.create(LEASES, api_scene.lease(f"l{number}"))
        for count in range(5):
            lease["spec"]["leaseTransitions"] = count
            lease = client.replace(LEASES, lease)
        return int(lease["spec"]["leaseTransitions"])

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(work, range(24))) == [4] * 24
    assert [call for call in api_scene.api.calls if call.status >= 400] == []
    until(lambda: _senders() <= before + MOST_IDLE)
    client.close()
    until(lambda: _senders() <= before)


def test_a_client_waits_for_no_lock_of_another_one(api_scene: Scene) -> None:
    """The renewing thread has a client of its own; account and addresses are the same."""
    busy, renewing = api_scene.client(), api_scene.client()
    locks = [
        lock
        for part in (busy, busy._senders, busy._preference, api_scene.servers, api_scene.account)
        for lock in vars(part).values()
        if isinstance(lock, type(threading.Lock()))
    ]
    assert len(locks) == 3
    for lock in locks:
        lock.acquire()
    try:
        renewing.get(NODES, "a1")
    finally:
        for lock in locks:
            lock.release()


def test_a_closed_client_says_so(api_scene: Scene) -> None:
    client = api_scene.client()
    client.close()
    assert refusal(client.get, NODES, "a1").fault is ApiFault.UNANSWERED


def endpoint_slice(*endpoints: Any, ports: Any = ({"name": "https", "port": 443},)) -> dict[str, Any]:
    return {"endpoints": list(endpoints), "ports": list(ports)}


ONE = {"addresses": ["10.0.0.1"]}


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        (
            endpoint_slice(ONE, {"addresses": ["10.0.0.2"], "conditions": {"ready": True}}),
            ["10.0.0.1:443", "10.0.0.2:443"],
        ),
        (endpoint_slice({"addresses": ["fd00::1"]}), ["[fd00::1]:443"]),
        (endpoint_slice(ONE, {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}), ["10.0.0.1:443"]),
        (
            endpoint_slice(ONE, ports=[{"name": "metrics", "port": 1}, {"name": "https", "port": 6443}]),
            ["10.0.0.1:6443"],
        ),
        (endpoint_slice(ONE, ONE), ["10.0.0.1:443"]),
        (endpoint_slice({"addresses": ["kubernetes.example", "10.0.0.1/32", 5, None]}), []),
        (endpoint_slice(None, 5, "x", {"addresses": "10.0.0.1"}, {"addresses": None}), []),
        *(
            (endpoint_slice(ONE, ports=[{"name": "https", "port": port}]), [])
            for port in (0, 65536, -1, "x", None, 1.5)
        ),
        ({}, []),
        ({"endpoints": 5, "ports": 5}, []),
    ],
)
def test_addresses_are_read_from_an_endpoint_slice(document: Any, wanted: list[str]) -> None:
    servers = ApiServers(ApiAddress("10.96.0.1", 443), shuffle=lambda _: None)
    servers.update(document)
    assert list(map(str, servers.endpoints)) == wanted
    servers.update({})
    assert list(map(str, servers.endpoints)) == wanted, "one without addresses changes nothing"


def test_known_addresses_keep_their_order(api_scene: Scene) -> None:
    servers = ApiServers(ApiAddress("10.96.0.1", 443), shuffle=list.reverse)
    for hosts in (["10.0.0.1", "10.0.0.2"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.3", "10.0.0.1"]):
        servers.update(endpoint_slice(*({"addresses": [host]} for host in hosts)))
    assert [address.host for address in servers.endpoints] == ["10.0.0.1", "10.0.0.3"]


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "10.96.0.1:443"),
        ({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}, "[fd00::1]:6443"),
        ({"KUBERNETES_SERVICE_HOST": "[fd00::1]"}, "[fd00::1]:443"),
    ],
)
def test_the_service_is_read_from_the_environment_of_a_pod(environ: dict[str, str], wanted: str) -> None:
    assert str(ApiServers.of_pod(environ).service) == wanted


@pytest.mark.parametrize(
    "environ",
    [
        {},
        *(
            {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": port}
            for port in ("x", "0", "99999")
        ),
    ],
)
def test_an_environment_without_a_service_is_no_pods(environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="KUBERNETES_SERVICE_"):
        ApiServers.of_pod(environ)
