"""``floatipctl status`` against an agent's end of a real socket."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

import cni_floatip
from cni_floatip.agent.observe import status
from cni_floatip.agent.watch.watched_pods import Lost
from cni_floatip.commands import status_view
from cni_floatip.edges import agent_socket
from cni_floatip.edges.store import Problem
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, State
from cni_floatip.model.errors import TryAgain
from cni_floatip.model.recorded_config import RecordedConfig
from cni_floatip.model.values import Attachment, Node, PodIdentity, RouteKey, RouteTarget
from cni_floatip.protocol import wire
from cni_floatip.rules.reconcile import Outage
from tests.support.claims import a_claim

NOON = 1_700_000_000.0
VIP = ip_network("192.168.0.2/32")


@dataclass(frozen=True)
class Seen:
    target: object
    at: float = NOON
    since: float = NOON - 60
    error: str = ""


def place(table: str) -> RouteKey:
    return RouteKey(table, VIP)


def claim(*routes: ClaimedRoute, **output: Any) -> Claim:
    fields = {
        "attachment": Attachment("red", "c" * 64, "net1"),
        "eni": "eni-here",
        "pod": PodIdentity("core", "upf-0", "u"),
        "addresses": (ip_interface("192.168.0.2/24"),),
        "watched": (ip_interface("192.168.0.9/32"),),
        "created_at": NOON - 600,
    }
    return a_claim(*routes, **{**fields, **output})


OUTAGES = {"rtb-b": Outage.SUPERSEDED, "rtb-c": Outage.ABSENT, "rtb-d": Outage.BLACKHOLE}


def served(*_: object) -> None:
    """Nothing says that a route serves nobody."""


UNSEEN = status.KeeperLooks({}, served)
AT = {"now": NOON}


def document(
    problems: tuple[str, ...] = (), error: str = "", *, outages: bool = True, **output: Any
) -> dict[str, Any]:
    """Return the status of a node with one pod: routes here, elsewhere, nowhere, broken, and not seen yet."""
    tables = {"rtb-a": "held", "rtb-b": "superseded", "rtb-c": "held", "rtb-d": "held", "rtb-e": "claiming"}
    held = claim(*(ClaimedRoute(place(table), State(state), "1" * 12) for table, state in tables.items()))
    return status.document(
        status.Facts(
            "1.2.3", 42, NOON - 3600, Node("i-1", "1" * 12, "eu-west-1"), "node-a", problems, **output
        ),
        [held, claim(attachment=Attachment("red", "d" * 64, "net1"), pod=PodIdentity())],
        [],
        status.KeeperLooks(
            {
                place("rtb-a"): Seen(RouteTarget("eni-here", is_eni=True)),
                place("rtb-b"): Seen(RouteTarget("eni-there", is_eni=True), since=NOON - 3600),
                place("rtb-c"): Seen(None, error=error),
                place("rtb-d"): Seen(RouteTarget("eni-old", is_eni=True, active=False)),
            },
            lambda claim, route: OUTAGES.get(route.key.table) if outages else None,
        ),
        now=NOON,
    )


TABLE = """\
agent 1.2.3 on node-a i-1 eu-west-1, pid 42, since 2023-11-14T21:13:20Z: ready; 1 of 1 addresses is not served here
  core/upf-0: 192.168.0.2: superseded in 1, absent in 1, blackhole in 1 of 4 tables

