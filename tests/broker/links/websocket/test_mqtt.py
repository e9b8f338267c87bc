"""MQTT over WebSocket: bytes in any messages, the agreed subprotocol, and a stock client."""

from __future__ import annotations

import paho.mqtt.client as paho
import pytest
import trio
import trio_websocket
from paho.mqtt.enums import CallbackAPIVersion
from support.websockets import Running, closed_with, listening, masked

from broker.core.publication import Publication

CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04ws-1"
CONNACK = b"\x20\x02\x00\x00"
SUBSCRIBE = b"\x82\x0b\x00\x01\x00\x06fill/#\x00"
SUBACK = b"\x90\x03\x00\x01\x00"
PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"


async def read(ws: trio_websocket.WebSocketConnection, size: int) -> bytes:
    """The next bytes, whatever messages they come in."""
    data = b""
    while len(data) < size:
        message = await ws.get_message()
        assert isinstance(message, bytes)
        data += message
    return data


async def connected(ws: trio_websocket.WebSocketConnection) -> None:
    await ws.send_message(CONNECT)
    assert await read(ws, 4) == CONNACK


@pytest.mark.parametrize("subprotocol", ["mqtt", "mqttv3.1"])
@pytest.mark.parametrize("path", ["/mqtt", "/", "/anything/else"])
async def test_the_subprotocol_decides_whatever_the_path(path: str, subprotocol: str) -> None:
    async with listening() as broker, broker.connect(path, subprotocol) as ws:
        assert ws.subprotocol == subprotocol
        await connected(ws)


async def test_a_packet_may_span_messages_and_a_message_hold_several_packets() -> None:
    async with listening() as broker, broker.connect("/mqtt", "mqtt") as ws:
        for byte in CONNECT:
            await ws.send_message(bytes([byte]))
        assert await read(ws, 4) == CONNACK
        await ws.send_message(SUBSCRIBE + PINGREQ + PINGREQ)
        assert await read(ws, 9) == SUBACK + PINGRESP * 2


async def test_each_packet_to_a_client_is_a_message_of_its_own() -> None:
    """As mosquitto does: paho C reads one packet per message and no more."""
    async with listening() as broker, broker.connect("/mqtt", "mqtt") as ws:
        await connected(ws)
        await ws.send_message(SUBSCRIBE + PINGREQ + PINGREQ)
        assert [await ws.get_message() for _ in range(3)] == [SUBACK, PINGRESP, PINGRESP]


async def test_an_empty_message_is_no_end_of_the_connection() -> None:
    async with listening() as broker, broker.connect("/mqtt", "mqtt") as ws:
        await ws.send_message(b"")
        await connected(ws)


async def test_the_path_without_the_subprotocol_is_refused_with_the_reason() -> None:
    async with listening() as broker:
        with pytest.raises(trio_websocket.ConnectionRejected) as rejected:
            async with broker.connect("/mqtt"):
                pass
        assert rejected.value.status_code == 400
        assert b"subprotocol mqtt" in (rejected.value.body or b"")


async def test_a_text_message_closes_as_unsupported_data() -> None:
    async with listening() as broker, broker.connect("/mqtt", "mqtt") as ws:
        await connected(ws)
        await ws.send_message("text")
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await ws.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1003


async def test_after_disconnect_the_websocket_is_closed_normally() -> None:
    async with listening() as broker, broker.connect("/mqtt", "mqtt") as ws:
        await connected(ws)
        await ws.send_message(DISCONNECT)
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await ws.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1000


