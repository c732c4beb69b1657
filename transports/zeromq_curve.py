"""Encryption between nodes by CURVE, and who is let in: ZeroMQ asks here for every connection (RFC 27, ZAP)."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import zmq
from zmq.utils import z85

from grav_actors.errors import ConfigError
from grav_actors.mesh.keys import AllowedKeys, KeyFolder
from grav_actors.transports.tcp_address import TcpAddress

ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
DOMAIN: Final = b"grav-actors"
MAX_UUIDS: Final = 64
"""Uuids of one key that are remembered; past it the one that it showed first goes."""
MAX_ENDPOINTS: Final = 1024
"""Endpoints whose key is remembered."""
_KEY_BYTES: Final = 32


class Curve:
    """The keys of a node, and what is known about those of others. Any thread may call any method.

    Raises:
        ConfigError: There is no pair in the folder, or others could have read it.
    """

    def __init__(self, folder: Path, logger: logging.Logger) -> None:
        if not zmq.has("curve"):
            raise ConfigError("this libzmq was built without CURVE; install pyzmq from its wheels")
        keys = KeyFolder(folder)
        pair = keys.pair()
        self._public, self._secret = pair.public_key, pair.secret_key
        self._allowed = AllowedKeys(keys)
        self._logger = logger
        self._lock = threading.Lock()
        self._owners: dict[str, str] = {}  # uuid -> key
        self._uuids: dict[str, OrderedDict[str, None]] = {}  # by key
        self._found_at: OrderedDict[TcpAddress, str] = OrderedDict()

    # Sockets

    def secure_listener(self, socket: zmq.Socket[Any]) -> None:
        """Have a socket that listens take only connections that are encrypted, and that `decide` lets in."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt_string(zmq.CURVE_SECRETKEY, self._secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        # Without this nobody is asked when there is nobody to ask, and every key is let in.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def secure_dialler(self, socket: zmq.Socket[Any], key: str) -> None:
        """Have a socket connect only to who has the secret of this public key."""
        socket.setsockopt_string(zmq.CURVE_SERVERKEY, key)
        socket.setsockopt_string(zmq.CURVE_PUBLICKEY, self._public)
        socket.setsockopt_string(zmq.CURVE_SECRETKEY, self._secret)

    # Who is let in

    def decide(self, request: Sequence[bytes]) -> list[bytes]:
        """Return the answer to a question of ZeroMQ: may this connection be made? Fails closed."""
        number = request[1] if len(request) > 1 else b""
        try:
            key = self._admitted(request)
        except Exception as exc:
            self._logger.warning("a connection was refused: %s", exc)
            return [b"1.0", number, b"500", b"it could not be decided", b"", b""]
        if key:
            return [b"1.0", number, b"200", b"", key.encode(), b""]
        return [b"1.0", number, b"400", b"this key is not allowed here", b"", b""]

    def _admitted(self, request: Sequence[bytes]) -> str:
        """Return the public key of who connects when it is allowed, else ""."""
        version, _, domain, address, _, mechanism, *credentials = request
        if version != b"1.0" or domain != DOMAIN or mechanism != b"CURVE" or len(credentials) != 1:
            return ""
        if len(credentials[0]) != _KEY_BYTES:
            return ""
        key = z85.encode(credentials[0]).decode()
        if self._allowed.name_of(key) is None:
            self._logger.warning("a node at %s was turned away: its key %s is not allowed", address.decode(), key)
            return ""
        return key

    # Whom a key belongs to

    def check_uuid(self, uuid: str, key: str) -> str:
        """Return why the node with this key cannot have that uuid; "" when it can, and then no other key can."""
        with self._lock:
            owner = self._owners.setdefault(uuid, key)
            if owner != key:
                return f"node {uuid} was here with another key before"
            # Each key has room of its own: who makes up uuids has his own forgotten, not those of others.
            uuids = self._uuids.setdefault(key, OrderedDict())
            uuids[uuid] = None
            if len(uuids) > MAX_UUIDS:
                del self._owners[uuids.popitem(last=False)[0]]
        return ""

    def keys_to_try(self, address: TcpAddress) -> list[str]:
        """Return the keys that the node there may have: those that are allowed, first the one that was there."""
        allowed = list(self._allowed.names())
        with self._lock:
            known = self._found_at.get(address)
            elsewhere = set(self._found_at.values())
        return sorted(allowed, key=lambda key: (key != known, key in elsewhere))

    def reached(self, address: TcpAddress, key: str) -> None:
        """Note whose key it is that the node there has."""
        with self._lock:
            self._found_at[address] = key
            self._found_at.move_to_end(address)
            if len(self._found_at) > MAX_ENDPOINTS:
                self._found_at.popitem(last=False)