POD           INTERFACE  ADDRESSES                      TABLE  DESTINATION     STATE       LEADS TO             SINCE                 LAST ERROR
core/upf-0    net1       192.168.0.2/24,192.168.0.9/32  rtb-a  192.168.0.2/32  held        eni-here (here)      2023-11-14T22:12:20Z
core/upf-0    net1       192.168.0.2/24,192.168.0.9/32  rtb-b  192.168.0.2/32  superseded  eni-there            2023-11-14T21:13:20Z
core/upf-0    net1       192.168.0.2/24,192.168.0.9/32  rtb-c  192.168.0.2/32  absent      nowhere              2023-11-14T22:12:20Z
core/upf-0    net1       192.168.0.2/24,192.168.0.9/32  rtb-d  192.168.0.2/32  blackhole   eni-old (blackhole)  2023-11-14T22:12:20Z
core/upf-0    net1       192.168.0.2/24,192.168.0.9/32  rtb-e  192.168.0.2/32  claiming    not seen yet         -
dddddddddddd  net1       192.168.0.2/24,192.168.0.9/32  -      -               gone        -                    2023-11-14T22:03:20Z
"""  # noqa: E501


def test_a_line_for_each_route() -> None:
    shown = status_view.text(document())
    assert shown == TABLE
    assert status_view.wrong(document())
    assert not status_view.wrong(document(outages=False))


def test_what_wants_a_person_comes_first_and_counts() -> None:
    raw = document(("no AWS credentials yet",), outages=False, spooled=2)
    raw["records"] = [{"path": "/x/1.json", "reason": "unreadable", "moved": True}]
    assert status_view.text(raw).splitlines()[:5] == [
        "agent 1.2.3 on node-a i-1 eu-west-1, pid 42, since 2023-11-14T21:13:20Z: not ready",
        "  no AWS credentials yet",
        "  2 DELs in the spool",
        "  /x/1.json: unreadable",
        "",
    ]
    assert status_view.wrong(raw)
    assert status_view.wrong(document(error="rtb-c: RouteLimitExceeded", outages=False))
    assert "RouteLimitExceeded\n" in status_view.text(document(error="rtb-c: RouteLimitExceeded"))


def test_a_warning_wants_a_person_and_leaves_the_agent_ready() -> None:
    facts = status.Facts("1", 1, NOON, warnings=["ENI 02:00:00:00:00:01: no metadata guard"])
    raw = status.document(facts, [], [], UNSEEN, **AT)
    shown = status_view.text(raw)
    assert ": ready\n  ENI 02:00:00:00:00:01: no metadata guard\n" in shown
    assert status_view.wrong(raw)
    assert raw["agent"]["ready"]


def test_a_pod_that_is_not_as_add_left_it_is_named_and_counts() -> None:
    lost = Lost(("route 0.0.0.0/0 via 10.10.1.1 table 100 is missing", "no\x1bcarrier"), NOON - 60)
    held = claim(ClaimedRoute(place("rtb-a"), State.HELD))
    facts = status.Facts("1", 1, NOON)
    raw = status.document(facts, [held], [], status.KeeperLooks({}, served, {held.attachment: lost}), **AT)
    assert raw["claims"][0]["podLost"] == {"what": list(lost.what), "since": "2023-11-14T22:12:20Z"}
    line = "  core/upf-0 net1: since 2023-11-14T22:12:20Z: route 0.0.0.0/0 via 10.10.1.1 table 100 is missing"
    assert status_view.text(raw).splitlines()[1:3] == [f"{line}; no\\x1bcarrier", ""]
    assert status_view.wrong(raw)
    assert document()["claims"][0]["podLost"] is None


def test_a_node_without_claims() -> None:
    raw = status.document(status.Facts("1", 1, NOON), [], [], UNSEEN, **AT)
    assert status_view.text(raw).endswith(": ready\n\nno claims\n")


def test_the_document_is_json_and_says_all() -> None:
    result = json.loads(json.dumps(document()))
    assert result["version"] == 1
    assert result["time"] == "2023-11-14T22:13:20Z"
    assert result["agent"]["node"] == {"instance": "i-1", "account": "1" * 12, "region": "eu-west-1"}
    assert result["claims"][0]["routes"][1] == {
        "table": "rtb-b",
        "destination": "192.168.0.2/32",
        "account": "1" * 12,
        "state": "superseded",
        "outage": "superseded",
        "successor": "",
        "notBefore": None,
        "seen": {"target": "eni-there", "at": "2023-11-14T22:13:20Z", "since": "2023-11-14T21:13:20Z"},
        "error": "",
    }


def test_bad_records_and_lost_ones_are_shown() -> None:
    lost = claim(lost_record=RecordedConfig({"type": "floatip"}))
    bad = Problem(Path("/x/1.json"), "unreadable", moved=True)
    raw = status.document(status.Facts("1", 1, NOON), [lost], [bad], UNSEEN, **AT)
    assert raw["records"] == [{"path": "/x/1.json", "reason": "unreadable", "moved": True}]
    assert "routes unknown (its record was lost)\n" in status_view.text(raw)


def test_a_document_of_another_release_is_shown_as_far_as_it_goes() -> None:
    results = {"version": 9, "agent": {}, "claims": [{"routes": [{}]}, {}], "more": 1}
    assert status_view.text(results).startswith("agent -, pid -, since -: ready\n")


def test_names_do_not_steer_the_terminal() -> None:
    named = claim(pod=PodIdentity("core", "\x1b]0;x\x07\n", ""))
    raw = status.document(status.Facts("1", 1, NOON), [named], [], UNSEEN, **AT)
    assert r"core/\x1b]0;x\x07\n" in status_view.text(raw)


def test_what_ended_is_no_trouble_whatever_ec2_says_of_its_place() -> None:
    """Status shows an error of a place beside the claim that still wants it, if there is one."""
    gone = claim(ClaimedRoute(place("rtb-a"), State.GONE))
    seens = {place("rtb-a"): Seen(None, error="rtb-a: RequestLimitExceeded")}
    raw = status.document(status.Facts("1", 1, NOON), [gone], [], status.KeeperLooks(seens, served), **AT)
    assert not status_view.wrong(raw)
    assert "RequestLimitExceeded" not in status_view.text(raw)
    releasing = claim(ClaimedRoute(place("rtb-a"), State.RELEASING))
    raw = status.document(
        status.Facts("1", 1, NOON), [releasing], [], status.KeeperLooks(seens, served), **AT
    )
    assert status_view.wrong(raw)


def test_a_del_that_waits_is_said_with_its_file() -> None:
    held = claim(ClaimedRoute(place("rtb-a"), State.HELD))
    facts = status.Facts("1", 1, NOON, spooled=1, waiting={("c" * 64, "net1"): ["/spool/1.del"]})
    raw = status.document(facts, [held], [], UNSEEN, **AT)
    assert "  core/upf-0: 1 DEL waits in the spool: /spool/1.del\n" in status_view.text(raw)
    assert raw["claims"][0]["spooled"] == ["/spool/1.del"]


def test_claims_are_counted_by_state() -> None:
    claims = [claim(ClaimedRoute(place("rtb-a"), State.HELD)), claim(), claim()]
    assert status.by_state(claims) == {"held": 1, "gone": 2}


# -- over the socket ----------------------------------------------------------------------------------


class FakeAgent:
    """The agent's end of the socket: answers every call by ``answer``, and keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.asked: list[wire.Call] = []
        self.answer: Callable[[socket.socket], None] = self.with_(document())
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(self.path)
        self._sock.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @staticmethod
    def with_(found: Any, code: int = 0) -> Callable[[socket.socket], None]:
        content = json.dumps(found).encode()
        frames = wire.greeting() + wire.deadline_frame(5) + wire.reply_frame(code, content)
        return lambda sock: sock.sendall(frames)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._sock.accept()
                with sock, contextlib.suppress(OSError):
                    incoming = wire.Incoming()
                    while incoming.call is None and (data := sock.recv(65536)):
                        incoming.feed(data)
                    if incoming.call:
                        self.asked.append(incoming.call)
                        self.answer(sock)

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._sock.close()


