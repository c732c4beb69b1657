"""Which actors and groups peers have, and whom a message of the bus is for."""

from typing import Any

import pytest

from grav_actors.codec import pack_record, pack_records
from grav_actors.errors import ProtocolError
from grav_actors.ids import id_bytes
from grav_actors.mesh import actors as limits
from grav_actors.mesh.actors import Actors, OwnActors
from grav_actors.mesh.core import MeshCore
from grav_actors.mesh.effects import ActorsChanged, Deliver, Finish, PeerChanged, Post, PostError, Publish, Refuse
from grav_actors.mesh.frames import Interest, InterestDone
from grav_actors.mesh.handshake import Identity
from grav_actors.mesh.local_news import LocalNews
from grav_actors.mesh.relay_frames import (
    KIND_CANCEL,
    KIND_ENDED,
    News,
    decode_ids,
    decode_meta,
    decode_news,
    encode_ids,
    encode_meta,
    encode_news,
)
from grav_actors.mesh.switchboard import MAX_QUESTIONS, Leaving, Switchboard, answered_id
from grav_actors.mesh.topics import MAX_PREFIXES, interest_prefixes
from grav_actors.message import Message
from grav_actors.protocol import (
    KIND_ANSWER,
    KIND_ASK,
    KIND_ASK_ANY,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
)

ME, LIFE = "00000000-0000-8000-8000-000000000001", b"m" * 8
A, B = ("00000000-0000-8000-8000-00000000000a", b"a" * 8), ("00000000-0000-8000-8000-00000000000b", b"b" * 8)
POD, THERE = b"p" * 16, b"t" * 16


def names(*begun: str, ended: tuple[tuple[str, str], ...] = ()) -> News:
    return News(0, (), (*((name, None, "") for name in begun), *((name, reason, "") for name, reason in ended)))


def groups(*wants: tuple[str, str, bool]) -> News:
    return News(0, wants, ())


class Book:
    """The actors of peers, and what was told of them."""

    def __init__(self, *here: str) -> None:
        self.out: list[Any] = []
        self.actors = Actors(self.out)
        for uuid in here:
            self.actors.present(uuid, uuid, is_here=True)

    def told(self) -> list[ActorsChanged]:
        told, self.out[:] = list(self.out), []
        return told


def test_name_of_several_peers_is_that_of_the_first_until_it_is_gone() -> None:
    book = Book("a", "b")
    book.actors.told("a", "a", names("x"))
    book.actors.told("b", "b", names("x", "y"))
    assert book.told() == [ActorsChanged((("x", "a"),), ()), ActorsChanged((("y", "b"),), ())]
    book.actors.told("a", "a", names(ended=(("x", "crashed"),)))
    assert book.told() == [ActorsChanged((("x", "b"),), (("x", "crashed", ""),))]
    assert book.actors.holder("x") == "b"
    book.actors.told("b", "b", names(ended=(("x", "stopped"),)))
    assert book.actors.holder("x") is None


def test_names_of_a_peer_that_is_gone_are_lost_and_come_back_with_it() -> None:
    book = Book("a")
    book.actors.told("a", "a", names("x"))
    book.told()
    book.actors.present("a", "a", is_here=False, why="silent")
    assert book.told() == [ActorsChanged((), (("x", "lost", "node a is gone: silent"),))]
    book.actors.told("a", "a", names("y"))
    assert book.told() == []
    book.actors.present("a", "a", is_here=True)
    assert book.told() == [ActorsChanged((("x", "a"), ("y", "a")), ())]


def test_what_is_not_told_again_is_gone() -> None:
    book = Book("a")
    book.actors.told("a", "a", News(3, (("g", "t", True), ("g", "u", True)), (("x", None, ""), ("y", None, ""))))
    assert book.actors.is_whole("a")
    book.told()
    book.actors.told("a", "a", News(1, (), (("y", None, ""), ("z", None, ""))))
    book.actors.told("a", "a", News(2, (("g", "u", True),), ()))
    assert book.actors.names_of("a") == ["y", "z"]
    assert book.actors.group_patterns() == {"u"}
    assert [each for told in book.told() for each in told.ended] == [("x", "lost", "")]


