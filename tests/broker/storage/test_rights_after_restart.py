"""What access rules say about a message's publisher, and about a session that is away, holds over restarts."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from support.killable import KillableBroker, mosquitto_client, rowcast
from support.ports import free_port

from protocol.mqtt.codec import decode, encode
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Connack, Connect, Packet, Pingreq, Pingresp, Publish, Suback, Subscribe

CONF = """listener {port} 127.0.0.1
allow_anonymous true
acl_file acl
persistence true
"""
BOTH = "topic read #\ntopic write one/state\ntopic write two/state\n"
ONE = "topic read #\ntopic write one/state\n"


def publish(port: int, topic: str) -> None:
    mosquitto_client("mosquitto_pub", port, "-t", topic, "-m", "x", "-q", "1", "-r")


def heard(port: int, client_id: bytes, clean: bool, *packets: Packet) -> list[Packet]:
    """Everything that comes until the answer to a PINGREQ that follows these packets."""
    received = b""
    found: list[Packet] = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"".join(map(encode, (Connect(client_id, clean, 60), *packets, Pingreq()))))
        while Pingresp() not in found:
            data = client.recv(65536)
            assert data, found
            received += data
            while True:
                body, end = frame_at(received, 0, 0)
                if end == 0:
                    break
                found.append(decode(received[0], received[body:end]))
                received = received[end:]
    return found


def retained_topics(port: int) -> list[bytes]:
    """What a new subscriber to everything gets."""
    answers = heard(port, b"new", True, Subscribe(1, ((b"#", 0),)))
    return [packet.topic for packet in answers if isinstance(packet, Publish)]


def reload(broker: KillableBroker) -> None:
    broker.send(signal.SIGHUP)
    broker.wait_for("Reloading config")


def test_a_retained_message_is_withheld_while_its_publisher_may_not_write_its_topic(tmp_path: Path) -> None:
    port = free_port()
    conf = CONF.format(port=port)
    acl = tmp_path / "acl"
    acl.write_text(BOTH)
    with rowcast(tmp_path, conf, port) as broker:
        publish(port, "one/state")
        publish(port, "two/state")
        assert retained_topics(port) == [b"one/state", b"two/state"]
        acl.write_text(ONE)
        reload(broker)
        assert retained_topics(port) == [b"one/state"]
        assert broker.stop() == 0
    with rowcast(tmp_path, conf, port) as broker:
        assert retained_topics(port) == [b"one/state"]
        acl.write_text(BOTH)
        reload(broker)
        assert retained_topics(port) == [b"one/state", b"two/state"]


def test_what_waits_for_a_client_that_may_not_read_it_any_more_is_dropped_and_costs_its_packet_id(
    tmp_path: Path,
) -> None:
    port = free_port()
    conf = CONF.format(port=port)
    acl = tmp_path / "acl"
    acl.write_text(BOTH)
    with rowcast(tmp_path, conf, port) as broker:
        assert Suback(1, (1,)) in heard(port, b"away", False, Subscribe(1, ((b"+/state", 1),)))
        publish(port, "one/state")
        publish(port, "two/state")
        publish(port, "one/state")
        assert broker.stop() == 0
    acl.write_text("topic read one/state\n")
    with rowcast(tmp_path, conf, port):
        connack, *rest = heard(port, b"away", False)
        assert connack == Connack(True, 0)
        assert [(packet.topic, packet.packet_id) for packet in rest if isinstance(packet, Publish)] == [
            (b"one/state", 1),
            (b"one/state", 3),
        ]
