"""A packet of MQTT 5.0 played to a real mosquitto, and to Rowcast in memory, with a PINGREQ behind it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.packet_case import framed, string
from support.peer5 import Peer5

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.links.listening.door import Door

MOSQUITTO: Final = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
HEAD: Final = b"\x00\x04MQTT\x05"
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"
DOOR: Final = Door(
    Listener(port=1883, security=Security(allow_anonymous=True)), Limits(max_packet_size_bytes=0)
)


def connect(flags: int, rest: bytes, properties: bytes = b"\x00") -> bytes:
    """A CONNECT with its properties' length among them."""
    return framed(0x10, HEAD + bytes([flags]) + b"\x00\x3c" + properties + rest)


CONNECT: Final = connect(2, string(b"c"))


@contextmanager
def mosquitto_on_a_socket(directory: Path) -> Iterator[str]:
    """A mosquitto of our own that listens on a unix socket; the path of that."""
    config, path = directory / "mosquitto.conf", str(directory / "socket")
    config.write_text(f"listener 0 {path}\nallow_anonymous true\nuser root\nlog_type information\n")
    with subprocess.Popen([str(MOSQUITTO), "-c", str(config)], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if " running" in line:
                    break
            yield path
        finally:
            process.terminate()


def mosquitto_answers(path: str, packets: list[bytes]) -> str:
    """All that comes until the last answer, in hex, and ` closed` if it closed.

    Args:
        packets: a CONNECT alone, or one and what follows it with a PINGREQ at its end.
    """
    received = b""
    alone = len(packets) == 1
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(5)
        peer.connect(path)
        try:
            for packet in packets:
                peer.sendall(packet)
            pings = 2 if packets[-1][0] >> 4 == 12 else 1
            # The answers to two may come in two pieces.
            while not (received.endswith(PINGRESP) and received.count(PINGRESP) >= pings) and not (
                alone and received[:1] == b"\x20"
            ):
                piece = peer.recv(65_536)
                if not piece:
                    return received.hex(" ") + " closed"
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            return received.hex(" ") + " closed"
    return received.hex(" ") + (" closed" if alone and received[3:4] > b"\x7f" else "")


def we_answer(packets: list[bytes]) -> str:
    """The same of a broker of ours, in memory."""
    peer = Peer5(Engine(), DOOR)
    for packet in packets:
        if not peer.closed:
            peer.write(packet)
    return peer.read_bytes().hex(" ") + (" closed" if peer.closed else "")
