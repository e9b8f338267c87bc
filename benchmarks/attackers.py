"""The peers of `benchmarks.attacks`: what each of them does to a broker, and how much memory that may take."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from itertools import product
from typing import Final

from attrs import frozen

from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, Publish, Subscribe

USER, PASSWORD = b"alice", b"right"
UPGRADE: Final = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n{more}\r\n"
)


@frozen
class Ports:
    mqtt: int
    websocket: int
    admin: int


@frozen
class Attack:
    """`memory_mb` is what the process may grow by; `play` returns what went wrong, or ""."""

    name: str
    memory_mb: int
    play: Callable[[Ports], str]


def connected(port: int, name: bytes, host: str = "127.0.0.1", **more: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 30, (host, 0))
    sock.sendall(encode(Connect(name, True, 0, **more)))  # type: ignore[arg-type]
    answer = sock.recv(4)
    assert answer == b"\x20\x02\x00\x00", answer
    return sock


def push(sock: socket.socket, piece: bytes, count: int, patience_s: float = 1.0) -> None:
    """Send as long as somebody reads."""
    sock.settimeout(patience_s)
    with contextlib.suppress(TimeoutError, ConnectionError):
        for _ in range(count):
            sock.sendall(piece)


def read_for(sock: socket.socket, seconds: float) -> int:
    sock.settimeout(seconds)
    size = 0
    until = time.monotonic() + seconds
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < until and (data := sock.recv(1 << 16)):
            size += len(data)
    return size


# --- the attacks -------------------------------------------------------------------------------------------


def unread_answers(packet: bytes) -> Callable[[Ports], str]:
    def play(ports: Ports) -> str:
        push(connected(ports.mqtt, b"attacker"), packet * (65_536 // len(packet)), 800)
        return ""

    return play


def unread_websocket(ports: Ports) -> str:
    sock = socket.create_connection(("127.0.0.1", ports.websocket))
    sock.sendall(UPGRADE.format(path="/mqtt", more="Sec-WebSocket-Protocol: mqtt\r\n").encode())
    sock.recv(4096)
    packets = b"\x62\x02\x00\x07" * 8000
    sock.sendall(_frame(0x82, encode(Connect(b"attacker", True, 0))))
    push(sock, _frame(0x82, packets), 800)
    return ""


def unread_exchange(ports: Ports) -> str:
    sock = socket.create_connection(("127.0.0.1", ports.websocket))
    sock.sendall(UPGRADE.format(path="/exchange-stream", more="").encode())
    sock.recv(4096)
    push(sock, _frame(0x81, b'{"op":"unsubscribe","channel":"A@depth"}') * 1000, 200)
    return ""


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2, "big")
    return head + bytes(4) + payload


def long_topics(ports: Ports) -> str:
    sock = connected(ports.mqtt, b"attacker")
    for number in range(6000):
        sock.sendall(encode(Publish(b"t" * 65_000 + b"%d" % number, b"")))
    return ""


def deep_topics(ports: Ports) -> str:
    sock = connected(ports.mqtt, b"attacker")
    for number in range(32_000):
        sock.sendall(encode(Publish(b"%d/" % number + b"x/" * 190 + b"y", b"")))
    sock.sendall(encode(Subscribe(1, ((b"z/+", 0),))))
    sock.settimeout(60)
    assert sock.recv(5)[:1] == b"\x90"
    for number in range(1000):
        sock.sendall(encode(Subscribe(1, ((b"z/+/%d" % number, 0),))))
    read_for(sock, 2)
    return ""


def branching_filters(ports: Ports) -> str:
    """Each level of the filters is a `+` or the topic's own: who gets a topic takes a walk through all of them."""
    levels = 13
    filters = [b"/".join((*names, b"#")) for names in product((b"+", b"t"), repeat=levels)]
    subscriber = connected(ports.mqtt, b"subscriber")
    for start in range(0, len(filters), 1024):
        subscriber.sendall(encode(Subscribe(1, tuple((name, 0) for name in filters[start : start + 1024]))))
    read_for(subscriber, 2)
    sock = connected(ports.mqtt, b"attacker")
    topics = b"".join(encode(Publish(b"t/" * levels + b"%d" % number, b"")) for number in range(500))
    sock.sendall(topics + b"\xc0\x00")
    sock.settimeout(60)
    return "" if sock.recv(2) == b"\xd0\x00" else "not every PUBLISH was looked at"


