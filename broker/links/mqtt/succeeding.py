"""A CONNECT whose client is connected already: what came to that connection before counts, and is taken first.

Whoever publishes, hangs up and comes back at once may be read from by its new connection first: sockets that are ready
are told of in no order that a client knows.  So the older connection is heard out, as far as its kernel had it, by
slices where that is much; only then is it closed [MQTT-3.1.4-3].  The new client waits for so long.

Where nodes share their clients, that is done before a client is claimed (`Deciding`): it is let in by the turn that
ends the claim.

Invariant: CONNECTs of one client id that wait here go on in the order in which they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker.core.barrier import barrier
from broker.core.engine import Engine
from broker.core.limits import STEPS_MAX
from broker.core.slicing import Work
from broker.links.mqtt.accepting import accept
from broker.links.mqtt.forgetting import waits_for_disk
from broker.links.mqtt.refusing import refuse_outdated
from protocol.mqtt.connection import AUTHENTICATING
from protocol.mqtt.packets import Connect

if TYPE_CHECKING:
    from broker.links.mqtt.link import MqttLink

HEARD_OUT_BYTES_MAX: Final = 8 << 20
"""Heard of an older connection; Linux holds 6 MiB of one by default, so what comes later was sent after the CONNECT."""

ASKED_BYTES: Final = 4_096
"""What an older connection counts as heard for that has more to do than its turn allows: it is not known how much came,
and whoever goes on sending keeps nobody out."""


class Hearing:
    """What came to the connection that has a client id, by turns."""

    def __init__(self, engine: Engine, client_id: bytes) -> None:
        self._engine = engine
        self._client_id = client_id
        self._heard = 0

    def go_on(self) -> int:
        """As `Link.hear_out`; 0 also where it was heard for long enough, or nobody has the client id."""
        if self._heard >= HEARD_OUT_BYTES_MAX:
            return 0
        session = self._engine.sessions.get(self._client_id)
        older = None if session is None else session.link
        heard = 0
        if older is not None:
            with barrier(self._engine.counters, "a connection that is taken over"):
                heard = older.hear_out()
        self._heard += heard if heard > 0 else ASKED_BYTES
        return heard


def waits_for_older(link: MqttLink, packet: Connect, client_id: bytes, may_wait: bool) -> bool:
    """Hear out the connection whose place this one takes; True if it is let in later, because there is more of it."""
    engine = link.engine
    line = engine.endings.succeeding.get(client_id)
    if line is None and client_id not in engine.sessions:
        return False
    hearing = Hearing(engine, client_id)
    if line is None:
        if hearing.go_on() == 0 or not may_wait or engine.slicing.on_waiting is None:
            return False
        line = engine.endings.succeeding[client_id] = []
    succession = Succession(link, packet, client_id, hearing)
    line.append(succession)
    engine.slicing.wait(succession)
    return True


class Succession(Work):
    """A client that is let in when the connection before is heard out."""

    def __init__(self, link: MqttLink, packet: Connect, client_id: bytes, hearing: Hearing) -> None:
        super().__init__()
        self._link = link
        self._packet = packet
        self._client_id = client_id
        self._hearing = hearing

    def go_on(self, steps: int) -> int:
        engine = self._link.engine
        line = engine.endings.succeeding[self._client_id]
        if line[0] is not self:
            return 1
        if self._link.state == AUTHENTICATING:
            heard = self._hearing.go_on()
            if heard != 0:
                return steps if heard > 0 else STEPS_MAX  # to ask once in a turn is enough
        self.is_over = True
        line.remove(self)
        if not line:
            del engine.endings.succeeding[self._client_id]
        with barrier(engine.counters, self._link.peer, self._give_up):
            self._succeed()
        return steps

    def _succeed(self) -> None:
        link = self._link
        if link.state != AUTHENTICATING:
            return  # it left
        verdict = link.verdict
        assert verdict is not None
        if not link.door.authenticator.is_still_valid(verdict):
            refuse_outdated(link)
        elif not waits_for_disk(link, self._packet, self._client_id):
            accept(link, self._packet, self._client_id, verdict.user_name)
        else:
            return
        if link.departed:
            link.close("closed its connection.")

    def _give_up(self) -> None:
        self._link.close("disconnected: internal error.")
