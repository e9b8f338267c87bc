"""Who subscribed to what, as Mosquitto prints it."""

from __future__ import annotations

from support.peer import Peer, subscribed

from broker.core.engine import Engine
from broker.reports.subscription_tree import tree_lines


async def test_each_level_once_with_who_subscribed_just_there() -> None:
    engine = Engine()
    peers: list[Peer] = []
    peers.append(subscribed(engine, (b"shop/orders/#", 1), client_id=b"ada"))
    peers.append(subscribed(engine, (b"shop/orders", 2), client_id=b"grace"))
    peers.append(subscribed(engine, (b"$share/g/shop/stock", 2), client_id=b"hedy"))
    assert [line async for line in tree_lines(engine)] == [
        "  shop",
        "    orders (grace, 2)",
        "      # (ada, 1)",
        "    stock ($share/g, 2)",
    ]
