"""One watch, and following a selection by lists and watches."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.edges.kubernetes.account import ServiceAccount
from cni_floatip.edges.kubernetes.client import CallTimes, KubernetesClient
from cni_floatip.edges.kubernetes.follow import Follower
from cni_floatip.edges.kubernetes.resources import LEASES, Listing, Selection
from cni_floatip.edges.kubernetes.servers import ApiAddress, ApiServers
from cni_floatip.edges.kubernetes.watch import Watch, WatchEvent, WatchTimes
from cni_floatip.model.errors import ApiError, ApiFault
from lab import netns
from lab.kubernetes.standin import Oddity, StandIn
from tests.edges.kubernetes.conftest import NAMESPACE, Scene
from tests.support.waiting import until

ALL = Selection(LEASES, NAMESPACE)
SOON = 0.2
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def put(api_scene: Scene, name: str = "a", **spec: Any) -> str:
    """Write a Lease and return its version."""
    document = api_scene.api.put("leases", name, {"spec": spec}, NAMESPACE)
    return str(document["metadata"]["resourceVersion"])


def shown(event: object) -> str:
    """Return an event as a test reads it: "ADDED a 1"."""
    if isinstance(event, WatchEvent):
        name = event.document.get("metadata", {}).get("name", "")
        count = event.document.get("spec", {}).get("leaseTransitions", "")
        return f"{event.change.value} {name} {count}".strip()
    if isinstance(event, Listing):
        return f"LISTING {' '.join(item['metadata']['name'] for item in event.items)}".strip()
    assert isinstance(event, ApiError)
    return event.fault.name


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)


class Reader:
    """A thread that reads events until there are no more."""

    def __init__(self, events: Iterator[Any] | Watch | Follower) -> None:
        self.events: list[str] = []
        self.error: ApiError | None = None
        self._thread = threading.Thread(target=self._read, args=[events], daemon=True)
        self._thread.start()

    def _read(self, events: Any) -> None:
        try:
            self.events.extend(map(shown, events))
        except ApiError as e:
            self.error = e

    def __contains__(self, event: str) -> bool:
        return event in self.events

    def end(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), self.events


def test_a_watch_goes_on_from_a_version(api_scene: Scene) -> None:
    client = api_scene.client()
    version = put(api_scene, leaseTransitions=1)
    put(api_scene, leaseTransitions=2)
    put(api_scene, "b", leaseTransitions=1)
    api_scene.api.remove("leases", "a", NAMESPACE)
    watch = client.watch(ALL, version)
    assert list(map(shown, islice(watch, 3))) == ["MODIFIED a 2", "ADDED b 1", "DELETED a 2"]


def test_a_watch_of_one_object_shows_nothing_else(api_scene: Scene) -> None:
    client = api_scene.client()
    version = put(api_scene, "b")
    put(api_scene)
    put(api_scene, "b", leaseTransitions=1)
    watch = client.watch(Selection(LEASES, NAMESPACE, fields="metadata.name=b"), version)
    assert shown(next(iter(watch))) == "MODIFIED b 1"


def test_bookmarks_move_the_version(api_scene: Scene) -> None:
    client = api_scene.client()
    api_scene.api.bookmark_each(0.01)
    version = put(api_scene)
    api_scene.api.put("nodes", "a1", {})
    event = next(iter(client.watch(ALL, version)))
    assert shown(event) == "BOOKMARK"
    assert int(event.document["metadata"]["resourceVersion"]) > int(version)


def test_the_server_ends_a_watch_in_time(api_scene: Scene) -> None:
    watch = api_scene.client().watch(ALL, put(api_scene), WatchTimes(whole=1))
    assert list(watch) == []
    assert watch.is_closed


@pytest.mark.parametrize("how", ["silent", "bit by bit"])
def test_a_watch_that_delivers_nothing_ends(
    api_scene: Scene, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server answers everything else."""
    monkeypatch.setattr("cni_floatip.edges.kubernetes.watch.GRACE", 0.0)
    client = api_scene.client()
    version = put(api_scene)
    if how == "silent":
        reader = Reader(client.watch(ALL, version, WatchTimes(idle=SOON, whole=3600)))
        reader.end()
        assert reader.error
        assert reader.error.fault is ApiFault.UNANSWERED
    else:
        api_scene.first.oddities.append(Oddity(raw=HEAD + chunk(b"x" * 10_000), pause=0.01))
        reader = Reader(client.watch(ALL, version, WatchTimes(idle=60, whole=SOON)))
        client.keep_servers_current(tick=SOON)
        reader.end()


