"""Rowcast where Linux' own things are missing: it runs, on Trio's waiting, and says what it can't do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio
import trio_websocket
from support import other_system
from support.mqtt_stream import StreamClient
from support.rowcast_process import RowcastProcess

from broker import Config
from broker.process.system import refusals
from protocol.mqtt.packets import Publish

SCRIPT = other_system.__file__
TESTS = Path(SCRIPT).parent.parent
SETTINGS = """
[[listener]]
port = {port}
host = "127.0.0.1"
[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["mqtt", "rowcast"]
[websocket.rowcast]
anonymous_publish = ["#"]
[security]
allow_anonymous = true
[admin]
port = {admin_port}
[persistence]
persistence = true
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(TESTS.parent), str(TESTS))), prepend=os.pathsep)


async def test_clients_are_served_without_anything_of_linux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = RowcastProcess.from_toml(tmp_path, SETTINGS)
    process.program = [SCRIPT]
    with process:
        assert any("without epoll" in line for line in process.lines), process.lines
        reader = StreamClient(await trio.open_tcp_stream("127.0.0.1", process.port))
        await reader.connect(b"reader")
        await reader.subscribe(b"a/#", 1)
        url = f"ws://127.0.0.1:{process.websocket_port}/rowcast"
        async with trio_websocket.open_websocket_url(url) as ws:
            await ws.send_message('{"id":1,"connect":{}}')
            await ws.get_message()
            await ws.send_message('{"id":2,"publish":"a/b","data":{"price":1}}')
            published = await reader.receive()
        assert isinstance(published, Publish)
        assert (published.topic, published.payload) == (b"a/b", b'{"price":1}')
        async with httpx.AsyncClient(trust_env=False) as http:
            metrics = (await http.get(f"http://127.0.0.1:{process.admin_port}/metrics")).text
        assert "\nprocess_cpu_seconds_total " in metrics


ASKED_FOR = """
user somebody
log_dest syslog
listener 0 {folder}/socket
listener 1883
bind_interface lo
"""


@pytest.mark.parametrize("command", [["check"], ["--test-config"], ["-d"]])
def test_what_a_system_cannot_do_is_refused_at_once_and_in_words(command: list[str], tmp_path: Path) -> None:
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(ASKED_FOR.format(folder=tmp_path))
    done = subprocess.run(
        [sys.executable, SCRIPT, *command, "-c", str(conf)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    for what in ("user somebody", "log_dest syslog", f"listener {tmp_path}/socket"):
        assert f"Error: {what}: on this system" in done.stderr
    assert ("Error: -d, --daemon: on this system" in done.stderr) == (command == ["-d"])
    assert "Traceback" not in done.stderr


def test_linux_refuses_nothing() -> None:
    assert list(refusals(Config(user="somebody"), daemon=True)) == []
