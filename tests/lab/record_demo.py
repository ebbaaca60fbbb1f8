"""Plays the demo as its command line does, and writes down all that its stage is told.

    python tests/lab/record_demo.py FILE ARGUMENTS...

FILE gets a pickled list of (method, arguments); after ``live`` stands what the display had to draw from.
"""

from __future__ import annotations

import contextlib
import copy
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.__main__ import main
from lab.demo import show, watch
from lab.demo.watch import Watch

Event = tuple[str, tuple[Any, ...]]


class Recorder:
    """A stage that writes down what it hands on."""

    def __init__(self, stage: Any) -> None:
        self.events: list[Event] = []
        self._stage = stage

    def __getattr__(self, name: str) -> Any:
        def tell(*arguments: Any) -> Any:
            # Copied: what the play changes later does not change what was said.
            self.events.append((name, copy.deepcopy(arguments)))
            return getattr(self._stage, name)(*arguments)

        return tell

    @contextlib.contextmanager
    def live(self, watch: Watch) -> Iterator[None]:
        with watch.sampling(), self._stage.live(watch):
            yield
        self.events.append(("live", (watch.lines,)))


def record(path: Path, arguments: list[str]) -> int:
    watch.INTERVAL = 0.025
    recorders = []
    choose = show.choose

    def chosen(**how: bool) -> Any:
        recorders.append(Recorder(choose(**how)))
        return recorders[-1]

    show.choose = chosen
    status = main(["demo", *arguments])
    path.write_bytes(pickle.dumps(recorders[0].events))
    return status


if __name__ == "__main__":
    sys.exit(record(Path(sys.argv[1]), sys.argv[2:]))
