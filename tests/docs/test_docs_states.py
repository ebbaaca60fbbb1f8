"""The drawings of a claim's states: what ``docs/generate_states.py`` makes of the table."""

from __future__ import annotations

import re

from cni_floatip.model.claim_state import STARTS, TRANSITIONS, State
from docs import generate_states


def test_the_drawings_are_those_of_the_table() -> None:
    for path, text in generate_states.documents().items():
        assert path.read_text() == text, "run make docs"


def test_the_drawing_shows_each_change_of_state() -> None:
    arrows = re.findall(r"^    (\S+) --> (\S+): (.+)$", generate_states.diagram(), re.MULTILINE)
    drawn = {(state, event): to for state, to, events in arrows for event in events.split(" / ")}
    assert drawn == {
        **{("[*]", event.value): state.value for event, state in STARTS.items()},
        **{(was.value, on.value): to.value for (was, on), to in TRANSITIONS.items() if was is not to},
        ("gone", "after 20 minutes"): "[*]",
    }


def test_each_state_is_explained() -> None:
    text = generate_states.PROTOCOL.read_text()
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (yes|no)\b.* \|$", text, re.MULTILINE)
    assert dict(rows) == {state.value: "yes" if state.wants_route else "no" for state in State}
