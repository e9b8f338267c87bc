"""All connections over TCP, MQTT and WebSocket, with and without TLS, on one epoll in one task.

A round: poll, one receive per ready socket, all its packets, then one send per outbox that was touched.  Where these
are many, who has something to say by then is heard between two sends.  Those who take more of what they are owed come
behind those who say something, and for so long a time only.  The task then waits on the epoll's own descriptor, which
is its checkpoint.  Where there is no epoll, `readiness` has another.

Invariants: `_connections` holds exactly the sockets registered with `ready`; closing the pump closes them all.  A
connection whose kernel takes more is asked about that no longer once it is in `_takers`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from socket import MSG_PEEK, SocketType
from time import monotonic

import trio

from broker.core.engine import Engine
from broker.core.turn import NEVER
from broker.links.barrier import A_CONNECTION, send_on, serve, take
from broker.links.connection import Connection
from broker.links.gathering import AHEAD, AT_ONCE, Gathering
from broker.links.linger import Linger
from broker.links.listening.door import Door
from broker.links.more_to_send import MoreToSend
from broker.links.mqtt.connection import MqttConnection
from broker.links.mqtt.link import MqttLink
from broker.links.readiness import READABLE, WRITABLE, Readiness, readiness
from broker.links.tls_socket import Socket

READY_MAX = 512
"""Sockets served per round, so that a round stays short however many are ready."""

FIRST_MAX = 32
"""Of those that end a wait, since it is seldom for more, and the room for what is told is made for each look."""

SENDS_MAX = 32
"""Sends after which it is looked who has something to say: some 0.1 ms, of which the look is the hundredth part."""

HEARING_S_MAX = 0.002
"""How long others are heard while a round sends; then it sends the rest."""

CLOSING_MAX = 64
"""Connections that end in one round: each closes a socket, and may publish a will."""

SENT_MAX = 2_000
"""Messages sent in a round in which connections end, before the others have to wait for the next one."""

TURN_S_MAX = 0.002
"""How long the pump goes on before the other tasks have their turn, however busy its sockets are."""

LONE_TURN_S_MAX = 0.01
"""The same where none of them could run, and it is not known when one that sleeps wants to be woken."""

SENDING_S_MAX = 0.002
"""How long a round goes on sending to those who were owed more than their kernels took; the others have their turn."""


def never() -> bool:
    """What `Pump.holds_off` says unless somebody else is asked."""
    return False


class Pump:
    """The TCP side of the broker.

    Args:
        engine: the broker.
        on_open, on_close: told about every link, for keep-alive and counting.
    """

    def __init__(
        self, engine: Engine, on_open: Callable[[MqttLink], None], on_close: Callable[[MqttLink], None]
    ) -> None:
        self.engine = engine
        self.ready: Readiness = readiness()
        self.closing: list[Connection] = []
        self._connections: dict[int, Connection] = {}
        self._takers: deque[Connection] = deque()
        self._rest: list[tuple[int, int]] = []
        """Those of the last round that were not served, because too many others ended."""
        self.may_look_out = True
        """Whether what was served last may be answered at once; a feed's rows are not."""
        self._awaited = -1
        """The socket without whose answer nothing can be done with what others say; -1 for none."""
        self._awaited_until = 0.0
        self.holds_off: Callable[[], bool] = never
        """Whether something has to be done before those are served who are ready now; it has its turn first.

        Interpreted code where a signal decides: its handler runs there, and nowhere in compiled code.
        """
        self._drained: trio.Event | None = None
        self._linger: Linger | None = None
        self._more_to_send = MoreToSend()
        self._gathering = Gathering(engine.round, self.ready, self._is_read)
        self._on_open = on_open
        engine.turn.on_settled(self._settled)
        self.on_close = on_close

    def add(self, sock: Socket, door: Door, peer: str) -> MqttLink:
        """Take over a connected, non-blocking socket; its link."""
        connection = MqttConnection(self, sock, door, peer)
        self.take(connection)
        self._on_open(connection.link)
        return connection.link

    def take(self, connection: Connection) -> None:
        """Serve this connection from now on."""
        self._connections[connection.fd] = connection
        self.ready.register(connection.fd, connection.events())
        connection.door.enter()

    def wait_for(self, fd: int, until: float) -> None:
        """Behind this turn, what another server answers there is awaited alone, up to then.

        What others say meanwhile is heard with it: each would be a wait of its own, and gain nothing before.
        That answer takes its time, so it is not looked out for.
        """
        self.may_look_out = False
        self._awaited = fd if until > self.engine.now else -1
        self._awaited_until = until

    def has_come(self, sock: SocketType) -> bool:
        """Whether something may be read now of which epoll has not told.

        Only what is here already, so that whoever sends behind a signal is served after it (`holds_off`).
        """
        try:
            sock.recv(1, MSG_PEEK)
        except OSError:
            return False
        return not self.holds_off()

    def read_at_once(self, sock: SocketType) -> bool:
        """Read from one that was taken just now, before epoll tells of it; whether there was anything to read."""
        connection = self._connections.get(sock.fileno())
        if connection is None or not self.has_come(sock):
            return False
        serve(connection)
        return True

    def serves(self, connection: Connection) -> bool:
        """Whether it has not let go of this one."""
        return self._connections.get(connection.fd) is connection

    def watch(self, other: Connection) -> None:
        """Tell something that is no peer's connection when its descriptor is readable, for as long as the pump runs."""
        self._connections[other.fd] = other
        self.ready.register(other.fd, other.events())

    def unwatch(self, other: Connection) -> None:
        """The opposite; nothing where it is not being watched."""
        if self._connections.get(other.fd) is other:
            self._forget(other.fd)
            # It may be closed: libpq closes a connection's when it finds that it has ended.
            with suppress(OSError):
                self.ready.unregister(other.fd)

    def release(self, connection: Connection) -> bool:
        """Let go of a connection whose socket somebody else closes; False if it was let go before."""
        connection.outbox.let_go()  # what it still owes is taken by somebody else, and changes no events here
        if self._connections.get(connection.fd) is not connection:
            return False
        self._forget(connection.fd)
        connection.door.leave()
        self.ready.unregister(connection.fd)
        return True

    def _forget(self, fd: int) -> None:
        """Nobody is served by this descriptor: the next one that has it is told nothing that was meant for this one."""
        del self._connections[fd]
        self._gathering.forget(fd)
        if self._rest:
            self._rest = [one for one in self._rest if one[0] != fd]

    async def drained(self) -> None:
        """Wait until no peer is owed anything."""
        self._drained = trio.Event()
        self._notice_drained()
        await self._drained.wait()

    async def run(self) -> None:
        """Serve until cancelled; then every connection is closed."""
        self._linger = self.ready.linger()
        try:
            for _ in range(2):  # those who could run before are known to `linger` afterwards
                await trio.lowlevel.checkpoint()
            while True:
                if self._takers or self._rest:
                    await trio.lowlevel.checkpoint()
                elif self.engine.turn.due == NEVER:
                    await self.ready.wait()
                else:
                    with trio.move_on_at(self.engine.turn.due):
                        await self.ready.wait()
                while self.holds_off():
                    await trio.lowlevel.checkpoint()
                self.serve_turn()
        finally:
            self.close_all()

    def serve_turn(self) -> None:
        """Rounds until nothing is ready, somebody else wants to run, or the turn has lasted long enough."""
        linger = self._linger
        gathering = self._gathering
        gathering.is_choosy = False
        poll = self.ready.poll
        ready = self._rest or poll(0, READY_MAX)
        started = looked = -1.0
        while True:
            if ready and self.holds_off():
                return  # they are ready the next time, too
            settled = self._population()
            self.serve_round(ready)
            now = self.engine.now
            if started < 0.0:
                started = looked = now
            elif now - looked > TURN_S_MAX:
                if linger is None or linger.others_wait():
                    return
                if now - started > LONE_TURN_S_MAX and not linger.knows_deadlines:
                    return
                looked = now
            if self._rest:
                return  # whoever else waits has its turn first
            turn = self.engine.turn
            if gathering.is_choosy and turn.due == NEVER and linger is not None and not linger.others_wait():
                ready = gathering.next_to_hear(READY_MAX)
            else:
                # Where several were ready, more are by now.
                ready = poll(0, READY_MAX) if len(ready) > 1 or self._takers else []
            if not ready and not self._takers:
                if linger is None:
                    return
                # Who connects is in no such hurry, and looking out for it would cost more than all the rest.
                if self._awaited >= 0:
                    linger.wait_for(self._awaited, min(self._awaited_until, turn.due))
                    self._awaited = -1
                    ready = poll(0, READY_MAX)
                    if ready:
                        continue
                may_look_out = self.may_look_out and self._population() == settled
                ready = linger.wait(FIRST_MAX, may_look_out, turn.due)
                if not ready and not linger.has_come(turn.due):
                    return

    def _population(self) -> int:
        """Another number while somebody connects, enters or subscribes."""
        return len(self._connections) + len(self.engine.sessions) + self.engine.trie.count

    def serve_round(self, ready: list[tuple[int, int]]) -> None:
        """Everything that can be done now, without waiting, with the sockets that are ready."""
        self._rest = []
        self.may_look_out = True
        self._awaited = -1
        with self.engine.turn:
            self._hear(ready)
            if self._takers:
                self._send_on()
            if self.engine.round.waiting() > SENDS_MAX:
                self._send_and_hear()

    def _hear(self, ready: list[tuple[int, int]]) -> None:
        """What those have to say who are ready."""
        connections = self._connections
        counters = self.engine.counters
        sent_max = counters.publishes_sent + SENT_MAX
        for position, (fd, events) in enumerate(ready):
            if self.closing and self._is_enough(sent_max):
                self._rest = ready[position:]
                break
            connection = connections.get(fd)
            if connection is None:
                continue
            if events & WRITABLE:
                self.ready.modify(fd, connection.events())
                self._takers.append(connection)
            if events & ~WRITABLE:
                before = counters.publishes_sent
                serve(connection)
                if counters.publishes_sent > before and fd in connections:
                    self._gathering.published(fd, counters.publishes_sent - before)

    def _send_and_hear(self) -> None:
        """Send to many, and hear meanwhile who has something to say.

        What comes while the sends are made leaves with those that are still to come: one send to each peer, and one
        receive of its, instead of two.  What few are owed by that need not wait until all the others had theirs.
        """
        round = self.engine.round
        if not self.closing:
            self._await_more(round.waiting())
        if self._gathering.is_choosy:
            round.flush_some(0, AT_ONCE)
        until = monotonic() + HEARING_S_MAX
        while round.waiting() > SENDS_MAX and not self.closing:
            round.flush_some(0, SENDS_MAX)
            ready = self.ready.poll(0, FIRST_MAX)
            if not ready:
                continue
            if self.holds_off():
                return  # they are ready the next time, too
            before = round.waiting()
            self._hear(ready)
            after = round.waiting()
            if after <= before + SENDS_MAX:
                round.flush_some(before, after)
            if monotonic() > until:
                return

    def _await_more(self, sends: int) -> None:
        """What comes before the first of so many sends leaves with all of them."""
        now = monotonic()
        if self._gathering.is_worth_waiting(now) and self.engine.turn.due == NEVER:
            self._await_publishers()
            return
        wait_s = self._more_to_send.wait_s(sends, now)
        if wait_s > 0.0:
            round = self.engine.round
            before = round.pieces()
            if self.ready.within(wait_s) and not self.holds_off():
                self._hear(self.ready.poll(0, FIRST_MAX))
            self._more_to_send.waited(round.pieces() - before)

    def _await_publishers(self) -> None:
        """What they publish within a moment leaves with nearly all of what is owed; they are answered before that."""
        counters = self.engine.counters
        self._answer_publishers()
        self.engine.round.flush_some(0, AHEAD)
        sent = counters.publishes_sent
        ready = self._gathering.hear()
        if not self.holds_off():
            self._hear(ready)
        self._gathering.waited(counters.publishes_sent - sent)
        self._answer_publishers()

    def _answer_publishers(self) -> None:
        """They need not wait until so many others were sent to."""
        for fd in self._gathering.publishers:
            self.engine.round.send_last(self._connections[fd].outbox)

    def _is_read(self, fd: int) -> bool:
        """Whether what this one says is asked for; it may be paused, or rest until others had their turns."""
        return self._connections[fd].events() & READABLE != 0

    def _is_enough(self, sent_max: int) -> bool:
        """Whether so many have ended in this round, or their wills gone to so many, that others are to be served."""
        return len(self.closing) >= CLOSING_MAX or self.engine.counters.publishes_sent > sent_max

    def _send_on(self) -> None:
        """To those who take more, one after the other."""
        takers = self._takers
        until = monotonic() + SENDING_S_MAX
        while takers:
            connection = takers.popleft()
            if self._connections.get(connection.fd) is connection:
                send_on(connection)
                if monotonic() > until:
                    return

    def _settled(self) -> None:
        """What was owed has been offered to the kernel: close what asked for it."""
        while self.closing:
            closing = self.closing
            self.closing = []
            for connection in closing:
                take(self._close, connection, self.engine.counters, A_CONNECTION)
            self.engine.flush()
        if self._drained is not None:
            self._notice_drained()

    def close_all(self) -> None:
        """Stop every connection; the pump serves nothing afterwards."""
        with self.engine.turn:
            for connection in list(self._connections.values()):
                connection.stop()
        self.engine.turn.forget(self._settled)
        self._connections.clear()
        self._takers.clear()
        self.ready.close()

    def _notice_drained(self) -> None:
        if self._drained is not None and not any(c.outbox.pending_bytes for c in self._connections.values()):
            self._drained.set()

    def _close(self, connection: Connection) -> None:
        try:
            connection.outbox.flush()
        finally:
            connection.outbox.close()
            if self.release(connection):
                connection.sock.close()
                connection.gone()
