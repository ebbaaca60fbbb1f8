"""The second witness: whether a host answers at all, whatever it says."""

from __future__ import annotations

import errno
import socket

SILENCE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN)
"""What is said of a host that does not answer: by our kernel, or by a router (ICMP)."""
ANSWERS = (errno.ECONNREFUSED, errno.ECONNRESET)


def answers(host: str, port: int, seconds: float) -> bool | None:
    """Connect to a host; whether it answers within so many seconds, a refusal (RST) too.

    None: nothing is learnt of it, because this machine could not ask (no descriptor, no network of its own).
    """
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except TimeoutError:
        return False
    except OSError as e:
        return True if e.errno in ANSWERS else False if e.errno in SILENCE else None
    return True
