"""Questions to the bus itself: asks to the name `grav.bus`, answered as any actor would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grav_actors.bus.dead_letter_inquiry import DEAD_LETTER_INQUIRIES, answer_dead_letter_inquiry
from grav_actors.codec import unpack_body
from grav_actors.errors import MessageDecodeError, MessageTooLargeError
from grav_actors.ids import id_text
from grav_actors.message import Message
from grav_actors.protocol import ERROR_TYPE, KIND_ANSWER, REPLY_TYPE
from grav_actors.reference import ActorRef

if TYPE_CHECKING:
    from grav_actors.bus.core import BusCore
    from grav_actors.bus.run import Run

STATS = "grav.sys.bus.stats"
"""The counters, as a map."""
PODS = "grav.sys.bus.pods"
"""A list with a map for each pod."""
RECEIVERS = "grav.sys.bus.receivers"
"""How many pods and groups receive the published type that is the question's data."""
CONNECTED = "grav.sys.bus.connected"
"""Whether the actor whose name is the question's data can be reached."""
WAITING = "grav.sys.bus.waiting"
"""How many messages wait for the pods whose uuids are the question's data, or are in flight to them."""
RELEASE = "grav.sys.bus.release"
"""`[name, incarnation, reason, error, [*[sender uuid, seq]]]`, from its supervisor: that incarnation has ended, perhaps
without a word, and these messages were in its handlers. With the reason `crashed` a next one takes its mailbox; with
others it is not coming back, and `error` says to those who watch it what it failed with, if it did."""


def answer_inquiry(core: BusCore, run: Run, now: float) -> None:
    """Answer each question of a run; what is not understood is answered with an error."""
    try:
        records = unpack_body(bytes(run.body), run.count, ActorRef)
    except MessageDecodeError:
        core.postman.counts.garbled += run.count
        return
    for record in records:
        try:
            reply_type, data = REPLY_TYPE, _answer(core, run, record[4], now)
        except ValueError as exc:
            reply_type, data = ERROR_TYPE, {"code": "failed", "error": str(exc), "traceback": ""}
        message = Message._framework(reply_type, data, reply_to=id_text(record[0]))
        try:
            core.postman.send_own(message, KIND_ANSWER, run.sender.uuid, now)
        except MessageTooLargeError as exc:
            data = {"code": "failed", "error": str(exc), "traceback": ""}
            message = Message._framework(ERROR_TYPE, data, reply_to=id_text(record[0]))
            core.postman.send_own(message, KIND_ANSWER, run.sender.uuid, now)


def _answer(core: BusCore, run: Run, data: Any, now: float) -> Any:
    question = run.type
    if question == STATS:
        return core.describe(now)
    if question == PODS:
        return core.describe_pods()
    if question == RECEIVERS and isinstance(data, str):
        return core.directory.plan(data).count
    if question == CONNECTED and isinstance(data, str):
        return core.directory.is_connected(data)
    if question == WAITING and isinstance(data, list) and all(isinstance(uuid, bytes) for uuid in data):
        receivers = [core.directory.by_uuid.get(uuid) for uuid in data]
        return sum(receiver.mailbox.used for receiver in receivers if receiver is not None)
    if question == RELEASE and isinstance(data, list) and [type(one) for one in data] == [str, int, str, str, list]:
        name, incarnation, reason, error, named = data
        return core.release_name(run.sender.uuid, name, incarnation, reason, error, _named_messages(named), now)
    if question in DEAD_LETTER_INQUIRIES:
        return answer_dead_letter_inquiry(core, question, data, now)
    known = ", ".join((STATS, PODS, RECEIVERS, CONNECTED, WAITING, RELEASE, *DEAD_LETTER_INQUIRIES))
    raise ValueError(f"the bus does not answer {question!r} with this data; it answers {known}")


def _named_messages(data: list[Any]) -> list[tuple[bytes, int]]:
    for item in data:
        if not isinstance(item, list) or [type(one) for one in item] != [bytes, int]:
            raise ValueError(f"a message is named by [sender uuid, seq], not by {item!r:.80}")
    return [(item[0], item[1]) for item in data]
