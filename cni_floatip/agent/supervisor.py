"""Supervises the agent's threads: a thread that fails is started again, after a pause that grows.

An unexpected error is logged with its traceback, and the agent is not ready meanwhile. The agent does not
exit, because the cause may be on disk or in the kernel, and would end the next agent too: then no call would
ever be answered. A thread that cannot be started again ends the agent, which without its socket only looks
healthy.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from .observe.logs import Log

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 60.0
"""How long a failed thread rests; doubles from the first to the second."""

Body = Callable[[threading.Event], object]


class Supervisor:
    """Starts, restarts and joins threads. ``ending`` is set by SIGTERM, SIGINT or the death of a thread.

    ``final_stop`` is set when even the threads that run to the very end are to stop; ``force_exit`` after a
    second signal.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.ending = threading.Event()
        self.final_stop = threading.Event()
        self.force_exit = threading.Event()
        self.failed = False
        self._threads: list[threading.Thread] = []
        self._problems: dict[str, str] = {}

    def install_signal_handlers(self) -> None:
        """Let SIGTERM and SIGINT end the agent, and a second one end it at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def problem(self) -> str | None:
        """Return which threads failed and rest, None for none."""
        return " | ".join(dict(self._problems).values()) or None

    def start(self, name: str, body: Body, *, last: bool = False, again: bool = True) -> threading.Thread:
        """Run ``body`` in a thread until the agent ends; ``last``: until all other threads have ended.

        ``again``: it may be called once more after it has failed.
        """
        stop = self.final_stop if last else self.ending
        target = self._run_again if again else self._run
        thread = threading.Thread(target=target, args=(name, body, stop), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def wait(self) -> None:
        """Return when the agent is to end.

        Wakes four times a second, because the kernel may give a signal to another thread, and Python then
        keeps it for this thread until it wakes. Takes no lock, because the handler sets ``ending``, which
        takes its lock.
        """
        while not self.ending.is_set():
            time.sleep(0.25)

    def join(self, seconds: float) -> bool:
        """Wait for every thread to end; return whether all have."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def in_time(self, what: Callable[[], object], seconds: float, name: str) -> bool:
        """Run one last task, for ``seconds`` at most and until a second signal; say if it ended."""
        done = threading.Event()

        def run() -> None:
            try:
                what()
            except Exception as e:  # noqa: BLE001 (the next agent does what this one cannot)
                self._log.failure(f"{name} during shutdown", e)
            finally:
                done.set()

        threading.Thread(target=run, name=name, daemon=True).start()
        pause = 0.05
        for _ in range(int(seconds / pause) + 1):
            if done.wait(pause) or self.force_exit.is_set():
                break
        return done.is_set()

    def _run_again(self, name: str, body: Body, stop: threading.Event) -> None:
        def patient(stop: threading.Event) -> None:
            pause = FIRST_SECONDS
            while True:
                began = time.monotonic()
                try:
                    body(stop)
                    return
                except Exception as e:  # noqa: BLE001 (any error: the other threads go on)
                    if stop.is_set():
                        return
                    if time.monotonic() - began > LONGEST_SECONDS:
                        pause = FIRST_SECONDS
                    self._log.failure(f"thread {name} failed and restarts in {pause:.0f} s", e)
                    self._problems[name] = f"thread {name} has failed: {type(e).__name__}: {e}"
                stop.wait(pause)
                pause = min(2 * pause, LONGEST_SECONDS)
                self._problems.pop(name, None)

        self._run(name, patient, stop)

    def _run(self, name: str, body: Body, stop: threading.Event) -> None:
        try:
            body(stop)
            if stop.is_set():
                return
            self._log(f"thread {name} ended, so the agent ends too", "error")
        except BaseException as e:  # noqa: BLE001 (SystemExit too: no library may end half of the agent)
            self._log.failure(f"thread {name} failed, so the agent ends too", e)
        self.failed = True
        self.ending.set()

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        if self.ending.is_set():
            self.force_exit.set()
        self.ending.set()
