"""Bytes that no client should send: no crash, no hang, nothing left behind, and nobody else notices.

The quick tests feed a link in memory.  The slow one does the same to a process over TCP for ten minutes, or
ROWCAST_FUZZ_S seconds, with new seeds each time.  A seed that broke something goes into seeds.txt.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hostile import CLIENT_IDS, TOPICS, hostile_pieces
from support.peer import Peer, connected
from support.rowcast_process import RowcastProcess

from broker.core.engine import Engine
from protocol.mqtt.packets import Pingreq, Pingresp, Publish, Subscribe

KEPT_SEEDS = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
QUICK_SEEDS = [*KEPT_SEEDS, *range(1500)]
PACKET_BYTES_MAX = 100_000
ANSWER_S = 10.0
GROWTH_BYTES_MAX = 32 * 1024 * 1024


def attack(engine: Engine, seed: int) -> Peer:
    """One hostile connection, up to its last byte."""
    peer = Peer(engine)
    for piece in hostile_pieces(seed):
        peer.write(piece)
        kept = 0 if peer.link._parts is None else sum(map(len, peer.link._parts))
        assert kept <= peer.link._size_max + len(piece), f"seed {seed}: {kept} bytes are kept"
    return peer


def test_a_witness_is_answered_through_it_all_and_nothing_is_left_behind() -> None:
    engine = Engine()
    witness = connected(engine, b"witness")
    witness.send(Subscribe(1, ((b"#", 0),)))
    for seed in QUICK_SEEDS:
        try:
            peer = attack(engine, seed)
            peer.drop()
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        witness.read()
        witness.send(Pingreq())
        assert witness.read() == [Pingresp()], f"seed {seed}"
    witness.drop()

    assert engine.connected == 0
    for client_id in list(engine.sessions):
        connected(engine, client_id).drop()  # a clean session wipes what was kept
    assert engine.sessions == {}
    assert (engine.trie.count, len(engine.shared)) == (0, 0)
    cleaner = connected(engine, b"cleaner")
    for publication in engine.retained.all():
        cleaner.send(Publish(publication.topic, b"", retain=True))
    assert engine.store.count == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_process_lives_through_ten_minutes_of_it_without_growing(tmp_path: Path) -> None:
    seconds = float(os.environ.get("ROWCAST_FUZZ_S", "600"))
    settings = (
        f"max_packet_size {PACKET_BYTES_MAX}\nmax_queued_messages 20\nlog_type error\nlog_type warning\n"
    )
    settings += "log_type information\nconnection_messages false\n"
    first = random.SystemRandom().randrange(1 << 40)
    with RowcastProcess(tmp_path, settings) as rowcast:
        seeds = itertools.chain(KEPT_SEEDS, itertools.count(first))
        assault(rowcast, seeds, 200)
        tidy(rowcast)
        before, end, attacks = resident_bytes(rowcast), time.monotonic() + seconds, 0
        while time.monotonic() < end:
            attacks += assault(rowcast, seeds, 200)
            tidy(rowcast)
        grown = resident_bytes(rowcast) - before
    print(f"{attacks} attacks from seed {first}; grown by {grown} bytes")
    assert grown < GROWTH_BYTES_MAX, f"grown by {grown} bytes in {attacks} attacks from seed {first}"


def assault(rowcast: RowcastProcess, seeds: Iterator[int], count: int) -> int:
    """Some hostile connections, one after the other, and a ping that must be answered after each ten."""
    with socket.create_connection(("127.0.0.1", rowcast.port)) as witness:
        witness.settimeout(ANSWER_S)
        witness.sendall(b"\x10\x13\x00\x04MQTT\x04\x02\x00\x00\x00\x07witness")
        assert witness.recv(4) == b"\x20\x02\x00\x00"
        for number in range(count):
            seed = next(seeds)
            strike(rowcast, seed)
            if number % 10 == 0:
                witness.sendall(b"\xc0\x00")
                assert witness.recv(2) == b"\xd0\x00", f"no answer after seed {seed}"
    return count


def strike(rowcast: RowcastProcess, seed: int) -> None:
    """One hostile connection; sometimes it reads what comes, sometimes it leaves at once."""
    with socket.create_connection(("127.0.0.1", rowcast.port)) as peer:
        peer.settimeout(0.01)
        try:
            for piece in hostile_pieces(seed):
                peer.sendall(piece)
            if seed % 2:
                peer.recv(1 << 16)
        except OSError:
            return


def tidy(rowcast: RowcastProcess) -> None:
    """Clear what the attacks may rightly leave: sessions and retained messages of the usual names."""
    for client_id in CLIENT_IDS[1:]:
        with socket.create_connection(("127.0.0.1", rowcast.port)) as peer:
            peer.settimeout(ANSWER_S)
            body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(client_id).to_bytes(2, "big") + client_id
            peer.sendall(bytes((0x10, len(body))) + body)
            peer.recv(4)
            for topic in TOPICS:
                head = len(topic).to_bytes(2, "big") + topic
                length = (
                    bytes((len(head),)) if len(head) < 128 else bytes((len(head) & 127 | 128, len(head) >> 7))
                )
                peer.sendall(b"\x31" + length + head)
            peer.sendall(b"\xc0\x00")
            peer.recv(2)


def resident_bytes(rowcast: RowcastProcess) -> int:
    pages = int(Path(f"/proc/{rowcast.process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
