"""Throughput against what grows: message size, subscribers, idle pods, types, patterns.

$ python -m benchmarks.growth [--quick] [--pairs N] [--seconds S] [--only NAME]... [--json FILE] [--charts FOLDER]

Every point is the median of several runs; all points of a chart are measured in turn before any is measured again.
`--charts` writes one SVG file for each chart, `python -m benchmarks.document` does so from the JSON file. Exit code 1:
a run was void, or a part of one failed.
"""

import argparse
import collections.abc
import dataclasses
import json
import pathlib
import statistics
import sys
import typing

from benchmarks import throughput
from benchmarks.chart import Axis, Chart, Line
from benchmarks.report import describe_machine
from benchmarks.sides import BASELINE, OURS, SIDES
from benchmarks.throughput import MIB, Scene
from benchmarks.workload import SIZE, Load

SIZES = [16 * 4**exponent for exponent in range(11)]
"""16 B to 16 MiB."""
CROWD = 100
"""Idle pods that hold patterns."""


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """One line to measure: whose, for which x, and what is done at each."""

    title: str
    side: str
    xs: list[int]
    scene: collections.abc.Callable[[int], Scene]


@dataclasses.dataclass(frozen=True, slots=True)
class Growth:
    """One chart to measure."""

    name: str
    title: str
    x: Axis
    y: Axis
    curves: list[Curve]


RATE = Axis("messages/s")


def growths() -> list[Growth]:
    """Return all charts."""
    sizes = [
        Curve(SIDES[side].title, side, SIZES, lambda size: Scene(size=size)) for side in (OURS, BASELINE, "pushpull")
    ]
    return [
        Growth(
            "size",
            "Throughput by message size",
            Axis("bytes of a message", is_log=True, is_size=True),
            Axis("messages/s", is_log=True),
            sizes,
        ),
        Growth(
            "subscribers",
            "Deliveries by number of subscribers",
            Axis("subscribers", is_log=True),
            Axis("deliveries/s"),
            [
                Curve("processes", OURS, [1, 2, 4, 8, 16], lambda count: Scene(receivers=count)),
                Curve(
                    "pods of one process", OURS, [1, 2, 4, 8, 16, 32, 64], lambda count: Scene(receiver={"pods": count})
                ),
                Curve("processes, plain bus", BASELINE, [1, 2, 4, 8, 16], lambda count: Scene(receivers=count)),
            ],
        ),
        Growth(
            "idle",
            "Throughput beside idle pods",
            Axis("idle pods", is_log=True),
            RATE,
            [Curve("one pod to another", OURS, [0, 10, 100, 1000, 3000], lambda count: Scene(idle=count))],
        ),
        Growth(
            "types",
            "Throughput by number of message types",
            Axis("types", is_log=True),
            RATE,
            [_types(stretch) for stretch in (1, 8, 64)],
        ),
        Growth(
            "patterns",
            "Throughput by number of patterns",
            Axis("patterns of each pod", is_log=True),
            RATE,
            [
                Curve(
                    f"held by {CROWD} idle pods",
                    OURS,
                    [0, 1, 3, 10, 30],
                    lambda count: Scene(idle=CROWD, crowd={"patterns": count}),
                ),
                Curve(
                    "held by the receiver",
                    OURS,
                    [0, 1, 3, 10, 30, 100, 300],
                    lambda count: Scene(receiver={"patterns": count}),
                ),
            ],
        ),
    ]


def _types(stretch: int) -> Curve:
    title = f"{stretch} of a type, then the next" if stretch > 1 else "another at each message"
    settings = {"stretch": stretch}
    return Curve(title, OURS, [1, 2, 10, 100, 1000], lambda count: Scene(sender={"types": count, **settings}))


Figures = dict[str, typing.Any]


def measure(growth: Growth, load: Load, pairs: int) -> tuple[Figures, bool]:
    """Measure one chart; return its figures, and whether every run counts."""
    rates: dict[tuple[int, int], list[float]] = {}
    is_good = True
    for pair in range(pairs):
        for index, curve in enumerate(growth.curves):
            for x in curve.xs:
                try:
                    delivery = throughput.measure(SIDES[curve.side], load, curve.scene(x))
                    problem = delivery.problem
                    if not problem:
                        rates.setdefault((index, x), []).append(delivery.rate)
                    remark = f"VOID: {problem}" if problem else f"{delivery.rate:,.0f}/s"
                except Exception as error:  # what the other points have is kept
                    problem = remark = f"FAILED: {type(error).__name__}: {error}"
                is_good = is_good and not problem
                print(f"{growth.name} {pair + 1}/{pairs} {curve.title}, {x:,}: {remark}", file=sys.stderr, flush=True)
    lines = [
        {
            "title": curve.title,
            "points": [
                [x, statistics.median(rates[index, x]), min(rates[index, x]), max(rates[index, x])]
                for x in curve.xs
                if (index, x) in rates
            ],
        }
        for index, curve in enumerate(growth.curves)
    ]
    axes = {"x": dataclasses.asdict(growth.x), "y": dataclasses.asdict(growth.y)}
    return {"name": growth.name, "title": growth.title, **axes, "lines": lines}, is_good


def chart(figures: Figures) -> Chart:
    """Return the chart of what was measured."""
    lines = [Line(line["title"], [(x, median) for x, median, _, _ in line["points"]]) for line in figures["lines"]]
    return Chart(figures["title"], Axis(**figures["x"]), Axis(**figures["y"]), lines)


def volume(figures: Figures) -> Chart:
    """Return throughput by message size as MiB/s."""
    lines = [
        Line(line["title"], [(x, median * x / MIB) for x, median, _, _ in line["points"]]) for line in figures["lines"]
    ]
    return Chart("Volume by message size", Axis(**figures["x"]), Axis("MiB/s", is_log=True), lines)


def write_charts(folder: pathlib.Path, all_figures: list[Figures]) -> list[pathlib.Path]:
    """Write one SVG file for each chart; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = {figures["name"]: chart(figures) for figures in all_figures}
    for figures in all_figures:
        if figures["name"] == "size":
            charts["volume"] = volume(figures)
    written: list[pathlib.Path] = []
    for name, one in charts.items():
        path = folder / f"growth-{name}.svg"
        path.write_text(one.svg(), encoding="utf-8")
        written.append(path)
    return written


def main() -> int:
    """Measure what was asked for."""
    everything = growths()
    names = [growth.name for growth in everything]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=f"Throughput of {SIZE} B messages against what grows."
    )
    parser.add_argument("--quick", action="store_true", help="one short run of each point")
    parser.add_argument("--pairs", type=int, metavar="N", help="runs of each point (default: 3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each run (default: 0.5)")
    parser.add_argument("--only", action="append", default=[], choices=names, help="only this; may be repeated")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--charts", type=pathlib.Path, metavar="FOLDER", help="write SVG files into FOLDER")
    options = parser.parse_args()
    pairs = options.pairs or (1 if options.quick else 3)
    load = Load(options.seconds or (0.2 if options.quick else 0.5))
    all_figures: list[Figures] = []
    is_good = True
    for growth in everything:
        if growth.name in (options.only or names):
            figures, is_whole = measure(growth, load, pairs)
            all_figures.append(figures)
            is_good = is_good and is_whole
    if options.json:
        report = {"machine": describe_machine(), "settings": {"pairs": pairs, "seconds": load.seconds}}
        text = json.dumps({**report, "charts": all_figures}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    for path in write_charts(options.charts, all_figures) if options.charts else []:
        print(path)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
