"""Many seeds, one after another or on all processors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from multiprocessing import get_context

from support.simulation.simulate import simulate

CHUNK = 20
"""Seeds that a process is given at one time."""


def failing(seeds: Iterable[int]) -> list[str]:
    """Return the reports of the seeds in which something is wrong."""
    return [result.report() for result in map(simulate, seeds) if result.violations]


def judge(seed: int) -> tuple[int, int, str]:
    """Return the seed, how many events its history has, and the report if something is wrong."""
    try:
        result = simulate(seed)
    except Exception as exc:
        return seed, 0, f"seed {seed}: the simulator itself raised {type(exc).__name__}: {exc}"
    return seed, len(result.history), result.report() if result.violations else ""


def judge_all(seeds: Iterable[int]) -> Iterator[tuple[int, int, str]]:
    """Yield what `judge` returns, on all processors, as it comes."""
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap_unordered(judge, seeds, chunksize=CHUNK)
