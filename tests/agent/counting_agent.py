"""``floatipctl agent``, which writes down each request to the kernel about a network namespace.

    counting_agent FILE

It appends lines "THREAD|SUBJECT VERB" to FILE; the thread of a call is named after it ("ADD 0123 net1").
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cni_floatip import cli
from cni_floatip.edges.podnet.rtnetlink import Rtnetlink

VERBS = [
    name for name, verb in vars(Rtnetlink).items() if callable(verb) and name[0] != "_" and name != "close"
]


def main() -> int:
    with Path(sys.argv[1]).open("a", buffering=1) as record:
        for verb in VERBS:
            setattr(Rtnetlink, verb, _record(getattr(Rtnetlink, verb), record.write))
        return cli.main(["agent"])


def _record(ask: Callable[..., Any], write: Callable[[str], object]) -> Callable[..., Any]:
    @functools.wraps(ask)
    def record(kernel: Rtnetlink, subject: str, *args: Any, **fields: int) -> Any:
        write(f"{threading.current_thread().name}|{subject} {ask.__name__}\n")
        return ask(kernel, subject, *args, **fields)

    return record


if __name__ == "__main__":
    sys.exit(main())