def test_group_is_served_here_or_by_one_peer_in_turn_and_by_an_absent_one_last() -> None:
    book = Book("a", "b")
    book.actors.present("c", "c", is_here=False)
    for uuid in "abc":
        book.actors.told(uuid, uuid, groups(("g", "job.*", True)))
    assert book.actors.choose("job.x", ("g",)) == {}
    assert book.actors.choose("other", ()) == {}
    assert [book.actors.choose("job.x", ())["g"] for _ in range(4)] == ["a", "b", "a", "b"]
    for uuid in "ab":
        book.actors.present(uuid, uuid, is_here=False)
    assert {book.actors.choose("job.x", ())["g"] for _ in range(3)} == {"a"}
    book.actors.forget("a")
    assert book.actors.choose("job.x", ()) == {"g": "b"}
    book.actors.told("b", "b", groups(("g", "job.*", False)))
    assert book.actors.choose("job.x", ()) == {"g": "c"}


def test_names_past_the_limit_are_known_at_home_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_NAMES", 2)
    own = OwnActors()
    told = [name for news in own.change((), tuple((name, None, "") for name in "abc")) for name, _, _ in news.names]
    assert (told, own.hidden) == (["a", "b"], 1)
    book = Book("a")
    book.actors.told("a", "a", names("x", "y", "z"))
    assert book.actors.names_of("a") == ["x", "y"]


def test_only_what_differs_is_told_of_all() -> None:
    own = OwnActors()
    list(own.change((("g", "t", True),), (("a", None, ""), ("b", None, ""))))
    assert list(own.change((("g", "t", True),), (("a", None, ""),))) == []
    assert list(own.replace((), (("b", None, ""), ("c", None, "")))) == [
        News(0, (("g", "t", False),), (("a", "lost", ""), ("c", None, "")))
    ]


def test_all_is_told_in_parts_of_which_the_first_and_last_say_so() -> None:
    own = OwnActors()
    assert [news.stage for news in own.all()] == [3]
    list(own.change((), tuple((f"n{number}", None, "") for number in range(150))))
    parts = list(own.all())
    assert [(news.stage, len(news.names)) for news in parts] == [(1, 64), (0, 64), (2, 22)]


def test_local_news_are_put_together_when_they_are_told_anew() -> None:
    news = LocalNews()
    assert news.take(1, (("a", True),), (), ()) is None
    change = news.take(2, (("b", True),), (("g", "c", True),), (("n", None, ""),))
    assert change is not None
    assert (change.is_all, change.wants, change.groups) == (True, (("a", True), ("b", True)), (("g", "c", True),))
    change = news.take(0, (("a", False),), (), ())
    assert change is not None
    assert (change.is_all, change.wants) == (False, (("a", False),))


def test_too_many_wants_are_widened() -> None:
    some = [f"a.{number}" for number in range(MAX_PREFIXES)]
    assert len(interest_prefixes(some)) == MAX_PREFIXES
    assert interest_prefixes([*some, "b", "c.*"]) == (b"ta.", b"tb\0", b"tc.")
    assert interest_prefixes(f"t{number}" for number in range(MAX_PREFIXES + 1)) == (b"t",)


# Bytes


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage",
        encode_meta(0, b"short", ()),
        encode_meta(KIND_PUBLISH, POD, (("g", b"short"),)),
        encode_meta(KIND_TELL, POD, "grav.node"),
        encode_meta(KIND_ASK, POD, ""),
        encode_meta(KIND_ANSWER, b"", b"x"),
        encode_meta(KIND_ENDED, b"", ("code",)),
        encode_meta(9, b"", None),
    ],
)
def test_garbled_meta_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_meta(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        encode_ids([]),
        encode_news(News(4, (), ())),
        encode_news(News(0, (("g", "t", 1),), ())),  # type: ignore[arg-type]
        encode_news(News(0, (("g" * 65, "t", True),), ())),
        encode_news(News(0, (), (("grav.bus", None, ""),))),
        encode_news(News(0, (), (("n", 7, ""),))),  # type: ignore[arg-type]
        encode_news(News(0, (), (("n", "lost", "e" * 501),))),
    ],
)
def test_garbled_news_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_news(raw)


