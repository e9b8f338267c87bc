"""[logging], [admin] and [metrics]: what is read, what is refused, and which ports may not be the same."""

from __future__ import annotations

from typing import Any

import pytest
from support.toml_files import noted, reader_of

from broker.config.model import AdminHttp, Listener
from broker.config.toml.process import ISO_8601, LOG_TYPES, check_ports, http_of, logging_of


@pytest.mark.parametrize(
    ("table", "attribute", "expected"),
    [
        ({}, "log_timestamp_format", ISO_8601),
        ({"log_timestamp_format": "%s"}, "log_timestamp_format", "%s"),
        ({"log_type": "all"}, "log_type", LOG_TYPES),
        ({"log_type": "none"}, "log_type", ()),
        ({"log_type": ["error", "debug"]}, "log_type", ("error", "debug")),
        ({"log_dest": ["file /var/log/x", "stdout"]}, "log_dest", ("file /var/log/x", "stdout")),
        ({"log_format": "json"}, "log_format", "json"),
        ({"log_facility": 0}, "log_facility", 0),
        ({"log_facility": 7}, "log_facility", 7),
    ],
)
def test_logging_is_read(table: dict[str, Any], attribute: str, expected: object) -> None:
    reader = reader_of()
    assert getattr(logging_of(reader, {"logging": table}), attribute) == expected
    assert reader.mistakes() == []


TYPES = " or ".join(f'"{name}"' for name in LOG_TYPES)
PLACES = '"stdout" or "stderr" or "syslog" or "topic" or "none" or "file PATH"'


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"log_type": ["errors"]}, f'log_type: {TYPES} is wanted, not "errors"'),
        ({"log_type": ["all"]}, f'log_type: {TYPES} is wanted, not "all"'),
        ({"log_dest": "file "}, f'log_dest: {PLACES} is wanted, not "file "'),
        ({"log_dest": "/var/log/x"}, f'log_dest: {PLACES} is wanted, not "/var/log/x"'),
        ({"log_format": "xml"}, 'log_format: "text" or "json" is wanted, not "xml"'),
        ({"log_facility": 8}, "log_facility: 0 to 7 (local0 to local7) is wanted, not 8"),
        ({"log_facility": -1}, "log_facility: 0 to 7 (local0 to local7) is wanted, not -1"),
    ],
)
def test_logging_that_is_none(table: dict[str, Any], what: str) -> None:
    reader = reader_of()
    logging_of(reader, {"logging": table})
    assert noted(reader) == [what]


def test_a_port_for_http_is_there_if_its_table_is() -> None:
    reader = reader_of()
    assert http_of(reader, {}, "admin") is None
    assert http_of(reader, {"admin": {"port": 0}}, "admin") == AdminHttp(port=0)
    assert http_of(reader, {"admin": {"port": 65535, "token": "t"}}, "admin") is not None
    assert reader.mistakes() == []


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"port": 65536}, "port: 0 (any free one) to 65535 is wanted, not 65536"),
        ({"port": -1}, "port: 0 (any free one) to 65535 is wanted, not -1"),
        (
            {"port": 1, "token": ["t", ""]},
            "token: it is empty, which would let everybody in: leave the line out",
        ),
    ],
)
def test_a_port_for_http_that_can_t_be(table: dict[str, Any], what: str) -> None:
    reader = reader_of()
    http_of(reader, {"admin": table}, "admin")
    assert noted(reader) == [what]


def ports(
    listeners: list[Listener], admin: AdminHttp | None, metrics: AdminHttp | None, workers: int = 1
) -> list[str]:
    reader = reader_of()
    check_ports(reader, tuple(listeners), admin, metrics, workers)
    return noted(reader)


def http(port: int, host: str = "127.0.0.1") -> AdminHttp:
    return AdminHttp(host=host, port=port)


@pytest.mark.parametrize(
    ("listeners", "admin", "metrics", "expected"),
    [
        ([Listener(1883)], http(9001), http(9002), []),
        ([Listener(0)], http(0), http(0), []),
        ([Listener(9001, host="10.0.0.1")], http(9001), http(9001, "10.0.0.2"), []),
        ([Listener(0, unix_path="/run/x")], http(9001), None, []),
        ([Listener(1), Listener(9001)], http(9001), None, ["port: 9001 is taken by [[listener]] 2: choose another"]),
        ([Listener(9001)], None, http(9001), ["port: 9001 is taken by [[listener]] 1: choose another"]),
        ([], http(9001), http(9001), ["port: 9001 is taken by [admin]: choose another"]),
        (
            [Listener(9001)],
            http(9001),
            http(9001),
            ["port: 9001 is taken by [[listener]] 1: choose another"],  # both stand on one line here
        ),
    ],
)  # fmt: skip
def test_the_process_s_own_ports_differ(
    listeners: list[Listener], admin: AdminHttp | None, metrics: AdminHttp | None, expected: list[str]
) -> None:
    assert ports(listeners, admin, metrics) == expected


@pytest.mark.parametrize(
    ("listeners", "admin", "metrics", "expected"),
    [
        ([Listener(1883)], http(9001), http(9004), []),
        ([Listener(9004)], http(9001), None, []),
        (
            [Listener(9003)],
            http(9001),
            None,
            ["port: with 3 workers it takes 9001 to 9003, and 9003 is taken by [[listener]] 1: choose another"],
        ),
        (
            [],
            http(9001),
            http(9002),
            ["port: with 3 workers it takes 9002 to 9004, and 9002 is taken by [admin]: choose another"],
        ),
        (
            [],
            http(9003),
            http(9002),
            ["port: with 3 workers it takes 9002 to 9004, and 9003 is taken by [admin]: choose another"],
        ),
        (
            [],
            http(65534),
            None,
            ["port: with 3 workers it takes 65534 to 65536, and 65535 is the last there is: choose another"],
        ),
        ([], http(65533), None, []),
        ([], http(0), http(0), []),
    ],
)  # fmt: skip
def test_each_worker_s_ports_count_up_and_differ(
    listeners: list[Listener], admin: AdminHttp | None, metrics: AdminHttp | None, expected: list[str]
) -> None:
    assert ports(listeners, admin, metrics, workers=3) == expected
