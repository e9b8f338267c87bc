"""MQTT 5.0 as clients speak it: mosquitto-clients with every property, paho, and paho as Home Assistant has it."""

from __future__ import annotations

import json
import queue
import subprocess
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from support.polling import until_blocking
from support.raw5 import over_tcp
from support.rowcast_process import RowcastProcess

from protocol.mqtt.packets import Publish

WITHIN_S = 50.0
PUBLISH_PROPERTIES = [
    *("-D", "publish", "content-type", "text/plain"),
    *("-D", "publish", "correlation-data", "42"),
    *("-D", "publish", "message-expiry-interval", "60"),
    *("-D", "publish", "payload-format-indicator", "1"),
    *("-D", "publish", "response-topic", "answers"),
    *("-D", "publish", "user-property", "a", "1"),
    *("-D", "publish", "user-property", "a", "2"),
]
CONNECT_PROPERTIES = [
    *("-D", "connect", "maximum-packet-size", "100000"),
    *("-D", "connect", "receive-maximum", "5"),
    *("-D", "connect", "request-problem-information", "1"),
    *("-D", "connect", "request-response-information", "1"),
    *("-D", "connect", "session-expiry-interval", "30"),
    *("-D", "connect", "topic-alias-maximum", "5"),
    *("-D", "connect", "user-property", "who", "me"),
]
WILL_PROPERTIES = [
    *("--will-topic", "will", "--will-payload", "gone"),
    *("-D", "will", "will-delay-interval", "1"),
    *("-D", "will", "message-expiry-interval", "60"),
    *("-D", "will", "content-type", "text/plain"),
    *("-D", "will", "payload-format-indicator", "1"),
    *("-D", "will", "response-topic", "answers"),
    *("-D", "will", "correlation-data", "1"),
    *("-D", "will", "user-property", "w", "1"),
]


def test_mosquitto_clients_with_every_property(rowcast: RowcastProcess) -> None:
    port = str(rowcast.port)
    subscribe = [
        "-D",
        "subscribe",
        "subscription-identifier",
        "7",
        "-D",
        "subscribe",
        "user-property",
        "s",
        "1",
    ]
    for qos in ("1", "2"):
        subprocess.run(
            ["mosquitto_pub", "-V", "5", "-p", port, "-t", f"props/{qos}", "-m", "hello", "-q", qos, "-r",
             *CONNECT_PROPERTIES, *PUBLISH_PROPERTIES],
            check=True, timeout=WITHIN_S,
        )  # fmt: skip
    done = subprocess.run(
        ["mosquitto_sub", "-V", "5", "-p", port, "-t", "props/#", "-C", "2", "-F", "%j", "-W", "20",
         "-i", "sub", *CONNECT_PROPERTIES, *WILL_PROPERTIES, *subscribe],
        check=True, capture_output=True, text=True, timeout=2 * WITHIN_S,
    )  # fmt: skip
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    for seen in lines:
        assert seen["payload"] == "hello"
        properties = seen["properties"]
        assert properties["user-properties"] == {"a": "2"}  # mosquitto_sub's JSON holds one of a name
        wanted = {
            "content-type": "text/plain",
            "correlation-data": "42",
            "payload-format-indicator": 1,
            "response-topic": "answers",
        }
        assert {name: properties[name] for name in wanted} == wanted
        assert 55 <= properties["message-expiry-interval"] <= 60


def test_mosquitto_sub_unsubscribes_and_leaves_with_every_property(tmp_path: Path) -> None:
    """And what it says of its session at the end holds.

    It leaves when a message comes, which is sent behind UNSUBACK: one that leaves with an answer still to come may do
    so without DISCONNECT, and does that to Mosquitto, too.
    """
    with RowcastProcess(tmp_path, "log_type all\n") as rowcast:
        peer = over_tcp(rowcast.port)
        peer.connect(b"publisher")
        for client_id, goodbye in (
            ("stays", []),
            ("ends", ["-D", "disconnect", "session-expiry-interval", "0"]),
        ):
            leaving = subprocess.Popen(
                ["mosquitto_sub", "-V", "5", "-p", str(rowcast.port), "-i", client_id, "-c", "-x", "60", "-t", "a",
                 "-C", "1", "-U", "b", "-D", "unsubscribe", "user-property", "u", "1", "-W", "20",
                 "-D", "disconnect", "user-property", "d", "1", "-D", "disconnect", "reason-string", "bye", *goodbye],
            )  # fmt: skip
            has_logged(rowcast, f"Sending UNSUBACK to {client_id}")
            peer.send(Publish(b"a", b"the last"))
            assert leaving.wait(2 * WITHIN_S) == 0
            # Another connection is not behind that one: what it said has to be read first.
            has_logged(rowcast, f"Client {client_id} [")
            back = over_tcp(rowcast.port)
            assert back.connect(client_id.encode(), clean=False).session_present is not bool(goodbye)
            back.cut()
        peer.cut()


