"""What the runs come to: medians, spread, ratios of pairs, as a table and as JSON."""

import dataclasses
import importlib.metadata
import os
import platform
import statistics
import typing


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What the ratio to one other side should be."""

    side: str
    bound: float
    at_most: bool = False

    def is_met(self, ratio: float) -> bool:
        """Tell whether a ratio is good enough."""
        return ratio <= self.bound if self.at_most else ratio >= self.bound

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:g}"


@dataclasses.dataclass(slots=True)
class Series:
    """The values of one quantity: for each side one value a pair, or None for a run that was void."""

    name: str
    unit: str
    target: Target | None = None
    values: dict[str, list[float | None]] = dataclasses.field(default_factory=dict)

    def add(self, side: str, value: float | None) -> None:
        """Add the value of one more run."""
        self.values.setdefault(side, []).append(value)

    def ratios(self, side: str) -> list[float]:
        """Return ours divided by that side's, pair by pair; void runs make no pair."""
        pairs = zip(self.values.get("ours", []), self.values.get(side, []), strict=False)
        return [ours / other for ours, other in pairs if ours is not None and other]


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """Median and spread of some values."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_number(self.median)} ({_number(self.low)} .. {_number(self.high)})"


def summarise(values: typing.Sequence[float | None]) -> Summary | None:
    """Return median, lowest and highest; None when every run was void."""
    kept = [value for value in values if value is not None]
    return Summary(statistics.median(kept), min(kept), max(kept)) if kept else None


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def format_table(series: list[Series], sides: list[str]) -> str:
    """Return the table: medians with lowest and highest, then ours in relation to the others."""
    rows = [["what", "unit", *sides, *(f"ours / {side}" for side in sides if side != "ours"), "target"]]
    for one in series:
        row = [one.name, one.unit]
        for side in sides:
            values = one.values.get(side, [])
            summary = summarise(values)
            void = sum(value is None for value in values)
            text = "-" if summary is None else str(summary)
            row.append(f"{text}, {void} void" if void else text)
        for side in sides:
            if side != "ours":
                ratio = summarise(one.ratios(side))
                row.append("-" if ratio is None else str(ratio))
        row.append(_verdict(one))
        rows.append(row)
    keep = [0, 1, *(column for column in range(2, len(rows[0])) if _has_content(rows, column))]
    rows = [[row[column] for column in keep] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(keep))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _has_content(rows: list[list[str]], column: int) -> bool:
    return any(row[column] not in {"-", ""} for row in rows[1:])


def _verdict(series: Series) -> str:
    """Return the target and whether the median ratio meets it."""
    if series.target is None:
        return ""
    ratio = summarise(series.ratios(series.target.side))
    if ratio is None:
        return ""
    word = "met" if series.target.is_met(ratio.median) else "MISSED"
    return f"{series.target} x {series.target.side}: {word}"


def as_json(series: list[Series], settings: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Return everything: where it ran, how, every value, medians, spread and ratios."""
    return {
        "machine": describe_machine(),
        "settings": settings,
        "series": [_series_as_json(one) for one in series],
    }


def _series_as_json(series: Series) -> dict[str, typing.Any]:
    ratios = {side: series.ratios(side) for side in series.values if side != "ours"}
    target = series.target
    judged = summarise(series.ratios(target.side)) if target else None
    return {
        "name": series.name,
        "unit": series.unit,
        "values": series.values,
        "void": {side: sum(value is None for value in values) for side, values in series.values.items()},
        "summary": {side: _summary_as_json(values) for side, values in series.values.items()},
        "ratios": {side: _summary_as_json(values) for side, values in ratios.items()},
        "target": dataclasses.asdict(target) if target else None,
        "met": target.is_met(judged.median) if target and judged else None,
    }


def _summary_as_json(values: typing.Sequence[float | None]) -> dict[str, float] | None:
    summary = summarise(values)
    return dataclasses.asdict(summary) if summary else None


def describe_machine() -> dict[str, typing.Any]:
    """Return what a reader needs to judge the figures."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "pyzmq": importlib.metadata.version("pyzmq"),
        "msgpack": importlib.metadata.version("msgpack"),
    }
