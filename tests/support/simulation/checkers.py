"""What must be true of a history: pure functions that return what is not.

They know nothing of the simulator. Each docstring says which promise of the design a checker holds, and which
events it needs; without these it finds nothing. Positions in the text are indexes into the history.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from grav_actors.protocol import FAILED_LIMIT
from support.simulation.conservation import conservation, effects, given_up, settling
from support.simulation.history import (
    PUBLISHED,
    QUESTIONS,
    Answered,
    Delivered,
    Ended,
    Event,
    Failed,
    FilterAsked,
    Handled,
    Measured,
    Sent,
    Started,
    line,
)
from support.simulation.ledger import Ledger, Story, allows
from support.simulation.retries import flush, redelivery_order


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be.

    Attributes:
        checker: Name of the function that found it.
    """

    checker: str
    text: str

    def __str__(self) -> str:
        return f"{self.checker}: {self.text}"


Checker = Callable[[Ledger], Iterator[str]]


def invention(ledger: Ledger) -> Iterator[str]:
    """Nobody gets what nobody sent, and nothing happens to a pod that is no more. Needs Sent and Delivered."""
    for index, event in ledger.strangers:
        yield f"{index}: of a message that nobody had sent: {line(event)}"
    for story in ledger.stories.values():
        sent = story.sent
        for index, delivered in story.delivered:
            if (delivered.sender, delivered.type) != (sent.pod, sent.type):
                yield f"{index}: {line(delivered)} was sent as {line(sent)}"
            if sent.kind in ("tell", "ask") and ledger.account(delivered.pod) not in ledger.names[sent.dest]:
                yield f"{index}: {line(delivered)} was for {sent.dest}"
            if sent.kind == "answer":
                yield f"{index}: an answer went to a handler: {line(delivered)}"
            if index > ledger.ended.get(delivered.pod, index):
                yield f"{index}: {line(delivered)} after the end of its pod"


def echo(ledger: Ledger) -> Iterator[str]:
    """P2: what a pod published never comes back to it. Needs Sent and Delivered."""
    for story in ledger.stories.values():
        if story.sent.kind in PUBLISHED:
            for index, delivered in story.delivered:
                if delivered.pod == story.sent.pod:
                    yield f"{index}: {line(delivered)} is its own"


def filters(ledger: Ledger) -> Iterator[str]:
    """P2: no handler gets what its pod did not ask for. Needs Started, FilterAsked, Sent and Delivered."""
    now: dict[str, Started | FilterAsked] = {}
    for index, event in ledger.of(Started, FilterAsked, Delivered):
        if not isinstance(event, Delivered):
            now[event.pod] = event
        elif event.pod in now:
            story = ledger.stories.get(event.uuid)
            wire = now[event.pod].filters
            if story is not None and story.sent.kind in PUBLISHED and not allows(wire, event.uuid, event.type):
                yield f"{index}: {line(event)} is refused by its filter {wire}"


def duplicates(ledger: Ledger) -> Iterator[str]:
    """P3: what is not marked as redelivered was never given to this account, or its group, before. Needs Delivered.

    Excused is what a member of a group goes on with that a new bus has given up, until it hears of that: another member
    was given the same, marked.
    """
    for story in ledger.stories.values():
        before: dict[str, int] = {}
        for index, delivered in story.delivered:
            account = _claimant(ledger, story, delivered)
            if not delivered.redelivered and account in before and not _is_given_up(ledger, delivered, account, index):
                yield f"{index}: {line(delivered)} was given to {account} before, at {before[account]}"
            before.setdefault(account, index)


def _is_given_up(ledger: Ledger, delivered: Delivered, claimant: str, index: int) -> bool:
    account = ledger.account(delivered.pod)
    stand = next(ledger.between(account, index, index), None)
    return account != claimant and stand is not None and (stand.pod, stand.presence) == (delivered.pod, "lost")


def _claimant(ledger: Ledger, story: Story, delivered: Delivered) -> str:
    """Return who counts as one receiver: the group, if the message came through it."""
    started = ledger.started.get(delivered.pod)
    if started is not None and started.group and story.sent.kind in PUBLISHED:
        return started.group
    return ledger.account(delivered.pod)


