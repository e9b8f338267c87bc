"""A TOML configuration gives its Config, or every mistake with its line and with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.toml_files import ECONIA, check_changed, mistakes, read

from broker.config.feeds import Recovery, Route, Source
from broker.config.model import ConfigError, Security
from broker.config.toml.configuration import load


def test_a_good_document_gives_its_values(tmp_path: Path) -> None:
    config = read(tmp_path, ECONIA)
    (feed,) = config.feeds
    assert (feed.name, feed.dsn, feed.kind) == ("main", "postgres://reader@db/econia", "listen")
    assert feed.sources == (
        Source("events", ("fill", "cancel")),
        Source("econiaws", ("econiaws",), ("channel",), ("payload",)),
    )
    file = tmp_path / "rowcast.toml"
    assert feed.routes == (
        Route(
            "events",
            ("fill/{market_id}/{maker}",),
            "fill",
            once_per=("market_id", "order_id"),
            where=f"{file}:19",
        ),
        Route("events", ("{$kind}/{market_id}",), where=f"{file}:24"),
        Route("econiaws", ("{$kind}",), target="econia", body="raw", qos=0, where=f"{file}:27"),
    )
    assert feed.recoveries == (
        Recovery(
            "public.fill_events",
            ("version", "index"),
            (("events", "fill"), ("econiaws", "fill_event")),
            f"{file}:30",
        ),
    )
    assert [listener.port for listener in config.listeners] == [1883, 3001]
    assert config.gateway.econia is not None
    assert config.gateway.econia.jwt.secret == ("s" * 32,)
    assert config.source == file


def test_the_example_for_econia_replaces_its_three_servers(tmp_path: Path) -> None:
    path = Path(__file__).parents[4] / "examples/econia.toml"
    environment = {"DATABASE_URL": "postgres://x", "PGWS_JWT_SECRET": "econia_0000000000000000000000000"}
    config = load(path, environment)
    places = [(one.port, one.protocol, one.dialects) for one in config.listeners]
    assert places == [
        (21883, "mqtt", ("mqtt",)),
        (21884, "websockets", ("mqtt",)),
        (3001, "websockets", ("econia",)),
    ]
    read_only = Security(allow_anonymous=True, anonymous_access="read")
    assert {one.security for one in config.listeners} == {read_only}
    families = {route.topics[0].split("/")[0] for route in config.feeds[0].routes if route.target == "mqtt"}
    assert families == {
        "place_limit_order",
        "place_market_order",
        "place_swap_order",
        "change_order_size",
        "cancel_order",
        "fill",
    }
    moved = tmp_path / "wal.toml"
    moved.write_text(path.read_text().replace('kind = "listen" ', 'kind = "wal" '))
    assert load(moved, environment).feeds[0].kind == "wal"  # one changed line


def test_units_are_read(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        ECONIA
        + """
        [limits]
        max_packet_size = "1MB"
        max_inflight_bytes = 500
        outbox_bytes_max = "64kB"
        persistent_client_expiration = "14d"
        [broker]
        shutdown_grace = "1500ms"
        sys_interval = "1m"
        [persistence]
        persistence = true
        persistence_location = "data"
        """,
    )
    assert config.limits.max_packet_size_bytes == 1024**2
    assert (config.limits.max_inflight_bytes, config.limits.outbox_bytes_max) == (500, 65536)
    assert config.limits.persistent_client_expiration_s == 14 * 86400
    assert (config.shutdown_grace_s, config.sys_interval_s) == (1.5, 60)
    assert config.persistence.persistence_location == tmp_path / "data"


def test_a_broker_needs_no_database(tmp_path: Path) -> None:
    assert read(tmp_path, "[[listener]]\nport = 1883\n").feeds == ()


# What is changed in ECONIA, into what, and the one mistake that it makes: its line and its words.
MISTAKES = [
    ("qos = 1", "qso = 1", 18, "unknown key qso: did you mean qos?"),
    ("[database]", "[datebase]\n[database]", 1, "unknown key datebase: did you mean database?"),
    ("port = 1883", "port = 1883\nzzz = 1", 5, r"unknown key zzz: known here: accept_protocol_versions, .*"),
    ("qos = 1", 'qos = "1"', 18, "qos: a whole number is wanted, not text"),
    ("qos = 1", "qos = true", 18, "qos: a whole number is wanted, not true or false"),
    ("qos = 1", "qos = 1.0", 18, "qos: a whole number is wanted, not a number"),
    ("qos = 1", "retain = 1", 18, "retain: true or false is wanted, not a whole number"),
    ("dsn = ", "dns = ", 2, "unknown key dns: did you mean dsn?"),
    ('"env:DATABASE_URL"', '"env:NOWHERE"', 2, "dsn: there is no environment variable NOWHERE: set it.*"),
    ('"env:DATABASE_URL"', '"host=x pasword=hunter2"', 2, "dsn: postgres://USER@HOST/DATABASE or .* is wanted.*"),
    ("dsn = ", 'kind = "wall"\ndsn = ', 2, 'kind: "listen" or "wal" or "outbox" is wanted, not "wall"'),
    ("dsn = ", 'name = "My DB"\ndsn = ', 2, "name: 1 to 40 of a-z, 0-9 and _ are wanted"),
    ("dsn = ", 'check_interval = "5 sec"\ndsn = ', 2, 'check_interval: a duration is wanted, such as "30s".*'),
    ("dsn = ", "check_interval = -1\ndsn = ", 2, 'check_interval: a duration is wanted, such as "30s".*'),
    ("[database]\ndsn = ", "[broker]\nuser = ", 11, r"source without a database: add \[database\] with its dsn"),
    ("[database]", '[[history]]\ntopics = ["$ws/canton/+", "$ws/econia/+"]\n[database]', 2, "topics: .*ws/econia"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "line", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_its_cure(
    tmp_path: Path, right: str, wrong: str, line: int, words: str
) -> None:
    check_changed(tmp_path, right, wrong, line, words)


def test_every_mistake_is_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = (
        ECONIA.replace("qos = 1", "qos = 9")
        .replace("port = 1883", "port = -1")
        .replace('"fill"\n', '"fll"\n')
    )
    text = text.replace('"$.channel"', '"channel"').replace("[mqtt]", "[mqtt]\nunknown = 1\nretain = 0")
    found = mistakes(tmp_path, text)
    lines = [int(one.split(":")[0]) for one in found]
    assert lines == sorted(lines) == [4, 15, 18, 19, 20, 23]


def test_a_broken_table_is_not_held_against_what_refers_to_it(tmp_path: Path) -> None:
    assert len(mistakes(tmp_path, ECONIA.replace('listen = ["fill", "cancel"]', "listen = 5"))) == 1
    assert len(mistakes(tmp_path, ECONIA.replace("port = 3001", 'port = "3001"'))) == 1
    assert len(mistakes(tmp_path, ECONIA.replace('"env:SECRET"', '"env:NO_SECRET"'))) == 1
    assert len(mistakes(tmp_path, ECONIA.replace('"env:DATABASE_URL"', "5"))) == 1


def test_a_secret_is_never_in_a_message(tmp_path: Path) -> None:
    text = ECONIA.replace('"env:DATABASE_URL"', '"host=x password=hunter2 bad"').replace(
        '"env:SECRET"', '"hunter2"'
    )
    found = mistakes(tmp_path, text)
    assert len(found) == 2
    assert not any("hunter2" in one for one in found)


def test_the_dsn_is_taken_from_the_environment_by_default(tmp_path: Path) -> None:
    text = ECONIA.replace('dsn = "env:DATABASE_URL"\n', "")
    assert read(tmp_path, text).feeds[0].dsn == "postgres://reader@db/econia"
    with pytest.raises(ConfigError, match="toml:1: dsn: there is no environment variable DATABASE_URL"):
        read(tmp_path, text, {"SECRET": "s" * 32})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\nb = = 2\n", "2: not TOML: Invalid value"),
        (b"a = [1,\n2\n", "3: not TOML: .*"),
        (b"a = 1\na = 2\n", "2: not TOML: Cannot overwrite a value"),
        (b"a = 1\nb = '\xff'\n", "2: not UTF-8, which TOML is: save it as UTF-8"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rowcast.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load(path, {})


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: can't be read: No such file or directory"):
        load(tmp_path / "none.toml", {})
