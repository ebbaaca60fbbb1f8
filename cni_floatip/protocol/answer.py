"""The one JSON document that answers a CNI call (SPEC.md section 5)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..model.errors import CniError, DecodeFailure


def error_document(e: Exception, version: str, tell: Callable[[Exception], object]) -> Mapping[str, Any]:
    """Return the error document for the runtime. Only ``tell`` gets the traceback of a bug of ours."""
    if isinstance(e, CniError):
        return e.document(version)
    if isinstance(e, RecursionError):
        return DecodeFailure("the network configuration is nested too deeply").document(version)
    tell(e)
    return CniError(f"unexpected {type(e).__name__}: {e}: this is a bug in floatip").document(version)


def encode(document: Mapping[str, Any] | None) -> bytes:
    """Return ``document`` as printed; empty for None."""
    if document is None:
        return b""
    try:
        return json.dumps(document, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: only an escape can say that
        return json.dumps(document).encode() + b"\n"