def test_a_watch_ends_although_its_server_does_not_end_it(
    api_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni_floatip.edges.kubernetes.watch.GRACE", 0.0)
    client = api_scene.client()
    api_scene.first.oddities.append(Oddity(raw=HEAD + chunk(b"\n")))
    reader = Reader(client.watch(ALL, put(api_scene), WatchTimes(whole=SOON)))
    reader.end()
    assert reader.error is None


def test_another_thread_closes_a_watch(api_scene: Scene) -> None:
    client = api_scene.client()
    watch = client.watch(ALL, put(api_scene))
    reader = Reader(watch)
    put(api_scene, "b")
    until(lambda: "ADDED b" in reader)
    watch.close()
    reader.end()
    assert reader.error is None


def test_a_closed_client_ends_its_watches(api_scene: Scene) -> None:
    client = api_scene.client()
    reader = Reader(client.watch(ALL, put(api_scene)))
    client.close()
    reader.end()


@pytest.mark.parametrize("how", ["forgotten", "status"])
def test_a_version_that_is_too_old_is_expired(api_scene: Scene, how: str) -> None:
    client = api_scene.client()
    version = put(api_scene)
    put(api_scene, leaseTransitions=1)
    if how == "forgotten":
        api_scene.api.storage.forget()
    else:
        api_scene.first.oddities.append(Oddity(status=410, body=b'{"message": "too old"}'))
    with pytest.raises(ApiError) as raised:
        list(client.watch(ALL, version))
    assert raised.value.fault is ApiFault.EXPIRED


def test_a_watch_that_breaks_is_opened_at_the_other_server_next(api_scene: Scene) -> None:
    client = api_scene.client()
    version = put(api_scene)
    reader = Reader(client.watch(ALL, version))
    put(api_scene, "b")
    until(lambda: "ADDED b" in reader)
    api_scene.first.reset()
    reader.end()
    assert reader.error
    assert reader.error.fault is ApiFault.UNANSWERED
    api_scene.forget_calls()
    client.watch(ALL, version).close()
    assert api_scene.calls() == [f"api2: watch leases/{NAMESPACE} -> 200"]


@pytest.mark.parametrize("how", ["refused", "silent", "ends"])
def test_a_watch_is_opened_at_a_server_that_answers(api_scene: Scene, how: str) -> None:
    client = api_scene.client(whole=3 if how == "silent" else 60)
    version = put(api_scene)
    if how == "refused":
        api_scene.first.stop()
    elif how == "silent":
        api_scene.first.swallow()
    else:
        api_scene.first.oddities.append(Oddity(status=503, body=b"{}"))
    client.watch(ALL, version).close()
    assert api_scene.calls()[-1] == f"api2: watch leases/{NAMESPACE} -> 200"


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"null",
        b'{"type": "ADDED"}',
        b'{"type": "ADDED", "object": 5}',
        b'{"type": "OTHER", "object": {}}',
        b'{"type": ["ADDED"], "object": {}}',
        b'{"type": "ERROR", "object": {"code": "x", "message": 5}}',
        b'{"a": ' * 100_000,
        b"\xff",
    ],
    ids=range(10),
)
def test_an_event_that_is_none_is_an_error(api_scene: Scene, line: bytes) -> None:
    client = api_scene.client()
    api_scene.first.oddities.append(Oddity(raw=HEAD + chunk(line + b"\n") + chunk(b"")))
    with pytest.raises(ApiError) as raised:
        list(client.watch(ALL, put(api_scene)))
    assert raised.value.fault is ApiFault.SERVER


