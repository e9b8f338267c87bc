"""The clients people have, against a Rowcast process: each plays the same exercise and says what it saw.

The exercise: every QoS in both directions, a retained message, a will after a cut connection, and a session that
goes on where it stopped.  The libraries live outside .venv (`scripts/setup-clients`).
"""

from __future__ import annotations

import http.server
import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.rowcast_process import RowcastProcess

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parent / "clients"
WITHIN_S = 50.0
SEEN: dict[str, Any] = {
    "echo": [["echo/0", "hello", 0, False], ["echo/1", "hello", 1, False], ["echo/2", "hello", 2, False]],
    "kept": [["kept", "value", 1, True]],
    "will": [["will", "gone", 1, False]],
    "session": [["session", "one", 1, False], ["session", "two", 2, False]],
}
PAGE = """<!doctype html><script src="/mqtt.min.js"></script><script src="/exercise.js"></script><script>
  const say = (what) => fetch("/seen", { method: "POST", body: JSON.stringify(what) });
  exercise(mqtt, "ws://127.0.0.1:PORT/mqtt", "browser").then(say, (error) => say({ error: String(error) }));
</script>"""


def seen_by(*command: str | Path) -> dict[str, Any]:
    """What a program that plays the exercise prints."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.parametrize("library", ["aiomqtt", "gmqtt", "amqtt"])
def test_asyncio_clients(library: str, clients: Path, rowcast: RowcastProcess) -> None:
    assert (
        seen_by(clients / library / "bin/python", PROGRAMS / f"with_{library}.py", str(rowcast.port)) == SEEN
    )


@pytest.mark.parametrize(("library", "data"), [("aiomqtt", "00ff"), ("gmqtt", "3432")])
def test_asyncio_clients_of_mqtt_5(library: str, data: str, clients: Path, rowcast: RowcastProcess) -> None:
    program = PROGRAMS / f"with_{library}.py"
    seen = seen_by(clients / library / "bin/python", program, str(rowcast.port), "5")
    assert with_one_identifier(seen) == {**SEEN, "properties": properties(data)}


@pytest.mark.parametrize("scheme", ["mqtt", "ws"])
def test_mqttjs_of_mqtt_5(scheme: str, clients: Path, rowcast: RowcastProcess) -> None:
    port = rowcast.port if scheme == "mqtt" else rowcast.websocket_port
    modules = clients / "node/node_modules"
    seen = seen_by("node", PROGRAMS / "with_mqttjs.js", modules, f"{scheme}://127.0.0.1:{port}/mqtt", "5")
    assert with_one_identifier(seen) == {**SEEN, "present": True, "properties": properties("00ff")}


def properties(correlation: str) -> list[Any]:
    return ["text/plain", "answers", correlation, 60, [["a", "1"], ["a", "2"]], 7]


def with_one_identifier(seen: dict[str, Any]) -> dict[str, Any]:
    """Some libraries have a list of subscription identifiers, and some the one."""
    found = seen["properties"]
    if isinstance(found[-1], list):
        (found[-1],) = found[-1]
    return seen


def test_fastapi_mqtt(clients: Path, rowcast: RowcastProcess) -> None:
    program = PROGRAMS / "with_fastapi_mqtt.py"
    # Its wills have QoS 0: the library offers no other.
    will = {"will": [["will", "gone", 0, False]]}
    assert seen_by(clients / "fastapi-mqtt/bin/python", program, str(rowcast.port)) == {**SEEN, **will}


@pytest.mark.parametrize("scheme", ["mqtt", "ws"])
def test_mqttjs_in_node(scheme: str, clients: Path, rowcast: RowcastProcess) -> None:
    port = rowcast.port if scheme == "mqtt" else rowcast.websocket_port
    modules = clients / "node/node_modules"
    seen = seen_by("node", PROGRAMS / "with_mqttjs.js", modules, f"{scheme}://127.0.0.1:{port}/mqtt")
    assert seen == {**SEEN, "present": True}


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_paho_c(scheme: str, tmp_path: Path, clients: Path, rowcast: RowcastProcess) -> None:
    port = rowcast.port if scheme == "tcp" else rowcast.websocket_port
    program = tmp_path / "with_paho_c"
    source = PROGRAMS / "with_paho.c"
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", program, source, "-lpaho-mqtt3c"], check=True)
    assert seen_by(program, f"{scheme}://127.0.0.1:{port}/mqtt") == SEEN


def test_mqttjs_in_chromium_over_websocket(tmp_path: Path, clients: Path, rowcast: RowcastProcess) -> None:
    files = {
        "/": PAGE.replace("PORT", str(rowcast.websocket_port)).encode(),
        "/mqtt.min.js": (clients / "node/node_modules/mqtt/dist/mqtt.min.js").read_bytes(),
        "/exercise.js": (PROGRAMS / "exercise.js").read_bytes(),
    }
    with serving(files) as (port, said):
        browser = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--no-first-run", f"--user-data-dir={tmp_path}", f"http://127.0.0.1:{port}/"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert said.get(timeout=WITHIN_S) == {**SEEN, "present": True}
        finally:
            browser.terminate()
            browser.wait(WITHIN_S)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[tuple[int, queue.Queue[Any]]]:
    """An HTTP server with these files; its port, and what is posted to it."""
    said: queue.Queue[Any] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "text/html" if self.path == "/" else "text/javascript")
            self.end_headers()
            self.wfile.write(body or b"")

        def do_POST(self) -> None:
            said.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1], said
    finally:
        server.shutdown()
        server.server_close()
