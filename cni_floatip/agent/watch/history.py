"""Stores when each watched address was assigned, so that an agent restart does not count as a new assignment.

One small file beside the claims, written atomically. Without it (or after a reboot) nobody knows which
addresses are new, so no address that works elsewhere is taken.

``record`` returns when the entry is on disk. An agent that is killed before that would take an old assignment
for a new one, and the address from the node that has had it since. So writes are not delayed, but concurrent
callers share one write, and the rate of an interface's changes is limited (``interface.Allowance``).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from ...edges.store import write_whole
from ...model.values import Address, Attachment

VERSION = 1
NAME = "appearances.json"

Dates = Mapping[Address, float]


class AddressHistory:
    """The file and its contents. Safe to share between threads."""

    def __init__(self, directory: str, boot: str) -> None:
        self._path = Path(directory) / NAME
        self._boot = boot
        self._writing = threading.Lock()
        self._changing = threading.Lock()
        self._known = self._read()
        self._changes = self._written = 0

    def get(self, attachment: Attachment) -> Dates | None:
        """Return when each address of the attachment was assigned, as last recorded; None: no record."""
        return self._known.get(attachment)

    def record(self, attachment: Attachment, dates: Dates | None) -> None:
        """Record the addresses of an attachment (None: it has ended). Raises OSError."""
        with self._changing:
            if self._known.get(attachment) != dates:
                self._changes += 1
                if dates is None:
                    del self._known[attachment]
                else:
                    self._known[attachment] = dict(dates)
            change = self._changes
        with self._writing:
            if self._written >= change:
                return  # another caller's write has written it
            with self._changing:
                change, document = self._changes, self._document()
            write_whole(self._path, json.dumps(document).encode())
            self._written = change

    def _document(self) -> dict[str, object]:
        return {
            "version": VERSION,
            "boot": self._boot,
            "attachments": [
                {
                    "network": attachment.network,
                    "containerId": attachment.container,
                    "ifname": attachment.ifname,
                    "addresses": {str(ip): made for ip, made in dates.items()},
                }
                for attachment, dates in self._known.items()
            ],
        }

    def _read(self) -> dict[Attachment, Dates]:
        try:
            result = json.loads(self._path.read_bytes())
            if result["version"] != VERSION or result["boot"] != self._boot:
                return {}
            return {
                Attachment(item["network"], item["containerId"], item["ifname"]): {
                    ip_address(ip): float(made) for ip, made in item["addresses"].items()
                }
                for item in result["attachments"]
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
