"""The bus of a simulated node, as its hub sees it: actors, askers, groups; and what must be true of them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack

from grav_actors.mesh.effects import ActorsChanged, Finish, Post, PostError, Refuse, TakeBack
from grav_actors.mesh.switchboard import Leaving
from grav_actors.pattern import matches
from grav_actors.protocol import (
    ERROR_TYPE,
    KIND_ANSWER,
    KIND_ASK,
    KIND_ASK_ANY,
    KIND_PUBLISH,
    KIND_TELL,
    REPLY_TYPE,
)

if TYPE_CHECKING:
    from support.meshsim.node import SimNode

NAMES = ("ann", "bob", "cid", "dan", "eve", "fay")
GROUPS = ("g", "h")
FINAL = ("no_responders", "settled")


@dataclass(slots=True)
class Asking:
    """A question of this node.

    Attributes:
        outcomes: Answers, and errors after which no other can come, up to the end of the question. What comes later
            the asking pod drops.
        errors: Errors of a published question that others may still answer.
    """

    uuid: bytes
    seq: int
    directed: bool
    at: float
    outcomes: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])
    finished: int = 0
    is_cancelled: bool = False


class SimBus:
    """What one node's bus would do, and a record of it.

    Attributes:
        actors: Names of the actors here.
        groups: Patterns of the groups that have a member here.
        remote: Actors of other nodes, as the hub has told.
        had: How often each question of a peer was handled here.
        group_had: `(group, message)` that the groups here have had, with how often.
    """

    def __init__(self, node: SimNode, rng: random.Random) -> None:
        self.node = node
        self.rng = rng
        self.pod = rng.randbytes(16)
        self.actors: set[str] = set()
        self.groups: dict[str, str] = {}
        self.remote: dict[str, str] = {}
        self.asked: dict[bytes, Asking] = {}
        self.told: Counter[int] = Counter()
        self.refused: list[int] = []
        self.had: Counter[bytes] = Counter()
        self.group_had: Counter[tuple[str, bytes]] = Counter()
        self.taken_back: set[bytes] = set()
        self._seq = 0

    # What pods and actors here do

    def start(self, name: str) -> None:
        self.actors.add(name)
        self.node.do(lambda: self.node.core.tell_actors((), ((name, None, ""),)))

    def end(self, name: str) -> None:
        self.actors.discard(name)
        self.node.do(lambda: self.node.core.tell_actors((), ((name, "stopped", ""),)))

    def join(self, group: str, pattern: str) -> None:
        self.leave_group(group)
        self.groups[group] = pattern
        self.node.do(lambda: self.node.core.tell_actors(((group, pattern, True),), ()))

    def leave_group(self, group: str) -> None:
        pattern = self.groups.pop(group, None)
        if pattern is not None:
            self.node.do(lambda: self.node.core.tell_actors(((group, pattern, False),), ()))

    def tell(self, name: str) -> None:
        """Tell an actor that this bus believes to be elsewhere."""
        if name in self.remote and name not in self.actors:
            body = _body([self._record(b"")])
            seq = self._next()
            self._leave(KIND_TELL, "told", body, name, seq)

    def ask(self, name: str | None, type_: str = "question") -> None:
        """Ask an actor elsewhere, or whoever handles a type; sometimes nobody waits for the answer in the end."""
        if name is not None and (name not in self.remote or name in self.actors):
            return
        uuid = self.rng.randbytes(16)
        seq = self._next()
        asking = self.asked[uuid] = Asking(uuid, seq, name is not None, self.node.network.now)
        kind = KIND_ASK_ANY if name is None else KIND_ASK
        self._leave(kind, type_, _body([_record(uuid, b"", None)]), () if name is None else name, seq)
        if self.rng.random() < 0.2:
            self.node.network.after(self.rng.uniform(0.0, 3.0), lambda: self._cancel(asking))

    def _cancel(self, asking: Asking) -> None:
        if self.node.is_alive and not asking.finished:
            asking.is_cancelled = True
            self.node.do(lambda: self.node.switchboard.cancelled(self.pod, (asking.seq,)))

    def publish(self, type_: str) -> None:
        """Publish for groups and plain wants; the groups here that take it have it."""
        uuid = self.rng.randbytes(16)
        served = tuple(group for group, pattern in self.groups.items() if matches(pattern, type_))
        for group in served:
            self.group_had[group, uuid] += 1
        number = self.node.take_number()
        body = _body([_record(uuid, b"", number)])
        run = Leaving(KIND_PUBLISH, type_, 1, self.pod, self._next(), body, False, served, None)
        self.node.do(lambda: self.node.published(run, number))

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _record(self, reply_to: bytes, data: Any = None) -> bytes:
        return _record(self.rng.randbytes(16), reply_to, data)

    def _leave(self, kind: int, type_: str, body: bytes, relayed: Any, seq: int, *, is_receipt: bool = False) -> None:
        run = Leaving(kind, type_, 1, self.pod, seq, body, is_receipt, relayed, seq)
        self.node.do(lambda: self.node.switchboard.leave(run))

    # What comes from the hub

    def take(self, effect: Post | PostError | TakeBack | Finish | Refuse | ActorsChanged) -> None:
        match effect:
            case Post():
                self._posted(effect)
            case PostError(question, _, code, _):
                self._outcome(question, code, is_error=True)
            case TakeBack(questions):
                self.taken_back.update(questions)
            case Finish(token):
                self._finished(token)
            case Refuse(token):
                self.told[token] += 1
                self.refused.append(token)
            case ActorsChanged(begun, ended):
                for name, _, _ in ended:
                    if self.remote.pop(name, None) is None:
                        self._wrong(f"the end of {name} was told, which is not known")
                for name, uuid in begun:
                    if name in self.remote:
                        self._wrong(f"{name} began twice")
                    self.remote[name] = uuid

    def _wrong(self, text: str) -> None:
        self.node.history.wrong.append(f"{self.node.network.now:.3f}: {self.node.host}: {text}")

    def _posted(self, post: Post) -> None:
        (record,) = msgpack.unpackb(post.body, use_list=False)
        match post.kind:
            case 5:  # ANSWER, of the protocol's kinds
                data = record[4]
                is_error = post.type == ERROR_TYPE
                self._outcome(record[1], data["code"] if is_error else "answer", is_error=is_error)
            case 0:  # PUBLISH
                for group in post.dest[1]:
                    if group in self.groups:
                        self.group_had[group, record[0]] += 1
            case 3 | 4:  # ASK_ANY, ASK
                self.had[record[0]] += 1
                self._handle(record[0], is_known=post.kind == KIND_ASK_ANY or post.dest in self.actors)
            case _:
                pass

    def _handle(self, question: bytes, *, is_known: bool) -> None:
        if not is_known:
            self._answer(question, ERROR_TYPE, {"code": "no_responders"})
            return
        outcome = self.rng.choice(("answer", "answer", "error", "silence", "late"))
        delay = self.rng.uniform(0.0, 0.2) if outcome != "late" else self.rng.uniform(1.0, 6.0)

        def end() -> None:
            if not self.node.is_alive:
                return
            if question in self.taken_back or outcome == "silence":
                self.node.do(lambda: self.node.switchboard.settled(question))
            elif outcome == "error":
                self._answer(question, ERROR_TYPE, {"code": "failed"})
                self.node.do(lambda: self.node.switchboard.settled(question))
            else:
                self._answer(question, REPLY_TYPE, None)

        self.node.network.after(delay, end)

    def _answer(self, question: bytes, type_: str, data: Any) -> None:
        body = _body([self._record(question, data)])
        self._leave(KIND_ANSWER, type_, body, None, self._next(), is_receipt=True)

    def _outcome(self, question: bytes, code: str, *, is_error: bool) -> None:
        asking = self.asked.get(question)
        if asking is None:
            self._wrong("an answer to a question that was never asked")
        elif is_error and not asking.directed and code not in FINAL:
            asking.errors.append(code)
        elif not asking.finished:
            asking.outcomes.append(code)

    def _finished(self, token: int) -> None:
        self.told[token] += 1
        for asking in self.asked.values():
            if asking.seq == token:
                asking.finished += 1

    # What must be true in the end

    def violations(self, others: list[SimNode]) -> list[str]:
        """Return what is wrong when everything has come to rest."""
        host = self.node.host
        found = [f"{host}: a message was finished {count} times" for count in self.told.values() if count != 1]
        for asking in self.asked.values():
            if asking.finished != 1:
                found.append(f"{host}: a question of {asking.at:.3f} was finished {asking.finished} times")
            if asking.directed and not asking.is_cancelled and len(asking.outcomes) > 1:
                found.append(f"{host}: a directed question of {asking.at:.3f} ended in {asking.outcomes}")
        found += [f"{host}: a question was handled {count} times" for count in self.had.values() if count > 1]
        if len(self.node.switchboard):
            found.append(f"{host}: {len(self.node.switchboard)} questions are still open")
        here = {other.me.uuid: other.bus.actors for other in others}
        names = {name for actors in here.values() for name in actors}
        if set(self.remote) != names:
            found.append(f"{host}: knows {sorted(self.remote)}, there are {sorted(names)}")
        for name, uuid in self.remote.items():
            if name not in here.get(uuid, set()):
                found.append(f"{host}: believes that {name} is on {uuid}, which is wrong")
        return found


def group_violations(buses: list[SimBus]) -> list[str]:
    """Return messages that a group has had more than once, over all nodes."""
    total: Counter[tuple[str, bytes]] = Counter()
    for bus in buses:
        total.update(bus.group_had)
    return [f"group {group} had a message {count} times" for (group, _), count in total.items() if count > 1]


def _record(uuid: bytes, reply_to: bytes, data: Any) -> bytes:
    return bytes(msgpack.packb([uuid, reply_to, b"", 0, data, None]))


def _body(records: list[bytes]) -> bytes:
    return bytes([0x90 + len(records)]) + b"".join(records)
