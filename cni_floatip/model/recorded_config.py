"""The network configuration on record: what later calls and the keeper know of a pod's request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

SHARED_CHARACTERS = 4096
"""A longer configuration is not remembered: a tenant writes it, and many would fill the memory."""


@dataclass(frozen=True, slots=True)
class RecordedConfig:
    """A network configuration as the record holds it; ``config.netconf.conf_of`` parses it.

    Two with the same content are equal, so one parse serves the claims of all pods of a network; ``of`` also
    makes them one object. The methods here also work for a configuration that this release does not
    understand.
    """

    document: Mapping[str, Any]
    is_short: bool = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        text = json.dumps(self.document, sort_keys=True)
        object.__setattr__(self, "is_short", len(text) <= SHARED_CHARACTERS)
        object.__setattr__(self, "_hash", hash(text))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> RecordedConfig:
        """Return the configuration with this content: the same object as before if it ``is_short``."""
        config = cls(document)
        return _shared(config) if config.is_short else config

    @property
    def watches(self) -> bool:
        """Whether the network watches the pod's own addresses."""
        return bool(self.document.get("watchAddresses"))

    @property
    def elected(self) -> bool:
        """Whether an election decides which pod of the network has its routes."""
        return self.document.get("activate") == "ready"

    @property
    def listed(self) -> int:
        """Return how many destinations the configuration lists beside the pod's addresses."""
        destinations = self.document.get("destination")
        return len(destinations) if isinstance(destinations, list) else 0


@lru_cache(maxsize=256)
def _shared(config: RecordedConfig) -> RecordedConfig:
    return config
