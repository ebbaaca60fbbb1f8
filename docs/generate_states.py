"""Draw the states of a claimed route from their table: ``python docs/generate_states.py``.

Into ``protocol.md`` (what GitHub shows as a drawing reads as a list of arrows in a terminal) and into the
docstring of ``model/claim.py``. ``make docs`` runs this; a test fails when they differ from the table.
"""

from __future__ import annotations

import re
from pathlib import Path

from cni_floatip.model import claim
from cni_floatip.model.claim_state import STARTS, TRANSITIONS, State

PROTOCOL = Path(__file__).parent / "protocol.md"
CLAIM = Path(claim.__file__)


def diagram() -> str:
    """Return the table as a Mermaid diagram. An event that leaves the state is not drawn."""
    arrows: dict[tuple[str, str], list[str]] = {("[*]", to): [event] for event, to in STARTS.items()}
    for (state, event), to in TRANSITIONS.items():
        if state is not to:
            arrows.setdefault((state, to), []).append(event)
    arrows[State.GONE, "[*]"] = [f"after {claim.LATE_SECONDS / 60:.0f} minutes"]
    lines = (f"    {state} --> {to}: {' / '.join(events)}\n" for (state, to), events in arrows.items())
    return f"```mermaid\nstateDiagram-v2\n{''.join(lines)}```\n"


def outline() -> str:
    """Return which state may become which, a line each."""
    width = max(map(len, State))
    becomes = {
        state: dict.fromkeys(to for (was, _), to in TRANSITIONS.items() if was is state is not to)
        for state in State
    }
    return "".join(f"    {state:{width}} -> {', '.join(to)}\n" for state, to in becomes.items())


def documents() -> dict[Path, str]:
    """Return the files in which the states are drawn, as they should be."""
    return {
        PROTOCOL: _between(PROTOCOL, r"<!-- states: .*-->\n", r"<!-- end of states -->", diagram()),
        CLAIM: _between(CLAIM, r"``make docs`` draws this\):\n\n", r"\n``claiming`` belongs", outline()),
    }


def _between(path: Path, before: str, after: str, drawing: str) -> str:
    """Return the text of ``path`` with ``drawing`` between what matches ``before`` and ``after``."""
    drawn, times = re.subn(
        f"({before}).*?({after})",
        lambda match: match[1] + drawing + match[2],
        path.read_text(),
        flags=re.DOTALL,
    )
    if times != 1:
        raise SystemExit(f"{path}: {times} places for the drawing")
    return drawn


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text)
