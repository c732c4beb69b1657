"""`sub`: the messages that are published, one line each."""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

import click

from grav_actors.cli.params import bus_option, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from grav_actors.filters import FilterSet
    from grav_actors.message import Message
    from grav_actors.node import Grav
    from grav_actors.pod.pod import Pod

REPLAY_ROOM = 1_000_000
"""Messages; more than a replay has: it comes at once, before the answer to whatever is asked after it."""


@click.command("sub")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("--count", type=click.IntRange(min=1), help="End after this many messages.")
@click.option("--last", type=click.IntRange(min=0), default=0, help="Begin with the last N that the bus has kept.")
@click.option("--all", "everything", is_flag=True, help="The framework's own messages (grav.*) too.")
@json_option
@bus_option
def command(
    patterns: tuple[str, ...], count: int | None, last: int, everything: bool, as_json: bool, bus: str | None
) -> None:
    """Print messages as they are published: the type, then the data as JSON.

    In a PATTERN * stands for one token and > for the rest, as in 'sensor.>'; without one all are printed.
    Ends with Ctrl-C, or with --count. When the output is not read, the oldest messages are left out; nobody
    waits.
    """
    from grav_actors.cli.client import joined, when_ended

    filters = _make_filters(patterns, everything=everything)
    with joined(bus) as node:
        pod = _connect(node, with_replay=last > 0)
        over: SimpleQueue[Exception | None] = SimpleQueue()
        when_ended(pod, over.put)
        feed = Feed(_formatter(as_json=as_json), count, last, over)
        # Handler and filter in one step: the replay comes once, for the filter of that moment.
        pod._set_handler(feed.take, filters)
        if last:
            _call_after_replay(pod, feed.go_live)
        outcome = over.get()
        if outcome is not None:
            raise outcome


class Feed:
    """Prints messages, on the pod's callback thread.

    Args:
        show: Prints one.
        count: After this many `over` gets None.
        last: How many of those before `go_live` are printed; 0 if it is live from the start.
        over: Gets what ended the printing.
    """

    def __init__(
        self,
        show: Callable[[Message], None],
        count: int | None,
        last: int,
        over: SimpleQueue[Exception | None],
    ) -> None:
        self._show = show
        self._left = count
        self._kept: deque[Message] | None = deque(maxlen=last) if last else None
        self._over = over
        self._is_over = False

    def take(self, message: Message) -> None:
        """Print a message, or keep it until it is known which are the last."""
        if self._kept is not None:
            self._kept.append(message)
        else:
            self._print(message)

    def go_live(self) -> None:
        """Print what was kept, and from now on whatever comes."""
        kept, self._kept = self._kept, None
        for message in kept or ():
            self._print(message)

    def _print(self, message: Message) -> None:
        if self._is_over:
            return
        try:
            self._show(message)
        except Exception as exc:  # a broken pipe, mostly; the main thread raises it
            self._end(exc)
            return
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._end(None)

    def _end(self, outcome: Exception | None) -> None:
        self._is_over = True
        self._over.put(outcome)


def _make_filters(patterns: tuple[str, ...], *, everything: bool) -> FilterSet:
    from grav_actors.filters import FilterSet
    from grav_actors.pattern import check_pattern

    filters = FilterSet(listening=True, exclusive=True)
    for pattern in patterns or (">",):
        filters.set_type(check_pattern(pattern), True)
    if everything:
        filters.set_type("grav.>", True)
    return filters


def _connect(node: Grav, *, with_replay: bool) -> Pod:
    # Never `block`: senders must not wait because somebody has stopped his terminal.
    if with_replay:
        return node.connect_with_replay(overflow="drop_oldest", prefetch=REPLAY_ROOM, mailbox_limit=REPLAY_ROOM)
    return node.connect(overflow="drop_oldest")


def _call_after_replay(pod: Pod, job: Callable[[], None]) -> None:
    """Call `job` on the callback thread when all that was replayed has been taken there."""
    from grav_actors.bus.inquiry import STATS
    from grav_actors.protocol import BUS_NAME

    pod.ask(STATS, to=BUS_NAME)  # whatever: the bus answers behind the replay
    with pod._link.lock:
        pod._callbacks.put(job)


def _formatter(*, as_json: bool) -> Callable[[Message], None]:
    from grav_actors.cli.render import message_row, to_json
    from grav_actors.ids import id_text

    def show(message: Message) -> None:
        if as_json:
            origin = message._origin  # the sender is no public part of a message
            click.echo(to_json(message_row(message, id_text(origin.sender) if origin is not None else "")))
        else:
            click.echo(f"{message.type} {to_json(message.data)}")

    return show
