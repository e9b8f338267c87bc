"""Who subscribed to what, one line per topic level, as Mosquitto prints it on SIGUSR2."""

from __future__ import annotations

from collections.abc import AsyncIterator

from broker.core.engine import Engine
from broker.core.receiver import Receiver
from broker.core.session import Session
from broker.core.shared import SharedGroup
from broker.reports.gently import gently, part_in_order

INDENT = "  "


async def tree_lines(engine: Engine) -> AsyncIterator[str]:
    """Each level of the subscribed filters, indented, with `(client id, QoS)` of whoever subscribed just there.

    Levels are in the order of their names.  Taken, a little at a time, when the first line is asked for.
    """
    by_filter: dict[tuple[str, ...], list[str]] = {}
    async for topic_filter, receiver, granted in gently(engine.trie.subscriptions()):
        levels = tuple(topic_filter.decode(errors="replace").split("/"))
        by_filter.setdefault(levels, []).append(_subscriber(receiver, granted))
    shown: tuple[str, ...] = ()
    for levels in await part_in_order(list(by_filter), _itself, 0, len(by_filter)):
        common = 0
        while common < min(len(shown), len(levels)) and shown[common] == levels[common]:
            common += 1
        for depth in range(common, len(levels) - 1):
            yield INDENT * (depth + 1) + levels[depth]
        yield " ".join([INDENT * len(levels) + levels[-1], *by_filter[levels]])
        shown = levels


def _itself(levels: tuple[str, ...]) -> tuple[str, ...]:
    return levels


def _subscriber(receiver: Receiver, granted: int) -> str:
    if isinstance(receiver, Session):
        return f"({receiver.client_id.decode(errors='replace')}, {granted})"
    if isinstance(receiver, SharedGroup):
        return f"($share/{receiver.key[0].decode(errors='replace')}, {granted})"
    return f"({type(receiver).__name__}, {granted})"
