"""One MQTT connection: bytes in, decisions by the engine, bytes owed out.  Knows no socket and never waits.

A shell (the pump, or a task around a stream) calls `received` and `ended`; the link asks its shell to close by
`on_close`.  The hot path is `_read`: runs of QoS 0 packets with the same receivers are handed on as one slice.

Invariant: `session` is set exactly in state CONNECTED, and `session.link is self` until the session is taken over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from broker.core.engine import Engine
from broker.core.limits import CONNECT_BYTES_MAX, PRE_CONNECT_BYTES_MAX
from broker.core.log_levels import is_logged
from broker.core.outbox import Outbox
from broker.core.session import Link, Session
from broker.core.shell import ASK_AGAIN, NOBODY, Shell
from broker.links.listening.door import Door
from broker.links.mqtt import runs, runs5, v5
from broker.links.mqtt.admission import admit, check_will, fail
from broker.links.mqtt.answers import HeldAnswers
from broker.links.mqtt.pieces import keep
from broker.links.mqtt.requests import Request
from broker.links.mqtt.stalled import Stalled
from broker.links.words import NOTICE, printable
from protocol.mqtt.connect import read_connect
from protocol.mqtt.connection import (
    AUTHENTICATING,
    AWAITING_CONNECT,
    CLOSED,
    CONNECT_FIRST_BYTE,
    CONNECTED,
    STARTS_3_1,
    check_connect_flags,
    check_first,
)
from protocol.mqtt.errors import MalformedPacket, ProtocolError
from protocol.mqtt.framing import bytes_missing, frame_at
from protocol.mqtt.packets import Connect
from protocol.mqtt.v5.codec import retagged
from protocol.mqtt.v5.connect import STARTS as V5_STARTS

if TYPE_CHECKING:
    from broker.gateway.authentication import Verdict

logger = logging.getLogger("broker.links")

PROGRESS_BYTES: Final = 1_000


class MqttLink(Link):
    """The broker's end of one MQTT connection.

    Args:
        engine: the broker.
        door: the listener it came through: who may enter and what applies to them.
        outbox: the bytes owed to this peer.
        peer: `ADDRESS:PORT`, for log lines.
        shell: closes the connection, once what is owed has been offered to the kernel.
    """

    # What most connections never need, or are told at once, stands here, where it costs an interpreted one nothing.
    state = AWAITING_CONNECT
    session: Session | None = None
    level = 4
    silence_max_s = 0.0
    check_slowly: Callable[[MqttLink, Connect, bool], bool] | None = None
    """Finds out elsewhere what takes long, if the last argument says that it does, and calls `admit` when this
    CONNECT's turn has come; False where there is nothing to wait for.  None where there is no elsewhere."""
    steps = 0
    """What may still be done in this turn; see `Slicing`."""
    certificate_identity: bytes | None = None
    """From the peer's verified certificate, where the listener takes it as user name."""
    verdict: Verdict | None = None
    """What the door decided, for when its rules are read again."""
    is_3_1 = False
    terms: v5.Terms | None = None
    """Of a client of 5.0."""
    departed = False
    """The peer left while it was being authenticated, and what came before that is still to be looked at."""
    _is_lost = False
    _has_will = False
    _owed_when_asked = 0
    _was_held_up = False
    _progress = 0
    _waiting_bytes = 0
    _missing = 0
    _fast = False

    def __init__(self, engine: Engine, door: Door, outbox: Outbox, peer: str, shell: Shell) -> None:
        self.engine = engine
        self.door = door
        self.outbox = outbox
        outbox.messages_max = door.outbox_messages_max
        self.peer = peer
        self.shell = shell
        self.last_received = engine.now
        self.held: HeldAnswers | None = None
        self.tracing = is_logged(logger, logging.DEBUG)
        # As mosquitto: a packet counts with its first byte, and without those that say how long it is.
        self._size_max = max(door.max_packet_size - 1, 0)
        self._parts: list[bytes] | None = None
        self.stalled: Stalled | None = None
        """Waits for the next turn, with the rest of what came."""
        self._request: Request | None = None

    # --- what the shell calls ------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes came, any number of packets or pieces of them.  Never raises for what a peer sends."""
        counters = self.engine.counters
        counters.bytes_received += len(data)
        if self.state == CLOSED:
            return
        if self.state == AUTHENTICATING:
            self._wait_with(data)
            return
        if self.stalled is not None:
            assert self._parts is not None
            keep(self._parts, data)
            return
        if self.session is not None and not self._may_stay():
            return
        if self._parts is not None:
            self._missing -= len(data)
            self._progress += len(data)
            if self._progress >= PROGRESS_BYTES:
                # As mosquitto: a long packet keeps its sender alive while it comes, at a thousand bytes at a time.
                self._progress = 0
                self._alive()
            keep(self._parts, data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts = None
        slicing = self.engine.slicing
        allowed = self.steps = slicing.allowance()
        self._take(data)
        slicing.used(allowed - self.steps)

    def _take(self, data: bytes) -> bool:
        """Handle packets, and keep the rest; whether more steps are needed for it."""
        try:
            position = self._read(data) if self.state == CONNECTED else self._read_connect(data)
        except ProtocolError as error:
            fail(self, error)
            return False
        if position > 0:
            self._alive()
        if self.state == CLOSED:
            return False
        if self._request is not None or (self.steps <= 0 and position < len(data)):
            self._stall(data[position:])
            return True
        if position < len(data):
            self._keep(data, position)
        return False

    def _alive(self) -> None:
        """A whole packet came [MQTT-3.1.2-24]; before CONNACK only the time from the beginning counts."""
        if self.state == CONNECTED:
            self.last_received = self.engine.now

    def silent_too_long(self) -> bool:
        """Whether the keep-alive time (or the time to send CONNECT) has passed; asked now and then."""
        if self.outbox.is_paused or self.stalled is not None:
            self._was_held_up = True
            return False
        if self._was_held_up:
            self._was_held_up = False
            self.last_received = self.engine.now  # what it sent meanwhile has yet to be read
        limit = self.silence_max_s
        if limit <= 0 or self.engine.now - self.last_received <= limit:
            return False
        if self.outbox.holds_reading and self.outbox.pending_bytes != self._owed_when_asked:
            # It takes its answers, however slowly: that it is not read from meanwhile is our doing.
            self._owed_when_asked = self.outbox.pending_bytes
            return False
        return True

    def hear_out(self) -> int:
        """As far as this turn allows."""
        heard = self.shell.hear_out() if self.stalled is None and self.state != CLOSED else 0
        if self.state == CLOSED:
            return 0
        return heard if self.stalled is None else ASK_AGAIN

    def close(self, why: str) -> None:
        """End this connection: the session's end and the will at once, the socket's close after a flush.

        Args:
            why: completes a log line after the client's name.
        """
        if self.state == CLOSED:
            return
        session = self.session
        self.session = None
        self.state = CLOSED
        self._parts = None
        if self.held is not None:
            self.held.abandon()
            self.held = None  # which knows this link: a circle that only the collector would find, if at all
        try:
            if session is not None:
                self._leave(session, why)
        finally:
            self._end_soon()  # whatever was met: nobody asks a closed link to end again

    def _leave(self, session: Session, why: str) -> None:
        try:
            v5.say_why(self, session)
            if self.door.connection_messages and is_logged(logger, NOTICE):
                logger.log(NOTICE, "Client %s [%s] %s", printable(session.client_id), self.peer, why)
        finally:
            if session.link is self:
                self.engine.detach(session, self.will_wanted)

    def _end_soon(self) -> None:
        shell = self.shell
        self.shell = NOBODY
        shell.end_soon()

    def lost(self) -> None:
        """The peer has gone.  What came before counts, whoever else has yet to decide whether it may."""
        if self.stalled is not None and self.state != CLOSED:
            self._is_lost = True
        elif self.state == AUTHENTICATING and (self._has_will or self._parts is not None):
            self.departed = True
            self._end_soon()
        else:
            self.close("closed its connection.")

    def reconsider(self, session: Session) -> None:
        """The access rules were read again: ask them anew, for this client."""
        session.set_access(self.door.access_for(session.client_id, session.user_name, self.verdict))
        self.choose_path(session)

    def _may_stay(self) -> bool:
        """Whether this client goes by the rules in force; one that they shut out is closed, and does nothing more."""
        session = self.session
        return session is None or session.edition == session.review.edition or session.review.look_at(session)

    def connected(self, session: Session) -> None:
        """The client was let in, and this is its session."""
        self.session = session
        self.state = CONNECTED
        self.last_received = self.engine.now

    # --- connecting ----------------------------------------------------------------------------------------

    def _read_connect(self, data: bytes) -> int:
        """Read the CONNECT, and what came with it; the position up to which bytes were used."""
        is_ordinary = data[0] == CONNECT_FIRST_BYTE
        if not is_ordinary:
            check_first(data[0])
        body, end = frame_at(data, 0, self._size_max)
        if end == 0:
            if bytes_missing(data, 0) + len(data) > CONNECT_BYTES_MAX:
                raise MalformedPacket("CONNECT is longer than any can be", "MQTT-3.1.0-1")
            return 0
        if end > CONNECT_BYTES_MAX:
            raise MalformedPacket("CONNECT is longer than any can be", "MQTT-3.1.0-1")
        self.is_3_1 = data.startswith(STARTS_3_1, body)
        if not is_ordinary:
            check_connect_flags(data[0], self.is_3_1)
        self.engine.counters.packets_received += 1
        if data.startswith(V5_STARTS, body):
            self.level = 5
        packet = read_connect(data[body:end])
        if packet.will is not None:
            check_will(self, packet.will)
            self._has_will = True
        self.state = AUTHENTICATING
        admit(self, packet)
        if self.state == CONNECTED and end < len(data):
            return end + self._read(data[end:])
        return end

    def choose_path(self, session: Session) -> None:
        """Whether QoS 0 packets may be handed on as they came, without a look at each."""
        self._fast = (
            not self.tracing
            and not session.mount_point
            and not session.bridge
            and not self.engine.policy.message_size_limit
        )

    def _wait_with(self, data: bytes) -> None:
        """Keep what comes while the client is being authenticated; above a limit no more is read."""
        if self._parts is None:
            self._parts = []
        keep(self._parts, data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > PRE_CONNECT_BYTES_MAX:
            self.outbox.rest(True)

    def resume_reading(self) -> None:
        """Read what came while the client was being authenticated."""
        parts = self._parts
        if parts is None:
            return
        self.outbox.rest(False)
        self._waiting_bytes = 0
        self._parts = None
        self._missing = 0
        self.engine.counters.bytes_received -= sum([len(part) for part in parts])
        self.received(b"".join(parts))

    # --- reading -------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> int:
        """Handle whole packets in `data`, as far as there are steps; the position of the first that was not."""
        session = self.session
        assert session is not None
        if session.level == 5:
            return runs5.read(self, session, data, self._size_max, self._fast)
        return runs.read(self, session, data, self._size_max, self._fast)

    def act_on(self, request: Request) -> None:
        """A packet with many filters: those for which no steps are left have their turns later."""
        if not request.go_on(self):
            self._request = request

    def _stall(self, rest: bytes) -> None:
        """The steps are used up: nothing more is read, and what is left waits for its turn."""
        self._parts = [rest]
        if self.stalled is None:
            self.stalled = Stalled(self)
            self.outbox.rest(True)
            self.engine.slicing.wait(self.stalled)

    def go_on(self, steps: int) -> int:
        """The turn of what waits here has come; the steps that it took."""
        if self.state == CLOSED or not self._may_stay():
            self.stalled = None
            return 0
        self.steps = steps
        request = self._request
        if request is not None:
            if self.engine.saving is not None:
                self.engine.saving.mark()
            try:
                is_through = request.go_on(self)
            except ProtocolError as error:
                fail(self, retagged(error) if self.level == 5 else error)
                return steps - self.steps
            if not is_through:
                return steps - self.steps
            self._request = None
        parts = self._parts
        if parts is None or self.steps <= 0:
            return steps - self.steps
        self._parts = None
        if self._take(b"".join(parts)):
            return steps - self.steps
        self.stalled = None
        self.outbox.rest(False)
        if self._is_lost:
            self.lost()
        return steps - self.steps

    def _keep(self, data: bytes, position: int) -> None:
        """Keep an incomplete packet; large ones are joined only when all of their bytes are here."""
        if self.state == AUTHENTICATING:
            self._wait_with(data[position:])
            return
        self._parts = [data[position:] if position else data]
        self._missing = bytes_missing(data, position)

    def drained(self) -> None:
        """All that was owed has left: go on with what waited for that."""
        session = self.session
        if session is None:
            return
        session.outbound.resume()
        if session.replays is not None:
            self.engine.replaying.go_on(session)
