"""[cluster]: every mistake with its line and what would be right."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from broker.config.cluster import ClusterConfig
from broker.config.model import ConfigError
from broker.config.reload import reloaded
from broker.config.toml.configuration import load

GOOD = """[[listener]]
port = 1883
[cluster]
nats = ["nats://n1:4222", "tls://user:secret@n2"]
name = "shop"
node = "env:NODE"
keep = "2h"
keep_bytes = "64MB"
"""

BAD = """[[listener]]
port = 1883
[cluster]
nats = ["http://n1:4222", "nats://n1:99999", "nats://n1/x", "n1"]
name = "a.b"
node = ""
replicas = 2
keep = "1s"
keep_bytes = "1kB"
credentials = "missing.creds"
cert_file = "rowcast.toml"
relpicas = 3
password = "hush"
token = "hush"
[market]
"""


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(GOOD)
    found = load(file, {"NODE": "a"}).cluster
    assert found == ClusterConfig(
        ("nats://n1:4222", "tls://user:secret@n2"), "shop", "a", keep_s=7200.0, keep_bytes=64 * 2**20
    )


def test_a_node_is_called_as_its_host_if_nothing_is_said(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(GOOD.replace('node = "env:NODE"\n', ""))
    found = load(file, {}).cluster
    assert found is not None
    assert found.node == socket.gethostname().split(".")[0]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(BAD)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    told = [mistake.removeprefix(f"{file}:") for mistake in caught.value.mistakes]
    for line, word in [
        (15, "leave out [cluster]"),
        (11, "cert_file and key_file"),
        (4, "nats://HOST:PORT or tls://HOST:PORT is wanted"),
        (4, "no port that can be"),
        (4, "nothing is wanted behind HOST:PORT"),
        (5, 'name: 1 to 40 of A-Z, a-z, 0-9, _ and - are wanted, not "a.b"'),
        (6, 'node: 1 to 40 of A-Z, a-z, 0-9, _ and - are wanted, not ""'),
        (7, "1, 3 or 5 is wanted, not 2"),
        (8, "at least 1m"),
        (9, "at least 1MB"),
        (10, "there is no file"),
        (12, "did you mean replicas?"),
        (13, "password: a user is wanted with it"),
        (14, "token: one of credentials, token and user"),
    ]:
        assert any(one.startswith(f"{line}:") and word in one for one in told), (line, word, told)


def test_processes_that_share_ports_need_ports(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(GOOD + "\nworkers = 2\n[[listener]]\nport = 0\n[security]\nallow_anonymous = true\n")
    with pytest.raises(ConfigError, match="port: with workers above 1"):
        load(file, {"NODE": "a"})
    file.write_text(GOOD + "\nworkers = 65\n")
    with pytest.raises(ConfigError, match="workers: 1 to 64"):
        load(file, {"NODE": "a"})


def test_a_password_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(GOOD.replace("nats://n1:4222", "nats://user:hush@n1/x"))
    with pytest.raises(ConfigError) as caught:
        load(file, {"NODE": "a"})
    assert "hush" not in str(caught.value)


def test_another_cluster_takes_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(GOOD)
    old = load(file, {"NODE": "a"})
    new = reloaded(old, load(file, {"NODE": "b"}))
    assert new.cluster == old.cluster
    assert any("[cluster] was changed; that takes a restart" in one for one in new.warnings)
