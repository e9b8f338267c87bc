"""The end of a WebSocket connection: what is owed, the peer's close frame, hanging up.  Two seconds at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from broker.core.limits import RECEIVE_BYTES_MAX
from broker.core.outbox import Outbox

CLOSE_GRACE_S: Final = 2.0
"""How long a closing connection may take to get what it is owed, and to say goodbye."""


async def part(stream: trio.abc.Stream, owed: bytes, hears_close: Callable[[bytes], bool]) -> None:
    """Send what is owed, wait for the peer to have said goodbye, too, and close.

    Args:
        stream: closed when this returns, or is cancelled.
        owed: with our close frame at its end.
        hears_close: takes what the peer still sends, at first nothing; whether its goodbye need not be waited for.
    """
    try:
        with trio.move_on_after(CLOSE_GRACE_S):
            if owed:
                await stream.send_all(owed)
            data = b""
            while not hears_close(data):
                data = bytes(await stream.receive_some(RECEIVE_BYTES_MAX))
                if not data:
                    return
            await _hang_up(stream)
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        pass  # the peer was quicker
    finally:
        await trio.aclose_forcefully(stream)


async def _hang_up(stream: trio.abc.Stream) -> None:
    """Say that nothing more comes and read to the end: closing with bytes unread would reset what was just sent."""
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()
        while await stream.receive_some(RECEIVE_BYTES_MAX):
            pass


def all_owed(outbox: Outbox) -> bytes:
    """Take all that an outbox owes; it takes nothing more."""
    pieces = []
    while piece := outbox.take():
        pieces.append(piece)
    outbox.close()
    return b"".join(pieces)
