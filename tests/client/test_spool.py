"""A DEL without an agent is kept on disk, whole and bounded, and what hinders that is only told."""

from __future__ import annotations

import json
import os
import posix
import resource
import stat
from pathlib import Path

import pytest

from cni_floatip import client
from cni_floatip.protocol import wire
from tests.client.conftest import Node
from tests.client.scripted_agent import CONFIG


def test_what_is_kept_is_the_call(node: Node) -> None:
    env = node.environment("DEL", CNI_ARGS="K8S_POD_NAME=p")
    assert node.call("DEL", env=env).status == 0
    (kept,) = node.spooled()
    assert kept.suffix == ".del"
    assert len(kept.stem) == 40
    call = wire.read_body(kept.read_bytes())
    assert {name: value for name, value in call.env.items() if name.startswith("CNI_")} == env
    assert json.loads(call.stdin) == CONFIG


def test_for_root_alone_whatever_the_umask(node: Node) -> None:
    node.call("DEL", umask=0)
    (kept,) = node.spooled()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (node.spool, kept)]
    assert modes == [0o700, 0o600]


def test_with_a_umask_that_takes_everything(node: Node) -> None:
    node.call("DEL", umask=0o777)
    (kept,) = node.spooled()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (node.spool, kept)]
    assert modes == [0o700, 0o600]


def test_the_same_del_is_kept_once(node: Node) -> None:
    for _ in range(3):
        assert node.call("DEL").status == 0
    assert len(node.spooled()) == 1
    node.call("DEL", env=node.environment("DEL", CNI_IFNAME="net2"))
    assert len(node.spooled()) == 2


def test_the_spool_holds_a_bounded_number_of_dels(node: Node) -> None:
    node.spool.mkdir(parents=True)
    for number in range(4096):
        (node.spool / f"{number}.del").touch()
    answer = node.call("DEL")
    assert answer.status == 0
    assert "cannot leave this DEL" in answer.stderr
    assert len(node.spooled()) == 4096


def test_a_full_spool_still_takes_one_that_it_has(node: Node) -> None:
    node.call("DEL")
    (kept,) = node.spooled()
    kept.write_bytes(b"")
    for number in range(4095):
        (node.spool / f"{number}.del").touch()
    assert "the next agent performs this DEL" in node.call("DEL").stderr
    assert kept.stat().st_size > 0


def test_a_spooled_del_has_a_bounded_size(node: Node) -> None:
    answer = node.call("DEL", b"x" * (1 << 20))
    assert answer.status == 0
    assert "1048576 bytes" in answer.stderr
    assert node.spooled() == []


def test_a_directory_that_cannot_be_made(node: Node) -> None:
    node.spool.parent.write_text("")
    answer = node.call("DEL")
    assert answer.status == 0
    assert "cannot leave this DEL" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_disk_that_is_full(node: Node) -> None:
    """A process that may write no byte to a file: the write fails, and no half file stays."""
    node.spool.mkdir(parents=True)
    limit = (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    answer = node.call("DEL", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert answer.status == 0
    assert "cannot leave this DEL" in answer.stderr
    assert node.spooled() == []


def test_many_dels_are_spooled_at_once(node: Node, tmp_path: Path) -> None:
    """Each has its input at once: a client with little patience makes another DEL of what comes late."""
    config = tmp_path / "config"
    config.write_bytes(b"{}")
    processes = []
    for number in range(20):
        env = node.environment("DEL", CNI_CONTAINERID=f"c{number % 10}")
        with config.open("rb") as stdin:
            processes.append(node.start("DEL", env=env, stdin=stdin))
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 20
    assert len(node.spooled()) == 10
    assert all(wire.read_body(path.read_bytes()).stdin == b"{}" for path in node.spooled())


def test_a_spooled_del_is_on_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename survives a power cut only when the file was synced before it, and its directory after it."""
    path, events = tmp_path / "del.json", []
    sync = os.fsync

    def fsync(file: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(file).st_mode) else "file"
        events.append((kind, path.exists()))
        sync(file)

    monkeypatch.setattr(posix, "fsync", fsync)
    client.write_whole(str(path), b"{}")
    assert events == [("file", False), ("directory", True)]
    assert path.read_bytes() == b"{}"
