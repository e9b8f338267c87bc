"""The exercise with amqtt's client; see test_clients.py.  usage: with_amqtt.py PORT"""

import asyncio
import json
import sys

from amqtt.client import MQTTClient

QUIET = {"auto_reconnect": False, "keep_alive": 60}


async def hear(client, count):
    lines = []
    for _ in range(count):
        message = await client.deliver_message(timeout_duration=10)
        packet = message.publish_packet
        lines.append([message.topic, bytes(message.data).decode(), message.qos, bool(packet.retain_flag)])
    return lines


async def main(port) -> None:
    seen, address = {}, f"mqtt://127.0.0.1:{port}/"
    client = MQTTClient(client_id="watcher", config=QUIET)
    await client.connect(address)
    await client.subscribe([("echo/#", 2)])
    for qos in (0, 1, 2):
        await client.publish(f"echo/{qos}", b"hello", qos=qos)
    seen["echo"] = await hear(client, 3)
    await client.publish("kept", b"value", qos=1, retain=True)
    await client.subscribe([("kept", 1)])
    seen["kept"] = await hear(client, 1)
    await client.publish("kept", b"", qos=1, retain=True)
    await hear(client, 1)

    await client.subscribe([("will", 1)])
    will = {"topic": "will", "message": "gone", "qos": 1, "retain": False}
    mortal = MQTTClient(client_id="mortal", config={**QUIET, "will": will})
    await mortal.connect(address)
    mortal._handler.writer._writer.transport.abort()
    seen["will"] = await hear(client, 1)

    lasting = MQTTClient(client_id="lasting", config=QUIET)
    await lasting.connect(address, cleansession=False)
    await lasting.subscribe([("session", 2)])
    await lasting.disconnect()
    await client.publish("session", b"one", qos=1)
    await client.publish("session", b"two", qos=2)
    lasting = MQTTClient(client_id="lasting", config=QUIET)
    await lasting.connect(address, cleansession=False)
    seen["session"] = await hear(lasting, 2)
    await lasting.disconnect()
    await client.disconnect()
    print(json.dumps(seen))


asyncio.run(asyncio.wait_for(main(int(sys.argv[1])), 30))
