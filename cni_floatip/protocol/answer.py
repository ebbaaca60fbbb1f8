"""The one JSON document that answers a CNI call (SPEC.md section 5)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..model.errors import CniError, DecodeFailure


def error_document(e: Exception, version: str, tell: Callable[[Exception], object]) -> Mapping[str, Any]:
    """Return what the runtime reads of ``e``. The traceback of a mistake of ours is for ``tell`` alone."""
    if isinstance(e, CniError):
        return e.document(version)
    if isinstance(e, RecursionError):
        return DecodeFailure("the network configuration is nested too deeply").document(version)
    tell(e)
    return CniError(f"unexpected {type(e).__name__}: {e}: this is a bug in floatip").document(version)


def encode(document: Mapping[str, Any] | None) -> bytes:
    """Return ``document`` as it is printed; nothing is printed for None."""
    if document is None:
        return b""
    try:
        return json.dumps(document, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: only an escape can say that
        return json.dumps(document).encode() + b"\n"
