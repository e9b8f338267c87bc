"""`rowcast ctl` against a running process, as an operator types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from support.rowcast_process import RowcastProcess

from broker.cli.main import main

TOKEN = "a token of some length"


SETTINGS = f"""
[[listener]]
port = {{port}}
host = "127.0.0.1"
[security]
allow_anonymous = true
[admin]
port = {{admin_port}}
token = "{TOKEN}"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RowcastProcess]:
    with RowcastProcess.from_toml(tmp_path_factory.mktemp("ctl"), SETTINGS) as process:
        yield process


def ctl(running: RowcastProcess, *words: str) -> int:
    return main(["ctl", "-c", str(running.config), *words])


def client(running: RowcastProcess, name: str) -> paho.Client:
    """Connected, and turning no loop of its own."""
    made = paho.Client(CallbackAPIVersion.VERSION2, name)
    made.connect("127.0.0.1", running.port)
    while not made.is_connected():
        made.loop(0.1)
    return made


def test_status_says_how_it_is(running: RowcastProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl(running, "status") == 0
    said = capsys.readouterr().out
    assert "\nready\n" in said
    assert f"listener 127.0.0.1:{running.port} (mqtt): 0 connections" in said


def test_whom_to_ask_may_be_said_behind_the_action_too(
    running: RowcastProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ctl", "status", "-c", str(running.config)]) == 0
    assert "\nready\n" in capsys.readouterr().out
    assert main(["ctl", "feeds", "--json", "-c", str(running.config)]) == 0
    assert capsys.readouterr().out.startswith("{")
    assert main(["ctl", "--json", "-c", str(running.config), "feeds"]) == 0
    assert capsys.readouterr().out.startswith("{")


def test_health_needs_no_token(running: RowcastProcess) -> None:
    assert main(["ctl", "--url", f"http://127.0.0.1:{running.admin_port}", "health"]) == 0
    assert main(["ctl", "--url", "http://127.0.0.1:1", "health"]) == 1


def test_a_client_is_listed_and_kicked(running: RowcastProcess, capsys: pytest.CaptureFixture[str]) -> None:
    ada = client(running, "ada")
    assert ctl(running, "clients", "--search", "ada") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("ada")
    assert ctl(running, "kick", "ada") == 0
    while ada.is_connected():
        ada.loop(0.1)
    assert ctl(running, "kick", "nobody") == 1
    assert "no client nobody is connected" in capsys.readouterr().err


def test_a_retained_message_is_shown_and_cleared(
    running: RowcastProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = client(running, "maker")
    sent = maker.publish("prices/BTC", "1\x1b[31m", 1, retain=True)
    while not sent.is_published():
        maker.loop(0.1)
    maker.disconnect()
    assert ctl(running, "retained", "--search", "prices") == 0
    shown = capsys.readouterr().out
    assert "prices/BTC" in shown
    assert "\x1b" not in shown
    assert ctl(running, "retained", "--clear", "prices/BTC") == 0
    capsys.readouterr()
    assert main(["ctl", "-c", str(running.config), "--json", "retained", "--search", "prices"]) == 0
    assert json.loads(capsys.readouterr().out)["retained"] == []


def test_what_is_wrong_is_said_in_words(
    running: RowcastProcess,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"http://127.0.0.1:{running.admin_port}"
    assert main(["ctl", "--url", url, "feeds"]) == 1
    assert "Error: the bearer token is missing or wrong" in capsys.readouterr().err
    monkeypatch.setenv("ROWCAST_TOKEN", TOKEN)
    assert main(["ctl", "--url", url, "feeds"]) == 0
    assert main(["ctl", "--url", "http://127.0.0.1:1", "feeds"]) == 1
    assert "no answer from 127.0.0.1, port 1" in capsys.readouterr().err
    none = tmp_path / "none.toml"
    none.write_text("[[listener]]\nport = 1\n[security]\nallow_anonymous = true\n")
    assert main(["ctl", "-c", str(none), "feeds"]) == 3
    assert "has no [admin] with a port" in capsys.readouterr().err


def test_what_only_the_service_knows_is_not_asked_for(
    running: RowcastProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "shop.toml"
    database = '[database]\ndsn = "env:OF_THE_SERVICE_ONLY"\n[source.a]\nlisten = "a"\n'
    config.write_text(SETTINGS.format(port=running.port, admin_port=running.admin_port) + database)
    assert main(["ctl", "-c", str(config), "status"]) == 0
    assert "\nready\n" in capsys.readouterr().out
    config.write_text(database)
    assert main(["ctl", "-c", str(config), "status"]) == 3
    said = capsys.readouterr().err
    assert "OF_THE_SERVICE_ONLY" in said
    assert "has no [admin] with a port" in said
    config.write_text("[admin\n" + database)
    assert main(["ctl", "-c", str(config), "status"]) == 3
    assert f"{config}:1" in capsys.readouterr().err
