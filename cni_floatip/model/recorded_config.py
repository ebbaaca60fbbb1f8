"""The network configuration on record: what later calls and the keeper know of a pod's request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class RecordedConfig:
    """A network configuration as the record holds it; ``config.netconf.conf_of`` parses it.

    Two with the same content are equal, so one parse serves the claims of all pods of a network; ``of`` also
    makes them one object. The methods here also work for a configuration that this release does not
    understand.
    """

    document: Mapping[str, Any]
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(json.dumps(self.document, sort_keys=True)))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> RecordedConfig:
        """Return the configuration with this content: the same object as long as it is in use."""
        return _shared(cls(document))

    @property
    def watches(self) -> bool:
        """Whether the network watches the pod's own addresses."""
        return bool(self.document.get("watchAddresses"))

    @property
    def listed(self) -> int:
        """Return how many destinations the configuration lists beside the pod's addresses."""
        destinations = self.document.get("destination")
        return len(destinations) if isinstance(destinations, list) else 0


@lru_cache(maxsize=1024)
def _shared(config: RecordedConfig) -> RecordedConfig:
    return config
