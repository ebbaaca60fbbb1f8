"""Follow a selection for as long as somebody wants to: list, watch, resume, list anew."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.errors import ApiError
from .client import KubernetesClient
from .resources import Listing, Selection
from .watch import WatchEvent


class Follower:
    """One selection, followed by the thread that iterates; ``stop`` ends it, from any thread.

    It yields a ``Listing`` at the beginning and whenever events may be missing (it replaces all that is known),
    ``WatchEvent``s in between, and every ``ApiError``, after which it pauses and tries again.
    """

    def __init__(self, client: KubernetesClient, selection: Selection) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Listing | WatchEvent | ApiError]:
        raise NotImplementedError

    def stop(self) -> None:
        """End the iteration soon."""
