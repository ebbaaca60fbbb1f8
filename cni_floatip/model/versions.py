"""The supported versions of the CNI specification. Imports nothing, because VERSION is answered from here."""

SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


def at_least(version: str, floor: str) -> bool:
    """Whether ``version`` is ``floor`` or newer; both are dotted numbers."""
    return tuple(map(int, version.split("."))) >= tuple(map(int, floor.split(".")))
