"""Keys of session tickets, new each day.

Whoever gets at a ticket key can read what was said in sessions of TLS 1.2 that were resumed with it.  OpenSSL makes
the keys with a context, and Python has no way to set them, so each listener gets a new context.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from broker.core.limits import TICKET_KEYS_S
from broker.links.listening.door import Door


async def renew_ticket_keys(doors: Iterable[Door]) -> None:
    """Read the certificate files anew every `TICKET_KEYS_S`, for ever; files that can't be used change nothing."""
    while True:
        await trio.sleep(TICKET_KEYS_S)
        for door in doors:
            tls = door.listener.tls
            if tls is not None:
                door.renew_tls(tls)
