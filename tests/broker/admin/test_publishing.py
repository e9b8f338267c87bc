"""Messages by HTTP: all of a batch or none, each with where it is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.admin.publishing import (
    BATCH_MAX,
    ITEM_CHARACTERS,
    STEP_CHARACTERS,
    BadPublish,
    MeshPublisher,
    Published,
    prefixes_of,
)
from broker.config.dialects.econia import Econia
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.steps import finished
from broker.config.tokens import JwtConfig
from broker.core.engine import Engine
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.gateway.channels import topic_of
from broker.gateway.gateway import Gateway

CONFIG = GatewayConfig(econia=Econia(JwtConfig("s" * 32)), exchange=Exchange())


class Heard(Receiver):
    def __init__(self, engine: Engine) -> None:
        super().__init__(plain=False)
        self.came: list[Publication] = []
        engine.subscribe(self, b"#", 2)
        engine.subscribe(self, b"$ws/#", 2)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.came.append(publication)


def publish(body: object, config: GatewayConfig = CONFIG) -> tuple[Published, list[Publication]]:
    engine = Engine()
    heard = Heard(engine)
    publisher = MeshPublisher(Gateway(config, engine, {}))
    read = publisher.read(body if isinstance(body, bytes) else json.dumps(body).encode())
    found = publisher.publish(finished(read))
    return found, heard.came


def test_a_message_for_a_topic_goes_as_a_clients_would() -> None:
    _, (one,) = publish({"topic": "a/b", "d": "x", "qos": 2, "retain": True})
    assert (one.topic, one.payload, one.qos, one.retain, one.is_requested) == (b"a/b", b"x", 2, True, True)
    _, (other,) = publish({"topic": "a", "d": "x"})
    assert (other.qos, other.retain) == (1, False)


def test_a_message_for_a_channel_goes_to_its_topic() -> None:
    _, (one,) = publish({"c": "ex:1001@balance", "d": "x"})
    assert one.topic == topic_of("exchange", "1001@balance")


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        ("", b""),
        ("grün \U0001f600", "grün \U0001f600".encode()),
        ({"b": 1, "a": ["ü"]}, b'{"b": 1, "a": ["\\u00fc"]}'),
        ([], b"[]"),
    ],
)
def test_text_goes_as_it_is_and_an_object_as_its_json(data: object, payload: bytes) -> None:
    assert [one.payload for one in publish({"topic": "a", "d": data})[1]] == [payload]


def test_a_batch_is_published_in_its_order() -> None:
    found, came = publish([{"topic": "a", "d": str(number)} for number in range(BATCH_MAX)])
    assert found.count == BATCH_MAX
    assert [one.payload for one in came] == [b"%d" % number for number in range(BATCH_MAX)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body must be JSON"),
        (b"[" * 100_000, "the body must be JSON"),
        (b"9" * 5000, '{"c": CHANNEL, "d": TEXT} is wanted'),
        ([], "a batch has 1 to 1000 messages, not 0"),
        ([{}] * 1001, "a batch has 1 to 1000 messages, not 1001"),
        ("x", '{"c": CHANNEL, "d": TEXT} is wanted'),
        ({}, "c must be a channel's name"),
        ({"c": 5, "d": "x"}, "c must be a channel's name"),
        ({"c": "nope:x", "d": "x"}, "c must begin with ex: or econia:"),
        ({"c": "ex:a/b", "d": "x"}, "c: "),
        ({"topic": 5, "d": "x"}, "topic must be a topic's name"),
        ({"topic": "a/#", "d": "x"}, "topic must be a topic's name"),
        ({"topic": "$SYS/x", "d": "x"}, "topic must be a topic's name"),
        ({"topic": "\ud800", "d": "x"}, "topic must be a topic's name"),
        ({"topic": "a", "c": "ex:x", "d": "x"}, "a message has a c or a topic"),
        ({"topic": "a", "d": "x", "qos": 3}, "retain must be true or false, and qos 0, 1 or 2"),
        ({"topic": "a", "d": "x", "qos": True}, "retain must be true or false, and qos 0, 1 or 2"),
        ({"topic": "a", "d": "x", "qos": 1.0}, "retain must be true or false, and qos 0, 1 or 2"),
        ({"topic": "a", "d": "x", "retain": 1}, "retain must be true or false, and qos 0, 1 or 2"),
        ({"topic": "a"}, "d must be text, or an object"),
        ({"topic": "a", "d": 5}, "d must be text, or an object"),
        ({"topic": "a", "d": "\ud800"}, "d must be valid Unicode text"),
    ],
)
def test_what_is_wrong_is_said_and_where_in_a_batch(body: Any, said: str) -> None:
    with pytest.raises(BadPublish) as refused:
        publish(body)
    assert str(refused.value).startswith(said)
    if isinstance(body, dict):
        with pytest.raises(BadPublish) as refused:
            publish([{"topic": "a", "d": "x"}, body])
        assert str(refused.value).startswith(f"[1] {said}")


def test_of_a_batch_with_one_that_is_wrong_nothing_is_published() -> None:
    engine = Engine()
    heard = Heard(engine)
    body = json.dumps([{"topic": "a", "d": "x"}, {"topic": "a/#", "d": "x"}]).encode()
    with pytest.raises(BadPublish):
        finished(MeshPublisher(Gateway(CONFIG, engine, {})).read(body))
    assert heard.came == []


def test_without_a_dialect_there_are_only_topics() -> None:
    with pytest.raises(BadPublish, match=r"c must begin with \(no dialect is set up\)"):
        publish({"c": "ex:x", "d": "x"}, GatewayConfig())
    assert prefixes_of(GatewayConfig()) == {}
    assert prefixes_of(CONFIG) == {"econia:": "econia", "ex:": "exchange"}


def test_what_tables_have_yet_to_take_is_counted_and_told_once() -> None:
    promises = [Promise() for _ in range(3)]
    for promise in promises[:2]:
        promise.join()
    published = Published([None, *promises])
    told: list[int] = []
    published.on_committed = lambda: told.append(published.left)
    assert (published.count, published.left) == (4, 2)
    promises[0].keep(0x97)
    assert told == []
    promises[1].keep()
    assert told == [0]
    assert published.refused() == [1]


def test_of_two_prefixes_that_begin_alike_the_longer_counts() -> None:
    config = GatewayConfig(exchange=Exchange(publish_prefix="eco"), econia=Econia(JwtConfig("s" * 32)))
    assert prefixes_of(config) == {"eco": "exchange", "econia:": "econia"}
    _, (one,) = publish({"c": "econia:fill", "d": "x"}, config)
    assert one.topic == topic_of("econia", "fill")


@pytest.mark.parametrize(
    "data",
    [
        b'{"price":0.00000010,"size":150.40}',
        b"[123456789012345678901234567890.10, 1e400, -0, -0.0, 1E-7]",
        b'{"a":1,"a":2}',
        b'{"a":"\\ud800"}',
        '{ "ü" : [ ] }'.encode(),
        b"[" * 900 + b"]" * 900,
    ],
    ids=["prices", "numbers", "twice", "surrogate", "blanks", "deep"],
)
@pytest.mark.parametrize(
    "body", [b'{"topic":"a","d":%b}', b' [ {"topic":"a" , "d": %b } ] \n'], ids=["one", "list"]
)
def test_json_goes_digit_for_digit(data: bytes, body: bytes) -> None:
    """150.40 became 150.4, and 1e400 the word Infinity, which no browser reads."""
    assert [one.payload for one in publish(body.replace(b"%b", data))[1]] == [data]


@pytest.mark.parametrize("data", [b"NaN", b'{"a":NaN}', b"[-Infinity]", b"1e400", b"0", b"null", b"true"])
def test_what_is_neither_text_nor_json_in_brackets_is_no_message(data: bytes) -> None:
    with pytest.raises(BadPublish):
        publish(b'{"topic":"a","d":%b}' % data)


def test_a_long_batch_is_read_in_steps() -> None:
    publisher = MeshPublisher(Gateway(CONFIG, Engine(), {}))
    body = json.dumps([{"topic": f"t/{number}", "d": {"x": ["y"] * 500}} for number in range(BATCH_MAX)])
    steps = sum(1 for _ in publisher.read(body.encode()))
    assert steps >= 2 * len(body) // (2 * STEP_CHARACTERS)
    assert steps > 100


def test_so_is_a_batch_of_very_many_that_say_nothing() -> None:
    publisher = MeshPublisher(Gateway(CONFIG, Engine(), {}))
    steps: list[None] = []
    with pytest.raises(BadPublish, match="a batch has 1 to 1000 messages, not 100001"):
        steps.extend(publisher.read(b"[" + b"1," * 100_000 + b"1]"))
    assert len(steps) > 100_000 * ITEM_CHARACTERS // (2 * STEP_CHARACTERS)
