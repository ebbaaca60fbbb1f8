"""How the benches run programs, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.running import cpu_seconds, interrupt_at_sigterm

BENCH = Path(__file__).parents[2] / "bench"


def test_sigterm_ends_a_bench_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        interrupt_at_sigterm()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_every_bench_that_cleans_up_after_ctrl_c_does_so_after_sigterm() -> None:
    texts = {path.name: path.read_text() for path in BENCH.glob("*.py")}
    ended = {name for name, text in texts.items() if "except KeyboardInterrupt" in text}
    assert ended == {name for name, text in texts.items() if "    interrupt_at_sigterm()\n" in text} != set()


def test_the_cpu_of_a_process_is_its_own() -> None:
    code = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 0.2 <= cpu_seconds(process.pid) < 30
        process.kill()
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=1)
