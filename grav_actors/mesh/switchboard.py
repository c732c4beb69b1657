"""What the bus of a node and its peers have to say to one another: to names, groups and askers, and back. Pure.

`docs/mesh.md` sections 13 to 15 are the specification.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from grav_actors.codec import array_header, cut_records, join_body, record_ids, unpack_body
from grav_actors.errors import MessageDecodeError, ProtocolError
from grav_actors.mesh.core import MeshCore
from grav_actors.mesh.effects import (
    Deliver,
    DeliverTunnelled,
    Finish,
    GapFound,
    PeerChanged,
    Post,
    PostError,
    Refuse,
    TakeBack,
)
from grav_actors.mesh.peers import PeerState
from grav_actors.mesh.relay_frames import (
    KIND_CANCEL,
    KIND_ENDED,
    KIND_LOST,
    Meta,
    decode_ids,
    decode_meta,
    encode_ids,
    encode_meta,
    is_too_large,
)
from grav_actors.protocol import (
    CODE_NO_RESPONDERS,
    CODE_SETTLED,
    ERROR_TYPE,
    KIND_ANSWER,
    KIND_ASK,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
    MAX_ERROR_TEXT,
    QUESTION_KINDS,
    RELAY_REDELIVERED,
)

MAX_QUESTIONS = 16_384
"""Questions of this node that wait for peers, and of each peer that wait here; past it the asker is told `overflow`."""
MAX_QUESTION_BYTES = 32 * 1024 * 1024
MAX_PROCESSES = 65_536
"""Processes of peers whose node is remembered, to find it for a reply; past it the oldest go."""
FINAL = (CODE_NO_RESPONDERS, CODE_SETTLED)
STOPPED = "stopped"
FAILED = "failed"
TOO_LARGE = "too_large"
OVERFLOW = "overflow"


@dataclass(slots=True)
class Leaving:
    """A run of the local bus.

    Attributes:
        is_receipt: It is for receipts and questions of peers.
        relayed: What the bus says besides: for whom it is, or which groups have it here; None for nothing.
        token: Names it in `Finish` and `Refuse`. Questions and what is told to a name wait for these.
    """

    kind: int
    type: str
    count: int
    sender: bytes
    seq: int
    body: bytes
    is_receipt: bool
    relayed: Any
    token: Any


@dataclass(slots=True, eq=False)
class Question:
    """A question of this node that peers have.

    Attributes:
        peers: Uuids of those from whom an outcome is awaited.
        directed: It was asked of a name; else the first answer counts.
    """

    uuid: bytes
    asker: bytes
    seq: int
    token: Any
    index: int
    size: int
    directed: bool
    peers: set[str] = field(default_factory=set[str])


@dataclass(slots=True)
class Asked:
    """A question of a peer that waits on this node's bus."""

    peer: str
    asker: bytes
    directed: bool