def test_garbled_ids_are_refused() -> None:
    for raw, count in ((encode_ids([POD]), 2), (encode_ids([b"short"]), 1), (b"x", 1)):
        with pytest.raises(ProtocolError):
            decode_ids(raw, count)


# The switchboard


class Board:
    """A switchboard whose core has two peers that are up: the first wants `wanted`, both are in the group `g`."""

    def __init__(self) -> None:
        self.core = MeshCore(Identity(ME, LIFE, "me"), lambda: 0.5)
        self.board = Switchboard(self.core)
        for (uuid, life), prefixes in ((A, (b"twanted\0",)), (B, ())):
            link = self.core.accept()
            assert self.core.introduced(link, Identity(uuid, life, uuid[-1]).handshake(), 0.0).accept
            asked = self.core.peer(uuid)
            assert asked is not None
            assert asked.asked is not None
            self.core.receive(link, InterestDone(life, LIFE, asked.asked.frame.version, 1, 0), b"", 0.0)
            self.core.subscribed(b"x" + life, 0.0)
            self.core.receive(link, Interest(life, LIFE, 1, prefixes, b"x" + life), b"", 0.0, 1)
            self.core.actors.present(uuid, uuid[-1], is_here=True)
            self.core.actors.told(uuid, uuid[-1], News(3, (("g", "job", True),), ((f"actor-{uuid[-1]}", None, ""),)))
            asked.state = type(asked.state).UP
        self.taken()

    def taken(self) -> list[Any]:
        effects = list(self.core.out)
        self.core.out.clear()
        return effects

    def leave(self, kind: int, type_: str, message: Message, relayed: Any = None, **fields: Any) -> list[Any]:
        body = pack_records([pack_record(message, 1000)])
        values = {"seq": 1, "is_receipt": False, "sender": POD, **fields}
        self.board.leave(
            Leaving(
                kind, type_, 1, values["sender"], values["seq"], body, values["is_receipt"], relayed, ("token", type_)
            )
        )
        return self.taken()

    def deliver(self, kind: int, type_: str, message: Message, to: Any, peer: tuple[str, bytes] = A) -> list[Any]:
        body = pack_records([pack_record(message, 1000)])
        self.board.deliver(Deliver(*peer, type_, 1, encode_meta(kind, THERE, to), body))
        return self.taken()

    def say(self, kind: int, to: Any, *ids: bytes, peer: tuple[str, bytes] = A) -> list[Any]:
        self.board.deliver(Deliver(*peer, "", len(ids), encode_meta(kind, b"", to), encode_ids(list(ids))))
        return self.taken()


def sent(effects: list[Any]) -> list[tuple[set[bytes], int, Any]]:
    """Return for each run that left: for whom, its kind and its destination."""
    found: list[tuple[set[bytes], int, Any]] = []
    for effect in effects:
        if isinstance(effect, Publish):
            meta = decode_meta(effect.frame.meta)  # type: ignore[union-attr]
            found.append(({life for life, _, _ in effect.frame.tracks}, meta.kind, meta.to))  # type: ignore[union-attr]
    return found


def test_published_message_goes_to_those_who_want_it_and_the_one_that_has_it_for_its_group() -> None:
    board = Board()
    assert sent(board.leave(KIND_PUBLISH, "other", Message("other"), ())) == []
    assert sent(board.leave(KIND_PUBLISH, "wanted", Message("wanted"), ())) == [({A[1]}, KIND_PUBLISH, ())]
    assert sent(board.leave(KIND_PUBLISH, "job", Message("job"), ("g",))) == []
    assert sent(board.leave(KIND_PUBLISH, "job", Message("job"), ())) == [({A[1]}, KIND_PUBLISH, (("g", A[1]),))]
    assert sent(board.leave(KIND_PUBLISH, "job", Message("job"), ())) == [({B[1]}, KIND_PUBLISH, (("g", B[1]),))]


