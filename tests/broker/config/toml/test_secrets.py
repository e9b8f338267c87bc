"""Secrets beside the configuration: each may stand in a file, is shown by nothing, and SIGHUP takes another."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.model import Config, ConfigError
from broker.config.reload import reloaded
from broker.config.toml import configuration as toml

TEXT = """
[[listener]]
port = 1883
[listener.tls]
certfile = "server.pem"
keyfile = "server.pem"
keyfile_password = "file:key-password"
[[listener]]
port = 8080
protocol = "websockets"
dialects = ["econia", "exchange", "canton", "rowcast"]
[security]
allow_anonymous = true
[tokens]
secrets = ["file:tokens"]
[websocket.rowcast]
[websocket.econia]
jwt = { secret = "file:econia" }
[websocket.exchange]
hook = { url = "file:hook" }
[websocket.canton]
jwt = { secret = ["file:canton"] }
[admin]
port = 6789
token = ["file:admin"]
[metrics]
port = 6790
token = "file:metrics"
[database]
dsn = "file:dsn"
password = "file:database-password"
[source.rows]
listen = "rows"
[[mqtt.route]]
from = "rows"
topics = "row/{id}"
"""
SECRETS = {
    "key-password": "{}-of-the-key",
    "tokens": "{}-secret-of-tokens-of-32-bytes-and-more",
    "econia": "{}-secret-of-econia-of-32-bytes-and-more",
    "hook": "http://127.0.0.1:8000/{}",
    "canton": "{}-secret-of-canton-of-32-bytes-and-more",
    "admin": "{}-of-the-admin",
    "metrics": "{}-of-the-metrics",
    "dsn": "host=127.0.0.1 dbname=shop user=rowcast",
    "database-password": "{}-of-the-database",
}


def load(folder: Path, version: str, text: str = TEXT) -> Config:
    (folder / "server.pem").touch()
    for name, secret in SECRETS.items():
        (folder / name).write_text(secret.format(version) + "\n")
        (folder / name).chmod(0o600)
    (folder / "rowcast.toml").write_text(text)
    return toml.load(folder / "rowcast.toml", {})


def held(config: Config) -> dict[str, object]:
    """What each secret is in a configuration."""
    gateway = config.gateway
    tls = config.listeners[0].tls
    assert tls is not None
    assert gateway.econia is not None
    assert gateway.econia.jwt is not None
    assert gateway.exchange is not None
    assert gateway.exchange.hook is not None
    assert gateway.canton is not None
    assert gateway.canton.jwt is not None
    assert gateway.rowcast is not None
    assert config.admin is not None
    assert config.metrics is not None
    return {
        "key-password": tls.keyfile_password,
        "tokens": gateway.rowcast.tokens.secrets,
        "econia": gateway.econia.jwt.secret,
        "hook": gateway.exchange.hook.url,
        "canton": gateway.canton.jwt.secret,
        "admin": config.admin.token,
        "metrics": config.metrics.token,
        "database-password": config.feeds[0].dsn,
    }


def test_every_secret_may_stand_in_a_file_and_another_is_taken_over(tmp_path: Path) -> None:
    old = load(tmp_path, "old")
    new = reloaded(old, load(tmp_path, "new"))
    assert new.warnings == ()
    for name, value in held(new).items():
        secret = SECRETS[name].format("new")
        assert secret in str(value), name
        assert "old-" not in str(value), name


def test_no_secret_is_shown(tmp_path: Path) -> None:
    shown = repr(load(tmp_path, "hidden"))
    for name in SECRETS.keys() - {"dsn", "hook"}:
        assert SECRETS[name].format("hidden") not in shown, name


def test_two_passwords_are_a_mistake(tmp_path: Path) -> None:
    text = TEXT.replace('"file:dsn"', '"postgres://rowcast:secret@127.0.0.1/shop"')
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, "new", text)
    (mistake,) = raised.value.mistakes
    line = text.splitlines().index('password = "file:database-password"') + 1
    assert f"rowcast.toml:{line}: password: there is one in the dsn, too: leave one of them out" in mistake


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_file_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    load(tmp_path, "old")
    (tmp_path / name).unlink()
    with pytest.raises(ConfigError) as raised:
        toml.load(tmp_path / "rowcast.toml", {})
    (mistake,) = raised.value.mistakes
    line = next(number for number, text in enumerate(TEXT.splitlines(), 1) if f'"file:{name}"' in text)
    assert f"rowcast.toml:{line}: " in mistake
    assert f"{tmp_path / name} can't be read: No such file or directory" in mistake


def test_another_database_is_not_taken_for_another_password(tmp_path: Path) -> None:
    old = load(tmp_path, "old")
    elsewhere = load(tmp_path, "new", TEXT.replace('"file:dsn"', '"host=127.0.0.2 dbname=shop user=rowcast"'))
    with pytest.raises(ConfigError, match="another dsn takes a restart"):
        reloaded(old, elsewhere)
