"""One seed: a program is run, and its history judged."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from support.simulation.checkers import Violation, violations
from support.simulation.history import Event, line
from support.simulation.programs import Program
from support.simulation.seeding import Limits, seeded_ids

STEPS = (30, 80, 200)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a seed."""

    seed: int
    history: Sequence[Event]
    violations: Sequence[Violation]

    def report(self, events: int = 60) -> str:
        """Return the violations and the end of the history, for people."""
        lines = [f"seed {self.seed}: {len(self.violations)} violations in {len(self.history)} events"]
        lines += [str(violation) for violation in self.violations[:20]]
        lines += ["the last events:", *(line(event) for event in self.history[-events:])]
        return "\n".join(lines)


def simulate(
    seed: int, program: Callable[[random.Random, Limits], Program] = Program, limits: Limits | None = None
) -> Result:
    """Run the program of a seed; the same seed gives the same history.

    Args:
        limits: Others than follow from the seed.
    """
    rng = random.Random(seed)
    world: Program | None = None
    failure: list[Violation] = []
    limits = limits or _limits(rng)
    with seeded_ids(lambda: world.now if world is not None else 0.0), limits.applied():
        world = program(rng, limits)
        try:
            world.run(rng.choice(STEPS))
            if world.is_at_rest():
                world.check_quiet()
            else:
                failure.append(Violation("rest", "it has not come to rest"))
        except AssertionError as exc:
            failure.append(Violation("accounting", str(exc) or _place(exc)))
    return Result(seed, world.history, [*failure, *violations(world.history)])


def _limits(rng: random.Random) -> Limits:
    if rng.random() < 0.5:
        return Limits()
    if rng.random() < 0.3:
        return _limits_in_bytes(rng)
    window = rng.choice((4, 16, 64))
    frame = rng.choice((1, 4, 16))
    return Limits(
        window=window,
        frame=frame,
        retained=max(window, frame) * rng.choice((2, 64)),
        shelved=rng.choice((3, 1000)),
        held_bytes=rng.choice((2_000, 1 << 28)),
        listed=3,
        failures=2,
    )


def _limits_in_bytes(rng: random.Random) -> Limits:
    """Return limits of which those in bytes are reached first; a message takes 60 bytes, or some of them 1,000 more."""
    window = rng.choice((300, 1500))
    return Limits(
        window_bytes=window,
        run_bytes=rng.choice((200, 1000)),
        retained_bytes=window * rng.choice((3, 100)),
        held_bytes=rng.choice((2_000, 1 << 28)),
        mailbox_bytes=rng.choice((500, 4000, 1 << 26)),
        shelved_bytes=rng.choice((300, 3000)),
        answer_bytes=rng.choice((100, 3000)),
        ring_bytes=rng.choice((300, 3000)),
        listed=3,
    )


def _place(exc: BaseException) -> str:
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"line {trace.tb_lineno} of {trace.tb_frame.f_code.co_filename}" if trace is not None else "?"
