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
        try:
            s.connect((host, port))
            s.sendall(rng.choice(kinds) + rng.randbytes(rng.randrange(2000)))
        except OSError:
            pass
        held.append(s)
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