class Switchboard:
    """Finds for each run whom it is for, on peers and here, and keeps the questions until their outcome is known.

    Its effects go where the core's go.
    """

    def __init__(self, core: MeshCore) -> None:
        self._core = core
        self._questions: dict[bytes, Question] = {}
        self._by_seq: dict[tuple[bytes, int], Question] = {}
        self._question_bytes = 0
        self._asked: dict[bytes, Asked] = {}
        self._asked_of: dict[str, int] = {}
        self._processes: OrderedDict[bytes, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._questions) + len(self._asked)

    # From the local bus

    def leave(self, run: Leaving) -> None:
        """Carry a run of the bus to whom it is for."""
        if run.is_receipt:
            self._reply(run)
        elif run.kind == KIND_TELL:
            self._tell(run)
        elif run.kind in QUESTION_KINDS:
            self._ask(run)
        elif run.kind in (KIND_PUBLISH, KIND_REPLY):
            self._publish(run)

    def _publish(self, run: Leaving) -> None:
        served = run.relayed if type(run.relayed) is tuple else ()
        chosen = self._core.actors.choose(run.type, served)
        meta = self._meta(run, chosen)
        alone = {uuid for uuid in chosen.values() if not self._core.wants(uuid, run.type)}
        self._core.publish(run.type, run.count, meta, run.body)
        for uuid in sorted(alone):
            self._core.direct(uuid, run.type, run.count, meta, run.body)

    def _meta(self, run: Leaving, chosen: dict[str, str]) -> bytes:
        peers = {uuid: self._core.peer(uuid) for uuid in chosen.values()}
        served = [(group, peer.incarnation) for group, uuid in chosen.items() if (peer := peers[uuid]) is not None]
        return encode_meta(run.kind, run.sender, served)

    def _tell(self, run: Leaving) -> None:
        uuid = self._core.actors.holder(run.relayed) if type(run.relayed) is str else None
        meta = encode_meta(run.kind, run.sender, run.relayed)
        refusal = self._core.refusal_of(uuid, run.count, run.body) if uuid is not None else ""
        if uuid is not None and not refusal and self._core.direct(uuid, run.type, run.count, meta, run.body):
            self._core.out.append(Finish(run.token))
        else:
            self._core.out.append(Refuse(run.token, refusal or f"no peer has an actor {run.relayed} any more"))

    def _ask(self, run: Leaving) -> None:
        directed = run.kind == KIND_ASK
        try:
            ids = record_ids(run.body, run.count)
        except MessageDecodeError:
            self._core.out.append(Finish(run.token))
            return
        if directed:
            uuid = self._core.actors.holder(run.relayed) if type(run.relayed) is str else None
            peers, meta = [uuid] if uuid is not None else [], encode_meta(run.kind, run.sender, run.relayed)
        else:
            served = run.relayed if type(run.relayed) is tuple else ()
            here = [peer.uuid for peer in self._core.peers() if peer.is_present]
            chosen = {group: uuid for group, uuid in self._core.actors.choose(run.type, served).items() if uuid in here}
            meta = self._meta(run, chosen)
            peers = [uuid for uuid in here if uuid in chosen.values() or self._core.wants(uuid, run.type)]
        code, text = CODE_NO_RESPONDERS, f"there is no actor {run.relayed}, here or on a peer"
        if len(self._questions) + run.count > MAX_QUESTIONS or self._question_bytes > MAX_QUESTION_BYTES:
            peers, code, text = [], OVERFLOW, f"{len(self._questions)} questions to other nodes wait for an answer"
        elif any(each in self._questions for each in ids) or len(set(ids)) < len(ids):
            peers, code, text = [], FAILED, "the same question was asked twice"
        else:
            refusals = {uuid: why for uuid in peers if (why := self._core.refusal_of(uuid, run.count, run.body))}
            peers = [uuid for uuid in peers if uuid not in refusals]
            if directed and refusals:
                code, text = TOO_LARGE, next(iter(refusals.values()))
        peers = [uuid for uuid in peers if self._core.direct(uuid, run.type, run.count, meta, run.body)]
        for index, each in enumerate(ids):
            if not peers:
                if directed or code != CODE_NO_RESPONDERS:
                    self._core.out.append(PostError(each, run.sender, code, text))
                continue
            question = Question(
                each, run.sender, run.seq + index, run.token, index, len(run.body) // run.count, directed, set(peers)
            )
            self._questions[each] = self._by_seq[run.sender, question.seq] = question
            self._question_bytes += question.size
        if not peers:
            self._core.out.append(Finish(run.token))

    def cancelled(self, asker: bytes, seqs: tuple[int, ...]) -> None:
        """Note that a pod no longer waits for the answers to these of its questions."""
        for seq in seqs:
            question = self._by_seq.get((asker, seq))
            if question is not None:
                self._cancel(question, question.peers)
                self._end(question)

    def _cancel(self, question: Question, peers: set[str]) -> None:
        for uuid in sorted(peers):
            self._say(uuid, KIND_CANCEL, None, [question.uuid])

    def _end(self, question: Question) -> None:
        """Forget a question that has its outcome. Other peers may handle it still, as other pods here would."""
        del self._questions[question.uuid]
        del self._by_seq[question.asker, question.seq]
        self._question_bytes -= question.size
        self._core.out.append(Finish(question.token, question.index))

    def _say(self, uuid: str, kind: int, to: Any, ids: list[bytes]) -> None:
        self._core.direct(uuid, "", len(ids), encode_meta(kind, b"", to), encode_ids(ids))

    # From the local bus: what peers have asked

    def _reply(self, run: Leaving) -> None:
        """Carry replies to those on other nodes who asked: answers of actors, errors, and what receipts wait for."""
        try:
            records = cut_records(run.body, run.count)
        except MessageDecodeError:
            return
        for record in records:
            answered = answered_id(record)
            asked = self._asked.get(answered)
            if asked is not None:
                self._answer(answered, asked, run.type, record)
                continue
            to = run.relayed if type(run.relayed) is bytes else answered[:8]
            uuid = self._processes.get(to[:8])
            if uuid is None or not self._send_answer(uuid, run.type, record, to):
                self._core.counts.late += 1

    def _answer(self, question: bytes, asked: Asked, type_: str, record: bytes) -> None:
        code = error_code(record) if type_ == ERROR_TYPE else None
        if code in FINAL:
            self._settled(question, asked, code)
            return
        refusal = self._core.refusal_of(asked.peer, 1, record)
        if refusal:
            self._say(asked.peer, KIND_ENDED, (TOO_LARGE, f"the answer was not carried: {refusal}"), [question])
        else:
            self._send_answer(asked.peer, type_, record, asked.asker)
        if asked.directed or code is None or refusal:
            self._forget(question)

    def _send_answer(self, uuid: str, type_: str, record: bytes, to: bytes) -> bool:
        meta = encode_meta(KIND_ANSWER, b"", to)
        return self._core.direct(uuid, type_, 1, meta, array_header(1) + record)

    def settled(self, question: bytes) -> None:
        """Note that all pods here have handled a peer's question, and no answer follows."""
        asked = self._asked.get(question)
        if asked is not None:
            self._settled(question, asked, CODE_SETTLED)

    def _settled(self, question: bytes, asked: Asked, code: str) -> None:
        self._forget(question)
        outcome = (code, "nobody answers it there") if asked.directed and code == CODE_NO_RESPONDERS else ("", "")
        self._say(asked.peer, KIND_ENDED, outcome, [question])

    def unposted(self, questions: tuple[bytes, ...], text: str) -> None:
        """Note that questions of a peer did not reach the bus."""
        for question in questions:
            asked = self._asked.get(question)
            if asked is not None:
                self._forget(question)
                self._say(asked.peer, KIND_ENDED, (FAILED, text[:MAX_ERROR_TEXT]), [question])

    def _forget(self, question: bytes) -> None:
        asked = self._asked.pop(question)
        self._asked_of[asked.peer] -= 1
        if not self._asked_of[asked.peer]:
            del self._asked_of[asked.peer]

    # From peers

    def deliver(self, run: Deliver) -> None:
        """Take a peer's run."""
        try:
            meta = decode_meta(run.meta)
            if meta.kind not in (KIND_PUBLISH, KIND_REPLY, KIND_TELL) and not self._is_present(run):
                self._core.counts.late += run.count  # of a life that is over: nobody there waits or answers any more
                return
            if meta.kind == KIND_LOST:
                self._give_up_on(run.peer, "a message to it was lost, which may have been this question")
                return
            if meta.kind in (KIND_CANCEL, KIND_ENDED):
                ids = decode_ids(run.body, run.count)
                if meta.kind == KIND_CANCEL:
                    self._take_back(run.peer, ids)
                else:
                    self._ended(run.peer, ids, *meta.to)
                return
            self._learn(meta.sender[:8], run.peer)
            if is_too_large(len(run.body), self._core.me.max_message):
                run = self._fitting(run, meta)
            if not run.count:
                return
            if meta.kind in QUESTION_KINDS:
                self._asked_by(run, meta)
            elif meta.kind == KIND_ANSWER:
                self._answered(run, meta)
            else:
                self._post(run, meta)
        except (ProtocolError, MessageDecodeError):
            self._core.counts.garbled += run.count

    def _fitting(self, run: Deliver, meta: Meta) -> Deliver:
        """Return what is left of a run without the messages that are larger than this node's bus takes."""
        kept: list[bytes] = []
        refused: list[bytes] = []
        limit = self._core.me.max_message
        for record in cut_records(run.body, run.count):
            (refused if is_too_large(len(record), limit) else kept).append(record)
        if refused:
            self._core.refuse_large(run.peer, len(refused))
        text = f"this node takes messages of at most {limit} bytes"
        if meta.kind in QUESTION_KINDS and refused:
            self._say(run.peer, KIND_ENDED, (TOO_LARGE, text), [record[3:19] for record in refused])
        elif meta.kind == KIND_ANSWER:
            self._ended(run.peer, tuple(map(answered_id, refused)), TOO_LARGE, text)
        return replace(run, count=len(kept), body=join_body(kept))

    def deliver_tunnelled(self, run: DeliverTunnelled, type_: str) -> None:
        """Take a message that came through a tunnel: it is published as if it came from here."""
        dest = (RELAY_REDELIVERED if run.redelivered else 0, None)
        self._core.out.append(Post(KIND_PUBLISH, type_, dest, 1, run.body, peer=run.peer))

    def _is_present(self, run: Deliver) -> bool:
        """Return whether a run is of the present life of its node."""
        peer = self._core.peer(run.peer)
        return peer is not None and peer.incarnation == run.incarnation

    def _learn(self, process: bytes, peer: str) -> None:
        """Remember on which node a process is."""
        if process and self._processes.get(process) != peer:
            self._processes[process] = peer
            if len(self._processes) > MAX_PROCESSES:
                self._processes.popitem(last=False)

    def _dest(self, meta: Meta) -> Any:
        """Return the destination on the bus: a name, or the groups here that are to have it."""
        if meta.kind in (KIND_TELL, KIND_ASK):
            return meta.to
        return 0, tuple(group for group, incarnation in meta.to if incarnation == self._core.me.incarnation)

    def _post(self, run: Deliver, meta: Meta, questions: tuple[bytes, ...] = ()) -> None:
        self._core.out.append(Post(meta.kind, run.type, self._dest(meta), run.count, run.body, questions, run.peer))

    def _asked_by(self, run: Deliver, meta: Meta) -> None:
        ids = tuple(record_ids(run.body, run.count))
        error = ("", "")
        if self._asked_of.get(run.peer, 0) + run.count > MAX_QUESTIONS:
            error = (OVERFLOW, "too many questions of that node wait here")
        elif any(each in self._asked for each in ids) or len(set(ids)) < len(ids):
            error = (FAILED, "the same question was asked twice")
        if error[0]:
            self._say(run.peer, KIND_ENDED, error, list(ids))
            return
        for each in ids:
            self._asked[each] = Asked(run.peer, meta.sender, meta.kind == KIND_ASK)
        self._asked_of[run.peer] = self._asked_of.get(run.peer, 0) + len(ids)
        self._post(run, meta, ids)

    def _take_back(self, peer: str, ids: tuple[bytes, ...]) -> None:
        known = tuple(each for each in ids if (asked := self._asked.get(each)) is not None and asked.peer == peer)
        for each in known:
            self._forget(each)
        if known:
            self._core.out.append(TakeBack(known))

    def _answered(self, run: Deliver, meta: Meta) -> None:
        unpack_body(run.body, run.count, lambda name: name)  # read in full: what is garbled ends no question
        for record in cut_records(run.body, run.count):
            question = self._questions.get(answered_id(record))
            if question is not None and run.peer not in question.peers:
                continue  # it was not asked
            to = question.asker if question is not None else meta.to
            self._core.out.append(Post(KIND_ANSWER, run.type, to, 1, array_header(1) + record, peer=run.peer))
            if question is not None and (question.directed or run.type != ERROR_TYPE):
                self._end(question)

    def _ended(self, peer: str, ids: tuple[bytes, ...], code: str, text: str) -> None:
        for each in ids:
            question = self._questions.get(each)
            if question is not None and peer in question.peers:
                self._lose(question, peer, code, text)

    def _lose(self, question: Question, peer: str, code: str, text: str) -> None:
        """Note that a peer will not answer (any more)."""
        question.peers.discard(peer)
        if code:
            self._core.out.append(PostError(question.uuid, question.asker, code, text))
        if not question.peers:
            self._end(question)

    def give_up(self, text: str) -> None:
        """End all questions of this node: it stops."""
        for question in list(self._questions.values()):
            self._core.out.append(PostError(question.uuid, question.asker, STOPPED, text))
            self._cancel(question, question.peers)
            self._end(question)

    # Peers

    def lost(self, gap: GapFound) -> None:
        """End what may have been in a gap: answers of the peer here, and its questions there."""
        self._give_up_on(gap.peer, "a message of it was lost, which may have been the answer")
        self._core.direct(gap.peer, "", 1, encode_meta(KIND_LOST, b"", None), encode_ids([]))

    def _give_up_on(self, peer: str, text: str) -> None:
        """End the questions that a peer has."""
        for question in [each for each in self._questions.values() if peer in each.peers]:
            # It may have them, and see no end of the link: they would be answered in vain.
            self._cancel(question, {peer})
            self._lose(question, peer, STOPPED, text)

    def changed(self, change: PeerChanged) -> None:
        """End what waits for a peer that is gone, and what it has asked."""
        if change.state not in (PeerState.DOWN.value, PeerState.WITHDRAWN.value):
            return
        peer = self._core.peer(change.peer)
        text = f"node {(peer.name if peer is not None else '') or change.peer} is {change.state}"
        self._give_up_on(change.peer, f"{text}: {change.reason}" if change.reason else text)
        asked = tuple(each for each, asked in self._asked.items() if asked.peer == change.peer)
        if asked:
            # Told all the same, for the same reason: its askers would wait for ever.
            self._say(change.peer, KIND_ENDED, (STOPPED, "the link between the nodes has ended"), list(asked))
            self._take_back(change.peer, asked)


def answered_id(record: bytes) -> bytes:
    """Return the uuid that a record answers; b"" for none."""
    return record[21:37] if record[19:21] == b"\xc4\x10" else b""


def error_code(record: bytes) -> str:
    """Return the code of an error; "" if it has none."""
    try:
        data = unpack_body(array_header(1) + record, 1, lambda name: name)[0][4]
    except MessageDecodeError:
        return ""
    return str(data.get("code", "")) if isinstance(data, dict) else ""
