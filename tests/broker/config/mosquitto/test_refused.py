"""Bridges and plugins: refused once, with what to do instead, and checked in Mosquitto's words below that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.conf_mistakes import cases_of, check

from broker.config.model import ConfigError
from broker.config.mosquitto.configuration import load
from broker.config.mosquitto.options_bridge import BRIDGES, PLUGINS


@pytest.mark.parametrize("case", cases_of("refused"))
def test_mistake_is_told_with_file_line_and_cure(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(case)


def told(folder: Path, text: str) -> list[str]:
    """Without the places."""
    path = folder / "main.conf"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [mistake.replace(f"Found at {path}:", "") for mistake in caught.value.mistakes]


GOOD_BRIDGE = "connection b\naddress h:1 [::1]:65535 h\ntopic # both 2\n"


@pytest.mark.parametrize(
    "line",
    [
        "",
        'topic "a b" in 0',
        'topic ""',
        "topic a",
        "topic a out #2",
        "bridge_tcp_keepalive 1 2 3",
        "restart_timeout 5 30",
        "restart_timeout 5",
        "start_type lazy",
    ],
)
def test_a_bridge_that_mosquitto_takes_is_refused_once_as_what_it_is(tmp_path: Path, line: str) -> None:
    [mistake] = told(tmp_path, GOOD_BRIDGE + line + "\n")
    assert mistake == f"Error: The 'connection' option is not supported. 1. {BRIDGES}"


@pytest.mark.parametrize("port", ["0", "65536", "x", "", "-1", "1e3"])
def test_a_bridge_s_port_is_one(tmp_path: Path, port: str) -> None:
    _, mistake = told(tmp_path, f"connection b\naddress h:{port}\ntopic #\n")
    assert mistake.startswith(f"Error: Invalid bridge port value ({port}). 2. ")


@pytest.mark.parametrize("words", ["1 2 x", "0 1 1", "1 00 1", "1 1 0"])
def test_a_bridge_s_keep_alives_are_above_0(tmp_path: Path, words: str) -> None:
    _, mistake = told(tmp_path, GOOD_BRIDGE + f"bridge_tcp_keepalive {words}\n")
    assert mistake.startswith("Error: invalid TCP keepalive")


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ("plugin /usr/lib/mosquitto_dynamic_security.so", "Dynamic security is not supported"),
        ("plugin_load x /usr/lib/mosquitto_acl_file.so", "Rowcast reads ACL files by itself"),
        ("global_plugin mosquitto_persist_sqlite.so", "Rowcast keeps its state in SQLite by itself"),
        ("plugin /opt/dynamic_security/own.so", PLUGINS),
        ("auth_plugin own.so", PLUGINS),
    ],
)
def test_a_well_known_plugin_brings_what_is_here_instead(tmp_path: Path, line: str, cure: str) -> None:
    [mistake] = told(tmp_path, f"listener 1883\n{line}\n")
    assert f" 2. {cure}" in mistake


def test_options_of_a_plugin_are_not_told_again(tmp_path: Path) -> None:
    found = told(tmp_path, "plugin own.so\nplugin_opt_file x\nauth_opt_b\nplugin_opt_abc\n")
    assert [mistake.partition(".")[0] for mistake in found] == [
        "Error: The 'plugin' option is not supported",
        "Error: Invalid 'plugin_opt_' config option",
        "Error: Empty 'abc' value in configuration",
    ]
