"""The threads that wait for work hold nothing of the last."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref

from cni_floatip.agent.worker_pool import WorkerPool
from tests.support.waiting import until

FREED = """
import sys
from cni_floatip.agent import process

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

process.tune()
del [bytes(24 << 20)][0]  # glibc takes blocks of up to this size from the heap now
answers = [b"x" * (16 << 20) for _ in range(4)]
last = [b"x" * 100_000 for _ in range(20)]  # the heap cannot shrink below these
held = resident()
del answers
print(held - resident())
"""


class Answer:
    """What a thread has read."""


def test_idle_thread_keeps_nothing_of_its_last_work() -> None:
    pool, done = WorkerPool(idle=3600.0), threading.Event()  # a thread that ends holds nothing either
    answer = Answer()
    gone = weakref.ref(answer)

    def work(answer: Answer = answer) -> None:
        done.set()

    pool(work)
    assert done.wait(60)
    del answer, work
    until(lambda: gone() is None)


def test_large_blocks_go_back_to_the_kernel() -> None:
    """Else an agent stays as large as the largest crowd of answers that it has seen."""
    text = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True).stdout
    assert int(text) >= 60
