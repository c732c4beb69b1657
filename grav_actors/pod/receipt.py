"""Receipts: what `send` returns, and the way to the replies."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from grav_actors.errors import NoReceiptError, WaitTimeoutError
from grav_actors.ids import id_text
from grav_actors.message import Message
from grav_actors.options import check_callable
from grav_actors.pod.waiter import Waiter
from grav_actors.timeouts import Timeout, no_limit_below, seconds

if TYPE_CHECKING:
    from grav_actors.pod.pod import Pod

T = TypeVar("T")


class Receipt:
    """Stands for one sent message; the first reply to it can be waited for, once.

    Many receipts of one pod may wait at the same time, in any thread, also inside the pod's own callback.
    A reply that comes before anybody waits is kept: the latest 4,096 of a pod. A receipt of a pod that has
    disconnected is false; its uuid is "" and every other method raises NoReceiptError.
    """

    # No constructor: `make` and `Pod.publish` set these, which takes a third of the time. The key is the raw uuid of
    # the message, or the low half of it as a number, of which the uuid is made when somebody wants it.
    __slots__ = ("_key", "_pod")

    _key: bytes | int
    _pod: Pod | None

    @staticmethod
    def make(pod: Pod | None, message_id: bytes) -> Receipt:
        """Return the receipt of a message that a pod has sent."""
        receipt = Receipt()
        receipt._pod = pod
        receipt._key = message_id
        return receipt

    @property
    def _id(self) -> bytes:
        key = self._key
        if isinstance(key, bytes):
            return key
        prefix: bytes = self._sent()._outbox.prefix
        return prefix + key.to_bytes(8, "big")

    def __bool__(self) -> bool:
        return self._pod is not None

    def __repr__(self) -> str:
        return f"Receipt({self.uuid!r})"

    @property
    def uuid(self) -> str:
        """Uuid of the message, or ""."""
        return id_text(self._id) if self._id else ""

    def result(self, timeout: Timeout = None) -> Message:
        """Wait for the first reply and return it.

        Args:
            timeout: Seconds; None has no limit, 0 looks once.

        Raises:
            WaitTimeoutError: No reply came in time; a later one is still kept.
            ConnectionClosedError: The pod, its node or the bus ended.
            NoReceiptError: The message was never sent.
        """
        pod = self._sent()
        limit = seconds(timeout)
        waiter = Waiter()
        pod._expect(self._id, waiter)
        try:
            pod._link.duty.wait(waiter, limit)
        finally:
            is_done = pod._forget(self._id, waiter)
        if not is_done:
            raise self._late(limit)
        message: Message = waiter.result()
        return message

    def wait_on(self, fn: Callable[[Message], T]) -> T:
        """Wait for the first reply, without limit; return what `fn` makes of it. See `result` for errors."""
        return fn(self.result())

    def wait_until(self, timeout: Timeout, fn: Callable[[Message], T]) -> T:
        """Wait for the first reply; return what `fn` makes of it.

        Args:
            timeout: Seconds; as in Grav, 0 and less have no limit.
        """
        self._sent()
        return fn(self.result(no_limit_below(timeout)))

    def on_reply(self, fn: Callable[[Message], Any]) -> None:
        """Have the first reply given to `fn`, on the pod's callback thread; what `fn` raises is logged.

        Raises:
            TypeError: `fn` can not be called.
        """
        pod = self._sent()
        check_callable("on_reply takes", fn)
        pod._on_reply(self._id, fn)

    def __await__(self) -> Generator[Any, None, Message]:
        """Wait in asyncio, without limit; `asyncio.timeout` gives one."""
        return self._result_async().__await__()

    async def _result_async(self) -> Message:
        pod = self._sent()
        waiter = Waiter()
        pod._expect(self._id, waiter)
        try:
            await waiter.wait_async(None)
        finally:
            pod._forget(self._id, waiter)
        message: Message = waiter.result()
        return message

    def _sent(self) -> Pod:
        if self._pod is None:
            raise NoReceiptError("the message was not sent, as its pod had disconnected; no reply can come")
        return self._pod

    def _late(self, limit: float | None) -> WaitTimeoutError:
        return WaitTimeoutError(f"no reply to {self.uuid} within {limit} s; a responder may still come")


NO_RECEIPT = Receipt.make(None, b"")
"""What `send` returns after `disconnect`."""
