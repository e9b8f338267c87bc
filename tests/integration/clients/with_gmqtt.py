"""The exercise with gmqtt; see test_clients.py.  usage: with_gmqtt.py PORT [5]"""

import asyncio
import json
import sys

import gmqtt

VERSION_5 = sys.argv[2:] == ["5"]
PROTOCOL = gmqtt.constants.MQTTv50 if VERSION_5 else gmqtt.constants.MQTTv311
STAYS = {"session_expiry_interval": 600} if VERSION_5 else {}


class Listening:
    """A client whose messages wait in `inbox`."""

    def __init__(self, name, **more) -> None:
        self.inbox = asyncio.Queue()
        self._granted = asyncio.Queue()
        self.client = gmqtt.Client(name, **more)
        self.client.on_message = self._message
        self.client.on_subscribe = self._subscribed

    async def _message(self, client, topic, payload, qos, properties):
        self.properties = properties
        self.inbox.put_nowait([topic, payload.decode(), qos, bool(properties["retain"])])
        return 0

    def _subscribed(self, client, mid, qos, properties) -> None:
        self._granted.put_nowait(qos)

    async def connect(self, port) -> None:
        await self.client.connect("127.0.0.1", port, version=PROTOCOL)

    async def subscribe(self, topic_filter, qos, **more) -> None:
        self.client.subscribe(topic_filter, qos=qos, **more)
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

    lasting = Listening("lasting", clean_session=False, **STAYS)
    await lasting.connect(port)
    await lasting.subscribe("session", 2)
    await lasting.client.disconnect()
    client.client.publish("session", "one", qos=1)
    client.client.publish("session", "two", qos=2)
    await asyncio.sleep(0.2)
    lasting = Listening("lasting", clean_session=False, **STAYS)
    await lasting.connect(port)
    seen["session"] = await lasting.hear(2)
    await lasting.client.disconnect()
    if VERSION_5:
        await client.subscribe("properties", 1, subscription_identifier=7)
        more = {"content_type": "text/plain", "response_topic": "answers", "correlation_data": b"42"}
        user = [("a", "1"), ("a", "2")]
        client.client.publish(
            "properties", "hello", qos=1, message_expiry_interval=60, user_property=user, **more
        )
        await client.hear(1)
        got = client.properties
        names = ("content_type", "response_topic", "correlation_data", "message_expiry_interval")
        seen["properties"] = [
            *(got[name][0] for name in names[:2]),
            got[names[2]][0].hex(),
            got[names[3]][0],
            [list(pair) for pair in got["user_property"]],
            got["subscription_identifier"],
        ]
    await client.client.disconnect()
    print(json.dumps(seen))


asyncio.run(asyncio.wait_for(main(int(sys.argv[1])), 30))
