"""Dead letters that are given once more to whom they were for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from grav_actors.bus.counts import Counts
from grav_actors.bus.dead_letters import DeadLetters
from grav_actors.bus.directory import Directory
from grav_actors.bus.ledger import Ledger
from grav_actors.bus.mailbox import MAILBOX_BYTES, Mailbox
from grav_actors.bus.mailroom import Mailroom
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.sender import Sender
from grav_actors.bus.shelf import DeadLetter
from grav_actors.ids import id_bytes
from grav_actors.protocol import FLAG_GROUP, FLAG_REDELIVERED, FLAG_RELAYED, KIND_TELL


class RetrySender(Sender):
    """Stands in for the sender of one message, which was settled long ago and must not be open for it again."""

    __slots__ = ()

    def settled(self) -> int:
        """Return 0: nothing is known here of what else the sender has sent."""
        return 0


class DeadLetterRetry:
    """Takes dead letters from the shelf to their targets: attempts count anew, marked as redelivered."""

    def __init__(
        self, directory: Directory, ledger: Ledger, mailroom: Mailroom, dead_letters: DeadLetters, counts: Counts
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._mailroom = mailroom
        self._dead_letters = dead_letters
        self._counts = counts

    def retry(self, letters: Iterable[DeadLetter], now: float) -> tuple[int, Counter[str]]:
        """Deliver single letters again; return how many, and why others stay, each with their count."""
        gone: set[int] = set()
        stay: Counter[str] = Counter()
        for letter in letters:
            reason = self._revive(letter, now)
            if reason:
                stay[reason] += 1
            else:
                gone.add(letter.number)
        if gone:
            self._dead_letters.shelf.remove(gone)
        return len(gone), stay

    def _revive(self, letter: DeadLetter, now: float) -> str:
        """Deliver a letter again; return why not, or ""."""
        dead = letter.delivery.run
        group = self._directory.groups.get(letter.group) if letter.group else None
        receiver = None
        mailbox: Mailbox
        if letter.group:
            # 1. What came through a group goes to the group: any member may have it.
            if group is None:
                return f"no member of the group {letter.group} is on the bus"
            if not self._directory.choose(group, dead.type, dead.sender.uuid)[1]:
                return f"no member of the group {letter.group} takes {dead.type}"
            mailbox = group.mailbox
        else:
            # 2. All else goes to its target alone, also what was published to many.
            found = self._find(letter.target)
            if isinstance(found, str):
                return found
            receiver = found
            if dead.kind != KIND_TELL and not receiver.filters.decides(dead.type):
                return f"{letter.target} does not listen to {dead.type} any more"
            mailbox = receiver.mailbox
        if mailbox.stuck or mailbox.is_full or mailbox.used_bytes + dead.size > MAILBOX_BYTES:
            return f"the mailbox of {mailbox.name} is full"
        run = Run(
            RetrySender(dead.sender.uuid, dead.seq), dead.seq, dead.kind, dead.type, 1, dead.body, dead.size, dead.dest
        )
        delivery = Delivery(run, 0, 1, FLAG_REDELIVERED)
        if receiver is not None and receiver is self._directory.gateway and dead.kind == KIND_TELL:
            delivery.flags |= FLAG_RELAYED
            delivery.relayed = letter.target
        if group is not None:
            delivery.flags |= FLAG_GROUP
            delivery.group = group.name
            self._mailroom.dirty_groups.add(group.name)
        self._mailroom.put(mailbox, delivery, now)
        self._ledger.open(run)
        if receiver is not None:
            self._mailroom.touch(receiver)
        self._counts.redeliveries += 1
        return ""

    def _find(self, target: str) -> Receiver | str:
        """Return who has that name or uuid, or why there is nobody: an actor, else the only pod of that name."""
        receiver = self._directory.named(target)
        if receiver is None:
            receiver = self._directory.stand_in(target)
        if receiver is not None:
            return receiver
        try:
            pods = [pod for pod in (self._directory.by_uuid.get(id_bytes(target)),) if pod is not None]
        except ValueError:
            pods = [pod for pod in self._directory if pod.name == target]
        if len(pods) == 1:
            return pods[0]
        if pods:
            return f"{len(pods)} pods are called {target}, and it is not known which one it was"
        return f"{target} is not on the bus"