def packet_in_fragments(ports: Ports) -> str:
    """A packet of 1.9 MB, each byte in a fragment of its own."""
    sock = socket.create_connection(("127.0.0.1", ports.websocket))
    sock.sendall(UPGRADE.format(path="/mqtt", more="Sec-WebSocket-Protocol: mqtt\r\n").encode())
    sock.recv(4096)
    sock.sendall(_frame(0x82, encode(Connect(b"attacker", True, 0))))
    sock.sendall(_frame(0x02, encode(Publish(b"t", b"x" * 1_900_000))[:7]))
    push(sock, _frame(0x00, b"x") * 10_000, 189, 10)
    return ""


def unreleased(ports: Ports) -> str:
    sock = connected(ports.mqtt, b"attacker")
    for number in range(600):
        sock.sendall(encode(Publish(b"t", b"x" * 1_000_000, 2, packet_id=number + 1)))
    return "" if read_for(sock, 3) == 4 * 600 else "not every PUBLISH was answered"


def retained(ports: Ports) -> str:
    sock = connected(ports.mqtt, b"attacker")
    sock.sendall(b"".join(encode(Publish(b"r/%d" % n, b"x" * 20, retain=True)) for n in range(20_000)))
    every = b"".join(b"\x00\x01#\x00" for _ in range(1000))
    size = len(every) + 2
    for _ in range(3):
        sock.sendall(b"\x82" + bytes((0x80 | size & 127, size >> 7)) + b"\x00\x01" + every)
        sock.sendall(b"".join(encode(Subscribe(2, ((b"r/+", 0),))) for _ in range(1000)))
    return "" if read_for(sock, 10) > 20_000 * 20 else "the retained messages did not come"


def system_topics(ports: Ports) -> str:
    sock = connected(ports.mqtt, b"attacker")
    filters = tuple((b"$SYS/#", 0) for _ in range(5000))
    push(sock, encode(Subscribe(1, filters)), 40)
    return ""


def refused_topics(ports: Ports) -> str:
    socks = [connected(ports.mqtt, b"attacker%d" % number) for number in range(20)]
    for sock in socks:
        for number in range(255):
            sock.sendall(encode(Publish(b"secret/" + b"t" * 65_000 + b"%d" % number, b"")))
    return ""


def slow_connects(ports: Ports) -> str:
    socks = [socket.create_connection(("127.0.0.1", ports.mqtt)) for _ in range(400)]
    for byte in (b"\x10", b"\x7f", b"\x00", b"\x04", b"M", b"Q", b"T", b"T"):
        for sock in socks:
            sock.sendall(byte)
        time.sleep(0.2)
    return ""


def passwords(ports: Ports) -> str:
    bad = encode(Connect(b"bad", True, 0, user_name=USER, password=b"wrong"))
    socks = [socket.create_connection(("127.0.0.1", ports.mqtt)) for _ in range(100)]
    for sock in socks:
        sock.sendall(bad)
    time.sleep(0.2)
    started = time.monotonic()
    connected(ports.mqtt, b"good", "127.0.0.2", user_name=USER, password=PASSWORD)
    took = time.monotonic() - started
    return "" if took < 5 else f"the right password waited for {took:.1f} s"


def admin(ports: Ports) -> str:
    socks = [socket.create_connection(("127.0.0.1", ports.admin)) for _ in range(600)]
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", ports.admin), 30) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answered = sock.recv(12) == b"HTTP/1.1 200"
    took = time.monotonic() - started
    for sock in socks:
        sock.close()
    return "" if answered and took < 2 else f"answered: {answered}, after {took:.1f} s"


ATTACKS: Final = (
    Attack("unread-pubrel", 20, unread_answers(b"\x62\x02\x00\x07")),
    Attack("unread-pingreq", 20, unread_answers(b"\xc0\x00")),
    Attack("unread-qos-1", 20, unread_answers(b"\x32\x05\x00\x01t\x00\x07")),
    Attack("unread-websocket", 20, unread_websocket),
    Attack("unread-exchange", 20, unread_exchange),
    Attack("long-topics", 60, long_topics),
    Attack("deep-topics", 60, deep_topics),
    Attack("branching-filters", 20, branching_filters),
    Attack("packet-in-fragments", 20, packet_in_fragments),
    Attack("unreleased-qos-2", 40, unreleased),
    Attack("retained", 60, retained),
    Attack("system-topics", 20, system_topics),
    Attack("refused-topics", 20, refused_topics),
    Attack("slow-connects", 20, slow_connects),
    Attack("slow-passwords", 20, passwords),
    Attack("admin", 40, admin),
)


# --- playing them ------------------------------------------------------------------------------------------
