"""`rowcast persistence`: what a file holds, in and out, and clients that move from Mosquitto with all that waits."""

from __future__ import annotations

import json
import math
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.killable import mosquitto_client, rowcast
from support.polling import until_listening
from support.ports import free_port
from support.storage import engine_with

from broker.cli.commands import run_command
from broker.core.publication import Publication
from broker.storage.database import read_database, write_database
from broker.storage.json_lines import lines
from broker.storage.json_reading import WrongLine, snapshot_of
from broker.storage.mosquitto_import import read_mosquitto
from broker.storage.records import SessionRecord, Snapshot, snapshot
from protocol.mosquitto_db import NotReadable, chunks
from protocol.mqtt.codec import encode
from protocol.mqtt.outbound import InFlight, Queued
from protocol.mqtt.packets import Connect, Packet, Pubcomp, Publish, Pubrec, Pubrel, Subscribe

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")


@contextmanager
def mosquitto(folder: Path, port: int) -> Iterator[None]:
    """A Mosquitto that keeps its state in this folder, and has saved it at the end."""
    conf = folder / "mosquitto.conf"
    conf.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
        f"max_inflight_messages 3\nlog_dest file {folder}/log\nuser root\n"
    )
    assert MOSQUITTO is not None
    process = subprocess.Popen([MOSQUITTO, "-c", str(conf)])
    try:
        until_listening(port)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


class Raw:
    """A client that says what it is told to say; what comes is compared byte by byte."""

    def __init__(self, port: int, client_id: bytes, present: bool) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.send(Connect(client_id, False, 60))
        self.expect(bytes((0x20, 2, present, 0)))

    def send(self, packet: Packet) -> None:
        self._socket.sendall(encode(packet))

    def expect(self, *packets: Packet | bytes) -> None:
        wanted = b"".join(one if isinstance(one, bytes) else encode(one) for one in packets)
        received = b""
        while len(received) < len(wanted):
            data = self._socket.recv(len(wanted) - len(received))
            assert data, received
            received += data
        assert received == wanted

    def close(self) -> None:
        self._socket.close()


@pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto")
def test_clients_of_mosquitto_find_everything_at_rowcast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with mosquitto(tmp_path, port):
        reader = Raw(port, b"reader", False)
        reader.send(Subscribe(1, ((b"a/#", 2),)))
        reader.expect(b"\x90\x03\x00\x01\x02")
        mosquitto_client("mosquitto_sub", port, "-i", "away", "-c", "-q", "1", "-t", "a/+", "-E")
        for number in range(5):
            mosquitto_client("mosquitto_pub", port, "-t", f"a/{number}", "-m", f"m{number}", "-q", "2")
        reader.expect(*(Publish(b"a/%d" % n, b"m%d" % n, 2, packet_id=n + 1) for n in range(3)))
        reader.send(Pubrec(1))
        reader.expect(Pubrel(1))
        publisher = Raw(port, b"publisher", False)
        publisher.send(Publish(b"a/late", b"late", 2, packet_id=9))
        publisher.expect(Pubrec(9))
        mosquitto_client("mosquitto_pub", port, "-t", "state", "-m", "on", "-q", "1", "-r")
        options = ("-V", "5", "-i", "new", "-c", "-x", "3600", "-q", "1", "-t", "a/#")
        mosquitto_client(
            "mosquitto_sub", port, *options, "-D", "SUBSCRIBE", "subscription-identifier", "7", "-E"
        )
        for client in (reader, publisher):
            client.close()
    command = ["persistence", "import", f"{tmp_path}/mosquitto.db", f"{tmp_path}/rowcast.db"]
    assert run_command(command) == 0
    said = capsys.readouterr().out
    assert "4 sessions, 3 subscriptions, 1 retained message" in said
    assert "left out" not in said
    record = next(
        one for one in read_database(tmp_path / "rowcast.db")[0].sessions if one.client_id == b"new"
    )
    assert record.expiry_s == 3600
    assert not math.isinf(record.disconnected_at)
    conf = "persistence true\npersistence_location .\nmax_inflight_messages 3\n"
    with rowcast(tmp_path, conf, port):
        reader = Raw(port, b"reader", True)
        reader.expect(
            Pubrel(1),
            Publish(b"a/1", b"m1", 2, dup=True, packet_id=2),
            Publish(b"a/2", b"m2", 2, dup=True, packet_id=3),
        )
        reader.send(Pubcomp(1))
        reader.expect(Publish(b"a/3", b"m3", 2, packet_id=4))
        publisher = Raw(port, b"publisher", True)
        publisher.send(Pubrel(9))
        publisher.expect(Pubcomp(9))
        got = mosquitto_client("mosquitto_sub", port, "-i", "away", "-c", "-q", "1", "-t", "a/+", "-C", "6")
        assert got.split() == ["m0", "m1", "m2", "m3", "m4", "late"]
        state = mosquitto_client("mosquitto_sub", port, "-t", "state", "-C", "1", "-F", "%r %p")
        assert state.split() == ["1", "on"]
        for client in (reader, publisher):
            client.close()


@pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto")
def test_a_mosquitto_db_that_is_cut_off_or_changed_is_refused_or_read(tmp_path: Path) -> None:
    port = free_port()
    with mosquitto(tmp_path, port):
        mosquitto_client("mosquitto_sub", port, "-i", "away", "-c", "-q", "1", "-t", "a", "-E")
        mosquitto_client("mosquitto_pub", port, "-t", "a", "-m", "x", "-q", "1", "-r")
    data = (tmp_path / "mosquitto.db").read_bytes()
    whole = sum(1 for _ in chunks(data))
    assert whole == 5
    for length in range(len(data)):
        with suppress(NotReadable):
            assert sum(1 for _ in chunks(data[:length])) < whole
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with suppress(NotReadable):
                read_mosquitto(bytes(changed), 0.0, {})


some_bytes = st.one_of(st.text(max_size=5).map(str.encode), st.binary(max_size=5))
names = st.sampled_from([b"a", b"b/c", "ü/\U0001f600".encode()])
times = st.sampled_from([0.0, 1_800_000_000.0, 1_900_000_000.25])


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    saved = Snapshot(draw(times), 0.0)
    messages = [
        Publication(
            draw(names), draw(some_bytes), draw(st.integers(0, 2)), draw(st.booleans()), draw(some_bytes)
        )
        for _ in range(draw(st.integers(1, 4)))
    ]
    for message in messages:
        message.properties = draw(st.sampled_from([b"", b"\x26\x00\x01k\x00\x01v"]))
        message.expires_at = draw(times)
        message.user_name = draw(st.one_of(st.none(), some_bytes))
    any_message = st.sampled_from(messages)
    ids = st.sampled_from([b"", b"\x0b\x07"])
    for number in range(draw(st.integers(0, 3))):
        inflight = []
        for packet_id in range(1, draw(st.integers(1, 4))):
            qos, state = draw(st.sampled_from([(1, 1), (2, 2), (2, 3)]))
            inflight.append(
                InFlight(packet_id, draw(any_message), qos, draw(st.booleans()), state, draw(ids))
            )
        queued = [
            Queued(
                draw(any_message),
                draw(st.integers(0, 2)),
                draw(st.booleans()),
                draw(st.integers(0, 3)),
                draw(ids),
            )
            for _ in range(draw(st.integers(0, 3)))
        ]
        record = SessionRecord(
            client_id=draw(some_bytes) + b"%d" % number,
            user_name=draw(st.one_of(st.none(), some_bytes)),
            listener_port=draw(st.integers(0, 65_535)),
            mount_point=draw(st.sampled_from([b"", b"site/"])),
            bridge=draw(st.booleans()),
            last_packet_id=draw(st.integers(0, 65_535)),
            ids_after=draw(st.integers(0, 3)),
            disconnected_at=draw(st.sampled_from([math.inf, 1_800_000_000.5])),
            subscriptions=draw(st.dictionaries(names, st.sampled_from([0, 1, 2, 1 << 32 | 7 << 4 | 9]))),
            inflight=inflight,
            states=bytes(entry.state for entry in inflight),
            queued=queued,
            inbound=[(1, draw(any_message))] if draw(st.booleans()) else [],
            expiry_s=draw(st.sampled_from([math.inf, 3600.0])),
            will=draw(any_message) if draw(st.booleans()) else None,
        )
        record.will_due = 1_800_000_001.0 if record.will is not None else 0.0
        record.replays = set(list(record.subscriptions)[:1])
        saved.sessions.append(record)
    saved.retained = [one for one in {one.topic: one for one in messages}.values() if draw(st.booleans())]
    return saved


