"""The fork server: what it forks is a process like one that was started, and none outlives its owner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import netns
from lab.errors import LabError
from lab.forkserver import Forked, ForkServer, run_to_end
from tests.support.waiting import until

PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
HERE = "tests.lab.test_forkserver"


# -- what is run in a fork ----------------------------------------------------------------------------------


def tell() -> int:
    """Print what this process is; return the status that is asked for."""
    own = Path("/proc/self")
    print(  # noqa: T201
        json.dumps(
            {
                "pid": os.getpid(),
                "parent": os.getppid(),
                "group": os.getpgid(0),
                "fds": sorted(int(fd.name) for fd in (own / "fd").iterdir()),
                "tasks": len(list((own / "task").iterdir())),
                "cwd": str(Path.cwd()),
                "environ": dict(os.environ),
                "argv": sys.argv,
                "netns": str(Path("/proc/self/ns/net").readlink()),
                "stdin": sys.stdin and sys.stdin.read(),
                "ignored": [s.name for s in signal.Signals if signal.getsignal(s) is signal.SIG_IGN],
                "random": __import__("random").random(),
            }
        )
    )
    return int(os.environ.get("STATUS", "0"))


def hang() -> int:
    os.write(1, b"hanging\n")
    signal.pause()
    return 0


def hang_apart() -> int:
    """In a session of its own, as an agent: what the owner's group is sent does not come here."""
    os.setsid()
    return hang()


def leave() -> int:
    raise SystemExit("told why")


def fail() -> int:
    raise ValueError("a mistake")


def finish_in_a_thread() -> int:
    def late() -> None:
        time.sleep(0.1)
        os.write(1, b"late")

    threading.Thread(target=late).start()
    return 3


def own() -> int:
    """Own a fork server, with one process that hangs; tell their ids and wait to be killed."""
    server = ForkServer([HERE])
    hanging = Forked(server, f"{HERE}:hang_apart", ["x"], stdout=subprocess.PIPE)
    assert hanging.stdout
    assert hanging.stdout.readline() == b"hanging\n"
    os.write(1, f"{server.pid} {hanging.pid}\n".encode())
    signal.pause()
    return 0


# -- the tests ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    made = ForkServer([HERE])
    yield made
    made.close()


def told(server: ForkServer, sent: str = "", **options: Any) -> dict[str, Any]:
    done = run_to_end(Forked(server, f"{HERE}:tell", ["tell", "me"], text=True, **{**PIPES, **options}), sent)
    assert done.stderr == ""
    raw: dict[str, Any] = json.loads(done.stdout)
    return raw | {"status": done.returncode}


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"
    except FileNotFoundError:
        return True


def test_it_is_a_process_like_one_that_was_started(server: ForkServer, tmp_path: Path) -> None:
    raw = told(server, "hello", env={"A": "1", "STATUS": "7"}, cwd=tmp_path)
    assert raw["status"] == 7
    assert raw["stdin"] == "hello"
    assert raw["argv"] == ["tell", "me"]
    assert raw["environ"] == {"A": "1", "STATUS": "7"}
    assert raw["cwd"] == str(tmp_path)
    assert raw["parent"] == os.getpid() != raw["pid"]
    assert raw["group"] == os.getpgid(0)
    assert raw["netns"] == str(Path("/proc/self/ns/net").readlink())
    assert raw["tasks"] == 1
    # As of any Python program; 3 is the directory that is being listed.
    assert raw["ignored"] == ["SIGPIPE", "SIGXFSZ"]
    assert raw["fds"] == [0, 1, 2, 3]


def test_the_next_one_is_another(server: ForkServer) -> None:
    first, second = told(server, "one", env={"A": "1"}), told(server, env={"B": "2"})
    assert second["environ"] == {"B": "2"}
    assert second["stdin"] == ""
    assert first["random"] != second["random"]
    assert server.pid not in (first["pid"], second["pid"])


