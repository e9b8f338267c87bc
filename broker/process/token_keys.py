"""The public keys with which MQTT listeners verify tokens, read again for as long as their rules are in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from broker.core.counters import Counters
from broker.gateway.tokens import TokenVerifier
from broker.links.listening.door import Door

LOOK_INTERVAL_S: Final = 1.0


async def keep_tokens_fresh(doors: Sequence[Door], counters: Counters) -> None:
    """Keep the key sets of all doors fresh, until cancelled; a reload brings new ones."""
    serving: dict[TokenVerifier, trio.CancelScope] = {}
    async with trio.open_nursery() as nursery:
        while True:
            wanted = {door.rules.tokens for door in doors if door.rules.tokens is not None}
            for verifier in serving.keys() - wanted:
                serving.pop(verifier).cancel()
            for verifier in wanted - serving.keys():
                serving[verifier] = trio.CancelScope()
                nursery.start_soon(_keep_fresh, verifier, counters, serving[verifier])
            await trio.sleep(LOOK_INTERVAL_S)


async def _keep_fresh(verifier: TokenVerifier, counters: Counters, scope: trio.CancelScope) -> None:
    with scope:
        await verifier.keep_fresh(counters)
