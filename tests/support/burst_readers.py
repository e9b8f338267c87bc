"""WebSocket readers in a process of their own, so that they are served by the kernel and not by the broker's loop.

`python -m support.burst_readers PORT PATH READERS ROWS`: prints `ready` once all are connected, then, for each reader,
whether it got the rows 1 to ROWS in order, and how long the last one took.

They read frames and look at nothing but the row's number: what a test says of the broker must not depend on how much of
a busy machine's processor its readers get.
"""

from __future__ import annotations

import re
import sys
import time

import trio

NUMBER = re.compile(rb'"n" ?: ?(\d+)')
RECEIVE_BYTES = 262_144
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
UPGRADE = (
    "GET {} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Reader:
    """One connection.  `result` is None while it reads."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._held = b""
        self.count = 0
        self.result: str | None = None
        self.answer = b""

    def take(self, data: bytes) -> None:
        """What came: whole frames are looked at, the rest is held until more comes."""
        data = self._held + data
        start = 0
        while self.result is None and len(data) >= start + 2:
            head, size, body = data[start], data[start + 1], start + 2
            if size >= 126:
                body += 2 if size == 126 else 8
                if len(data) < body:
                    break
                size = int.from_bytes(data[start + 2 : body], "big")
            if len(data) < body + size:
                break
            self._frame(head, data[body : body + size])
            start = body + size
        self._held = data[start:]

    def _frame(self, head: int, body: bytes) -> None:
        if head == PING:
            self.answer += bytes((PONG, 0x80 | len(body), 0, 0, 0, 0)) + body  # masked with zeros
        elif head == CLOSE:
            self.result = f"closed behind {self.count}: {body[2:].decode()}"
        elif head == TEXT:
            found = NUMBER.search(body)
            number = int(found.group(1)) if found else -1
            if number != self.count + 1:
                self.result = f"{number} behind {self.count}"
            self.count = number
            if number == self._rows:
                self.result = "all"


async def read(
    port: int,
    path: str,
    rows: int,
    results: list[str],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """One reader, to its last row or until it is closed."""
    reader = Reader(rows)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(UPGRADE.format(path).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(RECEIVE_BYTES)
        assert head.startswith(b"HTTP/1.1 101"), head
        task_status.started()
        data = head.partition(b"\r\n\r\n")[2]
        while True:
            reader.take(data)
            if reader.result is not None:
                break
            if reader.answer:
                answer, reader.answer = reader.answer, b""
                await stream.send_all(answer)
            data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                reader.result = f"ended behind {reader.count}"
                break
    results.append(reader.result)


async def main(port: str, path: str, readers: str, rows: str) -> None:
    """All readers of this process."""
    results: list[str] = []
    async with trio.open_nursery() as nursery:
        for _ in range(int(readers)):
            await nursery.start(read, int(port), path, int(rows), results)
        print("ready", flush=True)
        started = time.monotonic()
    for result in sorted(set(results)):
        print(f"{results.count(result)} readers: {result}", flush=True)
    print(f"{time.monotonic() - started:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