def has_logged(rowcast: RowcastProcess, what: str) -> None:
    until_blocking(lambda: any(what in line for line in rowcast.lines))


class Client5:
    """paho with MQTT 5.0; what comes waits in queues."""

    def __init__(self, rowcast: RowcastProcess, client_id: str, will: str = "") -> None:
        self.inbox: queue.Queue[Any] = queue.Queue()
        self.connections: queue.Queue[tuple[Any, Any, Any]] = queue.Queue()
        self.subscribed: queue.Queue[list[int]] = queue.Queue()
        self.ended: queue.Queue[int] = queue.Queue()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        if will:
            self.client.will_set(will, "gone", 1)
        self.client.on_message = lambda client, data, message: self.inbox.put(message)
        self.client.on_connect = lambda client, data, flags, reason, found: self.connections.put(
            (reason.value, flags.session_present, found)
        )
        self.client.on_subscribe = lambda client, data, mid, reasons, found: self.subscribed.put(
            [reason.value for reason in reasons]
        )
        self.client.on_disconnect = lambda client, data, flags, reason, found: self.ended.put(reason.value)
        self._port = rowcast.port

    def connect(self, *, clean: bool, expiry_s: int = 0) -> tuple[Any, Any, Any]:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = expiry_s
        self.client.connect("127.0.0.1", self._port, clean_start=clean, properties=properties)
        self.client.loop_start()
        return self.connections.get(timeout=WITHIN_S)

    def subscribe(self, topic_filter: str, options: SubscribeOptions, number: int = 0) -> list[int]:
        properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
        if number:
            properties.SubscriptionIdentifier = number
        self.client.subscribe(topic_filter, options=options, properties=properties)
        return self.subscribed.get(timeout=WITHIN_S)

    def hear(self) -> Any:
        return self.inbox.get(timeout=WITHIN_S)

    def leave(self) -> int:
        self.client.disconnect()
        status = self.ended.get(timeout=WITHIN_S)
        self.client.loop_stop()
        return status


def test_as_home_assistant_uses_paho(rowcast: RowcastProcess) -> None:
    """A clean start, identifier 1 on plain filters and one of its own for each wildcard, retained discovery, expiry."""
    home = Client5(rowcast, "home", will="homeassistant/status")
    status, present, properties = home.connect(clean=True)
    assert (status, present) == (0, False)
    assert properties.TopicAliasMaximum == 10
    device = Client5(rowcast, "device")
    device.connect(clean=True)
    expiring = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    expiring.MessageExpiryInterval = 300
    device.client.publish("homeassistant/sensor/x/config", "{}", 1, True, expiring).wait_for_publish(WITHIN_S)
    assert home.subscribe("homeassistant/+/+/config", SubscribeOptions(0), 2) == [0]
    assert home.subscribe("x/state", SubscribeOptions(0, retainHandling=1), 1) == [0]
    found = home.hear()
    assert (found.retain, found.properties.SubscriptionIdentifier) == (True, [2])
    assert 295 <= found.properties.MessageExpiryInterval <= 300
    device.client.publish("x/state", "on", 0)
    live = home.hear()
    assert (live.payload, live.properties.SubscriptionIdentifier) == (b"on", [1])
    # The same id again: the first is told, and ends.
    second = Client5(rowcast, "home")
    assert second.connect(clean=True)[0] == 0
    assert home.ended.get(timeout=WITHIN_S) == 0x8E
    home.client.loop_stop()
    assert second.leave() == 0
    assert device.leave() == 0


def test_a_session_of_paho_goes_on_and_what_has_gone_is_told(rowcast: RowcastProcess) -> None:
    lasting = Client5(rowcast, "lasting5")
    lasting.connect(clean=True, expiry_s=60)
    lasting.subscribe("session5", SubscribeOptions(2))
    lasting.leave()
    writer = Client5(rowcast, "writer5")
    writer.connect(clean=True)
    asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    asked.ResponseTopic = "answers"
    asked.CorrelationData = b"\x00\x01"
    asked.UserProperty = [("b", "1"), ("a", "2")]
    for qos in (1, 2):
        writer.client.publish("session5", f"at {qos}", qos, properties=asked).wait_for_publish(WITHIN_S)
    again = Client5(rowcast, "lasting5")
    assert again.connect(clean=False, expiry_s=60)[:2] == (0, True)
    for qos in (1, 2):
        message = again.hear()
        assert (message.payload, message.qos) == (b"at %d" % qos, qos)
        assert message.properties.ResponseTopic == "answers"
        assert message.properties.CorrelationData == b"\x00\x01"
        assert message.properties.UserProperty == [("b", "1"), ("a", "2")]
    again.leave()
    writer.leave()
