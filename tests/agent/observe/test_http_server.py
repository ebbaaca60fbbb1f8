"""The agent's pages over real connections: probes, scrapes, and callers who are slow, rude or many."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent import main
from cni_floatip.agent.observe import health
from cni_floatip.agent.observe.health import Health, Heartbeat, Milestone
from cni_floatip.agent.observe.http_server import MOST_CONNECTIONS, MOST_REQUEST, Answer, Page, Pages
from cni_floatip.agent.observe.lines import LineWriter
from cni_floatip.agent.observe.logs import Log
from cni_floatip.agent.observe.metrics import Metrics
from cni_floatip.config.nodeconf import NodeConf, SocketAddress
from cni_floatip.edges.store import Store
from cni_floatip.model.errors import IoFailure

ANY = SocketAddress("127.0.0.1", 0)


@pytest.fixture
def serve() -> Iterator[Callable[..., Pages]]:
    """Serve pages in a thread, as the agent does; all has ended after the test."""
    stop = threading.Event()
    threads = []

    def start(here: dict[str, Page], log: Callable[[str], None] = lambda _: None) -> Pages:
        served = Pages({ANY: here}, log=log)
        threads.append(threading.Thread(target=served.run, args=(stop,)))
        threads[-1].start()
        return served

    yield start
    stop.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def get(served: Pages, path: str, method: str = "GET") -> tuple[int, str, str]:
    host, port = served.addresses[0]
    connection = http.client.HTTPConnection(host, port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()


def raw(served: Pages, *parts: bytes) -> bytes:
    with socket.create_connection(served.addresses[0], timeout=10) as sock:
        for part in parts:
            sock.sendall(part)
        result = b""
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(65536):
                result += data
        return result


def test_alive_and_ready_each_say_what_is_wrong(serve: Callable[..., Pages]) -> None:
    credentials, keeper = Milestone("no AWS credentials yet"), Milestone("no claim's namespace is visible")
    judged = Health(alive=[lambda: "the keeper has ended"], ready=[credentials, keeper])
    served = serve({"/healthz": judged.healthz, "/readyz": judged.readyz})
    plain = "text/plain; charset=utf-8"
    assert get(served, "/healthz") == (503, plain, "the keeper has ended\n")
    judged.alive.clear()
    assert get(served, "/healthz") == (200, plain, "ok\n")
    both = "no AWS credentials yet\nno claim's namespace is visible\n"
    assert get(served, "/readyz") == (503, plain, both)
    credentials.reach()
    keeper.reach()
    assert get(served, "/readyz?verbose") == (200, plain, "ok\n")


def test_what_is_deadly_is_not_ready_either() -> None:
    judged = Health(alive=[lambda: "dead"], ready=[lambda: "cold"])
    assert judged.problems() == ["dead", "cold"]
    assert judged.fatal_problems() == ["dead"]


def test_who_cannot_say_what_is_wrong_has_something_wrong() -> None:
    def broken() -> str:
        raise KeyError("x")

    assert Health(ready=[broken]).problems() == ["KeyError: 'x'"]


def test_a_loop_that_stands_still_is_noticed() -> None:
    now = [100.0]
    beat = Heartbeat("the keeper", 30, clock=lambda: now[0])
    now[0] += 30
    assert beat() is None
    now[0] += 12
    assert beat() == "the keeper has made no progress for 42 s"
    beat.beat()
    assert beat() is None


def test_metrics_are_served_as_prometheus_reads_them(serve: Callable[..., Pages]) -> None:
    metrics = Metrics("1")
    metrics.superseded_live()
    status, kind, text = get(serve({"/metrics": metrics.page}), "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "\nfloatip_superseded_live_total 1.0\n" in text


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 404, "/ok\n"),
        ("HEAD", "/ok", 200, ""),
        ("POST", "/ok", 405, "this can only be read\n"),
    ],
    ids=["elsewhere", "head only", "not to be written"],
)
def test_other_methods_and_paths_are_refused(
    serve: Callable[..., Pages], method: str, path: str, status: int, text: str
) -> None:
    served = serve({"/ok": lambda: Answer(200, b"ok\n")})
    answer = get(served, path, method)
    assert (answer[0], answer[2]) == (status, text)


@pytest.mark.parametrize(
    ("sent", "start"),
    [
        (b"\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\x00\n\n", b"HTTP/1.1 400 "),
        (b"GET /ok HTTP/1.0\n\n", b"HTTP/1.1 200 "),
        (b"GET /ok HTTP/1.1\r\nA: " + b"x" * 2 * MOST_REQUEST, b""),
    ],
    ids=["nothing", "tls", "bare newlines", "endless"],
)
def test_what_is_not_quite_http(serve: Callable[..., Pages], sent: bytes, start: bytes) -> None:
    served = serve({"/ok": lambda: Answer(200, b"ok\n")})
    answer = raw(served, sent)
    assert answer.startswith(start)
    assert bool(answer) == bool(start)
    assert get(served, "/ok")[0] == 200


def test_a_page_that_fails_fails_alone(serve: Callable[..., Pages]) -> None:
    sentences: list[str] = []
    served = serve(
        {"/bad": lambda: Answer(1 // 0, b""), "/ok": lambda: Answer(200, b"ok\n")}, sentences.append
    )
    assert get(served, "/bad")[0] == 500
    assert get(served, "/ok")[0] == 200
    assert sentences == ["page /bad: ZeroDivisionError: integer division or modulo by zero"]


def test_callers_who_say_nothing_read_nothing_or_are_many_delay_nobody(serve: Callable[..., Pages]) -> None:
    big = Answer(200, b"x" * 8_000_000)  # more than the kernel takes at once
    served = serve({"/ok": lambda: Answer(200, b"ok\n"), "/big": lambda: big})
    before = len(list(Path("/proc/self/fd").iterdir()))
    with contextlib.ExitStack() as stack:
        for n in range(2 * MOST_CONNECTIONS):
            sock = stack.enter_context(socket.create_connection(served.addresses[0], timeout=10))
            sock.sendall(b"GET /big HTTP/1.1\r\n\r\n" if n % 2 else b"GET /o")
        assert get(served, "/ok")[2] == "ok\n"
        opened = len(list(Path("/proc/self/fd").iterdir())) - before
        assert opened < 4 * MOST_CONNECTIONS  # ours, and those of it that it keeps
    assert len(get(served, "/big")[2]) == 8_000_000


def test_a_slow_caller_is_closed_however_busy_it_looks() -> None:
    now = [0.0]
    served = Pages({ANY: {"/ok": lambda: Answer(200, b"")}}, log=lambda _: None, clock=lambda: now[0])
    try:
        with socket.create_connection(served.addresses[0], timeout=10) as sock:
            served.turn(1)
            for _ in range(4):
                now[0] += 1.5
                sock.sendall(b"G")
                served.turn(1)
            assert sock.recv(1) == b""
    finally:
        served.close()


def test_an_address_in_use_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = SocketAddress("127.0.0.1", port)
        with pytest.raises(IoFailure, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            Pages({ANY: {}, address: {}}, log=lambda _: None)


def test_an_address_of_ipv6() -> None:
    served = Pages({SocketAddress("::1", 0): {}}, log=lambda _: None)
    assert served.addresses[0][0] == "::1"
    served.close()


def test_where_the_node_configuration_says() -> None:
    def page() -> Answer:
        return Answer(200, b"")

    def paths(**output: Any) -> dict[str, list[str]]:
        results = health.pages(NodeConf(**output), Health(), page)
        return {str(address): sorted(here) for address, here in results.items()}

    assert paths() == {"127.0.0.1:9818": ["/metrics"], "127.0.0.1:9819": ["/healthz", "/readyz"]}
    assert paths(metrics_address=None, health_address=None) == {}
    one = SocketAddress("127.0.0.1", 9000)
    everything = {"127.0.0.1:9000": ["/healthz", "/metrics", "/readyz"]}
    assert paths(metrics_address=one, health_address=one) == everything


def test_the_loops_of_the_agent_that_must_come_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(health, "Heartbeat", partial(Heartbeat, clock=lambda: now[0]))
    policy = NodeConf.parse({"dataDir": str(tmp_path)})
    store = Store(str(tmp_path), sleep=time.sleep, clock=time.monotonic)
    agent = main.Agent(policy, Log({}, LineWriter()), store)
    assert agent.health.fatal_problems() == []
    now[0] += 301
    assert agent.health.fatal_problems() == ["the watch has made no progress for 301 s"]
    now[0] += 1000
    assert [text.split(" has")[0] for text in agent.health.fatal_problems()] == ["the keeper", "the watch"]
