"""Everything bad that may happen to a feed, at random moments from a seed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import trio
from support.postgres import Cluster
from support.tcp_proxy import TcpProxy
from torture.ledger import KILLED, STOPPED

HERE = Path(__file__).parent


class Victim:
    """The process under torture, restarted as often as it is killed.

    Args:
        command: its arguments for Python, which hold from the next start.
            The recorder is told how the run before it ended; the broker is not.
        log: what it prints goes beside this file.

    Attributes:
        command: as above.
        ended: how the last run ended, "" in the first.
    """

    def __init__(self, command: list[str], log: Path, tell: bool) -> None:
        self.command = command
        self._tell = tell
        self._errors = log.with_suffix(".stderr")
        self._process: subprocess.Popen[bytes] | None = None
        self.ended = ""

    def start(self, after: str) -> None:
        """`after`: how the run before it had ended."""
        self.ended = after
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *self.command, *([after] if self._tell else [])],
                env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": "/usr/bin:/bin"},
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    async def end(self, number: signal.Signals) -> None:
        process = self._process
        assert process is not None
        if process.poll() is not None:
            raise AssertionError(f"the feed's process ended by itself:\n{self.errors()[-3000:]}")
        process.send_signal(number)
        await trio.to_thread.run_sync(process.wait)

    async def ask_where_it_waits(self) -> None:
        """Into its errors.  Only the recorder answers."""
        assert self._process is not None
        if not self._tell:
            return
        self._process.send_signal(signal.SIGUSR1)
        await trio.sleep(1.0)

    def kill_now(self) -> None:
        """For the end of the test, whatever happened."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def errors(self) -> str:
        return self._errors.read_text(errors="replace")


class Chaos:
    """Does one bad thing after another.  `done` counts them by name.

    Attributes:
        act: what people do in between.
    """

    def __init__(self, seed: int, cluster: Cluster, proxy: TcpProxy, victim: Victim) -> None:
        self.act: Callable[[], Awaitable[None]] | None = None
        self._random = random.Random(seed)
        self._cluster = cluster
        self._proxy = proxy
        self._victim = victim
        self.done: Counter[str] = Counter()
        self._deeds = [("end_backends", 4), ("cut", 4), ("freeze", 3), ("kill", 4), ("stop", 2)]
        self._deeds += [("restart_fast", 1), ("restart_immediate", 1)]
        self._round = [name for name, _ in self._deeds]

    async def rage(self, pause_s: float) -> None:
        """For ever: first everything once in a random order, then whatever comes, `pause_s` apart on average."""
        self._random.shuffle(self._round)
        while True:
            await trio.sleep(self._random.uniform(0.3, 1.7) * pause_s)
            name = self._round.pop() if self._round else self._any()
            self.done[name] += 1
            await getattr(self, f"_{name}")()
            if self.act is not None:
                await trio.sleep(self._random.uniform(0.3, 1.7) * pause_s)
                await self.act()

    def _any(self) -> str:
        names, weights = zip(*self._deeds, strict=True)
        return str(self._random.choices(names, weights)[0])

    async def _end_backends(self) -> None:
        query = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'rowcast%%'"
        )
        await self._execute(query)

    async def _execute(self, query: str) -> None:
        def run() -> None:
            with psycopg.connect(self._cluster.dsn(), autocommit=True) as connection:
                connection.execute(query)

        await trio.to_thread.run_sync(run)

    async def _cut(self) -> None:
        self._proxy.cut()

    async def _freeze(self) -> None:
        self._proxy.freeze()
        await trio.sleep(self._random.choice([0.5, 1.5, 4.0]))
        self._proxy.thaw()

    async def _restart_fast(self) -> None:
        await self._restart("fast")

    async def _restart_immediate(self) -> None:
        await self._restart("immediate")

    async def _restart(self, mode: str) -> None:
        closed_s = self._random.choice([0.0, 1.0])
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._cluster.restart, mode, closed_s)

    async def _kill(self) -> None:
        with trio.CancelScope(shield=True):
            await self._victim.end(signal.SIGKILL)
            self._victim.start(KILLED)

    async def _stop(self) -> None:
        with trio.CancelScope(shield=True):
            await self._victim.end(signal.SIGTERM)
            self._victim.start(STOPPED)
