"""What a node asks NATS for at the start: streams as they are configured, and answers that are no faults."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.memory_nats import SILENT, MemoryNats, refused

from broker.cluster.link import Unavailable
from broker.cluster.names import streams
from broker.cluster.setup import consumer, epoch_of, info, last, make_streams, words_of
from broker.config.cluster import ClusterConfig
from protocol.nats import jetstream
from protocol.nats.jetstream import ApiError

CONFIG = ClusterConfig(nats=("nats://memory",), name="shop", replicas=1)
MESSAGES, RETAINED, SESSIONS = "shop_MSGS", "shop_RET", "shop_SESS"
NO_LEADER = refused(503, 10008)


async def test_missing_streams_are_made_in_their_order_and_the_log_is_new() -> None:
    server = MemoryNats()
    assert await make_streams(server.connected(), CONFIG)
    wanted = [{**one, "subjects": one.get("subjects", [])} for one in streams(CONFIG)]
    made = [dict(one.config) for one in server.streams.values()]
    assert made[2].pop("first_seq") > 0
    assert made == wanted
    assert list(server.streams) == [MESSAGES, RETAINED, SESSIONS]


@pytest.mark.parametrize(("missing", "is_new"), [(MESSAGES, True), (RETAINED, False), (SESSIONS, False)])
async def test_only_a_log_that_was_made_here_is_new(missing: str, is_new: bool) -> None:
    server = MemoryNats()
    link = server.connected()
    await make_streams(link, CONFIG)
    del server.streams[missing]
    assert await make_streams(link, CONFIG) is is_new
    assert len(server.streams) == 3


async def test_a_log_is_not_new_where_who_was_asked_had_not_heard_of_it() -> None:
    """NATS makes again what is there already as it was."""
    server = MemoryNats()
    link = server.connected()
    await make_streams(link, CONFIG)
    server.faults.append((b"STREAM.INFO.shop_MSGS", refused(404, jetstream.STREAM_NOT_FOUND)))
    server.faults.append((b"STREAM.CREATE.shop_MSGS", {"state": {"first_seq": 1, "last_seq": 7}}))
    assert not await make_streams(link, CONFIG)
    assert server.faults == []


@pytest.mark.parametrize("sources", [None, [{"name": MESSAGES, "opt_start_seq": 1}]])
async def test_what_a_stream_copies_stays_as_it_is_unless_that_is_nothing(
    sources: list[dict[str, Any]] | None,
) -> None:
    server = MemoryNats()
    link = server.connected()
    await make_streams(link, CONFIG)
    copy = server.streams[RETAINED].config
    made = copy.pop("sources")
    if sources is not None:
        copy["sources"] = sources
    copy["num_replicas"] = 3
    del server.streams[SESSIONS]
    await make_streams(link, CONFIG)
    assert SESSIONS in server.streams
    assert copy["num_replicas"] == 1
    assert copy["sources"] == (sources or made)


@pytest.mark.parametrize(
    ("key", "value", "is_told"),
    [
        ("max_age", 5, True),
        ("max_bytes", 5, True),
        ("num_replicas", 3, True),
        ("duplicate_window", 5, False),
        ("description", "of an operator", False),
    ],
)
async def test_a_stream_is_told_of_what_the_configuration_says_otherwise(
    key: str, value: Any, is_told: bool
) -> None:
    """And keeps what somebody has set that Rowcast has no word for."""
    server = MemoryNats()
    link = server.connected()
    await make_streams(link, CONFIG)
    config = server.streams[MESSAGES].config
    wanted = dict(config)
    config.update({key: value, "comment": "kept"})
    server.asked.clear()
    assert not await make_streams(link, CONFIG)
    assert any(b".UPDATE." in one for one in server.asked) is is_told
    assert config["comment"] == "kept"
    assert config.get(key) == (wanted[key] if is_told else value)


@pytest.mark.parametrize("step", [b"STREAM.CREATE.shop_MSGS", b"STREAM.UPDATE.shop_MSGS"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (NO_LEADER, Unavailable),
        (refused(400, 10052), ApiError),
        (refused(400, jetstream.STREAM_NAME_IN_USE), None),
    ],
)
async def test_no_quorum_passes_another_node_that_was_faster_is_no_fault_and_the_rest_is_said(
    step: bytes, answer: object, error: type[Exception] | None
) -> None:
    server = MemoryNats()
    link = server.connected()
    if b"UPDATE" in step:
        await make_streams(link, CONFIG)
        server.streams[MESSAGES].config["max_bytes"] = 1
    server.faults.append((step, answer))
    if error is None:
        await make_streams(link, CONFIG)
    else:
        with pytest.raises(error):
            await make_streams(link, CONFIG)
    assert server.faults == []


async def test_what_is_not_there_is_none_and_any_other_refusal_is_said() -> None:
    server = MemoryNats()
    link = server.connected()
    assert await info(link, MESSAGES) is None
    await make_streams(link, CONFIG)
    found = await info(link, MESSAGES)
    assert found is not None
    assert found["config"]["name"] == MESSAGES
    assert await consumer(link, MESSAGES, "x") is None
    assert await last(link, SESSIONS, b"shop.SESS.x", 1.0) is None
    asks: list[Callable[[], Awaitable[object]]] = [
        lambda: info(link, MESSAGES),
        lambda: consumer(link, MESSAGES, "x"),
        lambda: last(link, SESSIONS, b"shop.SESS.x", 1.0),
    ]
    for one in asks:
        server.faults.append((b"$JS.API", NO_LEADER))
        with pytest.raises(ApiError, match="503/10008"):
            await one()


async def test_a_consumer_is_its_configuration(autojump_clock: object) -> None:
    server = MemoryNats()
    link = server.connected()
    server.stream(MESSAGES, ("shop.MSGS.>",))
    server.consumers[MESSAGES, "x"] = {"inactive_threshold": 7}
    assert await consumer(link, MESSAGES, "x") == {"inactive_threshold": 7}
    server.faults.append((b"CONSUMER.INFO", {"stream_name": MESSAGES}))
    assert await consumer(link, MESSAGES, "x") == {}
    server.faults.append((b"CONSUMER.INFO", SILENT))
    with pytest.raises(Unavailable):
        await consumer(link, MESSAGES, "x")


@pytest.mark.parametrize(
    ("created", "epoch"), [("2026-11-27T07:24:05.5Z", "202611270724055"), ("", "0"), ("never", "0")]
)
def test_an_epoch_is_the_digits_of_when_the_log_was_made(created: str, epoch: str) -> None:
    assert epoch_of(created) == epoch


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ApiError(500, 10047, "insufficient storage resources available"), "lower keep_bytes"),
        (ApiError(500, 10074, "replicas > 1 not supported"), "replicas = 1"),
        (ApiError(400, 10065, "subjects overlap"), "another name"),
        (ApiError(400, 10005, "no suitable peers"), "lower replicas"),
        (ApiError(503, 0, "no server answers for JetStream"), "turn JetStream on"),
    ],
    ids=["storage", "single", "overlap", "peers", "off"],
)
def test_what_helps_is_said_with_what_is_wrong(error: ApiError, words: str) -> None:
    said = words_of(error)
    assert said.startswith(f"{error}; ")
    assert words in said


def test_what_nobody_knows_a_cure_for_is_said_as_it_is() -> None:
    assert words_of(ApiError(503, 10008, "no leader")) == "no leader (503/10008)"
    assert words_of(Unavailable("no answer within 5 s")) == "no answer within 5 s"
