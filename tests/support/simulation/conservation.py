"""Nothing is lost silently: what was sent ends as handled, dead or counted at each receiver that it is for.

Part of the checkers; see `checkers.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from support.simulation.history import PUBLISHED, QUESTIONS, Started, line
from support.simulation.ledger import Ledger, Stand, Story, allows


def conservation(ledger: Ledger) -> Iterator[str]:
    """P3 and P4: each message that is protected is handled by each receiver, or dead, or a counted gap.

    Not protected, by the design: what a pod that is gone (left or killed) had not been told to be accepted, and of
    it what the bus had not settled when it died. What a receiver held that has left is a gap, each message; only
    where no bus tells what it took and gave up it is excused, as nobody has recorded it one by one. What the bus keeps
    for stuck pods in the place of the sender is settled before they come to it, and their filter may change meanwhile.
    Needs Started, Joined, the filters, the ends, Sent, Accepted, Handled, Dead and Quiet.
    """
    if not ledger.is_quiet:
        return
    end = len(ledger.history)
    for story in ledger.stories.values():
        if is_protected(ledger, story):
            until = end if story.settled is None or story.entrusted is not None else story.settled
            for receiver in receivers(ledger, story, until):
                if not _ends(ledger, story, receiver):
                    yield f"{story.index}: {receiver} never got, and nobody buried: {line(story.sent)}"


def given_up(ledger: Ledger) -> Iterator[str]:
    """P4: only what was held for an account, or group, that has left is given up, and that once. Needs Gap and Taken.

    By name of the account; members of a group leave it what they have not handled, and the last one gives that up.
    """
    if not ledger.tells_all:
        return
    for story in ledger.stories.values():
        before: set[tuple[int, str]] = set()
        for index, gap in story.gaps:
            key = (ledger.life(index), gap.account)
            if key in before:
                yield f"{index}: {line(gap)}, for the second time"
            before.add(key)
            if not any(taken < index for taken in story.taken):
                yield f"{index}: {line(gap)}, but the bus never had it"
            members = ledger.members.get(gap.account, {gap.account})
            past = [stand for member in members for stand in ledger.between(member, 0, index) if stand.since <= index]
            if not any(stand.presence == "left" for stand in past):
                yield f"{index}: {line(gap)}, but nobody of that name has left"
            sent = story.sent
            if sent.kind in PUBLISHED and not any(_may_want(stand, story) for stand in past):
                yield f"{index}: {line(gap)}, but it was never wanted there"


def _may_want(stand: Stand, story: Story) -> bool:
    sent = story.sent
    return any(allows(wire, sent.uuid, sent.type) for wire in stand.filters)


def settling(ledger: Ledger) -> Iterator[str]:
    """A sender is told that a message is settled only when every receiver is done with it, and is told in the end.

    Excused is what the bus keeps for stuck pods in the place of the sender. Needs what `conservation` needs, and
    Settled.
    """
    has_settled = any(story.settled is not None for story in ledger.stories.values())
    for story in ledger.stories.values():
        settled = story.settled
        if settled is not None:
            if story.entrusted is not None and story.entrusted <= settled:
                continue
            for receiver in receivers(ledger, story, settled):
                ends = _ends(ledger, story, receiver)
                if ends and min(ends) > settled:
                    yield f"{settled}: {line(story.sent)} was settled before {receiver} was done, at {min(ends)}"
        elif has_settled and ledger.is_quiet and story.sent.pod not in ledger.ended:
            yield f"{story.index}: never settled: {line(story.sent)}"


def effects(ledger: Ledger) -> Iterator[str]:
    """P3: what a handler sent outlives its pod if the message counts as handled: the acknowledgement leaves after it.

    Excused is what a pod goes on with that the bus has given up, until it hears of that, if the bus has given the same
    to another since: it is that one's to handle, and the acknowledgement of the first counts for nothing. What is
    counted as a gap after the pod's end had not been acknowledged either.
    Needs Sent with its cause, Taken, Handled, Ended and Quiet.
    """
    if not ledger.is_quiet or not any(story.taken for story in ledger.stories.values()):
        return
    starts = list(ledger.of(Started))
    for story in ledger.stories.values():
        sent = story.sent
        cause = ledger.stories.get(sent.cause)
        end = ledger.ended.get(sent.pod)
        if story.taken or cause is None or end is None or not is_protected(ledger, cause):
            continue
        claimants = {ledger.account(sent.pod), ledger.started[sent.pod].group if sent.pod in ledger.started else ""}
        accounts = claimants.union(*(ledger.members.get(claimant, set()) for claimant in claimants))
        if cause.sent.kind == "tell":
            accounts |= ledger.names[cause.sent.dest]  # a new bus may tell another instance of a service
        stays = all(
            stand.wants(cause.sent.uuid, cause.sent.type, cause.sent.pod)
            for stand in ledger.between(ledger.account(sent.pod), end, len(ledger.history))
        )
        # A bus that died may have taken the news with it, and the next one may expect nobody of that name any more.
        # A next incarnation that does not want it any more finishes it without a handler.
        refuses = any(
            index >= end
            and event.account == ledger.account(sent.pod)
            and not allows(event.filters, cause.sent.uuid, cause.sent.type)
            for index, event in starts
        )
        lived = len(ledger.kills) if not refuses else -1
        is_handled = any(
            handled.pod == sent.pod and index < end and (stays or ledger.life(index) == lived)
            for index, handled in cause.handled
        )
        gone = _given_up_with(ledger, story, cause, end)
        comes_again = any(
            index > gone and one.pod != sent.pod and ledger.account(one.pod) in accounts
            for index, one in cause.delivered
        )
        is_dead = any(dead.target in accounts for _, dead in cause.dead)
        is_gap = any(index > end and gap.account in claimants for index, gap in cause.gaps)
        if cause.sent.kind not in QUESTIONS and is_handled and not (comes_again or is_dead or is_gap):
            yield f"{story.index}: {line(sent)} is lost, but {sent.cause} counts as handled by {sent.pod}"


def _given_up_with(ledger: Ledger, story: Story, cause: Story, end: int) -> int:
    """Return when the bus gave up the pod that sent this, and the cause with it: before its end, or with that."""
    pod = story.sent.pod
    called = max((index for index, one in cause.delivered if one.pod == pod and index < story.index), default=end)
    # One that is lost when its handler is called got the message before that: nothing comes to it any more.
    lost = (
        stand.since
        for stand in ledger.between(ledger.account(pod), called, end)
        if (stand.pod, stand.presence) == (pod, "lost")
    )
    return next(lost, end)


def is_protected(ledger: Ledger, story: Story) -> bool:
    """Whether a message may not be lost: its sender lives and keeps it, or the bus had it and lives."""
    if story.entrusted is not None and any(kill > story.entrusted for kill in ledger.kills):
        return False
    end = ledger.ended.get(story.sent.pod)
    if end is None or (story.settled is not None and story.settled < end):
        return True
    return story.accepted is not None and not any(kill > story.index for kill in ledger.kills)


def receivers(ledger: Ledger, story: Story, until: int) -> list[str]:
    """Return the accounts and groups for which a message certainly was, from when it was sent until it was settled."""
    known = ledger.receivers.get((story.sent.uuid, until))
    if known is None:
        known = ledger.receivers[story.sent.uuid, until] = list(_receivers(ledger, story, until))
    return known


def _receivers(ledger: Ledger, story: Story, until: int) -> Iterator[str]:
    sent = story.sent
    if sent.kind == "tell":
        if _told(ledger, story, until):
            yield sent.dest
        return
    if sent.kind not in PUBLISHED or sent.kind == "ask_any":
        return  # questions end in an answer or an error
    sender = ledger.account(sent.pod)
    for account in ledger.singles:
        if account != sender and _is_for(ledger, story, account, until):
            yield account
    for group, members in ledger.members.items():
        others = members - {sender}
        # What returned to the group from one member may have been counted as another left, the last.
        has_left = not ledger.tells_all and any(
            stand.presence == "left" for member in others for stand in ledger.between(member, story.index, until)
        )
        if not has_left and any(_is_for(ledger, story, member, until) for member in others):
            yield group


def _is_for(ledger: Ledger, story: Story, account: str, until: int) -> bool:
    """Whether an account wanted a message from when it was sent until it was settled, or was lost with it."""
    sent = story.sent
    is_first = True
    for stand in ledger.between(account, story.index, until):
        if is_first and stand.since > story.index:
            return False
        is_first = False
        if not stand.wants(sent.uuid, sent.type, sent.pod):
            is_gone = stand.presence == "lost" or (stand.presence == "left" and ledger.tells_all)
            return is_gone and stand.since > story.index and _was_taken(ledger, story, stand.since)
    return not is_first


def _was_taken(ledger: Ledger, story: Story, before: int) -> bool:
    """Whether the bus certainly had a message before something happened, and did not die."""
    times = [*story.taken, *([story.accepted] if story.accepted is not None else [])]
    has_it = any(time < before for time in times)
    return has_it and not any(kill > story.index for kill in ledger.kills)


def _told(ledger: Ledger, story: Story, until: int) -> bool:
    """Whether a tell has to end somewhere: nobody of that name has left with what it held only counted, untold."""
    if ledger.tells_all:
        return True
    for account in ledger.names.get(story.sent.dest, ()):
        if any(stand.presence == "left" for stand in ledger.between(account, story.index, until)):
            return False
    return True


def _ends(ledger: Ledger, story: Story, receiver: str) -> list[int]:
    """Return where a message ended for a receiver."""
    is_told = story.sent.kind == "tell"
    accounts = ledger.claimants(receiver, is_told=is_told)
    return [
        *(index for index, handled in story.handled if ledger.account(handled.pod) in accounts),
        *(index for index, dead in story.dead if is_told or dead.target in accounts),
        *(index for index, gap in story.gaps if is_told or gap.account in accounts),
    ]
