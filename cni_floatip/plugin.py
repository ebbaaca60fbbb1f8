"""``floatip`` in direct mode: one CNI call, from environment and standard input to one JSON document.

CNI specification, section 2. First redirects standard output, so that a library's prints go to standard error
and the runtime reads one document or nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from . import direct
from .config import election, nodeconf
from .model.errors import CniError, IoFailure, NotAvailable
from .model.versions import SUPPORTED
from .protocol import request
from .protocol.answer import encode, error_document
from .protocol.request import Request

ABOUT = (
    "CNI plugin floatip: a floating IP for pods on Amazon EKS, chained after ipvlan or host-device\n"
    f"CNI protocol versions supported: {', '.join(SUPPORTED)}\n"
)


def main() -> int:
    """Run the call that the environment describes; return the exit status."""
    answers = _claim_stdout()
    if not os.environ.get("CNI_COMMAND"):
        with contextlib.suppress(OSError):
            os.write(2, ABOUT.encode())
        return 0
    status, document = call(os.environ)
    return _answer(answers, document) or status


def _claim_stdout() -> int:
    """Return a private descriptor of standard output, -1 if it is closed; the call runs all the same.

    Descriptor 1 is standard error from here on. If closed, it would become some file of ours.
    """
    try:
        os.fstat(1)
        heard = True
    except OSError:
        heard = False
    with contextlib.suppress(OSError):  # no /dev here
        while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(spare)
    answers = os.dup(1) if heard else -1
    with contextlib.suppress(OSError):  # closed, and no /dev
        os.dup2(2, 1)
    return answers


def call(environ: Mapping[str, str]) -> tuple[int, Mapping[str, Any] | None]:
    """Run one call; return the exit status and the document to print, None for none. Raises nothing."""
    version = SUPPORTED[-1]
    try:
        if environ["CNI_COMMAND"] == "VERSION":
            return 0, {"cniVersion": _asked_version(), "supportedVersions": list(SUPPORTED)}
        request.check_environment(environ)
        stdin = _stdin()
        question = request.parse(environ, stdin)
        version = question.version
        return 0, _run(question, environ, stdin)
    except Exception as e:  # noqa: BLE001 (the one place where every failure becomes an answer)
        return 1, error_document(e, version, _tell)


def _asked_version() -> str:
    """Return the caller's version if it is there without waiting, because VERSION must not hang."""
    try:
        if not select.select([0], [], [], 0)[0] or not (sent := os.read(0, 65536)):
            return SUPPORTED[-1]
        result = json.loads(sent).get("cniVersion")
    except (OSError, ValueError, AttributeError):
        return SUPPORTED[-1]
    return result if result in SUPPORTED else SUPPORTED[-1]


def _stdin() -> bytes:
    try:
        return sys.stdin.buffer.read()
    except (OSError, AttributeError) as e:  # AttributeError: it is closed
        raise IoFailure(f"cannot read the network configuration from standard input: {e}") from e


def _run(question: Request, environ: Mapping[str, str], stdin: bytes) -> Mapping[str, Any] | None:
    if question.verb == "DEL":
        _delete(question, environ, stdin)
        return None
    try:
        path = nodeconf.path(environ)
        policy = nodeconf.NodeConf.load(path)
        election.refuse_policy(policy.elections, path)
    except CniError as e:
        raise NotAvailable(e.msg, e.details) if question.verb == "STATUS" else e from e
    match question.verb:
        case "ADD":
            return direct.add(question, policy, environ)
        case "CHECK":
            direct.check(question, policy, environ)
        case "GC":
            direct.gc(question, policy, environ)
        case _:
            direct.status(policy, environ)
    return None


def _delete(question: Request, environ: Mapping[str, str], stdin: bytes) -> None:
    """DEL always completes: errors go to the operator, not to the runtime."""
    try:
        direct.delete(question, nodeconf.load_forgivingly(environ, direct.tell), environ, stdin)
    except Exception as e:  # noqa: BLE001 (an error here would stop the clean-up of the plugins before us)
        _tell(e)


def _tell(e: Exception) -> None:
    """Write the traceback of a bug of ours to standard error."""
    direct.tell("".join(traceback.format_exception(e)))


def _answer(answers: int, document: Mapping[str, Any] | None) -> int:
    """Print ``document``; return 1 when nobody can read it."""
    text = encode(document)
    try:
        while text:
            text = text[os.write(answers, text) :]
    except OSError as e:  # closed, or the runtime has gone away
        direct.tell(f"cannot answer: {e}")
        return 1
    return 0
