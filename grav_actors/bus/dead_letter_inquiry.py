"""Questions to the bus about its dead letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grav_actors.bus.shelf import REASONS, DeadLetter
from grav_actors.codec import MARSHAL_MAGIC, pack_value, record_ids
from grav_actors.errors import MessageDecodeError
from grav_actors.pattern import check_pattern, matches

if TYPE_CHECKING:
    from grav_actors.bus.core import BusCore
    from grav_actors.bus.run import Run

LIST = "grav.sys.bus.dead.list"
"""A page of those that a selection names, without their data."""
SHOW = "grav.sys.bus.dead.show"
"""One of them by its number, with its message."""
RETRY = "grav.sys.bus.dead.retry"
"""Deliver those that a selection names again."""
PURGE = "grav.sys.bus.dead.purge"
"""Forget those that a selection names."""

PAGE_LETTERS = 200
PAGE_BYTES = 128 * 1024
"""What one page holds at most, so that an answer never outgrows a frame."""
ROW_BYTES = 200
"""What a row takes beside its texts, about."""


class Selection:
    """Some of the dead letters: those that have all of what is given.

    Attributes:
        uuid: Text of the message's uuid, or its beginning or end; "" for any.
        reason: One of `REASONS`, or "".
        type: Type or pattern, or "".
        after: Only those with a higher number.
    """

    __slots__ = ("after", "reason", "type", "uuid")

    def __init__(self, data: Any) -> None:
        """Read it from the data of a question; raise ValueError."""
        if not isinstance(data, dict) or not data.keys() <= set(self.__slots__):
            raise ValueError(f"a selection is a map with some of the keys {', '.join(self.__slots__)}")
        self.uuid = data.get("uuid", "")
        self.reason = data.get("reason", "")
        self.type = data.get("type", "")
        self.after = data.get("after", 0)
        if [type(value) for value in (self.uuid, self.reason, self.type, self.after)] != [str, str, str, int]:
            raise ValueError("in a selection uuid, reason and type are text, and after is an int")
        if self.reason and self.reason not in REASONS:
            raise ValueError(f"there is no reason {self.reason!r:.80}; there are {', '.join(REASONS)}")
        if self.type:
            check_pattern(self.type)

    def has(self, letter: DeadLetter) -> bool:
        """Return whether a letter is one of them."""
        return (
            letter.number > self.after
            and (not self.reason or letter.reason == self.reason)
            and (not self.type or matches(self.type, letter.delivery.run.type))
            and (not self.uuid or letter.uuid.startswith(self.uuid) or letter.uuid.endswith(self.uuid))
        )


def answer_dead_letter_inquiry(core: BusCore, question: str, data: Any, now: float) -> Any:
    """Answer a question of one of these types; raise ValueError for data that it does not go with."""
    return _ANSWERS[question](core, data, now)


def _list(core: BusCore, data: Any, now: float) -> dict[str, Any]:
    """Return `{letters: [row], more: bool}`, oldest first; `after` the last number the next page begins."""
    rows: list[dict[str, Any]] = []
    size = 0
    for letter in _selected(core, data):
        if len(rows) >= PAGE_LETTERS or size >= PAGE_BYTES:
            return {"letters": rows, "more": True}
        row = _row(letter, now)
        size += ROW_BYTES + sum(len(value.encode()) for value in row.values() if isinstance(value, str))
        rows.append(row)
    return {"letters": rows, "more": False}


def _show(core: BusCore, data: Any, now: float) -> dict[str, Any] | None:
    """Return the row and the marshalled message of the letter with that number; None when it is gone."""
    if type(data) is not int:
        raise ValueError("the data is the number of a dead letter")
    for letter in core.postman.shelf.singles():
        if letter.number == data:
            return {**_row(letter, now), "message": _marshalled(letter.delivery.run)}
    return None


def _marshalled(run: Run) -> bytes | None:
    """Return the message of a run of one, as `Message.marshal` writes it; None if it is garbled.

    Its record is not opened: that is for whoever asked.
    """
    try:
        offsets = run.offsets()
        record_ids(bytes(run.body), 1)
    except MessageDecodeError:
        return None
    # The record is an array of 6, whose header is one byte.
    return MARSHAL_MAGIC + pack_value(run.type) + bytes(run.body[offsets[0] + 1 : offsets[1]])


def _retry(core: BusCore, data: Any, now: float) -> dict[str, Any]:
    """Return `{retried: int, kept: [[why, count]]}`."""
    retried, kept = core.postman.retry.retry(_selected(core, data), now)
    return {"retried": retried, "kept": [[why, count] for why, count in kept.most_common()]}


def _purge(core: BusCore, data: Any, now: float) -> int:
    """Return how many have been forgotten."""
    numbers = {letter.number for letter in _selected(core, data)}
    core.postman.shelf.remove(numbers)
    return len(numbers)


def _selected(core: BusCore, data: Any) -> list[DeadLetter]:
    selection = Selection(data)
    return [letter for letter in core.postman.shelf.singles() if selection.has(letter)]


def _row(letter: DeadLetter, now: float) -> dict[str, Any]:
    return {
        "uuid": letter.uuid,
        "type": letter.delivery.run.type,
        "reason": letter.reason,
        "target": letter.target,
        "attempts": letter.attempts,
        "error": letter.error,
        "group": letter.group,
        "age": now - letter.buried_at,
        "number": letter.number,
    }


_ANSWERS: dict[str, Callable[..., Any]] = {LIST: _list, SHOW: _show, RETRY: _retry, PURGE: _purge}

DEAD_LETTER_INQUIRIES = tuple(_ANSWERS)
"""The types of these questions."""
