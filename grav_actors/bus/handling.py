"""What pods report: deliveries that are finished, and failures, which are kept and tried again."""

from __future__ import annotations

from grav_actors.bus.counts import Counts
from grav_actors.bus.dead_letters import DeadLetters
from grav_actors.bus.directory import Directory
from grav_actors.bus.ledger import Ledger
from grav_actors.bus.mailroom import Mailroom
from grav_actors.bus.ordered import OrderedSet
from grav_actors.bus.receiver import RETRY_FIRST, RETRY_MAX, Failure, Receiver
from grav_actors.bus.run import Delivery
from grav_actors.protocol import FAIL_CRASH, FAIL_REJECT, FAILED_LIMIT, FLAG_REDELIVERED, QUESTION_KINDS, Handled


class Handling:
    """Finishes deliveries, and keeps the failed ones.

    Attributes:
        failing: Receivers with failures that wait.
    """

    def __init__(
        self, directory: Directory, ledger: Ledger, dead_letters: DeadLetters, mailroom: Mailroom, counts: Counts
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._dead_letters = dead_letters
        self._mailroom = mailroom
        self._counts = counts
        self.failing: OrderedSet[Receiver] = OrderedSet()

    def handled(self, receiver: Receiver, handled: Handled, now: float) -> None:
        """Apply a pod's watermark; the caller has checked it."""
        if type(handled) is int:
            finished, highest = receiver.finish_floor(handled, self._ledger.settle)
            self._counts.handled += finished
        else:
            finished, highest = self._apply_long(receiver, handled, now)  # type: ignore[arg-type]
        if not finished:
            return  # nothing that is new, and so no sign of progress
        receiver.repeats = 0
        mailbox = receiver.mailbox
        mailbox.progress_at = now
        if mailbox in self._mailroom.full or mailbox.stuck:
            self._mailroom.relieve(mailbox, now)
        if highest:
            receiver.retry_delay = RETRY_FIRST
            if receiver.failed:
                self._flush_failed(receiver, highest, now)
        if len(receiver.failed) >= FAILED_LIMIT:
            self._mailroom.unhealthy.append(receiver)
        if receiver.settings.group:
            group = self._directory.groups.get(receiver.settings.group)
            if group is not None:
                group.mailbox.progress_at = now
                self._mailroom.dirty_groups.add(group.name)
        if mailbox.waiting:
            self._mailroom.touch(receiver)

    def _apply_long(
        self,
        receiver: Receiver,
        handled: tuple[int, tuple[tuple[int, int], ...], tuple[tuple[int, int, str], ...]],
        now: float,
    ) -> tuple[int, int]:
        """Apply a watermark with ranges and failures; return how many it finishes, and the highest success."""
        floor, ranges, failures = handled
        settle = self._ledger.settle
        failed = sum(self._fail(receiver, number, how, error, now) for number, how, error in failures)
        done = [receiver.finish_range(first, last, settle) for first, last in ranges]
        done.append(receiver.finish_floor(floor, settle))
        finished = sum(count for count, _ in done)
        self._counts.handled += finished
        return failed + finished, max(success for _, success in done)

    def _fail(self, receiver: Receiver, number: int, how: int, error: str, now: float) -> int:
        """Note that a handler raised; return how many messages that finishes."""
        delivery = receiver.find(number)
        if delivery is None or delivery.priority:
            return 0
        if how == FAIL_CRASH:
            receiver.suspects.add((delivery.run, delivery.lo + number - delivery.number))
            return 0
        delivery.marks = delivery.marks if delivery.marks is not None else set()
        delivery.marks.add(number)
        receiver.free_window(delivery, 1)
        index = delivery.lo + number - delivery.number
        failed = delivery.piece(index, index + 1)
        attempts = delivery.attempt
        failed.attempt = attempts + 1
        failed.flags |= FLAG_REDELIVERED
        failed.group = ""  # it stays with the member that failed it
        if how == FAIL_REJECT:
            self._dead_letters.bury_of(receiver, failed, "rejected", now, attempts, error)
        elif delivery.run.kind in QUESTION_KINDS:
            self._ledger.settle(delivery.run, 1)  # the pod has answered it with the error
        elif attempts >= receiver.settings.max_deliver:
            self._dead_letters.bury_of(receiver, failed, "max_deliver", now, attempts, error)
        else:
            if not receiver.failed:
                receiver.retry_at = now + receiver.retry_delay
            receiver.failed.append(Failure(failed, number, error))
            self.failing.add(receiver)
        return 1

    def _flush_failed(self, receiver: Receiver, success: int, now: float) -> None:
        again = [failure.delivery for failure in receiver.failed if failure.after < success]
        receiver.failed = [failure for failure in receiver.failed if failure.after >= success]
        for delivery in again:
            delivery.flush = True
        self._deliver_again(receiver, again, now)

    def _deliver_again(self, receiver: Receiver, again: list[Delivery], now: float) -> None:
        receiver.mailbox.add_again(again)
        self._counts.redeliveries += len(again)
        receiver.retry_at = now + receiver.retry_delay
        if not receiver.failed:
            self.failing.discard(receiver)
        self._mailroom.touch(receiver)

    def retry_failed(self, now: float) -> None:
        """Give idle pods their oldest failed message again when its time has come.

        If that succeeds it counts as any success, and brings the others back.
        """
        for receiver in list(self.failing):
            if now >= receiver.retry_at and not receiver.mailbox.used:
                receiver.retry_delay = min(receiver.retry_delay * 2, RETRY_MAX)
                delivery = receiver.failed.pop(0).delivery
                delivery.flush = False
                self._deliver_again(receiver, [delivery], now)
