"""What answers mean: statuses to faults by a table, bodies to documents. A body is foreign text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...model.errors import ApiError, ApiFault
from .connection import ApiAnswer
from .resources import Document

FAULTS: Mapping[int, ApiFault] = {
    401: ApiFault.REFUSED,
    403: ApiFault.REFUSED,
    404: ApiFault.NOT_FOUND,
    408: ApiFault.SERVER,
    409: ApiFault.CONFLICT,
    410: ApiFault.EXPIRED,
    429: ApiFault.THROTTLED,
}
"""Kubernetes API conventions, "HTTP status codes". 3xx and other 4xx are INVALID; the rest SERVER."""
LONGEST_WAIT = 300.0
"""Seconds that we wait at most because an API server says so (Retry-After)."""


def fault(status: int) -> ApiFault | None:
    """Return what a status means, ``None`` for success."""
    if 200 <= status < 300:
        return None
    return FAULTS.get(status, ApiFault.INVALID if 300 <= status < 500 else ApiFault.SERVER)


def is_final(answer: ApiAnswer) -> bool:
    """Whether another API server would say the same, because this one is not busy, ending or out of order."""
    return fault(answer.status) not in (ApiFault.THROTTLED, ApiFault.SERVER)


def document(answer: ApiAnswer, action: str) -> Document:
    """Return the object that an answer holds. Raises ``ApiError``."""
    if (wrong := error(answer, action)) is not None:
        raise wrong
    return parse(answer.body, action, answer.status)


def error(answer: ApiAnswer, action: str) -> ApiError | None:
    """Return the error that an answer is, in the API's words (kind ``Status``); ``None`` for success."""
    meaning = fault(answer.status)
    if meaning is None:
        return None
    try:
        words = _words(parse(answer.body, action, answer.status))
    except ApiError:
        words = answer.body[:1024].decode(errors="replace")
    return ApiError(meaning, action, words or meaning.value, answer.status, _wait(answer.headers))


def status_error(status: Document, action: str) -> ApiError:
    """Return the error that a document of kind ``Status`` is: a watch ends with one."""
    code = status.get("code")
    number = code if isinstance(code, int) and 400 <= code < 600 else 500
    meaning = fault(number) or ApiFault.SERVER
    return ApiError(meaning, action, _words(status) or meaning.value, number)


def parse(text: bytes, action: str, status: int = 200) -> Document:
    """Return a JSON object. Raises ``ApiError`` (SERVER) for anything else."""
    try:
        result = json.loads(text)
        if not isinstance(result, dict):
            raise ValueError(f"no object but {type(result).__name__}")
    except (ValueError, RecursionError) as e:
        raise ApiError(ApiFault.SERVER, action, f"an answer that cannot be read: {e}", status) from e
    return result


def _words(status: Mapping[str, Any]) -> str:
    message = status.get("message")
    return message if isinstance(message, str) else ""


def _wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After (RFC 9110, section 10.2.3); a date is not read: clocks may differ."""
    text = headers.get("retry-after", "").strip()
    return min(float(text), LONGEST_WAIT) if text.isascii() and text.isdigit() and len(text) < 10 else None
