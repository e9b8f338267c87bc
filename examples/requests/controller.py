"""Asks a device for something, waits for the answer and prints it: MQTT 5.0 or 3.1.1, with Eclipse Paho.

    pip install paho-mqtt
    python controller.py [5|3.1.1] [DEVICE] [REQUEST] [PAYLOAD] [PASSWORD] [HOST] [PORT]

Without arguments: 5, pump-7, set-speed, {"speed": 1200}, secret, 127.0.0.1, 1883.  It ends with 1 if the device
refuses, and with 2 if no answer comes within 10 seconds.  See docs/how-to/requests.md.
"""

import json
import queue
import sys
import uuid

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSION, DEVICE, REQUEST, PAYLOAD, PASSWORD, HOST, PORT = (
    *sys.argv[1:],
    *("5", "pump-7", "set-speed", '{"speed": 1200}', "secret", "127.0.0.1", "1883")[len(sys.argv) - 1 :],
)
NAME = f"controller-{uuid.uuid4().hex[:8]}"
ANSWERS = f"cmd/plant/hall-1/{NAME}/result"
WITHIN_S = 10
TRANSACTION = uuid.uuid4().hex

ready: queue.Queue = queue.Queue()
answers: queue.Queue = queue.Queue()


def connected(client, userdata, flags, reason_code, properties):
    client.subscribe(ANSWERS, qos=1)


def subscribed(client, userdata, mid, reason_codes, properties):
    ready.put(True)


def received(client, userdata, message):
    answer = json.loads(message.payload)
    correlation = getattr(message.properties, "CorrelationData", None)
    transaction = correlation.hex() if correlation is not None else answer.pop("transaction_id", None)
    if transaction == TRANSACTION:  # else an answer that comes too late, to an earlier request
        answers.put(answer)


def ask(client):
    topic = f"cmd/plant/hall-1/{DEVICE}/{REQUEST}"
    if VERSION == "5":
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = ANSWERS
        properties.CorrelationData = bytes.fromhex(TRANSACTION)
        properties.MessageExpiryInterval = (
            WITHIN_S  # a device that is back later does not carry it out any more
        )
        client.publish(topic, PAYLOAD, qos=1, properties=properties)
    else:
        about = {"transaction_id": TRANSACTION, "response_topic": ANSWERS}
        client.publish(topic, json.dumps({**about, **json.loads(PAYLOAD)}), qos=1)


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id=NAME,
    protocol=mqtt.MQTTv5 if VERSION == "5" else mqtt.MQTTv311,
)
client.username_pw_set("controller", PASSWORD)
client.on_connect = connected
client.on_subscribe = subscribed
client.on_message = received
client.connect(HOST, int(PORT))
client.loop_start()
try:
    ready.get(timeout=WITHIN_S)
    ask(client)
    answer = answers.get(timeout=WITHIN_S)
except queue.Empty:
    print(f"{DEVICE} did not answer within {WITHIN_S} s")
    sys.exit(2)
finally:
    client.disconnect()
    client.loop_stop()
print(json.dumps(answer))
sys.exit(0 if answer["status"] == "done" else 1)
