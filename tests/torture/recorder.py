"""The process that is tortured: one supervised feed, whose publications go to the end of a file.

    python recorder.py KIND DSN LOG AFTER

What is in the file survives SIGKILL, so `durable` is true once it has been written.  SIGTERM stops it in order.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from functools import partial

import trio
from attrs import evolve

from broker.config.feeds import FeedConfig, Fetch, Recovery, Replication, Route, Source
from broker.feed import supervise
from broker.feed.kinds import kind_of
from broker.feed.status import FeedStatus

NUMBER = re.compile(rb'^\{"number":(\d+),"txn":(\d+),"size":(\d+),"note":"')


def torture_config(kind: str, dsn: str) -> FeedConfig:
    """A feed of one table, `{"number", "txn", "size", "note"}`, of rowcast.publish() and of rowcast.notify()."""
    config = FeedConfig(
        name="torture",
        dsn=dsn,
        kind=kind,
        sources=(Source("rows", (), tables=("public.torture",)), Source("said", ("said",))),
        routes=(Route("rows", ("torture/{txn}/{number}",)), Route("said", ("torture/{txn}/{number}",))),
        replication=Replication(allow_unbounded_wal=True, poll_s=1.0, keep_s=5.0),
        check_interval_s=1.0,
        check_timeout_s=2.0,
    )
    if kind == "listen":
        kinds = (("rows", "torture"),)
        recovery = Recovery("public.torture", ("number",), kinds)
        fetch = Fetch("public.torture", ("number",), kinds)
        sources = (Source("rows", ("torture",)),)
        return evolve(config, sources=sources, recoveries=(recovery,), fetches=(fetch,))
    return config


class LogOutlet:
    """Appends one line per publication: transaction, number, and whether the body is whole."""

    def __init__(self, path: str, kind: str = "wal") -> None:
        self._kind = kind
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._lines: list[bytes] = []

    def write(self, line: str) -> None:
        self._lines.append(line.encode())
        self.flush()

    def publish(self, topic: bytes, payload: bytes, qos: int, retain: bool, added: object = None) -> None:
        if topic.startswith(b"$ws"):
            return
        if topic.startswith(b"$SYS"):
            self._lines.append(b"! %f %b %b\n" % (time.monotonic(), self._kind.encode(), payload))
            return
        _, txn, number = topic.split(b"/")
        self._lines.append(b"%b %b %b\n" % (txn, number, b"ok" if is_whole(payload, txn, number) else b"bad"))

    def flush(self) -> None:
        if self._lines:
            data = b"".join(self._lines)
            self._lines.clear()
            while data:
                data = data[os.write(self._fd, data) :]

    async def durable(self) -> None:
        self.flush()


def is_whole(payload: bytes, txn: bytes, number: bytes) -> bool:
    """The body has the row's own numbers and a note of the stated size, all of one letter."""
    head = NUMBER.match(payload)
    if head is None or head.group(1) != number or head.group(2) != txn or not payload.endswith(b'"}'):
        return False
    note = payload[head.end() : -2]
    return len(note) == int(head.group(3)) and note == note[:1] * len(note)


def tasks() -> str:
    """Where every task waits, for a test that hangs."""
    lines = []
    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is None:
            continue
        frames = [f"{frame.f_code.co_name}:{line}" for frame, line in task.iter_await_frames()]
        lines.append(f"{task.name}: {' > '.join(frames)}")
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return "\n".join(lines)


async def say_when_live(outlet: LogOutlet, status: FeedStatus) -> None:
    while status.state != "live":  # noqa: ASYNC110
        await trio.sleep(0.02)
    outlet.write("= live\n")


async def main(kind: str, dsn: str, log: str, after: str) -> None:
    supervise.PAUSE_S_MIN, supervise.PAUSE_S_MAX = 0.1, 1.0
    outlet = LogOutlet(log, kind)
    outlet.write(f"# run {after}\n")
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
        async with trio.open_nursery() as nursery:
            status = FeedStatus("torture")
            config = torture_config(kind, dsn)
            feed = kind_of(config).feed(config, outlet, status)
            nursery.start_soon(supervise.keep_trying, feed, status)
            nursery.start_soon(say_when_live, outlet, status)
            async for number in signals:
                if number == signal.SIGTERM:
                    nursery.cancel_scope.cancel()
                else:
                    print(f"{vars(status)}\n{tasks()}", file=sys.stderr, flush=True)
    if getattr(feed, "is_saved", False):
        outlet.write("= saved\n")


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
