"""`rowcast feed install` and `check` for [[mqtt.sink]], and what is told of a running one, on a real Postgres."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
from support.polling import until_blocking
from support.postgres import Cluster, cluster
from support.rowcast_process import RowcastProcess

__all__ = ["cluster"]

SETTINGS = """
[database]
dsn = "{dsn}"
[security]
allow_anonymous = true
[admin]
port = {admin_port}
[[listener]]
port = {port}
host = "127.0.0.1"
[[mqtt.sink]]
topics = "telemetry/{device}"
table = "public.telemetry"
columns = { id = "{$message_id}", device = "{device}", v = "$.v" }
on_conflict = "update"
dead_letters = "public.dead"
[[mqtt.sink]]
topics = "call/{device}"
call = "app.ingest(payload)"
name = "calls"
"""


def feed(verb: str, file: Path, *more: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "broker", "feed", verb, "-c", str(file), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_a_role_that_has_what_install_gives_can_write(cluster: Cluster, tmp_path: Path) -> None:
    name = cluster.create_database()
    owner = cluster.dsn(name)
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        connection.execute("CREATE SCHEMA app; CREATE TABLE app.got (p jsonb)")
        connection.execute(
            "CREATE FUNCTION app.ingest(p jsonb) RETURNS void LANGUAGE sql SECURITY DEFINER AS"
            " 'INSERT INTO app.got VALUES (p)'; REVOKE ALL ON FUNCTION app.ingest FROM PUBLIC"
        )
    dsn = owner.replace("user=postgres", "user=sink_writer")
    process = RowcastProcess.from_toml(tmp_path, SETTINGS.replace("{dsn}", dsn))
    status, text = feed("install", process.config, "--apply", "--as", owner)
    assert status == 0, text
    status, text = feed("check", process.config)
    assert status == 0, text
    assert "sink public.telemetry: writes to public.telemetry" in text
    with process:
        ready = f"http://127.0.0.1:{process.admin_port}/readyz"
        until_blocking(lambda: fetched(ready) == "ready\n")
        for topic, body in (("telemetry/d", '{"v": 1.50}'), ("telemetry/d", "x"), ("call/d", "[1]")):
            publish(process.port, topic, body)
        with psycopg.connect(owner, autocommit=True) as connection:
            assert connection.execute("SELECT device, v::text FROM telemetry").fetchall() == [("d", "1.50")]
            assert connection.execute("SELECT topic FROM dead").fetchall() == [("telemetry/d",)]
            assert connection.execute("SELECT p FROM app.got").fetchall() == [([1],)]
            connection.execute("REVOKE INSERT ON telemetry FROM sink_writer")
        metrics = fetched(f"http://127.0.0.1:{process.admin_port}/metrics")
        assert 'rowcast_sink_written_total{sink="public.telemetry"} 1' in metrics
        assert 'rowcast_sink_refused_total{sink="public.telemetry"} 1' in metrics
    status, text = feed("check", process.config)
    assert status == 1
    assert "may not be written" in text


def fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=90) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return ""


def publish(port: int, topic: str, body: str) -> None:
    """At QoS 1; returns after its PUBACK."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c")
        packet = len(topic).to_bytes(2, "big") + topic.encode() + b"\x00\x01" + body.encode()
        sock.sendall(b"\x32" + bytes([len(packet)]) + packet)
        answer = b""
        while len(answer) < 8:
            data = sock.recv(100)
            assert data
            answer += data
        assert answer[4:] == b"\x40\x02\x00\x01"
