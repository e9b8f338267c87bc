"""The exercise with aiomqtt; see test_clients.py.  usage: with_aiomqtt.py PORT [5]"""

import asyncio
import json
import socket
import sys

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSION_5 = sys.argv[2:] == ["5"]
PROTOCOL = aiomqtt.ProtocolVersion.V5 if VERSION_5 else aiomqtt.ProtocolVersion.V311


def connecting(port, **more):
    return aiomqtt.Client("127.0.0.1", port, protocol=PROTOCOL, **more)


def lasting_client(port):
    """With a session that stays: by `clean_session`, or by an interval."""
    if not VERSION_5:
        return connecting(port, identifier="lasting", clean_session=False)
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 600
    return connecting(port, identifier="lasting", clean_start=False, properties=properties)


async def with_properties(client):
    """What a message of 5.0 carries, and the subscription's number."""
    subscribing = Properties(PacketTypes.SUBSCRIBE)
    subscribing.SubscriptionIdentifier = 7
    await client.subscribe("properties", qos=1, properties=subscribing)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "text/plain"
    properties.ResponseTopic = "answers"
    properties.CorrelationData = b"\x00\xff"
    properties.MessageExpiryInterval = 60
    properties.UserProperty = [("a", "1"), ("a", "2")]
    await client.publish("properties", "hello", qos=1, properties=properties)
    got = (await anext(aiter(client.messages))).properties
    return [
        got.ContentType,
        got.ResponseTopic,
        got.CorrelationData.hex(),
        got.MessageExpiryInterval,
        [list(pair) for pair in got.UserProperty],
        got.SubscriptionIdentifier,
    ]


def line(message):
    return [str(message.topic), message.payload.decode(), message.qos, bool(message.retain)]


async def hear(client, count):
    lines = []
    async for message in client.messages:
        lines.append(line(message))
        if len(lines) == count:
            return lines
    return lines


async def main(port) -> None:
    seen = {}
    async with connecting(port) as client:
        await client.subscribe("echo/#", qos=2)
        for qos in (0, 1, 2):
            await client.publish(f"echo/{qos}", "hello", qos=qos)
        seen["echo"] = await hear(client, 3)
        await client.publish("kept", "value", qos=1, retain=True)
        await client.subscribe("kept", qos=1)
        seen["kept"] = await hear(client, 1)
        await client.publish("kept", "", qos=1, retain=True)
        await hear(client, 1)

        await client.subscribe("will", qos=1)
        mortal = connecting(port, will=aiomqtt.Will("will", "gone", 1))
        await mortal.__aenter__()
        raw = mortal._client.socket()
        raw.shutdown(socket.SHUT_RDWR)
        seen["will"] = await hear(client, 1)

        async with lasting_client(port) as lasting:
            await lasting.subscribe("session", qos=2)
        await client.publish("session", "one", qos=1)
        await client.publish("session", "two", qos=2)
        async with lasting_client(port) as lasting:
            seen["session"] = await hear(lasting, 2)
        if VERSION_5:
            seen["properties"] = await with_properties(client)
    print(json.dumps(seen))


asyncio.run(main(int(sys.argv[1])))
