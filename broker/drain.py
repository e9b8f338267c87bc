"""Asking clients to go, a few at a time, so that whoever takes them is not overrun.

Each is told where its protocol can say so: a WebSocket client how soon to come back, at random, so that those of one
slice don't come back together either; an MQTT 5.0 client that the server stops, or which other one to use.
"""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING, Final

import trio

from broker.links.mqtt.link import MqttLink
from broker.links.pump import CLOSING_MAX
from broker.links.websocket.outbox import FramingOutbox
from protocol.mqtt.v5.reasons import ReasonCode
from protocol.websocket import CloseCode

if TYPE_CHECKING:
    from broker.links.server import Server
    from broker.links.websocket.link import WebSocketLink
    from broker.links.websocket.server import WebSocketServer

SLICE_S: Final = 0.1
"""Between two slices, give or take a half."""

RETRY_MS_MAX: Final = 2000
WHY: Final = "disconnected: the broker is draining, connect again."


def slice_size(connections: int, left_s: float) -> int:
    """How many to ask now, so that all have been asked when the time is over."""
    if left_s <= SLICE_S:
        return connections
    return min(connections, math.ceil(connections * SLICE_S / left_s))


def close_reason() -> str:
    """Of a WebSocket's close frame: how soon to come back."""
    return json.dumps({"retry_ms": random.randrange(RETRY_MS_MAX)}, separators=(",", ":"))


async def drain_clients(
    server: Server, websockets: WebSocketServer | None, within_s: float, elsewhere: bytes = b""
) -> None:
    """Ask all clients to go, in an order that is drawn; those who are left get what comes meanwhile.

    Args:
        within_s: all have been asked by then; 0 asks nobody.
        elsewhere: the server that clients of MQTT 5.0 are to use; b"" names none.
    """
    if within_s <= 0:
        return
    end = trio.current_time() + within_s
    while links := clients(server, websockets):
        left_s = end - trio.current_time()
        asked = random.sample(links, slice_size(len(links), left_s))
        for start in range(0, len(asked), CLOSING_MAX):
            with server.engine.turn:
                for link in asked[start : start + CLOSING_MAX]:
                    _ask(link, elsewhere)
            await trio.lowlevel.checkpoint()
        if left_s <= SLICE_S:
            return  # those were all; however late a pause ends, nobody is left unasked
        await trio.sleep(min(SLICE_S * random.uniform(0.5, 1.5), left_s))


def _ask(link: MqttLink | WebSocketLink, elsewhere: bytes) -> None:
    if isinstance(link, MqttLink):
        link.code = ReasonCode.USE_ANOTHER_SERVER if elsewhere else ReasonCode.SERVER_SHUTTING_DOWN
        link.server_reference = elsewhere
        link.close(WHY)
    else:
        link.close(CloseCode.GOING_AWAY, close_reason())


def clients(server: Server, websockets: WebSocketServer | None) -> list[MqttLink | WebSocketLink]:
    """All that are connected and have not been asked; MQTT over WebSocket is asked as a WebSocket."""
    plain = [link for link in server.links() if not isinstance(link.outbox, FramingOutbox)]
    if websockets is None:
        return list(plain)
    return [*plain, *(link for link in websockets.links() if not link.closing)]