def test_group_of_another_node_is_not_served_here() -> None:
    board = Board()
    for served, expected in (((("g", LIFE), ("h", B[1])), ("g",)), ((("g", B[1]),), ())):
        (post,) = board.deliver(KIND_PUBLISH, "job", Message("job"), served)
        assert isinstance(post, Post)
        assert post.dest == (0, expected)


def test_message_to_a_name_goes_to_its_node_and_is_refused_when_nobody_has_it() -> None:
    board = Board()
    effects = board.leave(KIND_TELL, "x", Message("x"), "actor-b")
    assert sent(effects) == [({B[1]}, KIND_TELL, "actor-b")]
    assert Finish(("token", "x")) in effects
    (refused,) = board.leave(KIND_TELL, "x", Message("x"), "nobody")
    assert refused == Refuse(("token", "x"), "no peer has an actor nobody any more")


def test_question_is_open_until_its_answer_comes_from_who_was_asked() -> None:
    board = Board()
    question = Message("q")
    effects = board.leave(KIND_ASK, "q", question, "actor-a")
    assert sent(effects) == [({A[1]}, KIND_ASK, "actor-a")]
    assert not [effect for effect in effects if isinstance(effect, Finish)]
    answer = Message._framework("grav.reply", 7, reply_to=question.uuid)
    assert board.deliver(KIND_ANSWER, "grav.reply", answer, POD, B) == [], "it was not asked"
    post, finish = board.deliver(KIND_ANSWER, "grav.reply", answer, b"x" * 16)
    assert (post.kind, post.dest) == (KIND_ANSWER, POD)
    assert finish == Finish(("token", "q"), 0)
    assert len(board.board) == 0


def test_published_question_ends_when_all_have_ended_it_and_an_error_of_one_is_not_the_end() -> None:
    board = Board()
    board.core.actors.told(B[0], "b", groups(("h", "wanted", True)))
    question = Message("wanted")
    assert [to for to, _, _ in sent(board.leave(KIND_ASK_ANY, "wanted", question, ()))] == [{A[1]}, {B[1]}]
    error = Message._framework("grav.error", {"code": "failed", "error": "", "traceback": ""}, reply_to=question.uuid)
    (post,) = board.deliver(KIND_ANSWER, "grav.error", error, POD)
    assert post.type == "grav.error"
    assert board.say(KIND_ENDED, ("", ""), id_bytes(question.uuid)) == []
    assert board.say(KIND_ENDED, ("", ""), id_bytes(question.uuid), peer=B) == [Finish(("token", "wanted"), 0)]


def test_question_to_nobody_ends_at_once() -> None:
    board = Board()
    error, finish = board.leave(KIND_ASK, "q", question := Message("q"), "nobody")
    assert (error.question, error.asker, error.code) == (id_bytes(question.uuid), POD, "no_responders")
    assert finish == Finish(("token", "q"))
    assert board.leave(KIND_ASK_ANY, "other", Message("other"), ()) == [Finish(("token", "other"))]


def test_question_asked_twice_and_one_too_many_are_answered_with_an_error() -> None:
    board = Board()
    question = Message("q")
    board.leave(KIND_ASK, "q", question, "actor-a")
    error, _ = board.leave(KIND_ASK, "q", question, "actor-a", seq=2)
    assert (error.code, error.text) == ("failed", "the same question was asked twice")
    for seq in range(3, MAX_QUESTIONS + 2):
        board.leave(KIND_ASK, "q", Message("q"), "actor-a", seq=seq)
    error, _ = board.leave(KIND_ASK, "q", Message("q"), "actor-a", seq=MAX_QUESTIONS + 2)
    assert (error.code, len(board.board)) == ("overflow", MAX_QUESTIONS)


