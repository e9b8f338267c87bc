"""A broker that many sequences are played to at the same time, and its clock."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from player import packets, rules
from player.broker import COMMANDS, RUNNING, free_port
from player.manner import Manner
from player.wire import Poll, Wire

if TYPE_CHECKING:
    from player.stage import Stage

START_S = 60.0
STOP_S = 60.0
CHECK_S = 0.02
PORT = re.compile(r"\{(port\w*)\}")
RELOADING = re.compile("Reloading config")


class Side:
    """One process, from `start` to `stop`."""

    def __init__(self, kind: str, poll: Poll, lanes: Sequence[str], manner: Manner) -> None:
        self.kind = kind
        self.poll = poll
        self.begun = 0
        self.answered = 0
        self.stirred: set[Stage] = set()
        """Stages whose clients got something in this turn."""
        self.waiting: set[Stage] = set()
        """Stages that have not come to their end."""
        self.turned: set[str] = set()
        """Lanes whose rules are to be the others."""
        self._lanes = list(lanes)
        self._manner = manner
        self._folder = Path(tempfile.mkdtemp(prefix="rowcast-wander-"))
        self._folder.chmod(0o777)  # Mosquitto gives up root
        conf, files = rules.configuration(lanes, manner)
        self._ports = {name: free_port() for name in sorted(set(PORT.findall(conf)))}
        for name, text in {"conf": conf, **files}.items():
            text = text.replace("{dir}", str(self._folder))
            self._write(name, PORT.sub(lambda found: str(self._ports[found[1]]), text))
        self._log = (self._folder / "log").open("wb")
        self._process = self._begun()
        self._clock = Wire(poll, self._tick)
        self._ticked = False

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)
        (self._folder / name).chmod(0o644)

    def _begun(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMANDS[self.kind], "-c", str(self._folder / "conf")],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
        )

    def port(self, name: str, lane: str) -> int:
        return self._ports[name + lane if name == "port2" else name]

    def start(self) -> None:
        """Wait until it listens; the clock's client comes first."""
        self._until_logged(RUNNING)
        self.start_clock()

    def start_clock(self) -> None:
        """Let the clock's client come."""
        self._clock.open(self._ports["port"], False)
        user = b"carol" if self._manner.with_rules else None
        self._clock.send(packets.connect(client_id=b"clock", keep_alive_s=0, user=user))
        while not self._clock.connected:
            self.poll.turn(1.0)

    def _until_logged(self, pattern: re.Pattern[str], since: int = 0) -> None:
        until = time.monotonic() + START_S
        while not pattern.search(self.log(), since):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"no {pattern.pattern!r}: {self.log()}")
            time.sleep(CHECK_S)

    def together(self) -> None:
        """Do what all stages are held for, once all are."""
        if not self.waiting or not all(stage.held for stage in self.waiting):
            return
        since = len(self.log())
        if "restart" in {stage.held for stage in self.waiting}:
            self._clock.close()
            self._process.send_signal(signal.SIGTERM)
            if status := self._process.wait(STOP_S):
                raise RuntimeError(f"{self.kind} ends with {status}: {self.log()[since:]}")
            self._process = self._begun()
            self._until_logged(RUNNING, since)
            self.begun = self.answered
            self.start_clock()
        else:
            self._write("rules", rules.rules_of(self._lanes, self.turned))
            self._process.send_signal(signal.SIGHUP)
            self._until_logged(RELOADING, since)
        for stage in self.waiting:
            stage.held = ""
            stage.stirred()

    def want_tick(self) -> None:
        """Begin one, unless one is on its way."""
        if self.begun == self.answered and not self._clock.closed:
            self.begun += 1
            self._clock.send_fenced(b"")

    def _tick(self) -> None:
        if self._clock.connected and self.answered < self.begun:
            self.answered = self.begun
            self._ticked = True

    def advance(self) -> bool:
        """Let those go on that may: whose clients got something, and after a tick whoever waits for one.

        Returns:
            Whether one has come to its end.
        """
        going = self.waiting if self._ticked else self.stirred
        self._ticked = False
        ended = [stage for stage in going if stage.advance()]
        self.waiting.difference_update(ended)
        self.stirred.clear()
        return bool(ended)

    @property
    def gone(self) -> bool:
        return self._clock.closed

    def log(self) -> str:
        return (self._folder / "log").read_text("utf-8", "replace")

    def stop(self) -> list[str]:
        """End it; what is wrong with how it ended."""
        self._clock.close()
        wrong = (
            [f"it ended by itself: {self._process.returncode}"] if self._process.poll() is not None else []
        )
        if not wrong:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status:
            wrong.append(f"it ends with {status}")
        self._log.close()
        text = self.log()
        if "Traceback (most recent call last)" in text:
            wrong.append(f"it wrote a traceback: {text}")
        shutil.rmtree(self._folder, ignore_errors=True)
        return wrong