@pytest.fixture
def fake_agent(tmp_path: Path) -> Iterator[FakeAgent]:
    running = FakeAgent(tmp_path / "agent.sock")
    yield running
    running.close()


def command(*arguments: str) -> list[str]:
    code = "import sys; from cni_floatip.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, "status", *arguments]


ENVIRON = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(cni_floatip.__file__).parents[1])}


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=ENVIRON | environ, capture_output=True, text=True, timeout=30
    )


def test_the_command_asks_and_shows(fake_agent: FakeAgent, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"socketPath": fake_agent.path}))
    done = run(FLOATIP_CONFIG=str(config))
    assert (done.returncode, done.stdout, done.stderr) == (1, TABLE, "")
    assert [(call.command, call.stdin) for call in fake_agent.asked] == [("status", b"")]
    assert fake_agent.asked[0].client == cni_floatip.__version__


def test_json_is_what_the_agent_said(fake_agent: FakeAgent) -> None:
    done = run("--socket", fake_agent.path, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, document())
    fake_agent.answer = fake_agent.with_(document(outages=False))
    assert run("--socket", fake_agent.path, "--json").returncode == 0


def test_something_wrong_is_exit_status_1(fake_agent: FakeAgent) -> None:
    fake_agent.answer = fake_agent.with_(document(("no AWS credentials yet",), outages=False))
    assert run("--socket", fake_agent.path).returncode == 1


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf"])
def test_an_interval_that_is_none_is_exit_status_2(seconds: str) -> None:
    done = run(f"--watch={seconds}")
    assert done.returncode == 2
    assert f"'{seconds}' is not a number of seconds" in done.stderr


