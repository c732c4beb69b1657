"""The call of a handler: which message is being handled, and what became of its answer."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

from grav_actors.message import Message
from grav_actors.options import show

if TYPE_CHECKING:
    from grav_actors.pod.inbound import Inbound


class Call:
    """The handling of one message. Whoever begins it sets the first three: quicker than a constructor.

    Attributes:
        is_answered: Its handler has answered, or has promised to.
        is_deferred: Its answer comes later; until then the message is not finished.
        is_over: The handler has returned.
    """

    message: Message
    inbound: Inbound
    index: int
    is_answered: bool = False
    is_deferred: bool = False
    is_over: bool = False

    def concerns(self, message: Message) -> bool:
        """Whether this is the handling of that message."""
        return not self.is_over and self.message._id == message._id


current: contextvars.ContextVar[Call | None] = contextvars.ContextVar("grav_call", default=None)
"""The call that runs in this thread or task; None outside of handlers."""
set_current = current.set
reset_current = current.reset


def parent_of(parent: Message | str | None) -> str:
    """Return the uuid of a message's cause: that of the message being handled when None is given."""
    if parent is None:
        call = current.get()
        return call.message.uuid if call is not None else ""
    if isinstance(parent, Message):
        return parent.uuid
    if not isinstance(parent, str):
        raise TypeError(f'parent is a message, its uuid or "", not {show(parent)}')
    return parent
