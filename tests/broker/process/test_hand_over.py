"""From one process to the next: the port is never closed, and who connects meanwhile is served."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from support.ports import free_port
from support.rowcast_process import RowcastProcess

SETTINGS = """
[[listener]]
port = {port}
host = "127.0.0.1"
[security]
allow_anonymous = true
[admin]
port = {admin_port}
[broker]
control_socket = "control"
drain = "1s"
"""
SAVING = """
[persistence]
persistence = true
persistence_location = "."
autosave_interval = "1h"
"""


class Knocking(threading.Thread):
    """Connects with MQTT again and again, and notes each time that it was not let in."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.served, self.refused = port, 0, 0
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), 20) as sock:
                    sock.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04ada1")
                    answer = sock.recv(4)
                    self.served += answer == b"\x20\x02\x00\x00"
                    self.refused += answer not in (b"\x20\x02\x00\x00", b"")
            except ConnectionRefusedError:
                self.refused += 1
            except OSError:
                pass  # a connection that was accepted may end with its process
            time.sleep(0.005)


@pytest.mark.parametrize("saving", [False, True])
def test_the_next_process_takes_over_and_no_port_is_closed(saving: bool, tmp_path: Path) -> None:
    settings = SETTINGS + (SAVING if saving else "")
    with RowcastProcess.from_toml(tmp_path, settings) as old:
        resident = paho.Client(CallbackAPIVersion.VERSION2, "resident", clean_session=False)
        resident.connect("127.0.0.1", old.port)
        resident.loop_start()
        while not resident.is_connected():
            time.sleep(0.01)
        resident.subscribe("a/#", 1)
        knocking = Knocking(old.port)
        knocking.start()
        command = [sys.executable, "-m", "broker", "-c", str(old.config), "--take-over"]
        new = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert new.stderr is not None
        lines: list[str] = []
        reading = threading.Thread(target=lambda: lines.extend(new.stderr or ()), daemon=True)
        reading.start()
        assert old.wait(90) == 0
        seen = knocking.served
        while knocking.served < seen + 20:
            time.sleep(0.01)
        knocking.stop.set()
        knocking.join()
        while not resident.is_connected():
            time.sleep(0.01)
        resident.loop_stop()
        new.send_signal(signal.SIGTERM)
        assert new.wait(90) == 0
        reading.join(90)
        assert knocking.refused == 0
        assert any("Taking over 2 listening sockets" in line for line in lines)
        if saving:
            assert any("Restored 1 sessions" in line for line in lines)


def test_nothing_to_take_over_is_no_mistake_and_without_a_socket_it_is(tmp_path: Path) -> None:
    config = tmp_path / "rowcast.toml"
    text = SETTINGS.replace("{port}", str(free_port())).replace("{admin_port}", str(free_port()))
    config.write_text(text)
    command = [sys.executable, "-m", "broker", "-c", str(config), "--take-over"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "running" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.stderr.read()
    assert process.wait(90) == 0
    assert any("Nothing to take over" in line for line in said)
    config.write_text(text.replace('control_socket = "control"', ""))
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert (refused.returncode, refused.stderr) == (
        3,
        "Error: --take-over needs control_socket in [broker] of a .toml file.\n",
    )


def test_sockets_that_systemd_opened_are_taken(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'broker', '-c', sys.argv[1]])\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config = tmp_path / "rowcast.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        script = f"import os; os.dup2({listening.fileno()}, 3); os.set_inheritable(3, True)\n{program}"
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(config)],
            env={**os.environ, "LISTEN_FDS": "1"},
            pass_fds=(listening.fileno(),),
            stderr=subprocess.PIPE,
            text=True,
        )
        with socket.create_connection(("127.0.0.1", port), 90) as sock:  # before it runs
            sock.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04ada1")
            sock.settimeout(90)
            assert sock.recv(4) == b"\x20\x02\x00\x00"
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        process.stderr.read()
        assert process.wait(90) == 0
