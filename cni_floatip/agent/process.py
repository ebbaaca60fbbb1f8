"""Tunes this process: kernel limits and C library before its first thread begins, the collector later."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource

RES_OPTIONS = "timeout:1 attempts:2"
"""resolv.conf(5); the default is 5 s, twice, and Amazon Linux says 2 s, five times."""
M_ARENA_MAX, ARENAS = -8, 2
"""Of mallopt(3). Python runs one thread at a time, so threads hardly ever compete for an arena."""
M_MMAP_THRESHOLD, LARGE = -3, 1 << 20
"""Of mallopt(3): a larger block goes back to the kernel when it is freed. Left alone, glibc raises its
threshold to the largest block that was freed, so EC2's answers of megabytes would stay in the heap.
"""
YOUNG_OBJECTS = 10_000
"""How many new objects make the collector look for cycles; a call makes and drops thousands without any."""


def tune() -> None:
    """Set this process up for many concurrent calls, and for a network that does not answer."""
    _enough_descriptors()
    _little_memory_kept()
    _short_name_resolution()


def spare_what_stays() -> None:
    """Let the collector pass over all that there is now: the modules, which stay. Call once, at the start.

    It took 6 % of an ADD's CPU, and looked through the modules for 40 ms with all calls waiting.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def _little_memory_kept() -> None:
    """Let all threads share memory: glibc gives each an arena, which keeps what a burst of calls needed."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(M_ARENA_MAX, ARENAS)
        library.mallopt(M_MMAP_THRESHOLD, LARGE)


def _short_name_resolution() -> None:
    """Give up a name sooner than after 10 s: no time-out of ours covers it. Call before the first look-up."""
    os.environ.setdefault("RES_OPTIONS", RES_OPTIONS)


def _enough_descriptors() -> None:
    """Raise the descriptor limit, for 512 calls and the sockets in all pods' namespaces."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
