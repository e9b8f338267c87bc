"""A feed's gap: who needs every message loads again; who was told, or needs the newest alone, stays."""

from __future__ import annotations

import json

import jwt
import pytest
from attrs import evolve
from support.canton_examples import EXAMPLES
from support.websockets import closed_with, listening, reader

from broker.config.dialects.canton import Canton
from broker.config.dialects.gateway import GatewayConfig
from broker.config.feeds import FeedConfig, Recovery, Route
from broker.config.tokens import JwtConfig
from broker.core.engine import Engine
from broker.feed.gaps import announce
from broker.feed.status import FeedStatus
from broker.gateway.gaps import channels_of
from broker.outlet import EngineOutlet

SECRET = "canton_secret_of_32_characters__"
ACCOUNT = "acc_1234567890abcdef"
CANTON = GatewayConfig(canton=Canton(JwtConfig(SECRET)))
CHANNEL_OF = {
    "Order Updates": f"orders/{ACCOUNT}",
    "Settlement": f"settlements/{ACCOUNT}",
    "Market Data": "market_data/AAPL/USDC",
}
FEEDS = (
    FeedConfig(
        "shop",
        "dbname=none",
        routes=(
            Route("s", ("fills", "fills_{market}"), target="econia"),
            Route("s", ("orders/{account}", "market_data/{symbol}"), target="canton"),
            Route("s", ("everything/{id}",)),
        ),
    ),
    FeedConfig("other", "dbname=none", routes=(Route("s", ("prices",), target="econia"),)),
)


def gap(engine: Engine) -> None:
    announce(FeedStatus("shop"), EngineOutlet(engine, None), "the slot is gone", "0/1", "0/2")


@pytest.mark.parametrize("channel", ["fills", "fills_a", "fills_", "fills_\n"])
async def test_a_reader_of_the_feeds_channels_is_closed_with_4000(channel: str) -> None:
    async with listening() as broker, broker.connect("/" + reader("prices", channel)) as ws:
        broker.gateway.adopt_feeds(FEEDS)
        gap(broker.engine)
        assert await closed_with(ws) == 4000


@pytest.mark.parametrize("channel", ["prices", "my_fills", "fill", "everything/1"])
async def test_a_reader_of_other_channels_stays(channel: str) -> None:
    async with listening() as broker, broker.connect("/" + reader(channel)) as ws:
        broker.gateway.adopt_feeds(FEEDS)
        gap(broker.engine)
        broker.publish("econia", channel, "next")
        assert await ws.get_message() == "next"


@pytest.mark.parametrize(
    ("streams", "stays"),
    [
        (["Order Updates"], False),
        (["Settlement"], True),
        (["Market Data"], True),
        (["Order Updates", "System Health"], True),
    ],
)
async def test_a_canton_client_is_told_in_words_or_closed(streams: list[str], stays: bool) -> None:
    async with listening(CANTON, ("canton",)) as broker, broker.connect("/v1/ws") as ws:
        broker.gateway.adopt_feeds(FEEDS)
        token = jwt.encode({"account_id": ACCOUNT, "roles": []}, SECRET, algorithm="HS256")
        await ws.send_message(json.dumps({"type": "auth", "token": token}))
        await ws.get_message()
        for stream in streams:
            request = json.loads(EXAMPLES[f"{stream} Stream: Subscribe Request"])
            request.pop("aggregation", None)
            await ws.send_message(json.dumps(request))
            assert json.loads(await ws.get_message())["status"] == "subscribed"
        gap(broker.engine)
        if not stays:
            assert await closed_with(ws) == 4000
            return
        if "System Health" in streams:
            assert json.loads(await ws.get_message())["type"] == "service_degraded"
        broker.publish("canton", CHANNEL_OF[streams[0]], '{"type":"next"}')
        assert json.loads(await ws.get_message())["type"] == "next"


RECOVERED = FeedConfig(
    "shop",
    "dbname=none",
    recoveries=(Recovery("public.fills", ("id",), (("s", "fill"), ("s", "a.b"))),),
    routes=(
        Route("s", ("{$kind}", "{$kind}_{market}"), target="econia"),
        Route("s", ("all",), target="econia"),
    ),
)


@pytest.mark.parametrize(
    ("channel", "is_whole"),
    [
        ("fill", True),
        ("fill_7", False),  # a kind of that name comes there, too
        ("a.b", True),
        ("a_b", False),
        ("fill\n", False),
        ("place", False),
        ("all", False),
    ],
)
def test_what_a_recover_reads_again_lacks_nothing_after_a_gap_of_a_listening_feed(
    channel: str, is_whole: bool
) -> None:
    assert bool(channels_of(RECOVERED)["econia"].fullmatch(channel)) is not is_whole
    assert channels_of(evolve(RECOVERED, kind="wal"))["econia"].fullmatch(channel)


def test_a_route_of_a_kind_that_is_read_again_has_no_gap() -> None:
    assert not channels_of(evolve(RECOVERED, routes=(Route("s", ("all",), kind="fill", target="econia"),)))
