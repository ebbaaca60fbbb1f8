"""Reads the status of this node's agent over its socket.

Errors of the socket become errors with a meaning: no agent, a dead one, one that hangs, or a caller who is
not root.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

from .. import __version__
from ..model.errors import IoFailure, TryAgain
from ..protocol import wire

SECONDS = 10.0


def status(
    path: str, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
) -> dict[str, Any]:
    """Return the status document of the agent at ``path``. Raises TryAgain, IoFailure."""
    until = clock() + seconds
    answers = wire.Answers()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(seconds)
            sock.connect(path)
            sock.sendall(wire.request_bytes({"FIP_COMMAND": "status", "FIP_CLIENT": __version__}))
            while answers.status is None and not answers.refused:
                sock.settimeout(max(0.001, until - clock()))
                if not (data := sock.recv(65536)):
                    raise TryAgain(f"the node agent at {path} ended the connection: it may be restarting")
                answers.feed(data)
    except TimeoutError as e:
        raise TryAgain(f"the node agent at {path} has not answered in {seconds:g} s") from e
    except (OSError, wire.Malformed) as e:
        raise _unheard(path, e) from e
    return _document(path, answers)


def _unheard(path: str, e: Exception) -> IoFailure | TryAgain:
    match e:
        case FileNotFoundError():
            return TryAgain(
                f"no node agent here: there is no socket {path} (on a cluster, run this in the agent's pod:"
                " kubectl -n kube-system exec POD -- floatipctl status)"
            )
        case ConnectionRefusedError():
            return TryAgain(f"no node agent listens at {path}: it has ended, or is just starting")
        case ConnectionError():
            return TryAgain(f"the node agent at {path} ended the connection: it may be restarting")
        case PermissionError():
            return IoFailure(f"only root may talk to the node agent at {path}")
        case OSError():
            return IoFailure(f"cannot talk to the node agent at {path}: {e.strerror or e}")
        case _:
            return IoFailure(f"{path}: {e}")


def _document(path: str, answers: wire.Answers) -> dict[str, Any]:
    if answers.refused:
        raise IoFailure(f"the node agent at {path} refuses: {answers.refused}")
    try:
        result = json.loads(answers.stdout)
        if answers.status:
            raise IoFailure(f"the node agent at {path} reports: {result['msg']}")
        if not isinstance(result["agent"], dict) or not isinstance(result["claims"], list):
            raise TypeError
    except (ValueError, KeyError, TypeError) as e:
        raise IoFailure(f"{path}: this is no status document: {answers.stdout[:60]!r}") from e
    return dict(result)
