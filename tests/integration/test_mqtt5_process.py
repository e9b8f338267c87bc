"""MQTT 5.0 as a process speaks it: on each transport beside 3.1.1, and what only time, a reload or the end bring."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from support import faulty5, played5
from support.certificates import Authority
from support.ports import free_port
from support.raw5 import RawClient, over_tcp, over_tls, over_unix, over_websocket
from support.rowcast_process import RowcastProcess

from protocol.mqtt.packets import Disconnect, Puback, Publish, Pubrec, Pubrel, Subscribe, Will
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import MESSAGE_EXPIRY, SESSION_EXPIRY, WILL_DELAY
from protocol.mqtt.v5.reasons import ReasonCode

KEPT = Properties({SESSION_EXPIRY: 300})
USER = Properties(user=[(b"a", b"1"), (b"a", b"2")])
Connected = Callable[[int], RawClient]


class Doors:
    """A process with a listener of each kind."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        certificate, key = authority.issue("server", "/CN=localhost", host=True)
        self.socket = folder / "socket"
        tls_port = free_port()
        self.process = RowcastProcess(
            folder,
            f"listener 0 {self.socket}\nlistener {tls_port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n",
        )
        self.by_name: dict[str, Connected] = {
            "tcp": lambda level: over_tcp(self.process.port, level),
            "unix": lambda level: over_unix(self.socket, level),
            "tls": lambda level: over_tls(tls_port, authority.ca, level),
            "websocket": lambda level: over_websocket(self.process.websocket_port, level),
        }


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    doors = Doors(tmp_path_factory.mktemp("doors"))
    with doors.process:
        yield doors


@pytest.mark.parametrize("transport", ["tcp", "unix", "tls", "websocket"])
def test_both_versions_on_one_topic_over_each_transport(doors: Doors, transport: str) -> None:
    """[MQTT-4.2.0-1] [MQTT-6.0.0-2]: over a WebSocket, packets come in pieces of seven bytes."""
    connected = doors.by_name[transport]
    topic = b"mixed/" + transport.encode()
    new, old = connected(5), connected(4)
    new.connect(b"new " + topic)
    old.connect(b"old " + topic)
    for reader in (new, old):
        assert reader.subscribe(topic, 1) == (1,)
    new.send(
        *[
            Publish(topic, b"%d" % number, properties=USER if number % 2 else Properties())
            for number in range(6)
        ]
    )
    old.send(*[Publish(topic, b"%d" % number) for number in range(6)])
    new_got = [new.publication() for _ in range(12)]
    old_got = [old.publication() for _ in range(12)]
    with_user = [packet for packet in new_got if packet.properties.user]
    assert [packet.payload for packet in with_user] == [b"1", b"3", b"5"]
    assert sorted(packet.payload for packet in old_got) == sorted([b"%d" % n for n in range(6)] * 2)
    # A session of one version is taken on by the other, and back.
    session = b"session " + topic
    first = connected(5)
    assert not first.connect(session, properties=KEPT).session_present
    first.subscribe(b"queue/" + topic, 1)
    first.leave()
    new.send(Publish(b"queue/" + topic, b"waits", 1, True, packet_id=1, properties=USER))
    while not isinstance(new.receive(), Puback):
        pass
    second = connected(4)
    assert second.connect(session, clean=False).session_present
    assert second.publication() == Publish(b"queue/" + topic, b"waits", 1, packet_id=1)
    second.cut()
    third = connected(5)
    assert third.connect(session, clean=False, properties=KEPT).session_present
    assert third.publication() == Publish(
        b"queue/" + topic, b"waits", 1, dup=True, packet_id=1, properties=USER
    )
    third.send(Puback(1), Subscribe(2, ((b"queue/" + topic, 1),)), Disconnect())
    for client in (new, old):
        client.cut()


def answered(client: RawClient, packets: list[bytes]) -> bytes:
    """All that comes to a CONNECT, and to what follows it with a PINGREQ at its end."""
    data = b""
    try:
        for packet in packets:
            client.write(packet)
        while not (data.endswith(played5.PINGRESP) if len(packets) > 1 else data):
            more = client.more()
            if not more:
                break
            data += more
    except (ConnectionResetError, BrokenPipeError):
        pass
    return data


