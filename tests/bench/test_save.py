"""``--save``: a run of some rows does not take the place of the rows that are kept."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import document

ROOT = Path(__file__).parents[2]


def test_a_run_of_one_row_refuses_to_drop_the_others() -> None:
    kept = (document.RESULTS / "agent.json").read_bytes()
    argv = [sys.executable, "bench/agent.py", "--only", "1", "--save"]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "--save would drop rows of bench/results/agent.json: measure 2, 3, " in ran.stderr
    assert (document.RESULTS / "agent.json").read_bytes() == kept


@pytest.mark.parametrize(
    ("words", "rows", "error"),
    [
        (["--save"], {1}, True),
        (["--save"], {1, 2}, False),
        (["--save"], {1, 2, 3}, False),
        ([], {1}, False),
    ],
)
def test_only_rows_that_would_be_lost_are_refused(
    words: list[str], rows: set[int], error: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "RESULTS", tmp_path)
    parser = argparse.ArgumentParser()
    document.add_options(parser)
    options = parser.parse_args(words)
    document.check_save(parser, options, "x", rows)  # nothing is kept yet
    (tmp_path / "x.json").write_text(json.dumps({"rows": [{"row": 1}, {"row": 2}]}))
    if error:
        with pytest.raises(SystemExit):
            document.check_save(parser, options, "x", rows)
    else:
        document.check_save(parser, options, "x", rows)