def test_an_event_is_bounded(api_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cni_floatip.edges.kubernetes.watch.MOST_BYTES", 1000)
    client = api_scene.client()
    api_scene.first.oddities.append(Oddity(raw=HEAD + chunk(b"x" * 2000) * 50))
    with pytest.raises(ApiError, match="more than 1000 bytes"):
        list(client.watch(ALL, put(api_scene)))


def test_events_come_whole_however_they_are_cut(api_scene: Scene) -> None:
    client = api_scene.client()
    line = b'{"type": "ADDED", "object": {"metadata": {"name": "\xc3\xa4"}}}\n'
    text = line * 3
    pieces = b"".join(chunk(text[at : at + 7]) for at in range(0, len(text), 7))
    api_scene.first.oddities.append(Oddity(raw=HEAD + pieces + chunk(b"")))
    assert [shown(event) for event in client.watch(ALL, put(api_scene))] == ["ADDED ä"] * 3


@pytest.mark.needs("root", "ip", "nft")
def test_the_kernel_ends_a_watch_whose_packets_vanish(tmp_path: Path) -> None:
    """Nothing says so: no answer comes to anything, and the watch is silent while all is well."""
    name = "fl-api-watch"
    netns.remove([name])
    netns.make([name])
    try:
        netns.inside(name, _watch_in_vain, name, tmp_path)
    finally:
        netns.remove([name])


def _watch_in_vain(name: str, place: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with StandIn(place / "api", ["127.0.0.1"], inside=partial(netns.inside, name)) as api:
        servers = ApiServers(ApiAddress(*api.addresses[0]))
        client = KubernetesClient(ServiceAccount(api.account), servers, CallTimes(60, 60, 60))
        version = api.put("nodes", "a1", {})["metadata"]["resourceVersion"]
        reader = Reader(client.watch(Selection(LEASES), version, WatchTimes(idle=3600, whole=3600)))
        drop = "table ip t { chain c { type filter hook input priority 0; policy drop; }; }"
        subprocess.run(["nft", drop], check=True)
        reader.end()
        assert reader.error
        assert reader.error.fault is ApiFault.UNANSWERED
        client.close()


# -- following ----------------------------------------------------------------------------------------------


@pytest.fixture
def follower(api_scene: Scene) -> Iterator[Follower]:
    following = Follower(api_scene.client(), ALL, WatchTimes(idle=60, whole=60), pause=lambda _: None)
    yield following
    following.stop()


def test_a_follower_lists_and_then_watches(api_scene: Scene, follower: Follower) -> None:
    put(api_scene)
    reader = Reader(follower)
    until(lambda: "LISTING a" in reader)
    put(api_scene, "b")
    until(lambda: "ADDED b" in reader)
    follower.stop()
    reader.end()
    assert reader.events == ["LISTING a", "ADDED b"]


def test_a_follower_goes_on_where_a_watch_has_ended(api_scene: Scene) -> None:
    api_scene.api.bookmark_each(0.01)
    put(api_scene)
    reader = Reader(following := Follower(api_scene.client(), ALL, WatchTimes(whole=1), pause=lambda _: None))
    until(lambda: "LISTING a" in reader)
    for name in ("b", "c"):
        watches = api_scene.watches()
        until(lambda: api_scene.watches() > watches)  # noqa: B023 (it is called at once)
        put(api_scene, name)
        until(lambda: f"ADDED {name}" in reader)  # noqa: B023
    following.stop()
    reader.end()
    assert [event for event in reader.events if event != "BOOKMARK"] == ["LISTING a", "ADDED b", "ADDED c"]


def test_a_follower_resumes_after_its_watch_broke_and_misses_nothing(
    api_scene: Scene, follower: Follower
) -> None:
    put(api_scene)
    reader = Reader(follower)
    until(lambda: "LISTING a" in reader)
    put(api_scene, "b")
    until(lambda: "ADDED b" in reader)
    api_scene.first.stop()
    put(api_scene, "c")
    until(lambda: "ADDED c" in reader)
    follower.stop()
    reader.end()
    assert reader.events == ["LISTING a", "ADDED b", "UNANSWERED", "ADDED c"]


def test_a_follower_lists_anew_when_its_version_is_too_old(api_scene: Scene, follower: Follower) -> None:
    put(api_scene)
    reader = Reader(follower)
    until(lambda: "LISTING a" in reader)
    put(api_scene, "b")
    until(lambda: "ADDED b" in reader)
    for server in api_scene.api.servers:
        server.stop()
    put(api_scene, "c")
    api_scene.api.storage.forget()
    for server in api_scene.api.servers:
        server.start()
    until(lambda: "LISTING a b c" in reader)


def test_a_follower_lists_anew_when_a_watch_has_delivered_nothing(api_scene: Scene) -> None:
    """A storage that was restored has not reached the version: such a watch is silent for ever."""
    put(api_scene)
    reader = Reader(following := Follower(api_scene.client(), ALL, WatchTimes(whole=1), pause=lambda _: None))
    until(lambda: reader.events.count("LISTING a") >= 2)
    following.stop()
    reader.end()


def test_a_follower_says_that_the_api_is_away_and_goes_on_when_it_is_back(
    api_scene: Scene, follower: Follower
) -> None:
    for server in api_scene.api.servers:
        server.stop()
    put(api_scene)
    reader = Reader(follower)
    until(lambda: reader.events.count("UNANSWERED") >= 3)
    for server in api_scene.api.servers:
        server.start()
    until(lambda: "LISTING a" in reader)


def test_a_follower_pauses_longer_each_time(api_scene: Scene) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            following.stop()

    for server in api_scene.api.servers:
        server.stop()
    following = Follower(api_scene.client(knows=False), ALL, pause=pause)
    list(following)
    longest = [0.5, 1, 2, 4, 5, 5, 5, 5]
    assert all(most / 2 <= seconds <= most for seconds, most in zip(pauses, longest, strict=True)), pauses
