"""The exercise with gmqtt, as an MQTT 3.1.1 client; see test_clients.py.  usage: with_gmqtt.py PORT"""

import asyncio
import json
import sys

import gmqtt


class Listening:
    """A client whose messages wait in `inbox`."""

    def __init__(self, name, **more) -> None:
        self.inbox = asyncio.Queue()
        self._granted = asyncio.Queue()
        self.client = gmqtt.Client(name, **more)
        self.client.on_message = self._message
        self.client.on_subscribe = self._subscribed

    async def _message(self, client, topic, payload, qos, properties):
        self.inbox.put_nowait([topic, payload.decode(), qos, bool(properties["retain"])])
        return 0

    def _subscribed(self, client, mid, qos, properties) -> None:
        self._granted.put_nowait(qos)

    async def connect(self, port) -> None:
        await self.client.connect("127.0.0.1", port, version=gmqtt.constants.MQTTv311)

    async def subscribe(self, topic_filter, qos) -> None:
        self.client.subscribe(topic_filter, qos=qos)
        await self._granted.get()

    async def hear(self, count):
        return [await self.inbox.get() for _ in range(count)]


async def main(port) -> None:
    seen = {}
    client = Listening("watcher")
    await client.connect(port)
    await client.subscribe("echo/#", 2)
    for qos in (0, 1, 2):
        client.client.publish(f"echo/{qos}", "hello", qos=qos)
    seen["echo"] = await client.hear(3)
    client.client.publish("kept", "value", qos=1, retain=True)
    await asyncio.sleep(0.2)
    await client.subscribe("kept", 1)
    seen["kept"] = await client.hear(1)
    client.client.publish("kept", "", qos=1, retain=True)
    await client.hear(1)

    await client.subscribe("will", 1)
    mortal = Listening("mortal", will_message=gmqtt.Message("will", "gone", qos=1))
    await mortal.connect(port)
    mortal.client.set_config({"reconnect_retries": 0})
    mortal.client._connection._transport.abort()
    seen["will"] = await client.hear(1)

    lasting = Listening("lasting", clean_session=False)
    await lasting.connect(port)
    await lasting.subscribe("session", 2)
    await lasting.client.disconnect()
    client.client.publish("session", "one", qos=1)
    client.client.publish("session", "two", qos=2)
    await asyncio.sleep(0.2)
    lasting = Listening("lasting", clean_session=False)
    await lasting.connect(port)
    seen["session"] = await lasting.hear(2)
    await lasting.client.disconnect()
    await client.client.disconnect()
    print(json.dumps(seen))


asyncio.run(asyncio.wait_for(main(int(sys.argv[1])), 30))
