"""``--save``: a run of some rows, or one with a row that fails, does not replace the rows that are kept."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import agent, document
from bench.figure import Figure
from bench.running import Failed

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("bench", "row", "others"), [("agent", "1", "2, 3, "), ("failover", "40", "41, 42, ")]
)
def test_a_run_of_one_row_refuses_to_drop_the_others(bench: str, row: str, others: str) -> None:
    kept = (document.RESULTS / f"{bench}.json").read_bytes()
    argv = [sys.executable, f"bench/{bench}.py", "--only", row, "--save"]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"--save would drop rows of bench/results/{bench}.json: measure {others}" in ran.stderr
    assert (document.RESULTS / f"{bench}.json").read_bytes() == kept


def test_every_bench_that_measures_some_rows_looks_for_others() -> None:
    texts = {path.name: path.read_text() for path in (ROOT / "bench").glob("*.py")}
    partial = {name for name, text in texts.items() if '"--only"' in text}
    assert partial == {name for name, text in texts.items() if "document.check_save(" in text} != set()


@pytest.mark.parametrize("fails", [True, False])
def test_a_run_with_a_row_that_fails_keeps_nothing(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def second() -> list[Figure]:
        if fails:
            raise Failed("no such cgroup")
        return [Figure(2, "second", "2 s", "", None)]

    monkeypatch.setattr(document, "RESULTS", tmp_path)
    monkeypatch.setattr(agent, "compile_package", lambda: None)
    monkeypatch.setattr(agent, "works", lambda *_: [lambda: [Figure(1, "first", "1 s", "", None)], second])
    monkeypatch.setattr(sys, "argv", ["bench/agent.py", "--only", "1", "--only", "2", "--save"])
    monkeypatch.setattr(agent, "interrupt_at_sigterm", lambda: None)
    assert agent.main() == int(fails)
    printed = capsys.readouterr()
    assert "first" in printed.out
    assert ("not measured: 2; nothing is kept" in printed.err) is fails
    assert [path.name for path in tmp_path.iterdir()] == ([] if fails else ["agent.json"])


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
