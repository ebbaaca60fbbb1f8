"""What is on disk survives: whole files, claims of other versions, locks that end with their process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.edges import store as store_module
from cni_floatip.edges.store import Problem, Store, write_whole
from cni_floatip.model.claim import VERSION, Claim
from cni_floatip.model.claim_state import ClaimedRoute, State
from cni_floatip.model.errors import IoFailure
from cni_floatip.model.recorded_config import RecordedConfig
from cni_floatip.model.values import Attachment, PodIdentity, PodRoute, PodRule, RouteKey

CLAIM = Claim(
    attachment=Attachment("net", "c1", "net1"),
    eni="eni-1",
    region="eu-central-1",
    netns="/run/netns/x",
    netns_inode=7,
    boot="b",
    pod=PodIdentity("core", "pod", "uid"),
    on_delete="release",
    routes=(
        ClaimedRoute(RouteKey("rtb-a", ip_network("192.168.0.2/32")), State.HELD, "111122223333", "eni-2"),
    ),
    pod_routes=(
        PodRoute(ip_network("0.0.0.0/0"), ip_address("10.10.1.1"), 100, 8500),
        PodRoute(ip_network("fd00:ec2::/32"), None, 100, kind="unreachable"),
        PodRoute(ip_network("100.64.8.0/22"), None, 100, kind="throw"),
    ),
    pod_rules=(
        PodRule(ip_network("192.168.0.2/32"), 100),
        PodRule(ip_network("::/0"), 100, "net1"),
        PodRule(ip_network("::/0"), 100, "net1", unreachable_to=ip_network("fd00:ec2::/32")),
    ),
    connected=(ip_interface("192.168.0.2/29"),),
    addresses=(ip_interface("192.168.0.2/29"),),
    table=100,
    source_dest_check="disable",
    created_at=1.5,
    last_write_at=2.5,
    vpc="vpc-1",
    mac="02:00:00:00:00:01",
    config=RecordedConfig({"name": "net"}),
    watched=(ip_interface("192.168.0.3/32"),),
    awaits_address=True,
    deleted_at=1790000100.5,
    pod_lost_since=1790000050.5,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "data"), sleep=time.sleep, clock=time.monotonic)


def files(store: Store, below: str = "claims") -> list[Path]:
    return sorted((store._root / below).glob("*"))


def test_a_claim_comes_back_as_it_was_written(store: Store) -> None:
    store.put(CLAIM)
    assert store.get(CLAIM.attachment) == CLAIM
    assert store.all() == ([CLAIM], [])
    store.erase(CLAIM.attachment)
    store.erase(CLAIM.attachment)
    assert store.get(CLAIM.attachment) is None


def test_directories_that_somebody_has_removed_are_made_again(store: Store) -> None:
    store.put(CLAIM)
    shutil.rmtree(store._root)
    store.put(CLAIM)
    assert store.all() == ([CLAIM], [])


def test_every_field_is_in_the_file() -> None:
    written = Claim.parse(json.loads(json.dumps(CLAIM.document())))
    assert written == CLAIM
    for name in Claim.__dataclass_fields__:
        if name not in ("routes", "lost_record", "group"):  # of another version: test_elected_claim
            assert getattr(written, name), f"{name}: give CLAIM a value that is not the default"


def test_a_claim_of_a_release_without_rules_for_what_is_bound_is_readable() -> None:
    document = json.loads(json.dumps(CLAIM.document()))
    document["podRules"] = [{"source": "192.168.0.2/32", "table": 100}]
    assert Claim.parse(document).pod_rules == CLAIM.pod_rules[:1]


def test_an_agent_of_release_0_3_reads_the_claim_and_keeps_it() -> None:
    """What it takes of a route: other keys are passed over, other kinds move the record aside."""
    document = json.loads(json.dumps(CLAIM.document()))
    assert {route["kind"] for route in document["podRoutes"]} == {"unicast", "unreachable"}
    del document["podThrows"]  # which it does not write again
    assert Claim.parse(document).pod_routes == CLAIM.pod_routes[:2]


def test_what_is_in_no_table_is_not_read() -> None:
    with pytest.raises(ValueError, match="podThrows"):
        Claim.parse(CLAIM.document() | {"table": None})


def test_unresolved_configuration_survives(store: Store) -> None:
    claim = replace(CLAIM, routes=(), lost_record=RecordedConfig({"name": "net", "prevResult": {}}))
    store.put(claim)
    assert store.get(CLAIM.attachment) == claim
    assert claim.state is State.RELEASING


def test_modes_do_not_depend_on_the_umask(store: Store) -> None:
    before = os.umask(0o777)
    try:
        store.put(CLAIM)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [store._root, store._claims, *files(store)]}
    assert set(modes.values()) == {0o700, 0o600}


SOUND = CLAIM.document()
UNREADABLE = {
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "not UTF-8": b"\xff\xff",
    "nested too deeply": b"[" * 100_000,
    "nothing but a version": b'{"version": 1}',
    "a version that is no number": b'{"version": "1"}',
    "created is null": json.dumps(SOUND | {"created": None}).encode(),
    "written is a word": json.dumps(SOUND | {"written": "today"}).encode(),
    "routes is a number": json.dumps(SOUND | {"routes": 5}).encode(),
    "pod is a list": json.dumps(SOUND | {"pod": []}).encode(),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_file_is_set_aside_and_reported(store: Store, content: Any) -> None:
    store.put(CLAIM)
    (path,) = files(store)
    path.write_bytes(content)
    record = store.get(CLAIM.attachment)
    assert isinstance(record, Problem)
    assert record.moved
    assert isinstance(store.get(CLAIM.attachment), Problem)  # whoever asks later is told, too
    (moved,) = files(store, "corrupt")
    assert moved.read_bytes() == content


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_file_hides_no_other(store: Store, content: Any) -> None:
    others = [
        replace(CLAIM, attachment=Attachment("net", name, "net1"), created_at=n)
        for n, name in enumerate("ab")
    ]
    for claim in (CLAIM, *others):
        store.put(claim)
    store._path(CLAIM.attachment).write_bytes(content)
    claims, problems = store.all()
    assert (claims, len(problems)) == (others, 1)


def test_file_of_a_newer_release_is_kept_and_reported(store: Store) -> None:
    store.put(CLAIM)
    (path,) = files(store)
    newer = json.dumps(CLAIM.document() | {"version": VERSION + 1, "novelty": 1})
    path.write_text(newer)
    assert "newer release" in str(store.get(CLAIM.attachment))
    claims, problems = store.all()
    assert (claims, len(problems)) == ([], 1)
    assert path.read_text() == newer


def test_full_disk_is_an_error_that_names_the_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(CLAIM)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IoFailure, match=r"net/c1/net1 in .*\.json: No space left"):
        store.put(replace(CLAIM, eni="eni-9"))
    assert store.get(CLAIM.attachment) == CLAIM
    assert len(files(store)) == 1


def test_file_of_a_call_that_was_killed_is_swept_when_it_is_old(store: Store) -> None:
    store.put(CLAIM)
    young, old = store._claims / "a.1.new", store._claims / "b.2.new"
    for path in (young, old):
        path.write_bytes(b"{")
    os.utime(old, (0, 0))
    store.sweep()
    assert (young.exists(), old.exists()) == (True, False)
    assert store.get(CLAIM.attachment) == CLAIM


HOLDER = (
    "import sys, time; from cni_floatip.edges.store import Store\n"
    "store = Store(sys.argv[1], sleep=time.sleep, clock=time.monotonic)\n"
    "with store.lock(0, as_agent=sys.argv[2] == 'agent') as held:\n"
    "    print(held, flush=True); sys.stdin.read()"
)


@contextlib.contextmanager
def held_by(who: str, store: Store) -> Iterator[subprocess.Popen[bytes]]:
    """Let another process, an "agent" or a "call", have the directory."""
    argv = [sys.executable, "-c", HOLDER, str(store._root), who]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"True\n"
        yield other
        other.kill()


@pytest.mark.parametrize("who", ["agent", "call"])
def test_one_process_has_the_directory_until_it_ends(store: Store, who: str) -> None:
    with held_by(who, store) as other:
        assert (store.is_locked(), store.is_locked_by_agent()) == (True, who == "agent")
        for as_agent in (False, True):
            with store.lock(0.05, as_agent=as_agent) as held:
                assert not held
        other.kill()
        other.wait()
        assert not store.is_locked()
        assert not store.is_locked_by_agent()
        with store.lock(0) as held:
            assert held


def test_it_is_waited_for_until_the_time_is_over_or_somebody_says_no(store: Store) -> None:
    class GoneError(Exception):
        pass

    def go_on() -> None:
        raise GoneError

    with held_by("call", store) as other:
        with pytest.raises(GoneError), store.lock(60, go_on):
            pass
        with store.lock(60, other.kill) as held:
            assert held


@pytest.mark.parametrize("below", ["", "data"])
def test_a_directory_that_cannot_be_made_is_said_without_making_one(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    store = Store(str(tmp_path / "file" / below), sleep=time.sleep, clock=time.monotonic)
    with pytest.raises(IoFailure, match=r"cannot use the data directory .*: Not a directory"):
        store.check_usable()


def test_a_reader_leaves_an_unreadable_record_where_it_is(store: Store) -> None:
    store.put(CLAIM)
    store._path(CLAIM.attachment).write_bytes(b"{")
    reader = Store(str(store), sleep=time.sleep, clock=time.monotonic, reads_only=True)
    (problem,) = reader.all()[1]
    assert not problem.moved
    assert reader.get(CLAIM.attachment) == problem


def test_a_lock_on_a_file_that_was_removed_is_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An uninstaller removes the file last: a call that has just opened it would be alone with nobody."""
    real = store_module._try_lock
    removed: list[int] = []

    def try_lock(fd: int, request: bytes) -> bool:
        if not removed:
            (store._root / "lock").unlink()
            removed.append(fd)
        return real(fd, request)

    monkeypatch.setattr(store_module, "_try_lock", try_lock)
    with store.lock(60) as held:
        assert held
        assert store.is_locked()


