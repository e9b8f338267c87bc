"""The exercise with fastapi-mqtt, in a FastAPI application; see test_clients.py.  usage: with_fastapi_mqtt.py PORT

The library makes one client per application and speaks MQTT 5 unless told otherwise; here it is told.
"""

import asyncio
import json
import sys

from fastapi import FastAPI
from fastapi_mqtt import FastMQTT, MQTTConfig
from gmqtt.mqtt.constants import MQTTv311


class Application:
    """A FastAPI application that keeps what it hears."""

    def __init__(self, port, client_id, topics, **more) -> None:
        self.inbox = asyncio.Queue()
        self._granted = asyncio.Queue()
        config = MQTTConfig(host="127.0.0.1", port=port, version=MQTTv311, **more)
        self.mqtt = FastMQTT(
            config=config, client_id=client_id, clean_session=more.get("clean_session", True)
        )
        self.app = FastAPI(lifespan=self._lifespan)

        @self.mqtt.on_connect()
        def connected(client, flags, code, properties) -> None:
            for topic in topics:
                client.subscribe(topic, qos=2)

        @self.mqtt.on_message()
        async def message(client, topic, payload, qos, properties) -> None:
            self.inbox.put_nowait([topic, payload.decode(), qos, bool(properties["retain"])])

        @self.mqtt.on_subscribe()
        def subscribed(client, mid, qos, properties) -> None:
            self._granted.put_nowait(qos)

        self._topics = topics

    def _lifespan(self, app) -> None:
        raise AssertionError("not served over HTTP here")

    async def start(self) -> None:
        await self.mqtt.mqtt_startup()
        for _ in self._topics:
            await self._granted.get()

    async def hear(self, count):
        return [await self.inbox.get() for _ in range(count)]


async def main(port) -> None:
    seen = {}
    watcher = Application(port, "watcher", ["echo/#", "will", "kept"])
    await watcher.start()
    for qos in (0, 1, 2):
        watcher.mqtt.publish(f"echo/{qos}", "hello", qos=qos)
    seen["echo"] = await watcher.hear(3)
    watcher.mqtt.publish("kept", "value", qos=1, retain=True)
    await watcher.hear(1)
    late = Application(port, "late", ["kept"])
    await late.start()
    seen["kept"] = await late.hear(1)
    watcher.mqtt.publish("kept", "", qos=1, retain=True)
    await watcher.hear(1)
    await late.mqtt.mqtt_shutdown()

    mortal = Application(
        port, "mortal", [], will_message_topic="will", will_message_payload="gone", will_delay_interval=1
    )
    await mortal.start()
    mortal.mqtt.client.set_config({"reconnect_retries": 0})
    mortal.mqtt.client._connection._transport.abort()
    seen["will"] = await watcher.hear(1)

    lasting = Application(port, "lasting", ["session"], clean_session=False)
    await lasting.start()
    await lasting.mqtt.mqtt_shutdown()
    watcher.mqtt.publish("session", "one", qos=1)
    watcher.mqtt.publish("session", "two", qos=2)
    await asyncio.sleep(0.2)
    lasting = Application(port, "lasting", ["session"], clean_session=False)
    await lasting.start()
    seen["session"] = await lasting.hear(2)
    await lasting.mqtt.mqtt_shutdown()
    await watcher.mqtt.mqtt_shutdown()
    print(json.dumps(seen))


asyncio.run(asyncio.wait_for(main(int(sys.argv[1])), 30))
