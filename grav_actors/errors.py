"""Every exception of the project, in one tree.

    GravError
    ├── ConnectionClosedError (ConnectionError)      a pod, bus or node is stopped, left or given up
    ├── NodeUUIDMismatchError (ConnectionRefusedError)
    ├── BelongsToMismatchError (ConnectionRefusedError)
    ├── NodeWithdrawnError (ConnectionError)
    ├── TransportNotConfiguredError (RuntimeError)
    ├── TunnelNotEstablishedError (ConnectionError)
    ├── NoReceiptError (RuntimeError)
    ├── WaitTimeoutError (TimeoutError)
    │   └── AskTimeoutError
    ├── MessageEncodeError (TypeError, ValueError)
    ├── MessageDecodeError (ValueError)
    ├── MessageTooLargeError (ValueError)
    ├── BusNotFoundError (ConnectionError)
    ├── BusBusyError (TimeoutError)
    ├── ReentrantWaitError (RuntimeError)
    ├── WrongProcessError (RuntimeError)
    ├── ActorStartError (RuntimeError)               carries remote_traceback
    ├── ActorStoppedError (RuntimeError)
    ├── SnapshotError (RuntimeError)                 the state of an actor cannot be kept, or restored
    ├── NoRespondersError (LookupError)
    ├── DeadLetterNotFoundError (LookupError)
    ├── HandlerError (RuntimeError)                  carries error and remote_traceback
    ├── ProtocolError (ValueError)
    ├── ConfigError (ValueError)
    ├── MessageNotWanted                             signals, raised by handlers
    ├── Crash
    └── Reject

Each can be made from one string, survives pickling with its fields, and says in its text what was
seen, what was allowed and what to do.
"""


class GravError(Exception):
    """Root of all exceptions of the project."""


class ConnectionClosedError(GravError, ConnectionError):
    """The pod, bus or node was stopped, has left, or was given up; also what ends a wait on it."""


class NodeUUIDMismatchError(GravError, ConnectionRefusedError):
    """A peer is not the node that discovery or the caller said it is."""


class BelongsToMismatchError(GravError, ConnectionRefusedError):
    """A peer belongs to another group of nodes, and neither side says `*`."""


class NodeWithdrawnError(GravError, ConnectionError):
    """The node has withdrawn from the mesh and sends nothing to it any more."""


class TransportNotConfiguredError(GravError, RuntimeError):
    """The node has no transport (or bridge), which this call needs."""


class TunnelNotEstablishedError(GravError, ConnectionError):
    """No peer with the wanted capability took the message."""


class NoReceiptError(GravError, RuntimeError):
    """The receipt stands for nothing: the message was never sent, so no reply can come."""


class WaitTimeoutError(GravError, TimeoutError):
    """A wait reached its limit."""


class AskTimeoutError(WaitTimeoutError):
    """No answer came within the time limit of an ask."""


class MessageEncodeError(GravError, TypeError, ValueError):
    """A message (its type, headers or data) cannot be carried; raised at the sender, nothing was sent."""


class MessageDecodeError(GravError, ValueError):
    """Bytes are not the message, or data not the class, they were taken for."""


class MessageTooLargeError(GravError, ValueError):
    """The data of a message is longer than the cap `max_message`; nothing was sent."""


class BusNotFoundError(GravError, ConnectionError):
    """No bus runs where one was looked for."""


class BusBusyError(GravError, TimeoutError):
    """The bus has taken nothing for the time limit; the message was not taken."""


class ReentrantWaitError(GravError, RuntimeError):
    """A pod was told to wait for messages inside its own callback, where none can come."""


class WrongProcessError(GravError, RuntimeError):
    """A pod was used after a fork; a child process needs a connection of its own."""


class ActorStartError(GravError, RuntimeError):
    """An actor did not start: bad name, failing constructor or `on_start`, or out of time.

    Attributes:
        remote_traceback: Traceback in the actor's process or thread; "" when there is none.
    """

    def __init__(self, message: str = "", *, remote_traceback: str = "") -> None:
        super().__init__(message)
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        return _with_traceback(super().__str__(), self.remote_traceback)


class ActorStoppedError(GravError, RuntimeError):
    """The asked actor ended before it answered."""


class SnapshotError(GravError, RuntimeError):
    """`snapshot()` of an actor raised, or returned what cannot be kept; or `restore()` raised."""


class NoRespondersError(GravError, LookupError):
    """Nobody can answer: the name is unknown, no one handles the type, or all have handled it silently."""


class DeadLetterNotFoundError(GravError, LookupError):
    """No dead letter has that uuid: it never had, was retried or purged, or has left for newer ones."""


class HandlerError(GravError, RuntimeError):
    """The asked handler failed, or every receiver of the question did.

    Attributes:
        error: The exception in one line, as `ValueError: bad site`.
        remote_traceback: Traceback at the receiver; "" when there is none.
    """

    def __init__(self, message: str = "", *, error: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.error = error or message
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        text = super().__str__()
        if self.error not in text:
            text = f"{text}: {self.error}" if text else self.error
        return _with_traceback(text, self.remote_traceback)


class ProtocolError(GravError, ValueError):
    """A frame from a socket breaks the protocol."""


class ConfigError(GravError, ValueError):
    """A setting has a wrong name, type or value."""


class MessageNotWanted(GravError):
    """Raised (or returned) by the function of `wait_on` and `wait_until`: go on waiting."""


class Crash(GravError):
    """Raised by a handler: the actor itself has failed and goes to its supervisor."""


class Reject(GravError):
    """Raised by a handler: the message goes to the dead letters at once, without another attempt."""


def _with_traceback(text: str, remote_traceback: str) -> str:
    if not remote_traceback:
        return text
    return f"{text}\n\nRemote traceback:\n{remote_traceback.rstrip()}"