async def test_when_the_server_shuts_down_a_client_gets_what_it_is_owed_and_is_told() -> None:
    async with listening() as broker, broker.connect("/mqtt", "mqtt") as ws:
        await connected(ws)
        await ws.send_message(SUBSCRIBE)
        await read(ws, 5)
        broker.engine.publish(Publication(b"fill/1", b"last"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broker.websockets.close_all)
            assert await ws.get_message() == b"\x30\x0c\x00\x06fill/1last"
            assert await closed_with(ws) == 1001
        assert broker.server.links() == []
        assert broker.engine.connected == 0


async def test_a_packet_longer_than_the_listener_takes_closes_before_it_is_held() -> None:
    async with listening() as broker:
        broker.door.max_packet_size = 1000
        client = await broker.raw_websocket("/mqtt", "mqtt")
        await client.send(masked(0x82, CONNECT))
        assert (await client.frame())[1] == CONNACK
        # The head of a frame with a PUBLISH of 2000 bytes, and nothing of its payload.
        await client.send(masked(0x82, b"\x30\xd0\x0f" + bytes(2000))[:20])
        with trio.fail_after(60):
            assert await client.close_code() == 1000


async def test_a_packet_may_come_in_a_message_of_any_length() -> None:
    async with listening() as broker, broker.connect("/mqtt", "mqtt") as ws:
        await connected(ws)
        await ws.send_message(SUBSCRIBE)
        await read(ws, 5)
        packet = b"\x30\x88\xf0\x2e\x00\x06fill/1" + bytes(range(256)) * 3000
        await ws.send_message(packet)
        assert await read(ws, len(packet)) == packet


async def test_no_filter_of_an_mqtt_client_reaches_a_channel_of_a_dialect() -> None:
    async with listening() as broker, broker.connect("/mqtt", "mqtt") as ws:
        await connected(ws)
        filters = [
            b"#",
            b"+/#",
            b"$ws/#",
            b"$ws/econia/fill_event",
            b"$share/g/$ws/#",
            b"+/econia/fill_event",
        ]
        for topic_filter in filters:
            body = b"\x00\x01" + len(topic_filter).to_bytes(2, "big") + topic_filter + b"\x00"
            await ws.send_message(b"\x82" + bytes([len(body)]) + body)
            await read(ws, 5)
        broker.publish("econia", "fill_event", "secret")
        await ws.send_message(PINGREQ)
        assert await read(ws, 2) == PINGRESP


async def test_a_publish_of_an_mqtt_client_reaches_no_channel_of_a_dialect() -> None:
    from support.websockets import reader

    async with (
        listening() as broker,
        broker.connect("/" + reader("fill_event")) as victim,
        broker.connect("/mqtt", "mqtt") as ws,
    ):
        await connected(ws)
        topic = b"$ws/econia/fill_event"
        await ws.send_message(
            b"\x30" + bytes([2 + len(topic) + 6]) + len(topic).to_bytes(2, "big") + topic + b"forged"
        )
        await ws.send_message(PINGREQ)
        assert await read(ws, 2) == PINGRESP
        broker.publish("econia", "fill_event", "genuine")
        assert await victim.get_message() == "genuine"


async def test_a_stock_client_subscribes_and_publishes() -> None:
    async with listening() as broker:
        received = await trio.to_thread.run_sync(converse, broker.port)
        assert received == [("fill/3/0xmaker/0", b"x" * 100_000)]


def converse(port: int) -> list[tuple[str, bytes]]:
    """Connect, subscribe, publish to itself, and return what came."""
    received: list[tuple[str, bytes]] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, transport="websockets")

    def on_connect(client: paho.Client, *rest: object) -> None:
        client.subscribe("fill/#", 1)

    def on_subscribe(client: paho.Client, *rest: object) -> None:
        client.publish("fill/3/0xmaker/0", b"x" * 100_000, qos=1)

    def on_message(client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        received.append((message.topic, bytes(message.payload)))
        client.disconnect()

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_forever()
    return received


async def test_what_a_slow_client_is_owed_waits_for_it_in_order() -> None:
    count = 400
    async with listening() as broker, broker.connect("/mqtt", "mqtt") as ws:
        await connected(ws)
        await ws.send_message(SUBSCRIBE)
        await read(ws, 5)
        publish(broker, count)
        expected = b"".join(
            b"\x30\x80\x56\x00\x06fill/1" + number.to_bytes(2, "big") * 5500 for number in range(count)
        )
        assert await read(ws, len(expected)) == expected


def publish(broker: Running, count: int) -> None:
    for number in range(count):
        broker.engine.publish(Publication(b"fill/1", number.to_bytes(2, "big") * 5500))
        broker.engine.flush()
