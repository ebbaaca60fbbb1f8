"""The network configuration on record: what later calls and the keeper know of a pod's request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RecordedConfig:
    """A network configuration as the record holds it; ``config.netconf.conf_of`` parses it.

    Two with the same content are equal, so one parse serves the claims of all pods of a network. The methods
    here also work for a configuration that this release does not understand.
    """

    document: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(json.dumps(self.document, sort_keys=True))

    @property
    def watches(self) -> bool:
        """Whether the network watches the pod's own addresses."""
        return bool(self.document.get("watchAddresses"))

    @property
    def listed(self) -> int:
        """Return how many destinations the configuration lists beside the pod's addresses."""
        destinations = self.document.get("destination")
        return len(destinations) if isinstance(destinations, list) else 0
