"""What is a port, wherever one is written; and what each who reads one says of what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.arguments import Arguments, ArgumentsError, parse
from broker.config.model import ConfigError
from broker.config.mosquitto.configuration import load as load_conf
from broker.config.toml.configuration import load as load_toml
from protocol.port import NONE, port_of
from protocol.proxy import ProxyError, parse_proxy

NO_PORTS = ["", "-1", "+1", " 1", "1 ", "1_0", "0x50", "1.0", "²", "٣", "65536", "9" * 20, "9" * 5000, "mqtt"]


@pytest.mark.parametrize(
    ("text", "port"), [("0", 0), ("1", 1), ("1883", 1883), ("0001883", 1883), ("65535", 65535), ("0" * 20, 0)]
)
def test_digits_up_to_the_highest_port_are_one(text: str, port: int) -> None:
    assert port_of(text) == port


@pytest.mark.parametrize("text", [*NO_PORTS, "0" * 21])
def test_anything_else_is_none(text: str) -> None:
    assert port_of(text) == NONE


@pytest.mark.parametrize("text", ["0", *(one for one in NO_PORTS if " " not in one)])
def test_all_who_want_a_port_refuse_what_is_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentsError, match=r"^Error: Invalid port specified \("):
        parse(["-p", text])
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"connection b\naddress host:{text or 'x'}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="Invalid bridge port value"):
        load_conf(conf, Arguments())
    toml = tmp_path / "rowcast.toml"
    toml.write_text(f'[database]\ndsn = "host=x port=\'{text or "x"}\'"\nkind = "wal"')
    with pytest.raises(ConfigError, match="port: 1 to 65535 is wanted, not"):
        load_toml(toml, {})
    with pytest.raises(ProxyError, match="wrong port"):
        parse_proxy(f"PROXY TCP4 192.0.2.7 127.0.0.1 {text[:30]} 1883\r\n".encode(), 1)


@pytest.mark.parametrize("text", NO_PORTS)
def test_a_source_may_leave_the_choice_to_the_system_and_nothing_else(text: str, tmp_path: Path) -> None:
    toml = tmp_path / "rowcast.toml"
    toml.write_text(f'[source]\na.tcp = "127.0.0.1:{text}"')
    with pytest.raises(ConfigError, match='tcp: "HOST:PORT" is wanted'):
        load_toml(toml, {})
