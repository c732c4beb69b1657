"""grav-actors: actors on a fast message bus that loses nothing."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grav_actors.actor.actor import Actor
    from grav_actors.actor.handlers import on_type
    from grav_actors.buffer import MessageBuffer
    from grav_actors.dead_letters import DeadLetter, Retried
    from grav_actors.errors import (
        ActorStartError,
        ActorStoppedError,
        AskTimeoutError,
        BelongsToMismatchError,
        BusBusyError,
        BusNotFoundError,
        ConfigError,
        ConnectionClosedError,
        Crash,
        DeadLetterNotFoundError,
        GravError,
        HandlerError,
        MessageDecodeError,
        MessageEncodeError,
        MessageNotWanted,
        MessageTooLargeError,
        NodeUUIDMismatchError,
        NodeWithdrawnError,
        NoReceiptError,
        NoRespondersError,
        ProtocolError,
        ReentrantWaitError,
        Reject,
        TransportNotConfiguredError,
        TunnelNotEstablishedError,
        WaitTimeoutError,
        WrongProcessError,
    )
    from grav_actors.mesh.view import Peer
    from grav_actors.message import MSG_TYPE_DEFAULT, Message
    from grav_actors.node import Grav
    from grav_actors.options import Backoff
    from grav_actors.pod.pod import MsgFunc, Pod
    from grav_actors.pod.receipt import Receipt
    from grav_actors.reference import ActorRef
    from grav_actors.supervisor.spec import Child
    from grav_actors.supervisor.supervisor import Supervisor

__version__ = "0.1.0"

# Loaded when first asked for: the bus process and `grav-actors --help` need little of it.
_HOMES = {
    "grav_actors.actor.actor": ("Actor",),
    "grav_actors.actor.handlers": ("on_type",),
    "grav_actors.buffer": ("MessageBuffer",),
    "grav_actors.dead_letters": ("DeadLetter", "Retried"),
    "grav_actors.errors": (
        "ActorStartError", "ActorStoppedError", "AskTimeoutError", "BelongsToMismatchError", "BusBusyError",
        "BusNotFoundError", "ConfigError", "ConnectionClosedError", "Crash", "DeadLetterNotFoundError",
        "GravError", "HandlerError",
        "MessageDecodeError", "MessageEncodeError", "MessageNotWanted", "MessageTooLargeError",
        "NoReceiptError", "NoRespondersError", "NodeUUIDMismatchError", "NodeWithdrawnError", "ProtocolError",
        "ReentrantWaitError", "Reject", "TransportNotConfiguredError", "TunnelNotEstablishedError",
        "WaitTimeoutError", "WrongProcessError",
    ),
    "grav_actors.mesh.view": ("Peer",),
    "grav_actors.message": ("MSG_TYPE_DEFAULT", "Message"),
    "grav_actors.node": ("Grav",),
    "grav_actors.options": ("Backoff",),
    "grav_actors.pod.pod": ("MsgFunc", "Pod"),
    "grav_actors.pod.receipt": ("Receipt",),
    "grav_actors.reference": ("ActorRef",),
    "grav_actors.supervisor.spec": ("Child",),
    "grav_actors.supervisor.supervisor": ("Supervisor",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


__all__ = [
    "MSG_TYPE_DEFAULT",
    "Actor",
    "ActorRef",
    "ActorStartError",
    "ActorStoppedError",
    "AskTimeoutError",
    "Backoff",
    "BelongsToMismatchError",
    "BusBusyError",
    "BusNotFoundError",
    "Child",
    "ConfigError",
    "ConnectionClosedError",
    "Crash",
    "DeadLetter",
    "DeadLetterNotFoundError",
    "Grav",
    "GravError",
    "HandlerError",
    "Message",
    "MessageBuffer",
    "MessageDecodeError",
    "MessageEncodeError",
    "MessageNotWanted",
    "MessageTooLargeError",
    "MsgFunc",
    "NoReceiptError",
    "NoRespondersError",
    "NodeUUIDMismatchError",
    "NodeWithdrawnError",
    "Peer",
    "Pod",
    "ProtocolError",
    "Receipt",
    "ReentrantWaitError",
    "Reject",
    "Retried",
    "Supervisor",
    "TransportNotConfiguredError",
    "TunnelNotEstablishedError",
    "WaitTimeoutError",
    "WrongProcessError",
    "on_type",
]
