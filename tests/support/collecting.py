"""Collects without the garbage collector: a pytest plugin.

A worker collects thousands of tests that stay to its end. The collector would look through them again and
again: while they are collected, in the tests, and five times at the end of the session.
"""

from __future__ import annotations

import gc

import pytest

gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what was collected out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
    gc.enable()
