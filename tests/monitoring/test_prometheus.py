"""A real Prometheus scrapes a real process: every panel shows something, and what breaks fires its alert.

The rules are those of `monitoring/alerts.yml`; only how long something must last is cut to a second.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import psycopg
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from support.installed import connect
from support.polling import until_blocking
from support.ports import free_port
from support.postgres import Cluster
from support.rowcast_process import RowcastProcess

MONITORING = Path(__file__).parents[2] / "monitoring"
MAY_BE_EMPTY = {"rowcast_feed_dropped_total", "rowcast_connections_refused_total"}
"""Of these there is a sample of a reason when it has happened once."""

PROMETHEUS = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: rowcast
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
SETTINGS = """
[broker]
sys_interval = "1s"
[[listener]]
port = {port}
host = "127.0.0.1"
[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["mqtt", "rowcast"]
[websocket.rowcast]
anonymous_subscribe = ["#"]
[security]
allow_anonymous = true
[metrics]
port = {admin_port}
[persistence]
persistence = true
persistence_location = "FOLDER"
autosave_interval = "1s"
[database]
dsn = "DSN"
kind = "wal"
[database.replication]
allow_unbounded_wal = true
[source.events]
tables = "public.event"
[[mqtt.route]]
from = "events"
topics = "event/{id}"
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs the Debian package prometheus"),
]


class Prometheus:
    """One that scrapes `port` every second."""

    def __init__(self, folder: Path, port: int) -> None:
        rules = (MONITORING / "alerts.yml").read_text()
        (folder / "alerts.yml").write_text(re.sub(r"for: \d+m", "for: 1s", rules))
        (folder / "prometheus.yml").write_text(PROMETHEUS.format(port=port))
        own = free_port()
        self._url = f"http://127.0.0.1:{own}/api/v1/"
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{own}",
            ],
            stderr=(folder / "prometheus.log").open("w"),
        )

    def ask(self, path: str, **parameters: str) -> Any:
        with httpx.Client(trust_env=False) as http:
            answer = http.get(self._url + path, params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def is_up(self) -> bool:
        with suppress(httpx.HTTPError):
            return any(sample["value"][1] == "1" for sample in self.ask("query", query="up")["result"])
        return False

    def firing(self) -> set[str]:
        alerts = self.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def fires(self, name: str) -> None:
        until_blocking(lambda: name in self.firing(), pause_s=0.3)

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(90)


@pytest.fixture
def postgres() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


def start(folder: Path, cluster: Cluster, saved: Path) -> RowcastProcess:
    with connect(cluster.dsn()) as connection:
        connection.execute("CREATE TABLE event (id int PRIMARY KEY, note text)")
    text = SETTINGS.replace("DSN", cluster.dsn()).replace("FOLDER", str(saved))
    process = RowcastProcess.from_toml(folder, text)
    command = [sys.executable, "-m", "broker", "feed", "install", "--apply", "-c"]
    subprocess.run([*command, str(process.config)], check=True, capture_output=True)
    return process


def drop_slot(dsn: str) -> None:
    """From under the feed, which takes it again as soon as it can."""
    with connect(dsn) as connection:
        while slots := connection.execute(
            "SELECT slot_name, active_pid FROM pg_replication_slots"
        ).fetchall():
            for name, process_id in slots:
                if process_id is not None:
                    connection.execute("SELECT pg_terminate_backend(%s, 5000)", [process_id])
                with suppress(psycopg.Error):
                    connection.execute("SELECT pg_drop_replication_slot(%s)", [name])
                    return


def test_every_panel_shows_something_and_what_breaks_is_told(tmp_path: Path, postgres: Cluster) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    process = start(tmp_path, postgres, saved)
    prometheus = Prometheus(tmp_path, process.admin_port)
    client = paho.Client(CallbackAPIVersion.VERSION2)
    try:
        with process:
            until_blocking(prometheus.is_up)
            client.connect("127.0.0.1", process.port)
            client.subscribe("event/#")
            client.loop_start()
            with connect(postgres.dsn()) as connection:
                connection.execute("INSERT INTO event SELECT n, 'x' FROM generate_series(1, 100) n")
                with suppress(AssertionError):
                    until_blocking(lambda: not empty_panels(prometheus), 45, pause_s=1)
                assert empty_panels(prometheus) == []
                assert prometheus.firing() <= {"RowcastLoopLate"}, "a busy machine is no fault"

            postgres.stop()
            prometheus.fires("RowcastFeedNotLive")
            prometheus.fires("RowcastNotReady")
            postgres.start()
            until_blocking(
                lambda: not prometheus.firing() & {"RowcastFeedNotLive", "RowcastNotReady"}, pause_s=0.3
            )

            drop_slot(postgres.dsn())
            prometheus.fires("RowcastFeedGap")
            prometheus.fires("RowcastNotReady")
            client.disconnect()
            client.loop_stop()
        prometheus.fires("RowcastDown")
    finally:
        prometheus.end()


def empty_panels(prometheus: Prometheus) -> list[str]:
    """The expressions of the dashboard that show nothing."""
    found = []
    for panel in json.loads((MONITORING / "grafana.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$instance", ".*")
            may_be_empty = any(name in expression for name in MAY_BE_EMPTY)
            if not may_be_empty and not prometheus.ask("query", query=expression)["result"]:
                found.append(expression)
    return found


def test_a_full_disk_is_told(tmp_path: Path, postgres: Cluster) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(saved)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"may not mount: {mounted.stderr.decode().strip()}")
    process = start(tmp_path, postgres, saved)
    prometheus = Prometheus(tmp_path, process.admin_port)
    try:
        with process:
            process.status_wanted = 1  # the last save fails, too
            until_blocking(prometheus.is_up)
            client = paho.Client(CallbackAPIVersion.VERSION2)
            client.connect("127.0.0.1", process.port)
            client.loop_start()
            for number in range(400):
                client.publish(f"kept/{number}", b"x" * 10_000, 1, retain=True)
            prometheus.fires("RowcastCannotSave")
            prometheus.fires("RowcastNotReady")
            client.disconnect()
            client.loop_stop()
    finally:
        prometheus.end()
        subprocess.run(["umount", str(saved)], check=True)
