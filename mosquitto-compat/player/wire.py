"""One client of a random sequence: a socket that never blocks, and what came in as lines.

It owes a fence for whatever it has sent: a PINGREQ behind it in the same segment, whose answer is not noted.
"""

from __future__ import annotations

import re
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from random import Random

from player import kernel, packets, packets5, transport
from player.client import SETTLE_ID
from player.frames import Frames, frame

ALIASED = re.compile(r"(PUBLISH )('.*?'|<.*?>)( .*) topic-alias=(\d+)(.*)")
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

    def reading(self, file: int, is_reading: bool) -> None:
        """Without this not even a reset is heard of."""
        if is_reading:
            self._epoll.register(file, select.EPOLLIN)
        else:
            self._epoll.unregister(file)

    def remove(self, file: int) -> None:
        del self._wires[file]
        with suppress(FileNotFoundError):  # who does not read at the moment
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
        self.pieces: deque[bytes] = deque()
        """What is sent with a tick between one and the next."""
        self.is_paused = False
        """Whether it does not read."""
        self.socket: socket.socket | None = None
        self._aliases: dict[str, str] = {}
        self._frames: Frames | None = None
        self._cuts = 0
        self._pings: deque[bool] = deque()
        self._poll = poll
        self._stirred = stirred

    def open(self, port: int, automatic: bool, frames: str = "", cuts: int = 0) -> None:
        """Connect; on one machine this takes no time.

        Args:
            frames: over WebSocket, with frames of this style.
            cuts: what is sent at once goes in so many pieces more.
        """
        self.connected, self.next_id, self.packets, self.owed = False, 1, 0, 0
        self.automatic, self.closed = automatic, False
        self.rest = b""
        self.is_paused = False
        self._pings.clear()
        self.ids.clear()
        self._aliases.clear()
        self.unsent.clear()
        self.pieces.clear()
        self._cuts, self._frames = cuts, Frames(frames) if frames else None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.connect(("127.0.0.1", port))
        if self._frames is not None:
            self._frames.shake_hands(self.socket)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.add(self.socket.fileno(), self)

    def note(self, line: str) -> None:
        self.lines.append(line)
        self.activity += 1

    def send(self, data: bytes) -> None:
        """Send as much as goes; a broken connection is noticed, and noted, by who reads."""
        if self._frames is not None:
            data = self._frames.wrapped(data)
        if self._cuts and len(data) > 1:
            self.pieces.extend(_cut(data, self._cuts))
        elif self.pieces:
            self.pieces.append(data)
        else:
            self._send(data)

    def send_piece(self) -> None:
        """A tick is over: the next piece."""
        if self.pieces:
            self._send(self.pieces.popleft())

    def _send(self, data: bytes) -> None:
        if self.closed or self.socket is None or not data:
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
            self.resume()  # who has more to say than goes must hear, too
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
        elif (
            (data := self._unframed(data)) == PINGRESP
            and self._pings
            and not self.rest
            and not self._pings[0]
        ):
            self._pings.popleft()
            self.owed -= 1
        else:
            self._take(data)

    def _unframed(self, data: bytes) -> bytes:
        if self._frames is None:
            return data
        data = self._frames.taken(data)
        if self._frames.has_to_close:
            self._send(frame(transport.CLOSE, b""))
        return data

    def pause(self) -> None:
        """Do not read for a while; whether the connection still stands shows later."""
        if self.socket is not None and not self.is_paused:
            self.is_paused = True
            self._poll.reading(self.socket.fileno(), False)

    def resume(self) -> None:
        """Read again, and ask whether that is all."""
        if self.socket is not None and self.is_paused:
            self.is_paused = False
            self._poll.reading(self.socket.fileno(), True)
            self.send_fenced(b"")

    def end(self) -> None:
        """Send nothing any more, but read."""
        if self.socket is not None:
            self.connected = False
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                return  # it has been closed from the other side

    def will_reset(self) -> None:
        """Let the close be a reset."""
        if self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @property
    def is_busy(self) -> bool:
        """Whether something is to come or to go; of who does not read nobody knows."""
        return not self.is_paused and bool(self.owed or self.rest or self.unsent or self.pieces)

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
        self.note(self._without_alias(describe5(packet)) if self.level == 5 else describe(packet))
        if kind == 2 and packet[3] == 0 and (self.level == 5 or len(packet) == 4):
            self.connected = True
        elif self.automatic:
            return _answer(kind, packet)
        return b""

    def _without_alias(self, line: str) -> str:
        """With the topic that it stands for: Rowcast uses those that a client allows, 2.0 never does."""
        if (found := ALIASED.fullmatch(line)) is None:
            return line
        topic = found[2] if found[2] != "''" else self._aliases.get(found[4], "''")
        self._aliases[found[4]] = topic
        return found[1] + topic + found[3] + found[5]

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
        self.pieces.clear()
        self.is_paused = False
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


def _cut(data: bytes, cuts: int) -> list[bytes]:
    """The same cuts for the same bytes; more of them where packets begin."""
    random = Random(len(data) * 31 + cuts)
    places = {random.randrange(1, min(len(data), random.choice((8, 40, len(data)))) + 1) for _ in range(cuts)}
    ends = [*sorted(places - {len(data)}), len(data)]
    return [data[first:last] for first, last in pairwise([0, *ends])]


def _answer(kind: int, packet: bytes) -> bytes:
    answer = {5: 6, 6: 7}.get(kind)
    if kind == 3 and (qos := packet[0] >> 1 & 3):
        answer = 4 if qos == 1 else 5
    return b"" if answer is None else packets.short(answer, packets.packet_id_of(packet))
