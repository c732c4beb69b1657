"""Programs for a host of a lab that means no good; texts, as they are run there."""

GARBAGE = """
import random, socket, sys
host, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
greeting = b"\\xff" + bytes(8) + b"\\x7f\\x03\\x01" + b"NULL" + bytes(16) + b"\\0" + bytes(31)
ready = b"\\x04\\x19\\x05READY\\x0bSocket-Type\\0\\0\\0\\x06DEALER"
huge = b"\\x02" + (2**62).to_bytes(8, "big") + bytes(1000)
kinds = [b"", b"GET / HTTP/1.1\\r\\n\\r\\n", greeting, greeting + ready, greeting + ready + huge]
curve = greeting.replace(b"NULL\\0", b"CURVE")
kinds += [curve, curve + b"\\x04\\xc8\\x05HELLO\\1\\0" + bytes(72)]
held = []
for number in range(150):
    for port in (7470, 17470):
        s = socket.socket()
        s.settimeout(2)
        data = rng.choice(kinds) + rng.randbytes(rng.randrange(2000))
        try:
            s.connect((host, port))
            s.sendall(data[:64])
        except OSError:
            pass
        held.append((s, data[64:]))
for s, rest in held:  # behind the greeting: ZeroMQ hangs up on who says both at once
    try:
        s.sendall(rest)
    except OSError:
        pass
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(1000):
    data = rng.randbytes(rng.randrange(200))
    udp.sendto(rng.choice([b"", b"GRAV", b"GRAV\\1\\1\\0\\0"]) + data, ("239.255.71.82", 7471))
"""
FLOOD = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(1, 100_001):
    port = number % 64_000 + 1000
    s.sendto(b"GRAV\\1\\1\\0\\0" + number.to_bytes(16, "big") + port.to_bytes(2, "big"), ("239.255.71.82", 7471))
"""
FORGER = """
import sys
from grav_actors.errors import GravError
from grav_actors.transports.base import Handshake, TransportOptions
from grav_actors.transports.zeromq import ZeroMQTransport
target, keys, uuid = sys.argv[1:]
transport = ZeroMQTransport()
transport.setup(
    TransportOptions(uuid, 7500, "tcp://0.0.0.0", custom={"keys": keys}), lambda found: found.close(), lambda uuid: None
)
connection = transport.connect(target)
try:
    ack = connection.do_outgoing_handshake(Handshake(uuid, "*", incarnation="ab" * 8))
    print("accepted" if ack.accept else ack.reason)
except GravError as exc:
    print(exc)
connection.close()
transport.close()
"""
RECORDER = """
import pathlib, select, socket, struct, sys
folder, ports = pathlib.Path(sys.argv[1]), set(map(int, sys.argv[2:]))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
print("ready", flush=True)
begins, parts = {}, {}
while True:
    ready, _, _ = select.select([wire, sys.stdin], [], [])
    if sys.stdin in ready:
        break
    packet = wire.recv(1 << 17)
    if packet[12:14] != b"\\x08\\0" or packet[23] != 6:
        continue  # neither IPv4 nor TCP
    segment = packet[14 + (packet[14] & 15) * 4 : 14 + int.from_bytes(packet[16:18], "big")]
    source, port, number = struct.unpack("!HHI", segment[:8])
    if port not in ports:
        continue
    if segment[13] & 2:  # SYN
        begins[port, source] = number + 1
    data = segment[(segment[12] >> 4) * 4 :]
    if data and (port, source) in begins:
        parts.setdefault((port, source), {})[(number - begins[port, source]) % (1 << 32)] = data
for (port, source), found in parts.items():
    tape, end = [], 0
    for at, data in sorted(found.items()):
        if at <= end < at + len(data):
            tape.append(data[end - at :].hex())
            end = at + len(data)
    (folder / f"{port}-{source}").write_text(" ".join(tape))
"""
REPLAYER = """
import json, pathlib, select, socket, sys, time
host, folder, times, *ports = sys.argv[1:]
answers = []
for _ in range(int(times)):
    said, tapes = {}, {}
    for port in map(int, ports):
        for path in sorted(pathlib.Path(folder).glob(f"{port}-*")):
            s = socket.create_connection((host, port), 5)
            said[s], tapes[s] = (port, bytearray()), path.read_text().split()
    end = time.monotonic() + 3  # some go on talking for ever
    listening = set(said)
    while listening and time.monotonic() < end:
        for s in list(listening):
            try:
                if tapes[s]:  # piece by piece, as it was: who hears all at once hangs up
                    s.sendall(bytes.fromhex(tapes[s].pop(0)))
            except OSError:
                listening.discard(s)
        time.sleep(0.05)
        for s in select.select(list(listening), [], [], 0)[0]:
            try:
                data = s.recv(65536)
            except OSError:
                data = b""
            said[s][1].extend(data)
            if not data:
                listening.discard(s)
    answers += [(port, answer.hex()) for port, answer in said.values()]
    for s in said:
        s.close()
print(json.dumps(answers))
"""
