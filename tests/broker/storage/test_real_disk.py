"""The real process with `acknowledge = "saved"` on a disk that is slow, full, or can't be written to any more."""

from __future__ import annotations

import errno
import select
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.killable import mosquitto_client
from support.polling import until_blocking
from support.rowcast_process import RowcastProcess
from torture.disk import environment

from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, Publish

CONFIG = """
[security]
allow_anonymous = true
[[listener]]
port = {port}
host = "127.0.0.1"
[admin]
port = {admin_port}
[persistence]
persistence = true
persistence_location = "FOLDER"
acknowledge = "saved"
"""

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


class Disk:
    """How the process's disk is from now on."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self.be()

    def be(self, slow_s: float = 0.0, error: int = 0) -> None:
        new = self._control.with_suffix(".new")
        new.write_text(f"{round(slow_s * 1_000_000)} {error}")
        new.rename(self._control)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RowcastProcess, Disk]]:
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = Disk(tmp_path / "control")
    process = RowcastProcess.from_toml(tmp_path, CONFIG.replace("FOLDER", str(folder)))
    variables = environment(folder, tmp_path)
    with monkeypatch.context() as here:
        here.setenv("LD_PRELOAD", variables["LD_PRELOAD"])
        here.setenv("DISK_FOLDER", variables["DISK_FOLDER"])
        here.setenv("DISK_CONTROL", str(tmp_path / "control"))
        process.__enter__()
    try:
        yield process, disk
    finally:
        disk.be()
        process.__exit__(None, None, None)


def connect(port: int, client_id: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(encode(Connect(client_id, True, 0)))
    assert client.recv(4) == b"\x20\x02\x00\x00"
    return client


def readiness(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as answer:
            assert answer.status == 200
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode() if error.code == 503 else f"status {error.code}"


@pytest.mark.parametrize(
    ("slow_s", "error", "why"),
    [
        (300.0, 0, "a save takes"),
        (0.0, errno.ENOSPC, "nothing can be saved"),
        (0.0, errno.EROFS, "nothing can be saved"),
        (0.0, errno.EIO, "nothing can be saved"),
    ],
)
def test_who_is_promised_the_disk_waits_and_others_live(
    served: tuple[RowcastProcess, Disk], slow_s: float, error: int, why: str
) -> None:
    process, disk = served
    mosquitto_client("mosquitto_sub", process.port, "-i", "away", "-c", "-q", "1", "-t", "kept", "-E")
    kept, live = connect(process.port, b"kept"), connect(process.port, b"live")
    disk.be(slow_s, error)
    kept.sendall(encode(Publish(b"kept", b"x", 1, packet_id=1)))
    until_blocking(lambda: why in readiness(process.admin_port))
    live.sendall(encode(Publish(b"live", b"y", 1, packet_id=2)))
    assert live.recv(4) == b"\x40\x02\x00\x02"
    assert select.select([kept], [], [], 0)[0] == []
    disk.be()
    assert kept.recv(4) == b"\x40\x02\x00\x01"
    until_blocking(lambda: readiness(process.admin_port) == "")
    said = "clients waited" if slow_s else "Error saving to"
    until_blocking(lambda: any(said in line for line in process.lines))
    got = mosquitto_client(
        "mosquitto_sub", process.port, "-i", "away", "-c", "-q", "1", "-t", "kept", "-C", "1"
    )
    assert got.strip() == "x"
    kept.close()
    live.close()
