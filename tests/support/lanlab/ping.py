"""ICMP echo requests, as `ping` sends them."""

import random
import select
import socket
import struct
import time


def ping(address: str, *, count: int, interval: float, timeout: float, raw: socket.socket) -> list[float | None]:
    """Return the round-trip times in seconds; None for one that was lost.

    Args:
        address: IPv4 address.
        count: Requests, one after the other.
        interval: Seconds between two.
        timeout: Seconds to wait for each answer.
        raw: A raw ICMP socket, made on the host that asks.
    """
    identity = random.getrandbits(16)
    found: list[float | None] = []
    for sequence in range(count):
        found.append(_ping_once(address, identity, sequence, timeout, raw))
        time.sleep(interval)
    return found


def _ping_once(address: str, identity: int, sequence: int, timeout: float, raw: socket.socket) -> float | None:
    begin = time.perf_counter()
    try:
        raw.sendto(_request(identity, sequence), (address, 0))
        while (left := begin + timeout - time.perf_counter()) > 0 and select.select([raw], [], [], left)[0]:
            packet = raw.recv(2048)
            head = (packet[0] & 15) * 4
            if packet[head] == 0 and struct.unpack("!HH", packet[head + 4 : head + 8]) == (identity, sequence):
                return time.perf_counter() - begin
    except OSError:  # no route, say, while a cable is out
        return None
    return None


def _request(identity: int, sequence: int) -> bytes:
    body = struct.pack("!BBHHH", 8, 0, 0, identity, sequence) + b"lanlab!!"
    total: int = sum(struct.unpack(f"!{len(body) // 2}H", body))
    total = (total >> 16) + (total & 0xFFFF)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return body[:2] + struct.pack("!H", checksum) + body[4:]
