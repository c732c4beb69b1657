"""What the runs come to: medians, spread, ratios of pairs, as a table and as JSON."""

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import statistics
import typing

from benchmarks.sides import OURS, SIDES


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What ours divided by one other side should be."""

    side: str
    bound: float
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        """Tell whether a ratio is good enough."""
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self.bound:g} x {SIDES[self.side].title}"


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """What ours should be at most, in the unit of its series.

    Attributes:
        of_worst: The highest value counts, not the median.
    """

    bound: float
    of_worst: bool = False

    def is_met(self, value: float) -> bool:
        """Tell whether a value is low enough."""
        return value <= self.bound

    def __str__(self) -> str:
        return f"at most {self.bound:g}{', the worst' if self.of_worst else ''}"


@dataclasses.dataclass(slots=True)
class Series:
    """The values of one quantity: for each side one value a pair, or None for a run that was void."""

    name: str
    unit: str
    targets: list[Target | Limit] = dataclasses.field(default_factory=list)
    values: dict[str, list[float | None]] = dataclasses.field(default_factory=dict)

    def add(self, side: str, value: float | None) -> None:
        """Add the value of one more run."""
        self.values.setdefault(side, []).append(value)

    def ratios(self, side: str) -> list[float]:
        """Return ours divided by that side's, pair by pair; void runs make no pair."""
        pairs = zip(self.values.get(OURS, []), self.values.get(side, []), strict=False)
        return [ours / other for ours, other in pairs if ours is not None and other]

    def verdict(self, target: Target | Limit) -> bool | None:
        """Return whether a target is met; None when there is nothing to tell it by."""
        if isinstance(target, Target):
            ratio = summarise(self.ratios(target.side))
            return None if ratio is None else target.is_met(ratio.median)
        summary = summarise(self.values.get(OURS, []))
        return None if summary is None else target.is_met(summary.high if target.of_worst else summary.median)


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """Median and spread of some values."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} .. {number(self.high)})"


def summarise(values: typing.Sequence[float | None]) -> Summary | None:
    """Return median, lowest and highest; None when every run was void."""
    kept = [value for value in values if value is not None]
    return Summary(statistics.median(kept), min(kept), max(kept)) if kept else None


def number(value: float) -> str:
    """Return a number as people read it: three digits and thousands."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class Row(typing.NamedTuple):
    """One line of the table: one side of one series."""

    what: str
    unit: str
    side: str
    value: str
    ratio: str
    target: str


def rows(series: list[Series], absent: list[str]) -> list[Row]:
    """Return the table, without its head: medians with lowest and highest, and ours in relation to the others.

    Args:
        absent: Sides that were wanted and are not installed.
    """
    made: list[Row] = []
    for one in series:
        for side in SIDES.values():
            values = one.values.get(side.name)
            if values is None:
                continue
            summary = summarise(values)
            void = sum(value is None for value in values)
            text = "-" if summary is None else str(summary)
            ratio = summarise(one.ratios(side.name)) if side.name != OURS else None
            made.append(
                Row(
                    one.name,
                    one.unit,
                    side.title,
                    f"{text}, {void} void" if void else text,
                    "" if ratio is None else f"{number(ratio.median)} x",
                    "; ".join(_verdict(one, target) for target in one.targets if _side_of(target) == side.name),
                )
            )
    made += [Row("", "", SIDES[name].title, "not installed", "", "") for name in absent]
    return made


def _side_of(target: Target | Limit) -> str:
    return target.side if isinstance(target, Target) else OURS


def _verdict(series: Series, target: Target | Limit) -> str:
    is_met = series.verdict(target)
    text = f"{target.bound:g} x" if isinstance(target, Target) else f"{target.bound:g}"
    text = f"{'at most' if isinstance(target, Limit) or target.at_most else 'at least'} {text}"
    return f"{text}: {'not measured' if is_met is None else 'met' if is_met else 'MISSED'}"


HEAD = Row("what", "unit", "side", "median (lowest .. highest)", "ours is", "target")


def format_table(series: list[Series], absent: list[str]) -> str:
    """Return the table as plain text; what a line repeats of the one before is left out."""
    lines: list[Row] = [HEAD]
    for row in rows(series, absent):
        is_same = row.what == next((line.what for line in reversed(lines) if line.what), "")
        lines.append(row._replace(what="", unit="") if is_same else row)
    widths = [max(len(row[column]) for row in lines) for column in range(len(HEAD))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in lines]
    texts.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text.rstrip() for text in texts)


def as_json(series: list[Series], settings: dict[str, typing.Any], absent: list[str]) -> dict[str, typing.Any]:
    """Return everything: where it ran, how, every value, medians, spread and ratios."""
    return {
        "machine": describe_machine(),
        "settings": settings,
        "absent": absent,
        "series": [_series_as_json(one) for one in series],
    }


def from_json(data: dict[str, typing.Any]) -> list[Series]:
    """Return the series of a file that `as_json` has made."""
    return [
        Series(
            one["name"],
            one["unit"],
            [Target(**t["ratio"]) if "ratio" in t else Limit(**t["limit"]) for t in one["targets"]],
            one["values"],
        )
        for one in data["series"]
    ]


def _series_as_json(series: Series) -> dict[str, typing.Any]:
    ratios = {side: series.ratios(side) for side in series.values if side != OURS}
    return {
        "name": series.name,
        "unit": series.unit,
        "values": series.values,
        "void": {side: sum(value is None for value in values) for side, values in series.values.items()},
        "summary": {side: _summary_as_json(values) for side, values in series.values.items()},
        "ratios": {side: _summary_as_json(values) for side, values in ratios.items()},
        "targets": [
            {
                "ratio" if isinstance(target, Target) else "limit": dataclasses.asdict(target),
                "met": series.verdict(target),
            }
            for target in series.targets
        ],
    }


def _summary_as_json(values: typing.Sequence[float | None]) -> dict[str, float] | None:
    summary = summarise(values)
    return dataclasses.asdict(summary) if summary else None


def describe_machine() -> dict[str, typing.Any]:
    """Return what a reader needs to judge the figures."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])} {platform.machine()}",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        **{name: importlib.metadata.version(name) for name in ("grav-actors", "pyzmq", "msgpack")},
    }


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
