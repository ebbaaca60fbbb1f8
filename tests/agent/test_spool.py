"""DELs that clients left in the spool: done before what is new, kept until they are on disk, never lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from cni_floatip.agent.observe.lines import LineWriter
from cni_floatip.agent.observe.logs import Log
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.agent.spool import MOST_ASIDE, Spool
from cni_floatip.model.errors import DecodeFailure
from cni_floatip.protocol import wire
from tests.support.waiting import until

DEL = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "net1", "CNI_PATH": "/nowhere"}
CONFIG = b'{"cniVersion": "1.0.0", "name": "floating"}'


class Written:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


class Counted(NullRecorder):
    def __init__(self) -> None:
        self.length = -1

    def spooled(self, n: int) -> None:
        self.length = n


class Desk:
    """A spool, and an agent that does what it is told to do with each DEL."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 1000.0
        self.done: list[str] = []
        self.on_disk = True
        self.begun: list[str] = []
        self.quick: set[str] = set()
        self.slow = threading.Event()
        self.slow.set()
        self.said = Written()
        self.counts = Counted()
        log = Log({}, LineWriter("debug", "text", self.said))
        self.spool = Spool(str(root), self.deliver, self.counts, log, log.failure, lambda: self.now)

    def deliver(self, call: wire.Call) -> bool:
        self.begun.append(call.env["CNI_CONTAINERID"])
        if call.env["CNI_CONTAINERID"] not in self.quick:
            self.slow.wait(10)
        if call.stdin == b"nonsense":
            raise DecodeFailure("network configuration: this is no JSON")
        self.done.append(call.env["CNI_CONTAINERID"])
        return self.on_disk

    def leave(self, name: str, env: Mapping[str, str] = DEL, stdin: bytes = CONFIG) -> Path:
        self.root.mkdir(exist_ok=True)
        path = self.root / f"{name}.del"
        path.write_bytes(wire.body_bytes(env, stdin))
        return path


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "spool")


def test_an_absent_directory_is_an_empty_spool(desk: Desk) -> None:
    assert desk.spool.process_all() == 0


def test_it_is_made_for_root_alone(desk: Desk) -> None:
    desk.spool.prepare()
    assert desk.root.stat().st_mode & 0o777 == 0o700


def test_what_is_done_goes_and_what_is_half_written_stays(desk: Desk) -> None:
    for number in range(3):
        desk.leave(f"{number}", {**DEL, "CNI_CONTAINERID": f"c{number}"})
    (desk.root / "4.del.new").write_bytes(b"\0\0")
    assert desk.spool.process_all() == 0
    assert desk.done == ["c0", "c1", "c2"]
    assert [path.name for path in desk.root.iterdir()] == ["4.del.new"]
    assert desk.counts.length == 0


def test_what_is_half_written_for_an_hour_goes_at_the_next_start(desk: Desk) -> None:
    desk.leave("1")
    for name, age in (("old.new", 4000), ("young.new", 10)):
        path = desk.root / name
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    desk.spool.prepare()
    assert sorted(path.name for path in desk.root.iterdir()) == ["1.del", "young.new"]


def test_what_is_no_file_keeps_nobody_waiting(desk: Desk) -> None:
    """A FIFO would: its reader waits for a writer, and with it every DEL and ADD."""
    desk.leave("2")
    os.mkfifo(desk.root / "1.del")
    desk.spool.prepare()
    work = threading.Thread(target=desk.spool.process_all, daemon=True)
    work.start()
    work.join(5)
    assert not work.is_alive()
    assert desk.done == ["c1"]
    assert desk.spool.owners() == set()
    assert "1.del: this is no file" in desk.said.text


def test_what_is_not_on_disk_yet_stays_and_is_tried_again_later(desk: Desk) -> None:
    path = desk.leave("1")
    desk.on_disk = False
    assert desk.spool.process_all() == 1
    assert desk.spool.process_all() == 1
    assert desk.done == ["c1"], "not at once: the disk may be full for hours"
    assert path.exists()
    assert desk.counts.length == 1
    desk.on_disk = True
    desk.now += 60
    assert desk.spool.process_all() == 0
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xff\xff\xff", b"{}", wire.body_bytes(DEL, b"nonsense"), bytes(wire.MOST_BODY + 1)],
    ids=["empty", "cut short", "JSON", "a configuration that is none", "too long"],
)
def test_what_nobody_understands_is_set_aside_and_reported(desk: Desk, content: bytes) -> None:
    path = desk.leave("1")
    path.write_bytes(content)
    desk.leave("2")
    assert desk.spool.process_all() == 0
    assert desk.done == ["c1"], "the others are done all the same"
    assert [path.read_bytes() for path in (desk.root / "corrupt").iterdir()] == [content]
    assert f"{path}: not a DEL" in desk.said.text


def test_only_so_many_are_kept_aside(desk: Desk) -> None:
    aside = desk.root / "corrupt"
    aside.mkdir(parents=True)
    for number in range(MOST_ASIDE):
        (aside / str(number)).touch()
    desk.leave("1").write_bytes(b"")
    assert desk.spool.process_all() == 0
    assert len(list(aside.iterdir())) == MOST_ASIDE


def test_a_directory_named_like_a_del_stops_nothing(desk: Desk) -> None:
    (desk.root / "1.del").mkdir(parents=True)
    desk.leave("2")
    assert desk.spool.process_all() == 1
    assert desk.done == ["c1"]


def test_two_who_look_at_once_do_each_once(desk: Desk) -> None:
    for number in range(30):
        desk.leave(f"{number:02}", {**DEL, "CNI_CONTAINERID": f"c{number:02}"})
    threads = [threading.Thread(target=desk.spool.process_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(desk.done) == [f"c{number:02}" for number in range(30)]


OWN = ("c1", "net1")


def test_an_add_does_the_dels_of_its_own_attachment_alone(desk: Desk) -> None:
    for number in range(5):
        desk.leave(f"{number}", {**DEL, "CNI_CONTAINERID": f"c{number}"})
    desk.leave("5", {**DEL, "CNI_IFNAME": "net2"})
    desk.leave("6").write_bytes(b"nonsense")
    assert desk.spool.process_owner(*OWN)
    assert desk.done == ["c1"]
    assert desk.spool.length() == 6


def test_an_add_does_not_wait_for_the_dels_of_others(desk: Desk) -> None:
    desk.leave("0", {**DEL, "CNI_CONTAINERID": "c0"})
    desk.leave("1")
    desk.slow.clear()
    worker = threading.Thread(target=desk.spool.process_all)
    worker.start()
    until(lambda: desk.begun == ["c0"])
    desk.quick = {"c1"}
    assert desk.spool.process_owner(*OWN)
    assert desk.done == ["c1"]
    desk.slow.set()
    worker.join(10)
    assert desk.done == ["c1", "c0"], "and none is done twice"


def test_an_add_waits_for_its_own_del_that_is_being_done(desk: Desk) -> None:
    desk.leave("1")
    desk.slow.clear()
    worker = threading.Thread(target=desk.spool.process_all)
    worker.start()
    until(lambda: desk.begun == ["c1"])
    threading.Timer(0.3, desk.slow.set).start()
    assert desk.spool.process_owner(*OWN)
    assert desk.begun == desk.done == ["c1"]
    worker.join(10)


def test_an_add_learns_that_a_del_of_its_own_is_left(desk: Desk) -> None:
    desk.leave("1")
    desk.on_disk = False
    desk.spool.process_all()
    assert not desk.spool.process_owner(*OWN)
    desk.on_disk = True
    assert desk.spool.process_owner(*OWN), "though its time has not come"
