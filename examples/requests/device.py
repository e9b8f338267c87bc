"""A pump that does what it is asked, and answers: MQTT 5.0 or 3.1.1, with Eclipse Paho.

    pip install paho-mqtt
    python device.py [5|3.1.1] [DEVICE] [PASSWORD] [HOST] [PORT]

Without arguments: 5, pump-7, secret, 127.0.0.1, 1883.  See docs/how-to/requests.md.
"""

import json
import sys
from collections import OrderedDict

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSION, DEVICE, PASSWORD, HOST, PORT = (
    *sys.argv[1:],
    *("5", "pump-7", "secret", "127.0.0.1", "1883")[len(sys.argv) - 1 :],
)
PLACE = "plant/hall-1"
COMMANDS = f"cmd/{PLACE}/{DEVICE}/+"
CONNECTED = f"connected/{PLACE}/{DEVICE}"
ANSWERS_KEPT = 1000

answers: OrderedDict[str, dict] = OrderedDict()  # by transaction: QoS 1 may bring a request twice
speed = 0


def connected(client, userdata, flags, reason_code, properties):
    client.subscribe(COMMANDS, qos=1)


def subscribed(client, userdata, mid, reason_codes, properties):
    client.publish(CONNECTED, b"1", qos=1, retain=True)
    client.publish(f"status/{PLACE}/{DEVICE}/info", json.dumps({"model": "P100"}), qos=1, retain=True)
    tell_state(client)
    print(f"{DEVICE} is ready", flush=True)


def tell_state(client):
    client.publish(f"status/{PLACE}/{DEVICE}/state", json.dumps({"speed": speed}), qos=1, retain=True)


def received(client, userdata, message):
    request_type = message.topic.rsplit("/", 1)[1]
    if request_type == "result":
        return  # an answer to somebody who has our name; we asked nothing
    try:
        request = json.loads(message.payload)
    except ValueError:
        request = None
    topic, transaction = where_to(request, message)
    if topic is None:
        return  # nobody waits for an answer
    answer = answers.get(transaction) if transaction else None
    if answer is None:
        answer = carry_out(client, request_type, request)
        if transaction:
            answers[transaction] = answer
            while len(answers) > ANSWERS_KEPT:
                answers.popitem(last=False)
    reply(client, topic, transaction, answer, message)


def where_to(request, message):
    """The topic of the answer and the transaction's id: from properties of 5.0, else from the payload."""
    properties = message.properties
    topic = getattr(properties, "ResponseTopic", None)
    if topic is not None:
        return topic, getattr(properties, "CorrelationData", b"").hex()
    if not isinstance(request, dict):
        return None, None
    topic, transaction = request.get("response_topic"), request.get("transaction_id")
    if isinstance(topic, str) and topic and not set(topic) & {"+", "#"} and isinstance(transaction, str):
        return topic, transaction
    return None, None


def carry_out(client, request_type, request):
    global speed
    if request_type != "set-speed":
        return {"status": "refused", "reason": f"there is no {request_type}"}
    wanted = request.get("speed") if isinstance(request, dict) else None
    if type(wanted) is not int or not 0 <= wanted <= 3000:
        return {"status": "refused", "reason": "speed is a whole number from 0 to 3000"}
    speed = wanted
    tell_state(client)
    return {"status": "done", "speed": speed}


def reply(client, topic, transaction, answer, message):
    correlation = getattr(message.properties, "CorrelationData", None)
    properties = None
    if VERSION == "5":
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/json"
        if correlation is not None:
            properties.CorrelationData = correlation
    if correlation is None and transaction:
        answer = {"transaction_id": transaction, **answer}
    client.publish(topic, json.dumps(answer), qos=1, properties=properties)


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id=DEVICE,
    protocol=mqtt.MQTTv5 if VERSION == "5" else mqtt.MQTTv311,
)
client.username_pw_set(DEVICE, PASSWORD)
client.will_set(CONNECTED, b"0", qos=1, retain=True)
client.on_connect = connected
client.on_subscribe = subscribed
client.on_message = received
client.connect(HOST, int(PORT))
client.loop_forever()
