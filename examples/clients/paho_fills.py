"""Every fill of one trader, or of everybody: MQTT with Eclipse Paho.

    pip install paho-mqtt
    python paho_fills.py [HOST] [PORT] [ADDRESS]

Without arguments: 127.0.0.1, 21883, and + for every address.
"""

import json
import sys

import paho.mqtt.client as mqtt

HOST, PORT, ADDRESS = (*sys.argv[1:], *("127.0.0.1", "21883", "+")[len(sys.argv) - 1 :])
TOPIC = f"fill/+/{ADDRESS}/+"


def subscribe(client, userdata, flags, reason_code, properties):
    # Here and not after connect(): so that a reconnection subscribes again.
    client.subscribe(TOPIC, qos=1)


def subscribed(client, userdata, mid, reason_codes, properties):
    print(f"subscribed to {TOPIC}", flush=True)


def received(client, userdata, message):
    fill = json.loads(message.payload)  # Python's integers hold 39 digits; other languages' may not
    print(
        message.topic,
        "price",
        fill["price"],
        "size",
        fill["size"],
        "maker order",
        fill["maker_order_id"],
        flush=True,
    )


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = subscribe
client.on_subscribe = subscribed
client.on_message = received
client.connect(HOST, int(PORT))
client.loop_forever()