def test_a_call_that_begins_is_seen_and_one_that_looks_leaves_nothing(store: Store) -> None:
    assert not store.is_locked()
    assert not store.is_locked_by_agent()
    store.check_usable()
    assert not store._root.exists()
    with store.lock(0):
        assert not store.exists()
    store.make()
    assert store.exists()


names = st.text(alphabet="abc/.\0é", min_size=1, max_size=8)


@given(a=st.tuples(names, names, names), b=st.tuples(names, names, names))
def test_two_attachments_never_share_a_file(a: Any, b: Any) -> None:
    store = Store("/nonexistent", sleep=time.sleep, clock=time.monotonic)
    plain = "\0" not in "".join((*a, *b))  # CNI names hold no NUL
    if plain:
        assert (a == b) == (store._path(Attachment(*a)) == store._path(Attachment(*b)))


def test_a_record_is_on_disk_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename survives a power cut only when its directory was synced after it."""
    path, events = tmp_path / "claim.json", []
    sync = os.fsync

    def fsync(fd: int) -> None:
        what = "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        events.append((what, path.exists()))
        sync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(path, b"{}")
    assert events == [("file", False), ("directory", True)]


def test_a_record_that_cannot_take_its_name_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(path, b"{}")
    assert list(tmp_path.iterdir()) == [path]
