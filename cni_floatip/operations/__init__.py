"""What the plugin does, verb by verb: the same whatever the transport (direct mode, later a node agent)."""

from .add import add
from .check import check
from .delete import delete
from .evidence import evidence_among
from .gc import collect, gc
from .status import status

__all__ = ["add", "check", "collect", "delete", "evidence_among", "gc", "status"]
