"""What users are told when a pod is closed or a question has no answer: error texts and kinds."""

from __future__ import annotations

from grav_actors.errors import (
    ActorStartError,
    ActorStoppedError,
    BusBusyError,
    ConfigError,
    ConnectionClosedError,
    GravError,
    HandlerError,
    MessageTooLargeError,
    NoRespondersError,
    ProtocolError,
)
from grav_actors.message import Message
from grav_actors.pod.replies import Question
from grav_actors.protocol import (
    CLOSE_OVERFLOW,
    CLOSE_STOPPING,
    CLOSE_UNHEALTHY,
    CODE_NO_RESPONDERS,
    CODE_SETTLED,
)
from grav_actors.reference import ActorRef

UNHEALTHY_TEXT = "64 messages failed"


class Disconnected(Exception):
    """Marks a pod that has left: `send` returns a false receipt instead of raising. Its text says why, if it had to."""


def closed_error(closed_by: tuple[str, str]) -> GravError:
    """Return the error for a code and text with which the bus has refused or closed a pod."""
    code, text = closed_by
    if code == "name_taken":
        return ActorStartError(text)
    if code == "version":
        return ProtocolError(text)
    if code == "full":
        return ConfigError(text)
    reason = {
        CLOSE_STOPPING: "the bus was stopped",
        CLOSE_UNHEALTHY: UNHEALTHY_TEXT,
        CLOSE_OVERFLOW: "its mailbox overflowed, and its policy is to disconnect",
    }.get(code, f"the bus has closed this pod: {code} {text}".strip())
    return ConnectionClosedError(reason)


def unanswered_error(question: Question, error_message: Message | None) -> GravError:
    """Return the error in which a question ends that got no answer, or this message of type `grav.error`."""
    data = error_message.data if error_message is not None and isinstance(error_message.data, dict) else {}
    error, code = str(data.get("error", "")), data.get("code")
    about = question.heading.about
    if error_message is None or code == CODE_SETTLED:
        reason = "it ended without an answer" if question.heading.directed else "all have handled it without an answer"
        return _nobody(about, reason)
    if code == CODE_NO_RESPONDERS:
        return _nobody(about, error)
    if code == "stopped":
        return ActorStoppedError(f"asked {about}: the actor ended before it answered: {error}")
    if code == "no_handler":
        return NoRespondersError(f"nobody answers {about}: {error}")
    if code == "too_large":
        return MessageTooLargeError(f"asked {about}: {error}")
    if code == "overflow":
        return BusBusyError(f"asked {about}: the actor takes nothing: {error}")
    traceback = str(data.get("traceback", ""))
    return HandlerError(f"asked {about}: the handler failed", error=error, remote_traceback=traceback)


def _nobody(about: str, reason: str) -> NoRespondersError:
    return NoRespondersError(f"nobody answers {about}: {reason}; `grav-actors ps` lists the actors")


def late_answer_text(type: str, to: str | ActorRef | None, limit: float | None) -> str:
    """Return what is said of a question that nobody answered within its limit, in seconds."""
    whom = f"from {to.name if isinstance(to, ActorRef) else to}" if to is not None else "from anybody"
    return f"no answer to {type} {whom} within {limit} s; the question was taken back"
