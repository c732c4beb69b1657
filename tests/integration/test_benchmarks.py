"""The benchmarks run: with few messages, on sides for which nothing must be installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIDES = ["ours", "raw", "pushpull", "pipe"]


@pytest.mark.slow
def test_a_short_run_loses_nothing_and_writes_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    only = [word for name in ("throughput", "ask", *SIDES) for word in ("--only", name)]
    command = [sys.executable, "-m", "benchmarks", "--pairs", "1", "--messages", "20", "--json", str(out), *only]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert {word for series in figures["series"] for word in series["values"]} <= set(SIDES)
    for series in figures["series"]:
        assert len(series["values"]["ours"]) == 1
        assert not any(series["void"].values())