@pytest.mark.parametrize("transport", ["tcp", "unix", "tls", "websocket"])
def test_random_properties_are_judged_alike_on_each_transport(doors: Doors, transport: str) -> None:
    """As in memory, where `test_properties_against_mosquitto` judges: in CONNECT the code, then the same bytes."""
    seed = Random().randrange(1 << 32)
    random = Random(seed)
    for number in range(40):
        played = faulty5.draw(random)
        client = doors.by_name[transport](5)
        data = answered(client, played.packets)
        client.cut()
        note = (seed, number, played)
        if len(played.packets) == 1:
            assert data[3] == played.code, note
        else:
            expected = bytes.fromhex(played5.we_answer(played.packets).removesuffix("closed"))
            assert data[2 + data[1] :] == expected[2 + expected[1] :], note


def test_a_websocket_carries_mqtt_in_binary_frames_only(doors: Doors) -> None:
    client = over_websocket(doors.process.websocket_port)
    assert client.subprotocol == b"mqtt"  # [MQTT-6.0.0-3]
    client.connect(b"binary")
    assert client.opcodes == {2}  # [MQTT-6.0.0-1]
    client.frame(0x81, b"\xc0\x00")
    while client.more():
        pass
    assert client.opcodes <= {2, 8}


def test_across_transports_in_both_directions(doors: Doors) -> None:
    """Everybody hears everybody, whatever came from where."""
    clients = [connected(level) for connected in doors.by_name.values() for level in (4, 5)]
    for index, client in enumerate(clients):
        client.connect(b"across %d" % index)
        client.subscribe(b"across", 0)
    for index, client in enumerate(clients):
        client.send(Publish(b"across", b"%d" % index, properties=USER if client.level == 5 else Properties()))
    for client in clients:
        got = [client.publication() for _ in clients]
        assert sorted(packet.payload for packet in got) == [b"%d" % index for index in range(len(clients))]
        tagged = {packet.payload for packet in got if packet.properties.user}
        assert tagged == ({b"1", b"3", b"5", b"7"} if client.level == 5 else set())
        client.cut()


def test_a_silent_client_is_told_and_its_will_goes_out_with_its_properties(doors: Doors) -> None:
    listener = over_tcp(doors.process.port)
    listener.connect(b"listener")
    listener.subscribe(b"will/#", 1)
    silent = over_tcp(doors.process.port)
    will = Will(b"will/silent", b"gone", 1, False, Properties({MESSAGE_EXPIRY: 60}, user=[(b"a", b"b")]))
    began = time.monotonic()
    silent.connect(b"silent", keep_alive_s=1, will=will)
    assert silent.receive() == Disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)
    assert silent.receive() is None
    assert time.monotonic() - began >= 1.5
    publish = listener.publication()
    assert (publish.payload, publish.properties.user) == (b"gone", [(b"a", b"b")])
    listener.send(Puback(publish.packet_id))
    delayed = over_tcp(doors.process.port)
    will = Will(b"will/delayed", b"late", 0, False, Properties({WILL_DELAY: 1}))
    delayed.connect(b"delayed", will=will, properties=KEPT)
    began = time.monotonic()
    delayed.cut()
    assert listener.publication().payload == b"late"
    assert time.monotonic() - began >= 1.0
    listener.cut()


def test_a_reload_of_the_access_rules_is_told_by_code_and_a_stop_too(tmp_path: Path) -> None:
    rules = tmp_path / "rules.acl"
    rules.write_text("topic readwrite open/#\n")
    rules.chmod(0o600)
    with RowcastProcess(tmp_path, f"acl_file {rules}\n") as process:
        writer, reader = over_tcp(process.port), over_tcp(process.port)
        writer.connect(b"writer")
        reader.connect(b"reader")
        reader.subscribe(b"#", 2)
        writer.send(
            Publish(b"closed", b"", 1, packet_id=1),
            Publish(b"closed", b"", 2, packet_id=2),
            Publish(b"closed", b""),
            Publish(b"open/1", b"", 2, packet_id=3),
            Pubrel(3),
        )
        assert writer.receive() == Puback(1, ReasonCode.NOT_AUTHORIZED)
        assert writer.receive() == Pubrec(2, ReasonCode.NOT_AUTHORIZED)
        assert reader.publication().topic == b"open/1"
        process.signal(signal.SIGTERM)
        for client in (writer, reader):
            last = None
            while (packet := client.receive()) is not None:
                last = packet
            assert last == Disconnect(ReasonCode.SERVER_SHUTTING_DOWN)


def test_the_log_says_it_in_mosquittos_words(doors: Doors) -> None:
    client = over_tcp(doors.process.port)
    client.connect(b"logged", keep_alive_s=17)
    client.cut()
    deadline = time.monotonic() + 20
    wanted = "as logged (p5, c1, k17)."
    while not any(line.endswith(wanted) for line in doors.process.lines):
        assert time.monotonic() < deadline, doors.process.lines
        time.sleep(0.05)
