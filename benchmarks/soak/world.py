"""The broker that is loaded: plain and under TLS, MQTT, WebSocket and a feed of rows; and what it says of itself."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from benchmarks.clients import Address
from benchmarks.measurement import Target
from benchmarks.peers import postgres, rowcast
from benchmarks.peers.others import made_certificate
from benchmarks.peers.process import free_address, running

_TOML: Final = """\
[database]
dsn = "{dsn}"

[security]
allow_anonymous = true

[[listener]]
port = {mqtt}
host = "127.0.0.1"

[[listener]]
port = {mqtts}
host = "127.0.0.1"
tls = {{ certfile = "{certificate}.crt", keyfile = "{certificate}.key" }}

[[listener]]
port = {websocket}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["mqtt", "econia"]

[[listener]]
port = {websockets}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["mqtt", "econia"]
tls = {{ certfile = "{certificate}.crt", keyfile = "{certificate}.key" }}

[websocket.econia]
jwt = {{ secret = "{secret}" }}

[metrics]
port = {metrics}
host = "127.0.0.1"

[[mqtt.route]]
from = "rows"
topics = "rows/{{market_id}}/{{account}}"
"""
_NEVER: Final = ("rowcast_messages_dropped_total", "rowcast_protocol_errors_total", "rowcast_link_bugs_total",
                 "rowcast_unexpected_total", "rowcast_feed_dropped_total", "rowcast_feed_troubles_total")  # fmt: skip
"""Counters that stay 0 in a soak: its clients make no mistakes and read what they are owed."""

_STANDING: Final = (
    "rowcast_listener_connections", "rowcast_dialect_connections", "broker_clients_total", "broker_subscriptions_count",
    "broker_retained_messages_count", "broker_shared_subscriptions_count", "rowcast_owed_bytes",
)  # fmt: skip
LEAVING_S_MAX: Final = 15.0


@frozen
class World:
    """The same broker, reached without TLS and with it."""

    plain: Target
    tls: Target
    metrics: Address

    def state(self) -> dict[str, float]:
        """The sums of all metrics by their names, now."""
        url = f"http://{self.metrics.host}:{self.metrics.port}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return sums_of(answer.read().decode())

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.plain.pid}/fd").iterdir()))

    def standing(self) -> dict[str, float]:
        """What goes back to what it was when everybody has gone, and the files that are open."""
        state = self.state()
        return {name: state.get(name, 0) for name in _STANDING} | {"open files": self.open_files()}

    def left_of(self, before: dict[str, float]) -> list[str]:
        """How `standing` differs from what it was, once it does not or `LEAVING_S_MAX` have passed."""
        deadline = time.monotonic() + LEAVING_S_MAX
        while (now := self.standing()) != before and time.monotonic() < deadline:
            time.sleep(0.2)
        return [
            f"{name} {now[name]:g} (before: {count:g})"
            for name, count in before.items()
            if now[name] != count
        ]

    def mistakes(self) -> list[str]:
        """What was counted that never should be."""
        state = self.state()
        return [f"{name} {state[name]:g}" for name in _NEVER if state.get(name)]


def sums_of(exposition: str) -> dict[str, float]:
    """Each metric's values added up over its labels."""
    sums: dict[str, float] = {}
    for name, value in re.findall(r"^([a-z_]+)(?:\{.*\})? (\S+)", exposition, re.MULTILINE):
        sums[name] = sums.get(name, 0) + float(value)
    return sums


@contextmanager
def running_world(kind: str, directory: Path) -> Iterator[World]:
    """The `compiled` or `interpreted` install with its Postgres, as long as the context lasts."""
    mqtt, mqtts, websocket, websockets, metrics = (free_address() for _ in range(5))
    certificate = made_certificate("ec")
    values = {
        "dsn": postgres.dsn(), "secret": rowcast.SECRET, "certificate": certificate,
        "mqtt": mqtt.port, "mqtts": mqtts.port, "websocket": websocket.port, "websockets": websockets.port,
        "metrics": metrics.port,
    }  # fmt: skip
    conf = directory / "rowcast.toml"
    conf.write_text(_TOML.format(**values) + postgres.FEED)
    with running([rowcast.venv_of(kind) / "bin" / "rowcast", "-c", conf], directory, mqtt) as process:
        facts = {"dsn": postgres.dsn(), "secret": rowcast.SECRET}
        plain = Target("Rowcast", process.pid, process.start_ms, mqtt, websocket, facts)
        cafile = certificate.with_suffix(".crt")
        encrypted = evolve(
            plain, mqtt=evolve(mqtts, cafile=cafile), websocket=evolve(websockets, cafile=cafile)
        )
        yield World(plain, encrypted, metrics)
