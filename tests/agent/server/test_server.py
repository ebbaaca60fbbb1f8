"""The agent's socket: who talks nonsense, half, too much or as the wrong user leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.observe.lines import LineWriter
from cni_floatip.agent.observe.logs import Log
from cni_floatip.agent.server import server as the_server
from cni_floatip.agent.server.connection import Connection
from cni_floatip.agent.server.server import Server
from cni_floatip.model.errors import IoFailure
from cni_floatip.protocol import wire
from tests.support.dialogue import Dialogue, ask
from tests.support.waiting import until

ADD = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "net1"}
DEL = {**ADD, "CNI_COMMAND": "DEL"}


class Written:
    """A log's stream that can be looked at."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


class Running:
    """A server of which the calls do what ``answer`` says."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.said = Written()
        self.seen: list[wire.Call] = []
        self.stopped: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.inside = threading.Semaphore(0)
        self.stop = threading.Event()
        log = Log({}, LineWriter("debug", "text", self.said))
        self.server = Server(str(path), self, log, **options)
        self.thread = threading.Thread(target=self.server.run, args=(self.stop,))
        self.thread.start()

    def refuse(self, call: wire.Call) -> tuple[int, bytes]:
        return 1, b"full"

    def answer(self, call: wire.Call, talk: Connection) -> tuple[int, bytes]:
        talk.send_deadline(7)
        self.seen.append(call)
        self.inside.release()
        until = time.monotonic() + 20
        while not self.hold.wait(0.01) and time.monotonic() < until:
            if why := talk.cancelled():
                self.stopped.append(why)
                return 1, why.encode()
        inode = "" if talk.descriptor is None else str(os.fstat(talk.descriptor).st_ino)
        return 0, f"{call.command} {inode} {call.stdin.decode()}".strip().encode()

    def end(self) -> None:
        self.hold.set()
        self.server.close()
        self.server.wait(10)
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    result = Running(tmp_path / "run" / "agent.sock")
    yield result
    result.end()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_call_is_answered_with_deadline_status_and_output(running: Running) -> None:
    heard = ask(running.path, ADD, b"{}")
    assert (heard.deadline, heard.status, heard.stdout) == (7.0, 0, b"ADD  {}")


def test_only_root_sees_the_socket(running: Running) -> None:
    assert stat.S_IMODE(running.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.path.parent.stat().st_mode) == 0o700


@pytest.mark.needs("root")
def test_who_is_not_root_is_not_heard_even_when_the_file_lets_them(running: Running) -> None:
    running.path.chmod(0o666)
    for directory in (running.path.parent, *running.path.parent.parents):
        if not directory.stat().st_mode & stat.S_IXOTH:
            directory.chmod(0o711)
    child = os.fork()
    if child == 0:  # nothing of pytest may run here
        try:
            os.setgid(65534)
            os.setuid(65534)
            os._exit(0 if ask(running.path, ADD).deadline is None else 1)
        except OSError:
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert running.seen == []
    until(lambda: "uid 65534" in running.said.text)


def test_the_first_descriptor_is_the_call_s_and_all_are_closed(running: Running, tmp_path: Path) -> None:
    before = descriptors()
    paths = [tmp_path / str(number) for number in range(5)]
    opened = []
    for path in paths:
        path.touch()
        opened.append(os.open(path, os.O_RDONLY))
    heard = ask(running.path, ADD, b"", opened)
    for item in opened:
        os.close(item)
    assert heard.stdout.decode() == f"ADD {paths[0].stat().st_ino}"
    until(lambda: descriptors() <= before)


def test_more_descriptors_than_anybody_takes_leave_none_behind(running: Running) -> None:
    before = descriptors()
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(60)]
    ask(running.path, ADD, b"", opened)
    for item in opened:
        os.close(item)
    until(lambda: descriptors() <= before)


def test_a_request_may_come_byte_by_byte(running: Running) -> None:
    with Dialogue(running.path) as dialogue:
        for byte in wire.request_bytes(ADD, b"{}"):
            dialogue.send(bytes((byte,)))
        assert dialogue.answer().stdout == b"ADD  {}"


GARBAGE = {
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "zeros": bytes(64),
    "a length that nobody takes": wire.greeting() + b"\xff\xff\xff\xff",
    "an environment longer than the request": wire.greeting() + b"\0\0\0\x08\0\0\xff\xff____",
    "a version of the far future": wire.hello(9, 9) + b"\0\0\0\0",
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_told_what_is_wrong_and_closed(running: Running, sent: bytes) -> None:
    before = descriptors()
    passed = os.open("/dev/null", os.O_RDONLY)
    with Dialogue(running.path) as dialogue:
        dialogue.send(sent, [passed])
        assert dialogue.answer().refused
    os.close(passed)
    until(lambda: descriptors() <= before)
    assert ask(running.path, ADD).status == 0
    assert running.said.text.count("warning") == 1


def test_garbage_of_one_kind_is_one_warning(running: Running) -> None:
    for _ in range(10):
        with Dialogue(running.path) as dialogue:
            dialogue.send(b"nonsense")
            dialogue.answer()
    assert running.said.text.count("warning") == 1
    until(lambda: running.said.text.count("debug") == 9)


def test_half_open_connections_are_dropped_and_disturb_nobody(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    monkeypatch.setattr(the_server, "READ_SECONDS", 0.3)
    silent = [Dialogue(running.path) for _ in range(20)]
    for dialogue in silent[:10]:
        dialogue.send(wire.request_bytes(ADD)[:-1], [0])
    assert ask(running.path, ADD).status == 0
    for dialogue in silent:
        assert dialogue.answer().status is None
        dialogue.sock.close()
    until(lambda: descriptors() <= before)
    assert len(running.seen) == 1


def test_the_most_silent_of_too_many_half_requests_goes(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_server, "TALKING", 3)
    with Dialogue(running.path) as first:
        first.send(b"FIP")
        until(lambda: len(running.server._connections) == 1)
        others = [Dialogue(running.path) for _ in range(3)]
        assert first.answer().status is None
        others[0].ask(ADD)
        assert others[0].answer().status == 0
        for dialogue in others:
            dialogue.sock.close()


def test_unfinished_requests_are_not_held_without_end(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_server, "HELD_BYTES", 1 << 20)
    with Dialogue(running.path) as dialogue:
        with pytest.raises(OSError, match=r"pipe|reset"):
            dialogue.send(wire.greeting() + (3 << 20).to_bytes(4, "big") + bytes(3 << 20)[:-1])
        assert running.seen == []


def test_two_hundred_at_once_are_all_answered(running: Running) -> None:
    before, threads = descriptors(), threading.active_count()
    stdin = b"x" * 20000
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: ask(running.path, ADD, stdin), range(200)))
    assert [heard.status for heard in answers] == [0] * 200
    until(lambda: descriptors() <= before)
    until(lambda: threading.active_count() <= threads)


def test_a_client_that_goes_away_stops_its_call(running: Running) -> None:
    running.hold.clear()
    before = descriptors()
    with Dialogue(running.path) as dialogue:
        dialogue.ask(ADD)
        dialogue.until_deadline()
    until(lambda: running.stopped == ["the client is gone"])
    until(lambda: descriptors() < before + 2)


def test_a_client_that_says_that_it_has_said_all_is_not_gone(running: Running) -> None:
    running.hold.clear()
    with Dialogue(running.path) as dialogue:
        dialogue.ask(ADD)
        dialogue.sock.shutdown(socket.SHUT_WR)
        dialogue.until_deadline()
        dialogue.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            dialogue.hear()
        dialogue.sock.settimeout(30)
        running.hold.set()
        assert dialogue.answer().status == 0


def test_when_there_is_no_room_an_add_is_refused_and_a_del_let_in(tmp_path: Path) -> None:
    running = Running(tmp_path / "agent.sock", calls=3)
    running.hold.clear()
    try:
        busy = [Dialogue(running.path) for _ in range(3)]
        for dialogue in busy:
            dialogue.ask(ADD)
            dialogue.until_deadline()
        refused = ask(running.path, ADD)
        assert (refused.deadline, refused.status, refused.stdout) == (1.0, 1, b"full")
        with Dialogue(running.path) as late:
            late.ask(DEL)
            assert late.until_deadline() == 7.0
            running.hold.set()
            assert late.answer().status == 0
        for dialogue in busy:
            assert dialogue.answer().status == 0
            dialogue.sock.close()
    finally:
        running.end()


@pytest.mark.parametrize(("env", "refused"), [(ADD, False), (DEL, True)], ids=["ADD", "DEL"])
def test_when_there_is_no_thread_a_del_is_left_to_its_client_s_spool(
    running: Running, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], refused: bool
) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        heard = ask(running.path, env)
    if refused:
        assert (heard.status, heard.refused) == (None, "it already runs as many calls as it can")
    else:
        assert (heard.status, heard.stdout) == (1, b"full")
    assert ask(running.path, env).status == 0
    until(lambda: descriptors() <= before)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.thorough(sample="test_two_hundred_at_once_are_all_answered")
def test_more_calls_at_once_than_work_side_by_side(running: Running, many_descriptors: None) -> None:
    before, threads = descriptors(), threading.active_count()
    running.hold.clear()
    dialogues = []
    for number in range(the_server.CALLS + 100):
        dialogues.append(Dialogue(running.path))
        dialogues[-1].ask({**ADD, "CNI_CONTAINERID": f"c{number}"}, b"{}")
    until(lambda: len(running.seen) == the_server.CALLS)
    refused = [dialogue.answer() for dialogue in dialogues[the_server.CALLS :]]
    assert {(heard.status, heard.stdout) for heard in refused} == {(1, b"full")}
    with Dialogue(running.path) as late:
        late.ask(DEL)
        assert late.until_deadline() == 7.0, "a DEL is let in all the same"
        running.hold.set()
        assert late.answer().status == 0
    assert {dialogue.answer().status for dialogue in dialogues[: the_server.CALLS]} == {0}
    for dialogue in dialogues:
        dialogue.sock.close()
    until(lambda: descriptors() <= before)
    until(lambda: threading.active_count() <= threads)


def test_with_no_descriptor_left_a_client_waits_and_is_heard_later(running: Running) -> None:
    ask(running.path, ADD)  # whatever is imported late
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Dialogue(running.path) as busy:
        running.hold.clear()
        busy.ask(ADD)
        busy.until_deadline()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(30)
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, descriptors() + 64), hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            sock.connect(str(running.path))
            sock.sendall(wire.request_bytes(ADD))
            until(lambda: "cannot accept a connection: Too many open files" in running.said.text)
            assert not busy.answers.status
        finally:
            for item in taken:
                os.close(item)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        running.hold.set()
        assert busy.answer().status == 0
        answers = wire.Answers()
        while data := sock.recv(65536):
            answers.feed(data)
        sock.close()
        assert answers.status == 0


def test_once_closed_it_takes_nothing_and_finishes_what_runs(running: Running) -> None:
    running.hold.clear()
    with Dialogue(running.path) as dialogue, Dialogue(running.path) as half:
        half.send(b"FIP")
        dialogue.ask(ADD)
        dialogue.until_deadline()
        running.server.close()
        until(lambda: not running.path.exists())
        assert half.answer().status is None
        with pytest.raises(OSError, match="No such file"):
            Dialogue(running.path)
        assert running.server.wait(0.1) == ["ADD c1 net1"]
        running.hold.set()
        assert dialogue.answer().status == 0
    assert running.server.wait(10) == []


def test_a_closed_server_still_notices_that_a_client_goes(running: Running) -> None:
    running.hold.clear()
    with Dialogue(running.path) as dialogue:
        dialogue.ask(ADD)
        dialogue.until_deadline()
        running.server.close()
        until(lambda: not running.path.exists())
    until(lambda: running.stopped == ["the client is gone"])


def test_calls_can_be_told_to_stop(running: Running) -> None:
    running.hold.clear()
    with Dialogue(running.path) as dialogue:
        dialogue.ask(ADD)
        dialogue.until_deadline()
        running.server.stop_calls("the node agent is shutting down")
        heard = dialogue.answer()
    assert (heard.status, heard.stdout) == (1, b"the node agent is shutting down")


def test_a_socket_that_nobody_answers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    running = Running(path)
    try:
        assert ask(path, ADD).status == 0
    finally:
        running.end()
    assert not path.exists()


def test_nothing_is_taken_from_an_agent_that_lives(running: Running) -> None:
    with pytest.raises(IoFailure, match="another node agent answers there"):
        Running(running.path)
    assert ask(running.path, ADD).status == 0


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("precious")
    with pytest.raises(IoFailure, match="not a socket"):
        Running(path)
    assert path.read_text() == "precious"


def test_the_socket_of_a_later_agent_is_not_removed(running: Running) -> None:
    running.path.unlink()
    later = Running(running.path)
    try:
        running.server.close()
        running.stop.set()
        running.thread.join(10)
        assert ask(running.path, ADD).status == 0
    finally:
        later.end()
