"""What is logged of dead letters: the first ten, then sums."""

from __future__ import annotations

from grav_actors.bus.dead_letter_log import ERROR_TEXT, LOGGED, MAX_SUMS, QUIET, SUMMARY_INTERVAL, DeadLetterLog


def note(log: DeadLetterLog, now: float, *, target: str = "display", count: int = 1, error: str = "") -> None:
    log.note("overflow", target, "x", count, error, now)


def taken(log: DeadLetterLog) -> list[str]:
    lines, log.lines = log.lines, []
    return lines


def full(now: float = 0.0) -> DeadLetterLog:
    """Return a log that has logged its ten."""
    log = DeadLetterLog()
    for _ in range(LOGGED):
        note(log, now)
    log.lines.clear()
    return log


def test_each_of_the_first_ten_has_its_line_and_the_tenth_says_that_it_is_the_last() -> None:
    log = DeadLetterLog()
    for _ in range(LOGGED + 5):
        note(log, 0.0)
    lines = taken(log)
    assert lines[:-1] == ["dead letter: a message of type x for display: overflow"] * LOGGED
    assert lines[-1].startswith("these were 10 dead letters; further ones are summed up every 10 s")


def test_messages_that_end_together_have_one_line() -> None:
    log = DeadLetterLog()
    note(log, 0.0, count=512)
    assert taken(log) == ["dead letter: 512 messages of type x for display: overflow"]


def test_an_error_stands_in_one_line_of_bounded_length() -> None:
    log = DeadLetterLog()
    note(log, 0.0, error="ValueError: no\n\tsuch site" + "!" * 5000)
    (line,) = taken(log)
    assert "overflow: ValueError: no such site!!!" in line
    assert len(line) < ERROR_TEXT + 100
    assert "\n" not in line


def test_what_comes_after_is_summed_up_by_reason_and_target_the_most_first() -> None:
    log = full()
    note(log, 1.0, target="printer", count=3)
    note(log, 2.0, count=512)
    note(log, 3.0, count=512)
    log.tick(1.0 + SUMMARY_INTERVAL - 0.1)
    assert taken(log) == []
    log.tick(1.0 + SUMMARY_INTERVAL)
    assert taken(log) == [
        "1027 more messages became dead letters in 10 s: 1024 overflow for display, 3 overflow for printer"
    ]
    log.tick(100.0)
    assert taken(log) == [], "told once"


def test_many_targets_cost_bounded_memory_and_one_line_and_all_are_counted() -> None:
    log = full()
    for number in range(10 * MAX_SUMS):
        note(log, 0.0, target=f"pod-{number}")
    assert len(log._sums) <= MAX_SUMS + 1
    log.tick(SUMMARY_INTERVAL)
    (line,) = taken(log)
    assert line.startswith(f"{10 * MAX_SUMS} more messages became dead letters in 10 s: {9 * MAX_SUMS} others, ")
    assert line.endswith(f", {MAX_SUMS - 4} others")


def test_after_a_minute_without_any_the_next_ten_are_logged_again() -> None:
    log = full(now=0.0)
    note(log, 5.0)
    log.tick(5.0 + SUMMARY_INTERVAL)
    log.tick(5.0 + QUIET - 1)
    log.lines.clear()
    note(log, 5.0 + QUIET - 1)
    assert taken(log) == [], "still muted"
    later = 5.0 + 2 * QUIET
    log.tick(later - 1)
    log.tick(later)
    log.lines.clear()
    note(log, later)
    assert taken(log) == ["dead letter: a message of type x for display: overflow"]
