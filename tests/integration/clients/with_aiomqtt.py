"""The exercise with aiomqtt; see test_clients.py.  usage: with_aiomqtt.py PORT"""

import asyncio
import json
import socket
import sys

import aiomqtt


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
    async with aiomqtt.Client("127.0.0.1", port) as client:
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
        mortal = aiomqtt.Client("127.0.0.1", port, will=aiomqtt.Will("will", "gone", 1))
        await mortal.__aenter__()
        raw = mortal._client.socket()
        raw.shutdown(socket.SHUT_RDWR)
        seen["will"] = await hear(client, 1)

        async with aiomqtt.Client("127.0.0.1", port, identifier="lasting", clean_session=False) as lasting:
            await lasting.subscribe("session", qos=2)
        await client.publish("session", "one", qos=1)
        await client.publish("session", "two", qos=2)
        async with aiomqtt.Client("127.0.0.1", port, identifier="lasting", clean_session=False) as lasting:
            seen["session"] = await hear(lasting, 2)
    print(json.dumps(seen))


asyncio.run(main(int(sys.argv[1])))
