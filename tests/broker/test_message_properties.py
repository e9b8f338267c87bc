"""`properties=` of the embedded broker: to clients of both versions, to subscribers inside, and what is refused."""

from __future__ import annotations

import pytest
from support.mqtt_stream import StreamClient

from broker import Broker, Config, MessageProperties
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Connect, Publish, Subscribe
from protocol.mqtt.v5.codec import decode, encode
from protocol.mqtt.v5.properties import Properties

ALL = MessageProperties(60, "text/plain", "answers/é", b"\x00\xff", True, (("a", "1"), ("a", "2")))


async def test_properties_reach_5_0_and_subscribers_inside_and_leave_3_1_1_alone() -> None:
    async with Broker(Config()) as broker:
        old = StreamClient(broker.connect())
        await old.connect(b"old")
        await old.subscribe(b"t", 0)
        new = broker.connect()
        await new.send_all(encode(Connect(b"new", True, 0, 5)) + encode(Subscribe(1, ((b"t", 0),))))
        data = b""
        while not data.endswith(b"\x90\x04\x00\x01\x00\x00"):
            data += await new.receive_some()
        await broker.publish("t", b"x", retain=True, properties=ALL)
        data = b""
        while not frame_at(data, 0, 0)[1]:
            data += await new.receive_some()
        body, end = frame_at(data, 0, 0)
        assert decode(data[0], data[body:end]) == Publish(
            b"t",
            b"x",
            properties=Properties(
                {1: 1, 2: 60},
                {3: b"text/plain", 8: "answers/é".encode(), 9: b"\x00\xff"},
                [(b"a", b"1"), (b"a", b"2")],
            ),
        )
        assert await old.receive() == Publish(b"t", b"x")
        async for message in broker.subscribe("t"):
            assert message.retain
            assert message.properties == ALL
            break


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        (MessageProperties(-1), "expiry_s is 0 to 4294967295, not -1"),
        (MessageProperties(response_topic="a/#"), "response_topic 'a/#' is no topic name"),
        (MessageProperties(content_type="\x00"), "content_type '\\x00' has a character that MQTT forbids"),
        (
            MessageProperties(user=(("k", "\ud800"),)),
            "a user property '\\ud800' has a character that MQTT forbids",
        ),
        (MessageProperties(content_type="x" * 65_536), "content_type has 65536 bytes; 65535 are the most"),
        (
            MessageProperties(correlation_data=b"x" * 65_536),
            "correlation_data has 65536 bytes; 65535 are the most",
        ),
    ],
)
async def test_what_no_packet_can_carry_is_refused(properties: MessageProperties, why: str) -> None:
    async with Broker(Config()) as broker:
        with pytest.raises(ValueError, match=r".*") as refused:
            await broker.publish("t", b"", properties=properties)
        assert str(refused.value) == why
        assert broker.app.engine.counters.publishes_sent == 0
