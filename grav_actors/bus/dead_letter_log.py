"""What is logged of dead letters: the first ten one by one, then sums, so that a flood stays readable."""

from __future__ import annotations

from collections import Counter

LOGGED = 10
"""Dead letters that are logged one by one."""
SUMMARY_INTERVAL = 10.0
"""Seconds between the sums of those that were not."""
QUIET = 60.0
"""Seconds without a dead letter after which they are logged one by one again."""
MAX_SUMS = 64
"""Reasons and targets that are summed up apart; all others are one."""
NAMED_SUMS = 5
"""Of these the largest are named in a line."""
ERROR_TEXT = 200
"""Characters of an error that stand in a line."""


class DeadLetterLog:
    """Decides what is logged of the dead letters. Consecutive messages that end together count as one letter.

    Attributes:
        lines: What is to be logged, and not yet taken.
    """

    __slots__ = ("_due", "_last_at", "_logged", "_since", "_sums", "lines")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._logged = 0
        self._sums: Counter[tuple[str, str]] = Counter()
        self._since = 0.0
        self._due = 0.0
        self._last_at = 0.0

    def note(self, reason: str, target: str, message_type: str, count: int, error: str, now: float) -> None:
        """Take notice of a dead letter of `count` messages."""
        if self._logged < LOGGED:
            self._logged += 1
            what = f"a message of type {message_type}" if count == 1 else f"{count} messages of type {message_type}"
            text = f": {' '.join(error.split())[:ERROR_TEXT]}" if error else ""
            self.lines.append(f"dead letter: {what} for {target}: {reason}{text}")
            if self._logged == LOGGED:
                self.lines.append(
                    f"these were {LOGGED} dead letters; further ones are summed up every {SUMMARY_INTERVAL:g} s "
                    "(`grav-actors dead list` shows them)"
                )
        else:
            if not self._sums:
                self._since = now
                self._due = now + SUMMARY_INTERVAL
            key = (reason, target)
            if key not in self._sums and len(self._sums) >= MAX_SUMS:
                key = ("other", "")
            self._sums[key] += count
        self._last_at = now

    def tick(self, now: float) -> None:
        """Sum up what was not logged if it is time; call it about each second."""
        if self._sums and now >= self._due:
            total = self._sums.total()
            named = self._sums.most_common(NAMED_SUMS)
            parts = [
                f"{count} {reason} for {target}" if target else f"{count} others" for (reason, target), count in named
            ]
            rest = total - sum(count for _, count in named)
            parts += [f"{rest} others"] if rest else []
            seconds = now - self._since
            self.lines.append(f"{total} more messages became dead letters in {seconds:.0f} s: {', '.join(parts)}")
            self._sums.clear()
        if self._logged and not self._sums and now - self._last_at >= QUIET:
            self._logged = 0
