"""`rowcast persistence`: what a file holds, in and out, and clients that move from Mosquitto with all that waits."""

from __future__ import annotations

import math
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.killable import mosquitto_client, rowcast
from support.polling import until_listening
from support.ports import free_port
from support.storage import engine_with

from broker.cli.commands import run_command
from broker.storage.database import read_database, write_database
from broker.storage.mosquitto_import import read_mosquitto
from broker.storage.records import snapshot
from protocol.mosquitto_db import NotReadable, chunks
from protocol.mqtt.codec import encode
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


def test_without_a_file_it_is_said_what_to_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["persistence", "check"]) == 3
    assert "name a FILE" in capsys.readouterr().err
    assert run_command(["persistence", "check", "nowhere.db"]) == 1
    assert "there is none" in capsys.readouterr().err
