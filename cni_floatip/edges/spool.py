"""DELs that clients have left for the agent: which files those are, and whose DELs. Only read here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ..model.claim import Claim
from ..model.errors import IoFailure
from ..protocol import wire

SUFFIX = ".del"
SHOWN = 3
"""How many files a sentence names."""

Owner = tuple[str, str]
"""Container and interface, as the environment in a file names them."""


def owner_of(path: Path) -> Owner | None:
    """Return whose DEL a file holds; None for one that nobody understands, or that is not there any more."""
    try:
        with path.open("rb") as file:
            length = file.read(4)
            block = file.read(min(int.from_bytes(length, "big"), wire.MOST_BODY))
        env = wire.read_body(length + block).env
    except (OSError, wire.Malformed):
        return None
    return env.get("CNI_CONTAINERID", ""), env.get("CNI_IFNAME", "")


def waiting(directory: str) -> Mapping[Owner, list[str]]:
    """Return the files in the spool, by owner. Raises IoFailure for one that only others may read."""
    root = Path(directory)
    found: dict[Owner, list[str]] = {}
    try:
        paths = sorted(path for path in root.iterdir() if path.suffix == SUFFIX)
    except (FileNotFoundError, NotADirectoryError):  # nobody has left anything yet
        return found
    except OSError as e:
        raise IoFailure(f"cannot read {directory}: {e.strerror or e}") from e
    for path in paths:
        if owner := owner_of(path):
            found.setdefault(owner, []).append(str(path))
    return found


def files_of(claim: Claim, files: Mapping[Owner, list[str]]) -> list[str]:
    """Return the files that hold a DEL of the claim."""
    return files.get((claim.attachment.container, claim.attachment.ifname), [])


def told(claims: Iterable[Claim], files: Mapping[Owner, list[str]]) -> list[str]:
    """Say which of ``claims`` are to end when the agent comes."""
    return [f"{claim.attachment}: {sentence(paths)}" for claim in claims if (paths := files_of(claim, files))]


def sentence(paths: list[str]) -> str:
    """Say that these DELs wait."""
    count = len(paths)
    more = f" and {count - SHOWN} more" if count > SHOWN else ""
    files = ", ".join(paths[:SHOWN]) + more
    return f"{count} DEL{'s' * (count != 1)} wait{'s' * (count == 1)} for the agent: {files}"