@given(snapshots())
def test_what_is_exported_is_imported_as_it_was(saved: Snapshot) -> None:
    exported = list(lines(saved))
    again = snapshot_of(exported)
    assert list(lines(again)) == exported
    for line in exported:
        json.loads(line)


def test_what_a_file_holds_goes_through_lines_into_another_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, out = tmp_path / "one.db", tmp_path / "two.db", tmp_path / "lines"
    write_database(one, snapshot(engine_with(3), 1_800_000_000.0))
    before = one.read_bytes()
    assert run_command(["persistence", "check", str(one)]) == 0
    assert "1 session, 1 subscription, 0 retained messages, 3 queued messages" in capsys.readouterr().out
    assert run_command(["persistence", "export", str(one), "-o", str(out)]) == 0
    assert one.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines", "one.db"]
    assert run_command(["persistence", "import", str(out), str(two)]) == 0
    capsys.readouterr()
    assert run_command(["persistence", "export", str(two)]) == 0
    assert capsys.readouterr().out == out.read_text()
    assert run_command(["persistence", "import", str(out), str(two)]) == 1
    assert "there is one already" in capsys.readouterr().err


HEAD = '{"format": "rowcast persistence", "version": 1, "saved_at": "2026-01-01T00:00:00Z"}'
MESSAGE = '{"message": 1, "topic": "a", "payload": "x", "qos": 1}'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: the first line must begin"),
        (MESSAGE, "line 1: the first line must begin"),
        (f"{HEAD}\n{{", "line 2: it is no JSON"),
        (f"{HEAD}\n[]", "line 2: an object is wanted"),
        (f"{HEAD}\n{{}}", "line 2: it has neither"),
        (f"{HEAD}\n" + MESSAGE.replace('"a"', '"a/#"'), "line 2: 'a/#' is no topic name"),
        (
            f"{HEAD}\n" + MESSAGE.replace('"qos": 1', '"qos": 3'),
            "line 2: 'qos' is a whole number from 0 to 2",
        ),
        (f"{HEAD}\n" + MESSAGE.replace('"x"', '{"base64": "?"}'), "line 2: "),
        (f"{HEAD}\n" + MESSAGE.replace(', "payload": "x"', ""), "line 2: there is no 'payload'"),
        (f'{HEAD}\n{MESSAGE}\n{{"retained": 2}}', "line 3: no line before has the message 2"),
        (f'{HEAD}\n{{"session": "s"}}\n{{"session": "s"}}', "line 3: this session has a line already"),
        (
            f'{HEAD}\n{MESSAGE}\n{{"session": "s", "in_flight": [{{"packet_id": 1, "message": 1, "qos": 1,'
            ' "awaits": "PUBREC"}]}',
            "line 3: 'awaits' is PUBACK at QoS 1",
        ),
        (
            f'{HEAD}\n{{"session": "s", "subscriptions": [{{"filter": "a/#/b", "qos": 1}}]}}',
            "line 2: 'a/#/b' is no topic filter",
        ),
    ],
)
def test_a_wrong_line_is_named(text: str, problem: str) -> None:
    with pytest.raises(WrongLine) as error:
        snapshot_of(text.splitlines())
    assert str(error.value).startswith(problem)


@given(
    st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text()), lambda inner: st.lists(inner))
)
def test_a_line_of_anything_is_taken_or_refused(value: object) -> None:
    for name in (
        "session",
        "subscriptions",
        "in_flight",
        "queued",
        "inbound",
        "will",
        "mount_point",
        "expiry_s",
    ):
        line = {"session": "s", name: value}
        with suppress(WrongLine):
            snapshot_of([HEAD, json.dumps(line)])


def test_without_a_file_it_is_said_what_to_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["persistence", "check"]) == 3
    assert "name a FILE" in capsys.readouterr().err
    assert run_command(["persistence", "check", "nowhere.db"]) == 1
    assert "there is none" in capsys.readouterr().err
