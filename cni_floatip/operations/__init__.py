"""What the plugin does, verb by verb: the same in an agent and in direct mode."""

from .add import add
from .check import check
from .delete import delete, is_ended, spooled
from .evidence import evidence_among
from .gc import collect, gc
from .status import status

__all__ = ["add", "check", "collect", "delete", "evidence_among", "gc", "is_ended", "spooled", "status"]
