"""One sequence at one broker: its clients play the steps in order, each when all is quiet.

Quiet is a lane when no client of it waits for a fence or for the rest of a packet, and the broker's clock has ticked
twice since anything came.  A tick is the round trip of a PINGREQ that belongs to nobody's lane: what the broker had to
send to anybody before it took the second one has been read when the answer to that is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from player import kernel, packets, packets5, rules
from player.client_steps import connect_packet, hex_of, step_packet
from player.manner import Manner, prefix
from player.scenario import Step
from player.transport import OPEN_STATES
from player.wire import Wire

if TYPE_CHECKING:
    from player.side import Side

TICKS = 2
KEEP_S = "3600"
"""Nobody sends anything only to keep alive."""
SILENT_TICKS = 40
"""So many and no word: silence is the answer."""
Condition = Callable[[], bool] | None
"""What a stage waits for; None: that all is quiet."""


class Stage:
    """`advance` when its clients were stirred, or the clock has ticked; `transcript` when `done`."""

    def __init__(self, side: Side, lane: str, steps: list[Step], manner: Manner) -> None:
        self.transcript: list[str] = []
        self.done = False
        self.since = time.monotonic()
        """When the step began that is under way."""
        self._side = side
        self._lane = lane
        self._manner = manner
        self._steps = steps
        self._wires: dict[str, Wire] = {}
        self._wanted = side.begun + TICKS
        self._condition: Condition = None
        self._acts = self._play()
        self._wills: set[bytes] = set()
        self.held = ""
        """What all stages of this broker wait for together: `restart`, or `turn`."""

    def stirred(self) -> None:
        """Something has come."""
        self._wanted = self._side.begun + TICKS
        self._side.stirred.add(self)

    def advance(self) -> bool:
        """Go on for as long as there is nothing to wait for; whether it has come to its end."""
        for wire in self._wires.values():
            wire.send_piece()
        while not self.done and (self._is_quiet() if self._condition is None else self._condition()):
            try:
                self._condition = next(self._acts)
            except StopIteration:
                self.done = True
        return self.done

    def give_up(self) -> None:
        """Nothing happens any more, or the same again and again: that differs, even where both do it."""
        self.transcript.append(f"   {self._side.kind} is stuck")
        self.done = True
        for wire in self._wires.values():
            wire.close()

    def _is_quiet(self) -> bool:
        return self._side.answered >= self._wanted and not any(wire.is_busy for wire in self._wires.values())

    def _wire(self, name: str) -> Wire:
        wire = self._wires.get(name)
        if wire is None:
            wire = self._wires[name] = Wire(self._side.poll, self.stirred)
        return wire

    def _play(self) -> Generator[Condition]:
        for step in self._steps:
            self.since = time.monotonic()
            if step.actor == "broker":
                yield from self._all_together(step.verb)
            else:
                yield from self._step(self._wire(step.actor), step)
            self._wanted = max(self._wanted, self._side.begun + TICKS)
            yield None
            self.transcript.append(f"-- {step.source}")
            for name in sorted(self._wires):
                lines = self._wires[name].lines
                self.transcript += [f"   {name} < {line}" for line in lines]
                lines.clear()
        self.since = time.monotonic()
        yield from self._clear()

    def _step(self, wire: Wire, step: Step) -> Generator[Condition]:
        verb, words, options = step.verb, step.arguments, step.options
        if verb == "connect":
            yield from self._connect(wire, words, options)
        elif verb == "first":
            yield from self._first(wire, hex_of(words))
        elif verb == "raw":
            wire.send_settled(hex_of(words))
        elif verb == "ping":
            wire.ping()
        elif verb == "disconnect":
            wire.resume()
            wire.send(packets5.disconnect(options) if wire.level == 5 else packets.DISCONNECT)
            wire.connected = False
            yield lambda: wire.closed
        elif verb == "drop":
            yield from self._drop(wire)
        elif verb in ("manual", "auto"):
            wire.automatic = verb == "auto"
        elif verb in ("pause", "resume"):
            (wire.pause if verb == "pause" else wire.resume)()
        elif verb == "end":
            wire.resume()
            wire.send(hex_of(words))
            yield lambda: wire.closed or not (wire.unsent or wire.pieces)
            wire.end()
            yield lambda: wire.closed
        elif verb == "reset":
            wire.will_reset()
            yield from self._drop(wire)
        else:
            wire.send_fenced(step_packet(wire, verb, words, options))

    def _all_together(self, verb: str) -> Generator[Condition]:
        """Once every lane has come to such a step: the broker starts again, or reads the rules again."""
        if verb == "turn":
            self._side.turned ^= {self._lane}
        self.held = verb
        yield lambda: not self.held
        if verb == "restart":
            yield lambda: all(wire.closed for wire in self._wires.values())
        self.stirred()

    def _connect(self, wire: Wire, words: list[str], options: dict[str, str]) -> Generator[Condition]:
        yield from self._drop(wire)
        port = self._side.port(options.get("port", "port"), self._lane)
        wire.open(port, "manual" not in words, options.get("frames", ""), int(options.get("cuts", "0")))
        wire.level = int(options.get("version", "4"))
        if options.get("will.retain") == "1":
            self._wills.add(options["will.topic"].encode())
        wire.send(connect_packet("", {"keep": KEEP_S, **options}))
        yield lambda: wire.closed or wire.packets > 0
        if not wire.connected:
            yield lambda: wire.closed
        wire.send_fenced(b"")

    def _first(self, wire: Wire, data: bytes) -> Generator[Condition]:
        """A connection for one packet that nobody acknowledges anything on."""
        yield from self._drop(wire)
        wire.level = 5 if packets5.OPENING in data[:12] else 4
        wire.open(self._side.port("port", self._lane), False)
        before, silent = wire.activity, self._side.begun + SILENT_TICKS
        wire.send(data)
        yield lambda: wire.closed or wire.activity > before or self._side.answered >= silent
        if wire.activity == before:
            wire.note("silent")
        elif not wire.connected:
            yield lambda: wire.closed
        else:
            wire.send_fenced(b"")
            yield lambda: wire.closed or not wire.owed
            if not wire.closed:
                wire.note("open")
        yield from self._drop(wire)

    def _drop(self, wire: Wire) -> Generator[Condition]:
        """Close, and wait until the broker has noticed."""
        if wire.closed or (ends := wire.close()) is None:
            return
        ours, theirs = ends
        yield None
        while kernel.tcp_state(theirs, ours) in OPEN_STATES:
            self._wanted = self._side.begun + 1
            yield None

    def _clear(self) -> Generator[Condition]:
        """End all sessions and retained messages of the lane."""
        cleaner = self._wire("R")
        for name, wire in self._wires.items():
            if name != "R":
                yield from self._drop(wire)
        for client_id, port in rules.visitors(self._lane, self._manner.with_rules):
            wire = self._wire("A")
            wire.open(self._side.port(port, self._lane), False)
            wire.send(packets.connect(client_id=client_id.encode()))
            yield lambda wire=wire: wire.closed or wire.packets > 0  # type: ignore[misc]
            wire.send(packets.DISCONNECT)
            wire.connected = False
            yield lambda wire=wire: wire.closed  # type: ignore[misc]
        below = f"{prefix(self._lane)}m/".encode() if self._manner.with_rules else b""
        topics = cleaner.retained | self._wills | {below + topic for topic in self._wills}
        cleaner.send_fenced(
            b"".join(packets.publish(topic, b"", 0, True, False, 0) for topic in sorted(topics))
        )
        yield None
        cleaner.close()
