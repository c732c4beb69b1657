"""One thing to measure, and how runs of its sides are interleaved."""

import collections.abc
import dataclasses
import math
import sys

from benchmarks.report import Series
from benchmarks.sides import SIDES, Side
from benchmarks.workload import Load

Values = list[float | None]
"""One value for each series: None for a run that is void, not-a-number for what a side does not have."""

NOT_THERE = math.nan


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """One thing to measure: on which sides, what values it gives, and one run of one side.

    Attributes:
        run: Returns one value for each series, and a remark for the reader.
        most_pairs: Runs of each side at most, for what takes long; 0: as many as asked for.
    """

    name: str
    sides: list[str]
    series: list[Series]
    run: collections.abc.Callable[[Side, Load], tuple[Values, str]]
    most_pairs: int = 0


def run_pairs(measure: Measure, sides: list[str], load: Load, pairs: int) -> bool:
    """Run all sides in turn, each time in the other order; return whether every run counts."""
    is_good = True
    if measure.most_pairs:
        pairs = min(pairs, measure.most_pairs)
    for pair in range(pairs):
        ordered = sides if pair % 2 == 0 else sides[::-1]
        for side in ordered:
            try:
                values, remark = measure.run(SIDES[side], load)
            except Exception as error:  # whatever a side raises: what the others have measured is kept
                values, remark = [None] * len(measure.series), f"FAILED: {type(error).__name__}: {error}"
            is_good = is_good and None not in values
            for series, value in zip(measure.series, values, strict=True):
                if value is None or not math.isnan(value):
                    series.add(side, value)
            print(f"{measure.name} {pair + 1}/{pairs} {side}: {remark}", file=sys.stderr, flush=True)
    return is_good
