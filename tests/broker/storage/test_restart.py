"""The real process with real clients: ended in order, killed, killed while saving, started on a bad file."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.killable import KillableBroker, mosquitto_client, rowcast
from support.polling import until_blocking
from support.ports import free_port
from support.storage import engine_with, saved_messages

from broker.storage.database import open_database
from broker.storage.records import snapshot
from broker.storage.writing import Writer
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, Packet, Publish, Pubrel, Will

CONF = "persistence true\npersistence_location .\nautosave_interval 0\n"


def publish(port: int, topic: str, text: str, *options: str) -> None:
    mosquitto_client("mosquitto_pub", port, "-t", topic, "-m", text, *options)


def subscribe_and_leave(port: int, client_id: str, topic_filter: str, qos: int) -> None:
    mosquitto_client("mosquitto_sub", port, "-i", client_id, "-c", "-q", str(qos), "-t", topic_filter, "-E")


def receive(port: int, client_id: str, topic_filter: str, count: int) -> list[str]:
    """`retain qos topic payload` of so many messages, for a durable client that comes back."""
    options = ("-i", client_id, "-c", "-q", "2", "-t", topic_filter, "-C", str(count), "-F", "%r %q %t %p")
    return mosquitto_client("mosquitto_sub", port, *options).splitlines()


class RawClient:
    """Packets over a socket."""

    def __init__(self, port: int, packet: Connect, answer: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.exchange(packet, answer)

    def exchange(self, packet: Packet, answer: bytes) -> None:
        """Send a packet and read just these bytes."""
        self._socket.sendall(encode(packet))
        received = b""
        while len(received) < len(answer):
            data = self._socket.recv(len(answer) - len(received))
            assert data, received
            received += data
        assert received == answer

    def close(self) -> None:
        self._socket.close()


def test_sigterm_keeps_sessions_queues_and_retained_messages(tmp_path: Path) -> None:
    port = free_port()
    with rowcast(tmp_path, CONF, port) as broker:
        subscribe_and_leave(port, "away", "news/#", 2)
        for number in range(3):
            publish(port, f"news/{number}", "x", "-q", str(number))
        publish(port, "state", "on", "-q", "1", "-r")
        assert broker.stop() == 0
    with rowcast(tmp_path, CONF, port) as broker:
        assert "Restored 1 sessions and 1 retained messages from rowcast.db." in " ".join(broker.lines)
        publish(port, "news/later", "y", "-q", "1")
        # mosquitto_sub prints a QoS 2 message when its PUBREL comes, and so after a later one of QoS 1.
        lines = receive(port, "away", "news/#", 3)
        assert sorted(lines) == ["0 1 news/1 x", "0 1 news/later y", "0 2 news/2 x"]
        assert receive(port, "other", "state", 1) == ["1 1 state on"]


def test_a_qos_2_message_is_released_after_the_restart(tmp_path: Path) -> None:
    port = free_port()
    connect = Connect(b"publisher", False, 60)
    with rowcast(tmp_path, CONF, port) as broker:
        subscribe_and_leave(port, "away", "t", 2)
        client = RawClient(port, connect, b"\x20\x02\x00\x00")
        client.exchange(Publish(b"t", b"x", 2, packet_id=7), b"\x50\x02\x00\x07")
        assert broker.stop() == 0
        client.close()
    with rowcast(tmp_path, CONF, port):
        client = RawClient(port, connect, b"\x20\x02\x01\x00")
        client.exchange(Pubrel(7), b"\x70\x02\x00\x07")
        client.exchange(Pubrel(7), b"\x70\x02\x00\x07")
        client.close()
        assert receive(port, "away", "t", 1) == ["0 2 t x"]


def test_a_will_that_goes_out_at_the_end_is_kept(tmp_path: Path) -> None:
    port = free_port()
    with rowcast(tmp_path, CONF, port) as broker:
        will = Will(b"status", b"gone", 1, True)
        client = RawClient(port, Connect(b"a", True, 60, will=will), b"\x20\x02\x00\x00")
        assert broker.stop() == 0
        client.close()
    with rowcast(tmp_path, CONF, port):
        assert receive(port, "other", "status", 1) == ["1 1 status gone"]


def test_sigusr1_saves_now(tmp_path: Path) -> None:
    port = free_port()
    with rowcast(tmp_path, CONF, port) as broker:
        publish(port, "t", "kept", "-r", "-q", "1")
        broker.send(signal.SIGUSR1)
        broker.wait_for("Saved 3 rows")
        publish(port, "t", "lost", "-r", "-q", "1")
        broker.stop(signal.SIGKILL)
    with rowcast(tmp_path, CONF, port):
        assert receive(port, "other", "t", 1) == ["1 1 t kept"]


def test_with_autosave_on_changes_one_change_is_on_disk_soon(tmp_path: Path) -> None:
    port = free_port()
    conf = CONF.replace("autosave_interval 0", "autosave_interval 1\nautosave_on_changes true")
    with rowcast(tmp_path, conf, port) as broker:
        publish(port, "t", "kept", "-r", "-q", "1")
        broker.wait_for("Saved 3 rows")
        broker.stop(signal.SIGKILL)
    with rowcast(tmp_path, conf, port):
        assert receive(port, "other", "t", 1) == ["1 1 t kept"]


class Flood(threading.Thread):
    """A client that publishes with QoS 1 as fast as it is acknowledged, until its broker is gone.

    Args:
        retained_topics: so many, one after the other, with retain; 0 is the topic `t` without.

    Attributes:
        acknowledged_at: when, by the monotonic clock, each message was, in order; its payload is its number.
    """

    def __init__(self, port: int, retained_topics: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged_at: list[float] = []
        self._retained_topics = retained_topics
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.sendall(encode(Connect(b"flood", True, 60)))
        assert self._socket.recv(4, socket.MSG_WAITALL) == b"\x20\x02\x00\x00"
        for start in range(0, retained_topics, 50):
            self._exchange(start)

    def _exchange(self, start: int) -> int:
        count = self._retained_topics
        packets = [
            Publish(
                b"t/%d" % (n % count) if count else b"t", b"%d" % n, 1, count > 0, packet_id=n - start + 1
            )
            for n in range(start, start + 50)
        ]
        self._socket.sendall(b"".join(encode(packet) for packet in packets))
        answers = len(self._socket.recv(200, socket.MSG_WAITALL)) // 4
        self.acknowledged_at += [time.monotonic()] * answers
        return answers

    def run(self) -> None:
        with self._socket, contextlib.suppress(OSError):
            while self._exchange(len(self.acknowledged_at)) == 50:
                pass


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("retained_topics", [0, 10_000], ids=["queued", "retained"])
def test_with_autosave_on_changes_a_flood_is_on_disk_close_behind(
    tmp_path: Path, retained_topics: int
) -> None:
    """Kill -9 in the midst of it: what was acknowledged well before is there, as to Mosquitto."""
    port = free_port()
    conf = CONF.replace("autosave_interval 0", "autosave_interval 1\nautosave_on_changes true")
    with rowcast(tmp_path, conf + "max_queued_messages 0\n", port) as broker:
        if not retained_topics:
            subscribe_and_leave(port, "away", "t", 1)
        flood = Flood(port, retained_topics)
        flood.start()
        time.sleep(5)
        killed_at = time.monotonic()
        broker.stop(signal.SIGKILL)
        flood.join()
    connection, saved = open_database(tmp_path / "rowcast.db")
    connection.close()
    queued = [waiting.message for record in saved.sessions for waiting in record.queued]
    kept = max(int(message.payload) for message in queued + saved.retained) + 1
    assert len(queued) == (0 if retained_topics else kept)
    newest = range(kept - retained_topics, kept)
    assert sorted(int(message.payload) for message in saved.retained) == list(newest)
    lost = flood.acknowledged_at[kept:]
    lost_s = killed_at - min(lost, default=killed_at)
    print(f"{len(flood.acknowledged_at)} acknowledged, {kept} kept, {lost_s:.3f} s lost")
    assert lost_s < 1.5


@pytest.mark.timeout(120)
@pytest.mark.parametrize("retained_topics", [0, 1000], ids=["queued", "retained"])
def test_with_acknowledge_saved_nothing_acknowledged_is_lost(tmp_path: Path, retained_topics: int) -> None:
    """Kill -9 in the midst of a flood, three times, each time somewhere else."""
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    conf = CONF + "rowcast_acknowledge saved\nmax_queued_messages 0\n"
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        port = free_port()
        with rowcast(folder, conf, port) as broker:
            if not retained_topics:
                subscribe_and_leave(port, "away", "t", 1)
            flood = Flood(port, retained_topics)
            flood.start()
            wanted = len(flood.acknowledged_at) + chance.randrange(50, 2000)
            until_blocking(lambda flood=flood, wanted=wanted: len(flood.acknowledged_at) >= wanted)  # type: ignore[misc]
            broker.stop(signal.SIGKILL)
            flood.join()
        connection, saved = open_database(folder / "rowcast.db")
        connection.close()
        queued = [waiting.message for record in saved.sessions for waiting in record.queued]
        kept = {int(message.payload) for message in queued + saved.retained}
        acknowledged = len(flood.acknowledged_at)
        assert max(kept) + 1 >= acknowledged
        assert kept >= set(range(acknowledged - retained_topics if retained_topics else 0, acknowledged)) - (
            set(range(max(kept) + 1 - retained_topics)) if retained_topics else set()
        )


def test_sigusr2_logs_who_subscribed_to_what(tmp_path: Path) -> None:
    port = free_port()
    with rowcast(tmp_path, CONF, port) as broker:
        for client_id, topic_filter, qos in (("one", "a/+", 1), ("two", "a/+", 0), ("one", "a/b/#", 2)):
            subscribe_and_leave(port, client_id, topic_filter, qos)
        subscribe_and_leave(port, "two", "$share/group/c", 1)
        broker.send(signal.SIGUSR2)
        broker.wait_for("($share/group, ")
        tree = [line for line in broker.lines if line.startswith("  ")]
    assert tree == ["  a", "    + (one, 1) (two, 0)", "    b", "      # (one, 2)", "  c ($share/group, 2)"]


def test_a_bad_file_is_refused_with_exit_status_1_as_by_mosquitto(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.db"
    file.write_bytes(b"\x00\xb5\x00mosquitto db" + bytes(100))
    before = file.read_bytes()
    broker = KillableBroker(tmp_path, CONF, free_port())
    assert broker.ended() == 1
    assert any("persistence file rowcast.db: Mosquitto wrote it" in line for line in broker.lines)
    assert file.read_bytes() == before


def test_a_second_process_on_the_same_file_does_not_start(tmp_path: Path) -> None:
    port = free_port()
    with rowcast(tmp_path, CONF, port) as broker:
        second = KillableBroker(tmp_path, CONF, free_port())
        assert second.ended() == 1
        assert any("another process is using it" in line for line in second.lines)
        publish(port, "t", "kept", "-r", "-q", "1")
        assert broker.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_while_saving_it_leaves_what_was_saved_before_or_now(tmp_path: Path) -> None:
    """3 000 more queued messages make a save long; kill -9 at a random moment of it, ten times over."""
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    file = tmp_path / "rowcast.db"
    connection, _ = open_database(file)
    with closing(connection):
        Writer(connection).write(snapshot(engine_with(10_000), time.time()), pause_s=0)
    marker, queued = 0, 10_000
    for number in range(1, 11):
        port = free_port()
        with rowcast(tmp_path, CONF + "max_queued_messages 0\n", port) as broker:
            publish(port, "t", "more", "-q", "1", "--repeat", "3000")
            publish(port, "marker", str(number), "-r", "-q", "1")
            broker.send(signal.SIGUSR1)
            broker.wait_for("Saving in-memory database")
            time.sleep(chance.uniform(0.0, 0.3))
            broker.stop(signal.SIGKILL)
        connection, saved = open_database(file)
        connection.close()
        found = int(saved.retained[0].payload) if saved.retained else 0
        assert (found, saved_messages(file)) in ((marker, queued), (number, queued + 3000))
        marker, queued = found, saved_messages(file)
