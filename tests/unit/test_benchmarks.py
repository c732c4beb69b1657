"""What the benchmarks make of their runs: verdicts, void runs, tables, documents, charts."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only here: with the root on the path `transports` could be imported under its bare name, too.
    monkeypatch.syspath_prepend(str(ROOT))


def test_a_run_that_lost_one_message_is_void() -> None:
    from benchmarks.throughput import judge
    from benchmarks.workload import Received, Sent

    sent = Sent(messages=10, started=1.0)
    whole = Received(messages=10, size=1000, finished=3.0)
    assert judge(sent, [whole, whole], size=100).rate == 10.0
    assert judge(sent, [whole, whole], size=100).problem == ""
    assert "10 expected, 9 received" in judge(sent, [whole, Received(9, 900, 3.0)], size=100).problem
    assert "11 received" in judge(sent, [Received(11, 1100, 3.0)], size=100).problem
    assert "1000 bytes expected, 999 received" in judge(sent, [Received(10, 999, 3.0)], size=100).problem


def test_each_pod_of_a_receiver_must_get_every_message() -> None:
    from benchmarks.throughput import judge
    from benchmarks.workload import Received, Sent

    assert judge(Sent(10, 1.0), [Received(30, 3000, 2.0)], size=100, copies=3).problem == ""
    assert judge(Sent(10, 1.0), [Received(29, 2900, 2.0)], size=100, copies=3).problem


def test_a_target_is_judged_by_the_median_ratio_of_pairs_without_void_runs() -> None:
    from benchmarks.report import Series, Target

    series = Series("rate", "messages/s", [Target("baseline", 10)])
    for ours, baseline in ((100.0, 10.0), (None, 10.0), (130.0, 10.0), (90.0, 10.0)):
        series.add("ours", ours)
        series.add("baseline", baseline)
    assert series.ratios("baseline") == [10.0, 13.0, 9.0]
    assert series.verdict(series.targets[0]) is True
    assert series.verdict(Target("baseline", 11)) is False
    assert series.verdict(Target("raw", 1)) is None


@pytest.mark.parametrize(("of_worst", "is_met"), [(False, True), (True, False)])
def test_a_limit_holds_for_the_median_or_for_the_worst(of_worst: bool, is_met: bool) -> None:
    from benchmarks.report import Limit, Series

    limit = Limit(20, of_worst=of_worst)
    assert Series("time", "ms", [limit], {"ours": [10.0, 15.0, 30.0]}).verdict(limit) is is_met


def test_the_table_names_verdicts_void_runs_and_what_is_not_installed() -> None:
    from benchmarks.report import Limit, Series, Target, format_table

    series = [
        Series("rate", "messages/s", [Target("baseline", 10)], {"ours": [500.0, None], "baseline": [100.0, 90.0]}),
        Series("time", "ms", [Limit(5)], {"ours": [4.0]}),
    ]
    lines = format_table(series, ["nats"]).splitlines()
    assert "500 (500 .. 500), 1 void" in lines[2]
    assert "5.00 x" in lines[3]
    assert lines[3].endswith("at least 10 x: MISSED")
    assert lines[4].endswith("at most 5: met")
    assert "not installed" in lines[5]


def test_figures_come_back_from_their_file() -> None:
    from benchmarks.report import Limit, Series, Target, as_json, from_json

    targets: list[Target | Limit] = [Target("baseline", 10), Limit(5, of_worst=True)]
    series = [Series("rate", "messages/s", targets, {"ours": [500.0, None], "baseline": [100.0, 90.0]})]
    assert from_json(json.loads(json.dumps(as_json(series, {}, [])))) == series


def test_every_measure_names_sides_that_there_are_and_targets_that_can_be_judged() -> None:
    from benchmarks.catalogue import measures
    from benchmarks.report import Target
    from benchmarks.sides import SIDES

    names = [measure.name for measure in measures()]
    assert len(set(names)) == len(names)
    assert not set(names) & set(SIDES)
    for measure in measures():
        assert set(measure.sides) <= set(SIDES)
        for series in measure.series:
            assert {t.side for t in series.targets if isinstance(t, Target)} <= set(measure.sides)


def test_a_document_keeps_all_but_what_stands_between_the_markers() -> None:
    from benchmarks.document import between

    page = "a\n<!-- one -->\nold\n<!-- end of one -->\nb\n<!-- two -->\n<!-- end of two -->\n"
    changed = between(page, "one", "new\n")
    assert changed == page.replace("old", "new")
    assert between(changed, "one", "new\n") == changed
    with pytest.raises(ValueError, match="0 pairs of the markers"):
        between(page, "three", "")


def test_the_documents_have_the_markers() -> None:
    from benchmarks.document import PERFORMANCE, README, between

    page = PERFORMANCE.read_text(encoding="utf-8")
    for name in ("machine", "figures", "missed", "growth machine"):
        page = between(page, name, "")
    between(README.read_text(encoding="utf-8"), "figures", "")


def test_a_chart_is_well_formed_and_has_every_point_inside() -> None:
    from benchmarks.chart import HEIGHT, WIDTH, Axis, Chart, Line

    lines = [Line("a & b", [(0, 5.0), (10, 50_000.0), (1000, 0.5)]), Line("c", [(1, 1.0)]), Line("none", [])]
    chart = Chart("x < y", Axis("x", is_log=True), Axis("y", is_log=True), lines)
    root = ET.fromstring(chart.svg())
    spots = [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in root.iter() if one.tag.endswith("circle")]
    assert len(spots) == 4
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in spots)
    xs = [x for x, _ in spots[:3]]
    assert xs == sorted(xs)
    assert len(set(xs)) == 3


@pytest.mark.parametrize(
    ("values", "is_log", "is_size", "ticks"),
    [
        ([0.0, 37.0], False, False, ["0", "10", "20", "30", "40"]),
        ([3.0, 2500.0], True, False, ["1", "10", "100", "1 k", "10 k"]),
        ([0.0, 3.0, 80.0], True, False, ["0", "1", "10", "100"]),
        ([16.0, 5000.0], True, True, ["16 B", "64 B", "256 B", "1 KiB", "4 KiB", "16 KiB"]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(
    values: list[float], is_log: bool, is_size: bool, ticks: list[str]
) -> None:
    from benchmarks.chart import Axis

    axis = Axis("x", is_log=is_log, is_size=is_size)
    assert [axis.label(tick) for tick in axis.ticks(values)] == ticks


def test_a_part_that_is_run_as_a_program_says_that_it_is_none() -> None:
    program = [sys.executable, "-m", "benchmarks.crowd"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "benchmarks.crowd is a part of the benchmarks and no program" in run.stderr
    assert "recovery" in run.stderr


def test_every_module_with_a_main_of_its_own_is_named_as_a_program() -> None:
    from benchmarks import COMMANDS

    programs = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "sys.exit(" in path.read_text(encoding="utf-8").partition('\nif __name__ == "__main__":')[2]
    }
    assert programs == {"__main__", *COMMANDS}