@pytest.mark.needs("root", "ip")
def test_it_lives_in_the_callers_network_namespace(server: ForkServer) -> None:
    name = f"forked{os.getpid()}"
    netns.make([name])
    try:
        there = netns.inside(name, os.readlink, "/proc/thread-self/ns/net")
        assert netns.inside(name, told, server)["netns"] == there
        fresh = ForkServer([HERE])  # started from there, it does not keep the namespace
        assert netns.inside(name, told, fresh)["netns"] == there
        assert Path(f"/proc/{fresh.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()
        fresh.close()
        assert told(server)["netns"] == str(Path("/proc/self/ns/net").readlink()) != there
    finally:
        netns.remove([name])


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 2)])
def test_a_standard_descriptor_may_be_closed(server: ForkServer, closed: tuple[int, ...]) -> None:
    raw = told(server, closed=closed, stdin=subprocess.DEVNULL)
    assert raw["stdin"] == (None if 0 in closed else "")
    # The listing itself takes the lowest number that is free.
    assert raw["fds"] == sorted({0, 1, 2} - {*closed} | {min({0, 1, 2, 3} - ({0, 1, 2} - {*closed}))})


def test_standard_error_may_be_standard_output(server: ForkServer) -> None:
    process = Forked(
        server, f"{HERE}:fail", ["x"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert "ValueError: a mistake" in run_to_end(process).stdout


def test_how_it_ends_is_how_a_script_ends(server: ForkServer) -> None:
    fails = run_to_end(Forked(server, f"{HERE}:fail", ["x"], text=True, **PIPES))
    assert fails.returncode == 1
    assert "ValueError: a mistake" in fails.stderr
    leaves = run_to_end(Forked(server, f"{HERE}:leave", ["x"], text=True, **PIPES))
    assert (leaves.returncode, leaves.stderr) == (1, "told why\n")
    late = run_to_end(Forked(server, f"{HERE}:finish_in_a_thread", ["x"], text=True, **PIPES))
    assert (late.returncode, late.stdout) == (3, "late")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGINT, signal.SIGTERM])
def test_it_ignores_no_signal_that_its_owner_ignores(number: signal.Signals) -> None:
    """Under ``nohup`` or in the background a process is started with signals ignored."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        server = ForkServer([HERE])
        try:
            assert told(server)["ignored"] == ["SIGPIPE", "SIGXFSZ"]
        finally:
            server.close()
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_one_that_hangs_can_be_ended(server: ForkServer, number: signal.Signals) -> None:
    with Forked(server, f"{HERE}:hang", ["x"], text=True, **PIPES) as hanging:
        assert hanging.stdout
        assert hanging.stdout.readline() == "hanging\n"
        assert hanging.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            hanging.wait(0.01)
        hanging.send_signal(number)
        assert hanging.wait(30) == -number
    assert told(server)["status"] == 0  # the server goes on


def test_run_ends_what_takes_too_long(server: ForkServer) -> None:
    process = Forked(server, f"{HERE}:hang", ["x"], text=True, **PIPES)
    with pytest.raises(subprocess.TimeoutExpired):
        run_to_end(process, timeout=0.1)
    assert process.returncode == -signal.SIGKILL


def test_they_run_side_by_side_and_leave_nothing_open(server: ForkServer) -> None:
    told(server)
    before = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    results: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: results.append(told(server, "x"))) for _ in range(8)]
    with Forked(server, f"{HERE}:hang", ["x"], text=True, **PIPES) as hanging:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        hanging.kill()
    assert len({item["pid"] for item in results}) == 8
    assert all(item["fds"] == [0, 1, 2, 3] for item in results)
    told(server)
    assert len(list(Path(f"/proc/{server.pid}/fd").iterdir())) == before


def test_a_server_with_two_threads_forks_nothing() -> None:
    code = "import threading, lab.forkserver as f; e = threading.Event(); "
    code += "threading.Thread(target=e.wait, daemon=True).start(); f.clone()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another thread may hold a lock" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_owner_and_so_does_what_it_forked(number: signal.Signals) -> None:
    code = f"import {HERE} as t; t.own()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, process_group=0
    ) as owner:
        assert owner.stdout
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 2
        if number == signal.SIGKILL:
            owner.kill()
        else:
            os.killpg(owner.pid, number)  # as from a terminal, or from timeout(1)
    until(lambda: all(map(ended, pids)))


def test_closing_it_ends_what_it_forked() -> None:
    server = ForkServer([HERE])
    with Forked(server, f"{HERE}:hang", ["x"], stdout=subprocess.PIPE) as hanging:
        pid = server.pid
        server.close()
        server.close()
        assert hanging.wait(30) == -signal.SIGKILL
    assert ended(pid)


def test_a_module_that_is_not_there_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    server = ForkServer(["no_such_module"])
    with pytest.raises(LabError, match="fork server has ended"):
        told(server)
    server.close()
    assert "no_such_module" in capfd.readouterr().err
