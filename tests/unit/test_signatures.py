"""What users call takes what it is documented to take: the same names, order and defaults; more may be added."""
# ruff: noqa: A006, B008  (names and defaults are those of the calls)

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

import pytest

from grav_actors import Actor, ActorRef, Backoff, Child, Grav, Message, MessageBuffer, Pod, Receipt

Signature = Callable[..., Any]

# The promised signatures, as functions that do nothing.
PROMISED: list[tuple[Signature, Signature]] = [
    (
        Message.__init__,
        lambda self, type="grav.default", data=b"", *, parent_id="", reply_to="", headers=None: None,
    ),
    (Message.unmarshal_data, lambda self, cls=None: None),
    (MessageBuffer.__init__, lambda self, limit: None),
    (
        Grav.__init__,
        lambda self, *, name=None, bus=None, transport=None, bridge=None, discovery=None, endpoint=None, belongs_to="*",
        interests=(), keys=None, insecure=False, replay_limit=128, max_message=1048576, send_timeout=10.0,
        max_restarts=5, within=30.0, backoff=Backoff(), logger=None: None,
    ),
    (Grav.connect, lambda self, name=None: None),
    (Grav.connect_with_replay, lambda self, name=None: None),
    (Grav.publish, lambda self, type, data=None, **message_fields: None),
    (Grav.ask, lambda self, type, data=None, *, to=None, timeout=5.0: None),
    (Grav.spawn, lambda self, actor_class, *args, name=None, kind="process", **kwargs: None),
    (Grav.actor, lambda self, name: None),
    (Grav.connect_endpoint, lambda self, endpoint, timeout=5.0: None),
    (Grav.connect_bridge_topic, lambda self, topic: None),
    (Grav.tunnel, lambda self, capability, message, timeout=5.0: None),
    (Grav.wait_for_peers, lambda self, count, timeout: None),
    (Grav.withdraw, lambda self, timeout=3.0: None),
    (Grav.stop, lambda self, timeout=10.0: None),
    (Pod.send, lambda self, message: None),
    (Pod.publish, lambda self, type, data=None, *, parent_id="", reply_to="", headers=None: None),
    (Pod.reply_to, lambda self, in_reply_to, message: None),
    (Pod.ask, lambda self, type, data=None, *, to=None, timeout=5.0: None),
    (Pod.on, lambda self, fn: None),
    (Pod.on_type, lambda self, type_or_pattern, fn: None),
    (Pod.filter_type, lambda self, type_or_pattern, allow: None),
    (Pod.filter_uuid, lambda self, uuid, allow: None),
    (Pod.messages, lambda self, type_or_pattern=">": None),
    (Pod.wait_on, lambda self, fn: None),
    (Pod.wait_until, lambda self, timeout, fn: None),
    (Pod.flush, lambda self, timeout=None, *, settled=False: None),
    (Pod.disconnect, lambda self: None),
    (Receipt.wait_on, lambda self, fn: None),
    (Receipt.wait_until, lambda self, timeout, fn: None),
    (Receipt.on_reply, lambda self, fn: None),
    (Receipt.result, lambda self, timeout=None: None),
    (Actor.on_stop, lambda self, reason: None),
    (Actor.on_restart, lambda self, cause: None),
    (Actor.publish, lambda self, type, data=None, *, parent=None, reply_to="", headers=None: None),
    (Actor.tell, lambda self, to, type, data=None: None),
    (Actor.ask, lambda self, to, type, data=None, *, timeout=5.0: None),
    (Actor.ask_async, lambda self, to, type, data=None, *, timeout=5.0: None),
    (Actor.reply, lambda self, msg, data: None),
    (Actor.defer_reply, lambda self, msg: None),
    (Actor.spawn, lambda self, actor_class, *args, name=None, kind="process", **kwargs: None),
    (Actor.after, lambda self, seconds, type, data=None: None),
    (Actor.every, lambda self, seconds, type, data=None: None),
    (Actor.stop, lambda self: None),
    (ActorRef.tell, lambda self, type, data=None: None),
    (ActorRef.ask, lambda self, type, data=None, timeout=5.0: None),
    (ActorRef.ask_async, lambda self, type, data=None, timeout=5.0: None),
    (
        Child,
        lambda actor_class, *, name=None, args=(), kwargs=None, kind="process", instances=1, group=None,
        restart="permanent", significant=False, start_timeout=30.0, shutdown=5.0, handler_timeout=None: None,
    ),
    (Backoff, lambda first=0.2, max=30.0, factor=2.0, jitter=0.2: None),
]  # fmt: skip


@pytest.mark.parametrize(("given", "promised"), PROMISED, ids=lambda fn: fn.__qualname__)
def test_signature_is_the_documented_one(given: Signature, promised: Signature) -> None:
    actual = inspect.signature(given).parameters
    wanted = inspect.signature(promised).parameters
    assert [name for name in actual if name in wanted] == list(wanted)
    for name, parameter in wanted.items():
        if name in ("self", "actor_class"):  # may be positional only
            continue
        assert actual[name].kind is parameter.kind, name
        if (given, name) not in OPEN_DEFAULTS:
            assert actual[name].default == parameter.default, name
    for name in actual.keys() - wanted.keys():
        is_collector = actual[name].kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        assert is_collector or actual[name].default is not Parameter.empty, name


OPEN_DEFAULTS = {(Child, "kwargs"), (Actor.reply, "data")}
"""An empty dict that each Child makes for itself; and an answer of None may be left out."""


def test_class_attributes_of_actors_have_the_documented_defaults() -> None:
    defaults = {
        "group": "", "replay": False, "prefetch": None, "concurrency": 1, "mailbox_limit": 65_536, "overflow": "block",
        "stuck_after": 5.0, "max_deliver": 5, "crash_on": (),
    }  # fmt: skip
    assert {name: getattr(Actor, name) for name in defaults} == defaults
