"""What was dealt with is on disk before anybody relies on it, with few writes where many note at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import pytest

from cni_floatip.agent.watch import history
from cni_floatip.agent.watch.history import AddressHistory
from cni_floatip.edges import store
from cni_floatip.model.values import Attachment
from tests.support.waiting import until

VIP = ip_address("192.168.0.9")


def attachment(number: int) -> Attachment:
    return Attachment("net", f"c{number}", "net1")


class Disk:
    """A disk that is slow, or full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes = 0
        self.full = False
        self.meanwhile: Callable[[], object] = lambda: None
        """What must have happened before a write ends."""
        self._write = store.write_whole
        monkeypatch.setattr(history, "write_whole", self.write)

    def write(self, path: Path, content: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.writes += 1
        self.meanwhile()
        self._write(path, content)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_those_who_note_at_once_share_a_write_and_all_is_on_disk(disk: Disk, tmp_path: Path) -> None:
    known, together = AddressHistory(str(tmp_path), "boot"), threading.Barrier(16)
    disk.meanwhile = lambda: until(lambda: known._changes == 16)

    def note(number: int) -> bool:
        together.wait()
        known.record(attachment(number), {VIP: float(number)})
        return AddressHistory(str(tmp_path), "boot").get(attachment(number)) == {VIP: float(number)}

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(note, range(16)))
    assert disk.writes <= 2, "the first, and one with what all others had to note meanwhile"


def test_what_is_known_already_is_not_written_again(disk: Disk, tmp_path: Path) -> None:
    known = AddressHistory(str(tmp_path), "boot")
    for _ in range(3):
        known.record(attachment(1), {VIP: 1.0})
        known.record(attachment(2), None)
    assert disk.writes == 1


def test_what_could_not_be_written_is_written_when_it_is_noted_again(disk: Disk, tmp_path: Path) -> None:
    known = AddressHistory(str(tmp_path), "boot")
    disk.full = True
    with pytest.raises(OSError, match="No space"):
        known.record(attachment(1), {VIP: 1.0})
    disk.full = False
    known.record(attachment(1), {VIP: 1.0})
    assert AddressHistory(str(tmp_path), "boot").get(attachment(1)) == {VIP: 1.0}
