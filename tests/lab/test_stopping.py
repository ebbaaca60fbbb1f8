"""A process that a test stops stands still when that returns, with all its threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import stopping
from lab.errors import LabError
from lab.stopping import stop_process

THREADS = """
import hashlib, threading
def work():
    while True:
        hashlib.sha256(bytes(1 << 20)).digest()  # without the interpreter's lock
for _ in range(8):
    threading.Thread(target=work).start()
print("ready", flush=True)
"""


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", THREADS], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


def test_every_thread_stands(busy: subprocess.Popen[bytes]) -> None:
    for _ in range(20):
        stop_process(busy.pid)
        stats = [path.read_text() for path in Path(f"/proc/{busy.pid}/task").glob("*/stat")]
        assert [text.rpartition(") ")[2][0] for text in stats] == ["T"] * 9
        os.kill(busy.pid, signal.SIGCONT)


def test_one_that_has_ended_is_no_error(busy: subprocess.Popen[bytes]) -> None:
    busy.kill()
    stop_process(busy.pid)


def test_one_that_runs_on_is_an_error(busy: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "STANDS_WITHIN", 0.0)
    monkeypatch.setattr(signal, "SIGSTOP", 0)
    with pytest.raises(LabError, match=f"process {busy.pid} does not stop"):
        stop_process(busy.pid)
