"""The token that a handshake shows for the dialect `rowcast`: in `Authorization`, or, from a browser, a subprotocol."""

from __future__ import annotations

from typing import Final

from broker.links.websocket.handshake import OpeningRequest

SUBPROTOCOL: Final = "rowcast"
TOKEN_SUBPROTOCOL: Final = "token."
"""Stands before the token; a browser's WebSocket can set no header but offer subprotocols."""


def shown_token(opening: OpeningRequest) -> str:
    """The token; "" if there is none."""
    scheme, _, token = opening.authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for name in opening.subprotocols:
        if name.startswith(TOKEN_SUBPROTOCOL):
            return name.removeprefix(TOKEN_SUBPROTOCOL)
    return ""


def agreed_subprotocol(opening: OpeningRequest) -> str | None:
    """`rowcast` if the client offers it: a browser that offers some fails unless one is taken."""
    return SUBPROTOCOL if SUBPROTOCOL in opening.subprotocols else None