def total_order(ledger: Ledger) -> Iterator[str]:
    """P1: within one life of the bus all see first deliveries in the order in which the bus took them.

    Compared are messages that were sent, taken and delivered in one life. Needs Sent and Delivered; with Taken the
    bus itself is one more observer. What came through a group is an observer of its own: it waits for other members.
    """
    observers: dict[tuple[int, str, str], list[str]] = defaultdict(list)
    lives = {uuid: _life_of(ledger, story) for uuid, story in ledger.stories.items()}
    for story in ledger.stories.values():
        if story.taken and (life := lives[story.sent.uuid]) is not None:
            observers[life, "the bus", ""].append(story.sent.uuid)
    for key in [key for key in observers if key[1] == "the bus"]:
        observers[key].sort(key=lambda uuid: ledger.stories[uuid].taken[0])
    for index, event in ledger.of(Delivered):
        if event.redelivered or event.attempt > 1:
            continue
        started = ledger.started.get(event.pod)
        if event.uuid not in lives or (started is not None and started.concurrency > 1):
            continue
        life = lives[event.uuid]
        if life is not None and life == ledger.life(index):
            key = (life, event.pod, _channel(ledger, event))
            if event.uuid not in observers[key][-1:]:  # a repetition is another checker's business
                observers[key].append(event.uuid)
    for life in sorted({life for life, _, _ in observers}):
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for (one, _, _), seen in observers.items():
            if one == life:
                for before, after in zip(seen, seen[1:], strict=False):
                    sorter.add(after, before)
        try:
            sorter.prepare()
        except CycleError as exc:
            cycle = [line(ledger.stories[uuid].sent) for uuid in exc.args[1][1:]]
            yield f"life {life}: no order of these fits what all have seen:\n  " + "\n  ".join(cycle)


def _life_of(ledger: Ledger, story: Story) -> int | None:
    """Return the one life of the bus in which a message was sent and taken; None if there were several."""
    lives = {ledger.life(index) for index in (story.taken or (story.index,))}
    return lives.pop() if len(lives) == 1 else None


def _channel(ledger: Ledger, delivered: Delivered) -> str:
    claimant = _claimant(ledger, ledger.stories[delivered.uuid], delivered)
    return "" if claimant == ledger.account(delivered.pod) else claimant


def fifo(ledger: Ledger) -> Iterator[str]:
    """P1: first deliveries of one sender come in the order in which it sent them, across lives of the bus too.

    Needs Sent and Delivered. Where a bus died, what an account did not ask for when it was sent, or when a bus took it,
    is left out, and what was for a service: they may come late. So may what had ended for it, by a dead letter or a
    question's error.
    """
    newest: dict[tuple[str, str, str], Sent] = {}
    for index, event in ledger.of(Delivered):
        if event.redelivered or event.attempt > 1:
            continue
        story = ledger.stories.get(event.uuid)
        started = ledger.started.get(event.pod)
        if story is None or (started is not None and started.concurrency > 1):
            continue
        account = ledger.account(event.pod)
        if ledger.kills and not _was_wanted(ledger, story, account, index):
            continue
        ends = [(position, end.target) for position, end in story.dead]
        ends += [(position, end.target) for position, end in story.dropped]
        if any(position < index and target == account for position, target in ends):
            continue  # it had ended, and comes again as the bus that buried it has died
        key = (event.pod, _channel(ledger, event), story.sent.pod)
        last = newest.get(key)
        if last is not None and last.seq > story.sent.seq:
            yield f"{index}: {line(event)} (seq {story.sent.seq}) after seq {last.seq} of the same sender"
        newest[key] = story.sent


def _was_wanted(ledger: Ledger, story: Story, account: str, until: int) -> bool:
    sent = story.sent
    if sent.kind in ("tell", "ask"):
        return sent.dest == account  # another instance of a service may have had it before the bus died
    for index in (story.index, *(taken for taken in story.taken if taken < until)):
        stand = next(ledger.between(account, index, index), None)
        if stand is None or stand.since > index or not stand.wants(sent.uuid, sent.type, sent.pod):
            return False
    return True


def one_at_a_time(ledger: Ledger) -> Iterator[str]:
    """P5: a pod handles no more messages at one time than its concurrency. Needs Delivered, Handled and Failed."""
    open_: dict[str, set[str]] = defaultdict(set)
    for index, event in ledger.of(Delivered, Handled, Failed, Ended):
        if isinstance(event, Delivered):
            open_[event.pod].add(event.uuid)
            started = ledger.started.get(event.pod)
            if len(open_[event.pod]) > (started.concurrency if started is not None else 1):
                yield f"{index}: {line(event)} while {event.pod} handles another"
        elif isinstance(event, Ended):
            open_.pop(event.pod, None)
        else:
            open_[event.pod].discard(event.uuid)