def test_an_answer_in_small_pieces(fake_agent: FakeAgent) -> None:
    content = json.dumps(document()).encode()
    frames = wire.greeting() + wire.deadline_frame(5) + b"Z\0\0\0\2ok" + wire.reply_frame(0, content)

    def answer(sock: socket.socket) -> None:
        for at in range(0, len(frames), 97):
            sock.sendall(frames[at : at + 97])

    fake_agent.answer = answer
    assert agent_socket.status(fake_agent.path) == document()


def error_of(path: str) -> str:
    done = run("--socket", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("floatipctl: ")
    return done.stderr.removeprefix("floatipctl: ").rstrip("\n")


IN_POD = "(on a cluster, run this in the agent's pod: kubectl -n kube-system exec POD -- floatipctl status)"


def test_status_says_that_no_agent_runs(tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    assert error_of(path) == f"no node agent here: there is no socket {path} {IN_POD}"


def test_without_an_agent_the_dels_that_wait_for_it_are_said(tmp_path: Path) -> None:
    path, spool, config = tmp_path / "none.sock", tmp_path / "spool", tmp_path / "config.json"
    config.write_text(json.dumps({"socketPath": str(path), "spoolDir": str(spool)}))
    spool.mkdir()
    for number in range(4):
        env = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": f"c{number}", "CNI_IFNAME": "net1"}
        (spool / f"{number}.del").write_bytes(wire.body_bytes(env, b"{}"))
    done = run(FLOATIP_CONFIG=str(config))
    files = ", ".join(str(spool / f"{number}.del") for number in range(3))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        f"there is no socket {path} {IN_POD}; 4 DELs wait in the spool: {files} and 1 more\n"
    )


def test_an_agent_that_has_died(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")
    FakeAgent(Path(path)).close()
    assert error_of(path) == f"no node agent listens at {path}: it has ended, or is just starting"


def test_an_agent_that_dies_meanwhile(fake_agent: FakeAgent) -> None:
    fake_agent.answer = lambda sock: sock.sendall(wire.greeting() + wire.deadline_frame(5))
    assert error_of(fake_agent.path) == (
        f"the node agent at {fake_agent.path} ended the connection: it may be restarting"
    )


def test_an_agent_that_hangs(fake_agent: FakeAgent) -> None:
    over = threading.Event()

    def hang(sock: socket.socket) -> None:
        over.wait(20)

    fake_agent.answer = hang
    with pytest.raises(TryAgain, match=r"has not answered in 0\.2 s"):
        agent_socket.status(fake_agent.path, seconds=0.2)
    over.set()


def test_an_agent_of_another_protocol(fake_agent: FakeAgent) -> None:
    fake_agent.answer = lambda sock: sock.sendall(wire.hello(9, 9))
    assert "speaks protocol 9 (understood from 9 on)" in error_of(fake_agent.path)
    fake_agent.answer = lambda sock: sock.sendall(wire.greeting() + wire.refusal("protocol 1 is too old"))
    assert error_of(fake_agent.path).endswith("refuses: protocol 1 is too old")


@pytest.mark.parametrize("said", [[], {}, {"agent": 1, "claims": []}, "x"])
def test_an_answer_that_is_no_status(fake_agent: FakeAgent, said: list[Any] | dict[str, Any] | str) -> None:
    fake_agent.answer = fake_agent.with_(said)
    assert "this is no status document" in error_of(fake_agent.path)


def test_an_agent_that_cannot_say(fake_agent: FakeAgent) -> None:
    fake_agent.answer = fake_agent.with_({"cniVersion": "1.1.0", "code": 11, "msg": "busy"}, 1)
    assert error_of(fake_agent.path).endswith("reports: busy")


@pytest.mark.needs("root")
def test_who_is_not_root_is_told() -> None:
    code = (  # everything is imported while it may be read
        "import os, sys; from cni_floatip.edges import agent_socket; from cni_floatip.model import errors\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "try: agent_socket.status(sys.argv[1])\n"
        "except errors.IoFailure as e: print(e)"
    )
    with tempfile.TemporaryDirectory(prefix="floatip-test-") as directory:
        Path(directory).chmod(0o711)
        agent = FakeAgent(Path(directory, "agent.sock"))
        Path(agent.path).chmod(0o600)
        try:
            done = subprocess.run(
                [sys.executable, "-c", code, agent.path],
                env=ENVIRON,
                capture_output=True,
                text=True,
                timeout=30,
            )
        finally:
            agent.close()
    assert (done.stdout, done.stderr) == (f"only root may talk to the node agent at {agent.path}\n", "")


# -- again and again ----------------------------------------------------------------------------------


class Interrupted:
    """A sleep that is interrupted the third time, as by Ctrl-C."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == 3:
            raise KeyboardInterrupt


def test_watching_into_a_file_appends_and_waits_for_an_agent_that_is_away() -> None:
    answers: list[Any] = [document(), TryAgain("no node agent here"), document()]

    def ask() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    out, sleep = io.StringIO(), Interrupted()
    assert status_view.watch(ask, 5, as_json=False, out=out, sleep=sleep) == 0
    assert out.getvalue() == f"{TABLE}\nfloatipctl: no node agent here\n\n{TABLE}"
    assert sleep.slept == [5, 5, 5]


def test_watching_as_json_is_a_document_a_line() -> None:
    out = io.StringIO()
    status_view.watch(document, 1, as_json=True, out=out, sleep=Interrupted())
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [document()] * 3


def test_watching_on_a_terminal_redraws_and_ends_with_ctrl_c(fake_agent: FakeAgent) -> None:
    ours, theirs = pty.openpty()
    environ = ENVIRON | {"COLUMNS": "60", "LINES": "6", "TERM": "xterm"}
    watched = subprocess.Popen(
        command("--socket", fake_agent.path, "--watch", "0.1"),
        env=environ,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    result = b""
    until = time.monotonic() + 20
    while result.count(b"\x1b[H\x1b[J") < 3 and time.monotonic() < until:
        result += os.read(ours, 65536)
    watched.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while data := os.read(ours, 65536):
            result += data
    os.close(ours)
    assert watched.wait(20) == 0
    screen = result.decode().replace("\r\n", "\n").split("\x1b[H\x1b[J")[1]
    lines = screen.splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 60
    assert re.match("agent 1.2.3 on node-a", lines[0])
    assert lines[-1] == "(6 more lines)"
    assert "Traceback" not in result.decode()
