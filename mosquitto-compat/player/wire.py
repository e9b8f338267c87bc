"""One client of a random sequence: a socket that never blocks, and what came in as lines.

It owes a fence for whatever it has sent: a PINGREQ behind it in the same segment, whose answer is not noted.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from functools import lru_cache

from player import kernel, packets, packets5
from player.client import SETTLE_ID

CHUNK_BYTES = 1 << 18
EVENTS_MAX = 1024
PINGRESP = b"\xd0\x00"
describe = lru_cache(8192)(packets.describe)
describe5 = lru_cache(8192)(packets5.describe)


class Poll:
    """What every socket is waited for with."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wires: dict[int, Wire] = {}

    def add(self, file: int, wire: Wire) -> None:
        self._wires[file] = wire
        self._epoll.register(file, select.EPOLLIN)

    def remove(self, file: int) -> None:
        del self._wires[file]
        self._epoll.unregister(file)

    def writing(self, file: int, is_writing: bool) -> None:
        self._epoll.modify(file, select.EPOLLIN | (select.EPOLLOUT if is_writing else 0))

    def turn(self, within_s: float) -> bool:
        """Take what has come; False when nothing does."""
        events = self._epoll.poll(within_s, EVENTS_MAX)
        for file, event in events:
            wire = self._wires.get(file)
            if wire is None:
                continue  # closed in this turn
            if event & select.EPOLLOUT:
                wire.send_rest()
            if event & ~select.EPOLLOUT:
                wire.read()
        return bool(events)


class Wire:
    """`lines` grows with each packet and the close; `stirred` is told of all that comes."""

    def __init__(self, poll: Poll, stirred: Callable[[], None]) -> None:
        self.lines: list[str] = []
        self.activity = 0
        self.connected = False
        self.closed = True
        self.automatic = True
        self.next_id = 1
        self.level = 4
        self.packets = 0
        self.ids: dict[bytes, int] = {}
        """The packet id of the last PUBLISH of each topic that came."""
        self.retained: set[bytes] = set()
        """Topics of retained messages that came."""
        self.owed = 0
        """Fences whose answer has not come."""
        self.rest = b""
        self.unsent = bytearray()
        self.socket: socket.socket | None = None
        self._pings: deque[bool] = deque()
        self._poll = poll
        self._stirred = stirred

    def open(self, port: int, automatic: bool) -> None:
        """Connect; on one machine this takes no time."""
        self.connected, self.next_id, self.packets, self.owed = False, 1, 0, 0
        self.automatic, self.closed = automatic, False
        self.rest = b""
        self._pings.clear()
        self.ids.clear()
        self.unsent.clear()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.add(self.socket.fileno(), self)

    def note(self, line: str) -> None:
        self.lines.append(line)
        self.activity += 1

    def send(self, data: bytes) -> None:
        """Send as much as goes; a broken connection is noticed, and noted, by who reads."""
        if self.closed or self.socket is None:
            return
        if self.unsent:
            self.unsent += data
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return
        if sent < len(data):
            self.unsent += data[sent:]
            self._poll.writing(self.socket.fileno(), True)

    def send_rest(self) -> None:
        assert self.socket is not None
        try:
            del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            return
        except OSError:
            self.unsent.clear()
        if not self.unsent:
            self._poll.writing(self.socket.fileno(), False)

    def send_fenced(self, data: bytes) -> None:
        """Send, and ask whether it has been dealt with."""
        if self.connected and not self.closed:
            self._pings.append(False)
            self.owed += 1
            data += packets.PINGREQ
        self.send(data)

    def ping(self) -> None:
        """A PINGREQ whose answer is noted."""
        self._pings.append(True)
        self.send_fenced(packets.PINGREQ)

    def send_settled(self, data: bytes) -> None:
        """Send bytes that may hold a PINGREQ themselves: an UNSUBSCRIBE is the fence."""
        if self.connected and not self.closed:
            self.owed += 1
            made = packets5.unsubscribe(SETTLE_ID, [b"fence"], {}) if self.level == 5 else None
            data += made or packets.unsubscribe(SETTLE_ID, [b"fence"])
        self.send(data)

    def read(self) -> None:
        """Take what is there."""
        assert self.socket is not None
        try:
            data = self.socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._stirred()
        if not data:
            self._ended()
        elif data == PINGRESP and self._pings and not self.rest and not self._pings[0]:
            self._pings.popleft()
            self.owed -= 1
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        whole, self.rest = packets.split(self.rest + data)
        answers = b""
        for packet in whole:
            answers += self._received(packet)
        if answers:
            self.send_fenced(answers)

    def _received(self, packet: bytes) -> bytes:
        """Note it; what the client answers."""
        kind = packet[0] >> 4
        if kind == 13 and self._pings:
            if self._pings.popleft():
                self.note("PINGRESP")
            else:
                self.owed -= 1
            return b""
        if kind == 11 and packets.packet_id_of(packet) == SETTLE_ID:
            self.owed -= 1
            return b""
        self.packets += 1
        if kind == 3:
            self._remember(packet)
        self.note(describe5(packet) if self.level == 5 else describe(packet))
        if kind == 2 and packet[3] == 0 and (self.level == 5 or len(packet) == 4):
            self.connected = True
        elif self.automatic:
            return _answer(kind, packet)
        return b""

    def _remember(self, packet: bytes) -> None:
        if packet[0] & 6:
            self.ids[packets.topic_of(packet)] = packets.packet_id_of(packet)
        if packet[0] & 1:
            self.retained.add(packets.topic_of(packet))

    def _ended(self) -> None:
        if self.rest:
            self.note(f"rest {self.rest[:40].hex(' ')}")
        self.note("closed")
        self.close()

    def close(self) -> tuple[kernel.End, kernel.End] | None:
        """Close; both ends, by which the kernel knows the connection."""
        self.closed, self.connected, self.owed, self.rest = True, False, 0, b""
        self.unsent.clear()
        gone, self.socket = self.socket, None
        if gone is None:
            return None
        self._poll.remove(gone.fileno())
        try:
            return gone.getsockname()[:2], gone.getpeername()[:2]
        except OSError:
            return None  # closed from the other side
        finally:
            gone.close()


def _answer(kind: int, packet: bytes) -> bytes:
    answer = {5: 6, 6: 7}.get(kind)
    if kind == 3 and (qos := packet[0] >> 1 & 3):
        answer = 4 if qos == 1 else 5
    return b"" if answer is None else packets.short(answer, packets.packet_id_of(packet))