def attempts(ledger: Ledger) -> Iterator[str]:
    """A message is charged with its own failures and deaths alone. Needs Delivered, Failed, Ended and Started.

    At most as many attempts as failures of it, and deaths of pods that held it, went before; and no more failures
    than are allowed, in each life of the bus.
    """
    for story in ledger.stories.values():
        failures: dict[str, list[int]] = defaultdict(list)
        for index, failed in story.failed:
            failures[ledger.account(failed.pod)].append(index)
        for index, delivered in story.delivered:
            account = ledger.account(delivered.pod)
            # What a member of a group leaves behind is charged with its death, and goes on to another.
            accounts = {account} | ledger.members.get(_claimant(ledger, story, delivered), set())
            charged = sum(1 for position in failures[account] if position < index)
            deaths = {
                other.pod
                for position, other in story.delivered
                if position < index and other.pod != delivered.pod and other.pod in ledger.ended
            }
            # An incarnation may also die with the message in its queue, before the handler was called.
            unseen = sum(1 for pod, end in ledger.ended.items() if end < index and ledger.account(pod) in accounts)
            if delivered.attempt > 1 + charged + max(len(deaths), unseen):
                yield f"{index}: {line(delivered)} after {charged} failures and {unseen} deaths"
        for pod in {failed.pod for _, failed in story.failed}:
            limit = ledger.started[pod].max_deliver if pod in ledger.started else 5
            own = [index for index, one in story.failed if one.pod == pod]
            # With the bus its count is gone.
            allowed = limit * (1 + ledger.life(own[-1]) - ledger.life(story.index))
            if len(own) > allowed:
                yield f"{story.index}: {line(story.sent)} failed {len(own)} times at {pod}, allowed are {allowed}"


def health(ledger: Ledger) -> Iterator[str]:
    """A pod calls no handler after its 64th open failure. Needs Delivered, Failed, Handled and Started.

    Open are those of this life of the bus since the last success of a message that had not failed.
    """
    for pod, started in ledger.started.items():
        if started.concurrency > 1:
            continue
        open_ = 0
        life = 0
        attempt: dict[str, int] = {}
        for index, event in ledger.by_pod.get(pod, ()):
            if ledger.life(index) != life:
                life = ledger.life(index)
                open_ = 0
            if isinstance(event, Delivered):
                attempt[event.uuid] = event.attempt
                if open_ >= FAILED_LIMIT:
                    yield f"{index}: {line(event)} after {open_} failures"
            elif isinstance(event, Failed):
                open_ += not event.rejected and attempt[event.uuid] < started.max_deliver
            elif attempt[event.uuid] == 1:
                open_ = 0


def answers(ledger: Ledger) -> Iterator[str]:
    """Every question of a pod that lives has one outcome, and no account gets it twice in one life of the bus.

    Needs Sent, Answered, Delivered and Quiet.
    """
    outcomes: dict[str, list[int]] = defaultdict(list)
    for index, event in ledger.of(Answered):
        outcomes[event.uuid].append(index)
        asked = ledger.stories.get(event.uuid)
        if asked is None or asked.sent.kind not in QUESTIONS or asked.sent.pod != event.pod:
            yield f"{index}: {line(event)} is the outcome of no question of that pod"
    for uuid, story in ledger.stories.items():
        if story.sent.kind not in QUESTIONS:
            continue
        if len(outcomes[uuid]) > 1:
            yield f"{outcomes[uuid][1]}: a second outcome of {line(story.sent)}"
        if ledger.is_quiet and not outcomes[uuid] and story.sent.pod not in ledger.ended:
            yield f"{story.index}: no outcome of {line(story.sent)}"
        if story.delivered and ledger.life(story.index) != ledger.life(story.delivered[-1][0]):
            continue  # what a pod still held of an earlier life may come to the next incarnation
        before: set[str] = set()
        for index, delivered in story.delivered:
            key = _claimant(ledger, story, delivered)
            if key in before:
                yield f"{index}: {line(delivered)} is a question and came twice"
            before.add(key)


def bounds(ledger: Ledger) -> Iterator[str]:
    """P6: nothing bounded holds more than it may. Needs Measured."""
    for index, event in ledger.of(Measured):
        if event.used > event.limit:
            yield f"{index}: {event.what} held {event.used}, allowed are {event.limit}"


CHECKERS: tuple[Checker, ...] = (
    invention,
    echo,
    filters,
    duplicates,
    total_order,
    fifo,
    one_at_a_time,
    attempts,
    health,
    conservation,
    given_up,
    settling,
    effects,
    answers,
    flush,
    redelivery_order,
    bounds,
)


def violations(history: Sequence[Event], checkers: Sequence[Checker] = CHECKERS) -> list[Violation]:
    """Return what is wrong with a history."""
    ledger = Ledger(history)
    return [Violation(checker.__name__, text) for checker in checkers for text in checker(ledger)]
