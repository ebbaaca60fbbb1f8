"""The plugin's operations, verb by verb; the agent and direct mode run the same code."""

from .add import add
from .check import check
from .delete import delete, is_ended, spooled
from .evidence import evidence_among
from .gc import collect, gc
from .status import status

__all__ = ["add", "check", "collect", "delete", "evidence_among", "gc", "is_ended", "spooled", "status"]