def test_cancelled_question_is_finished_and_its_peer_told() -> None:
    board = Board()
    question = Message("q")
    board.leave(KIND_ASK, "q", question, "actor-a", seq=5)
    board.board.cancelled(POD, (4,))
    assert board.taken() == []
    board.board.cancelled(POD, (5,))
    effects = board.taken()
    assert sent(effects) == [({A[1]}, KIND_CANCEL, None)]
    assert effects[-1] == Finish(("token", "q"), 0)


def test_peer_that_is_gone_ends_its_questions_both_ways() -> None:
    board = Board()
    mine, theirs = Message("q"), Message("q")
    board.leave(KIND_ASK, "q", mine, "actor-a")
    board.deliver(KIND_ASK, "q", theirs, "here")
    board.board.changed(PeerChanged(A[0], "suspect"))
    assert board.taken() == []
    board.board.changed(PeerChanged(A[0], "down", "silent"))
    effects = board.taken()
    errors = [effect for effect in effects if isinstance(effect, PostError)]
    assert [(error.code, error.text) for error in errors] == [("stopped", "node a is down: silent")]
    assert [(kind, to) for _, kind, to in sent(effects)] == [
        (KIND_CANCEL, None),
        (KIND_ENDED, ("stopped", "the link between the nodes has ended")),
    ]
    assert len(board.board) == 0


def test_answer_here_goes_back_to_the_peer_that_asked() -> None:
    board = Board()
    question = Message("q")
    (post,) = board.deliver(KIND_ASK, "q", question, "here")
    assert (post.kind, post.dest, post.questions) == (KIND_ASK, "here", (id_bytes(question.uuid),))
    answer = Message._framework("grav.reply", 7, reply_to=question.uuid)
    effects = board.leave(KIND_ANSWER, "grav.reply", answer, is_receipt=True)
    assert sent(effects) == [({A[1]}, KIND_ANSWER, THERE)]
    board.board.settled(id_bytes(question.uuid))
    assert board.taken() == []


@pytest.mark.parametrize(
    ("kind", "code", "outcome"),
    [
        (KIND_ASK, "no_responders", ("no_responders", "nobody answers it there")),
        (KIND_ASK_ANY, "no_responders", ("", "")),
        (KIND_ASK_ANY, "settled", ("", "")),
    ],
)
def test_end_without_an_answer_is_told_to_the_peer(kind: int, code: str, outcome: tuple[str, str]) -> None:
    board = Board()
    question = Message("q")
    board.deliver(kind, "q", question, "here" if kind == KIND_ASK else ())
    error = Message._framework("grav.error", {"code": code, "error": "", "traceback": ""}, reply_to=question.uuid)
    assert sent(board.leave(KIND_ANSWER, "grav.error", error, is_receipt=True)) == [({A[1]}, KIND_ENDED, outcome)]


def test_reply_finds_the_node_of_the_process_that_asked() -> None:
    board = Board()
    asking = Message("news")
    board.deliver(KIND_PUBLISH, "news", asking, ())  # sent by a pod whose id begins as THERE
    reply = Message("answer", 1, reply_to=asking.uuid)
    effects = board.leave(KIND_REPLY, "answer", reply, THERE[:8], is_receipt=True)
    assert sent(effects) == [({A[1]}, KIND_ANSWER, THERE[:8])]
    assert board.leave(KIND_REPLY, "answer", reply, b"nobodys.", is_receipt=True) == []
    assert board.core.counts.late == 1


def test_what_a_life_that_is_over_asked_is_not_posted() -> None:
    board = Board()
    assert board.deliver(KIND_ASK, "q", Message("q"), "here", (A[0], b"z" * 8)) == []
    assert len(board.deliver(KIND_TELL, "q", Message("q"), "here", (A[0], b"z" * 8))) == 1


def test_record_says_what_it_answers() -> None:
    question = Message("q")
    assert answered_id(pack_record(Message("a", reply_to=question.uuid), 100)) == id_bytes(question.uuid)
    assert answered_id(pack_record(question, 100)) == b""
