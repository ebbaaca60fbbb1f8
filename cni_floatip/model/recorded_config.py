"""The network configuration in a claim's record: what later calls and looks know of what a pod asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RecordedConfig:
    """A network configuration as the record holds it; ``config.netconf.conf_of`` parses it.

    Two with the same content are equal, so that parsing one serves the claims of all pods of a network. What
    can be told here is told of one that this release does not understand, too.
    """

    document: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(json.dumps(self.document, sort_keys=True))

    @property
    def watches(self) -> bool:
        """Whether the network wants the pod's own addresses followed."""
        return bool(self.document.get("watchAddresses"))

    @property
    def listed(self) -> int:
        """Return how many destinations it lists beside the pod's addresses."""
        destinations = self.document.get("destination")
        return len(destinations) if isinstance(destinations, list) else 0
