"""Every fill of one trader, or of everybody: MQTT in an asyncio program with aiomqtt.

    pip install aiomqtt
    python aiomqtt_fills.py [HOST] [PORT] [ADDRESS]

Without arguments: 127.0.0.1, 21883, and + for every address.
"""

import asyncio
import json
import sys

import aiomqtt

HOST, PORT, ADDRESS = (*sys.argv[1:], *("127.0.0.1", "21883", "+")[len(sys.argv) - 1 :])
TOPIC = f"fill/+/{ADDRESS}/+"
RETRY_S = 2


async def main() -> None:
    while True:
        try:
            async with aiomqtt.Client(HOST, int(PORT)) as client:
                await client.subscribe(TOPIC, qos=1)
                print(f"subscribed to {TOPIC}", flush=True)
                async for message in client.messages:
                    fill = json.loads(message.payload)
                    print(message.topic, "price", fill["price"], "size", fill["size"], flush=True)
        except aiomqtt.MqttError as error:
            print(f"disconnected: {error}; again in {RETRY_S} s", file=sys.stderr)
            await asyncio.sleep(RETRY_S)


asyncio.run(main())
