"""A TOML configuration gives its Config, or every mistake with its line and with what would be right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.config.feeds import Fetch, Recovery, Route, Source
from broker.config.model import Config, ConfigError, Security
from broker.config.toml.configuration import load

ENVIRONMENT = {"DATABASE_URL": "postgres://reader@db/econia", "SECRET": "s" * 32}

GOOD = """\
[database]
dsn = "env:DATABASE_URL"
[[listener]]
port = 1883
[[listener]]
port = 3001
protocol = "websockets"
dialects = ["econia", "mqtt"]
[websocket.econia]
jwt = { secret = "env:SECRET" }
[source.events]
listen = ["fill", "cancel"]
[source.econiaws]
listen = "econiaws"
kind = "$.channel"
row = "$.payload"
[mqtt]
qos = 1
[[mqtt.route]]
from = "events"
kind = "fill"
topics = "fill/{market_id}/{maker}"
once_per = ["market_id", "order_id"]
[[mqtt.route]]
from = "events"
topics = ["{$kind}/{market_id}"]
[[websocket.route]]
from = "econiaws"
channel = "{$kind}"
[[recover]]
table = "public.fill_events"
key = ["version", "index"]
kind = { events = "fill", econiaws = "fill_event" }
"""

FETCH = """\
[[fetch]]
table = "public.fill_events"
key = ["version", "index"]
kind = "fill"
when = "$.cut"
"""


def load_text(folder: Path, text: str, environment: dict[str, str] | None = None) -> Config:
    path = folder / "rowcast.toml"
    path.write_text(text)
    return load(path, ENVIRONMENT if environment is None else environment)


def mistakes(folder: Path, text: str) -> list[str]:
    """Without the file's folder."""
    with pytest.raises(ConfigError) as refused:
        load_text(folder, text)
    return [mistake.replace(f"{folder}/", "") for mistake in refused.value.mistakes]


def test_a_good_document_gives_its_values(tmp_path: Path) -> None:
    config = load_text(tmp_path, GOOD)
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
    config = load_text(
        tmp_path,
        GOOD
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


def test_routes_inherit_and_override(tmp_path: Path) -> None:
    text = GOOD.replace("qos = 1\n", 'qos = 2\nretain = true\non_null = "none"\non_unsafe = "percent"\n')
    text = text.replace("topics = [", 'qos = 0\nretain = false\nonce_per = "a"\nonce_for = "2h"\ntopics = [')
    first, second, _ = load_text(tmp_path, text).feeds[0].routes
    assert (first.qos, first.retain, first.on_null, first.on_unsafe) == (2, True, "none", "percent")
    assert (second.qos, second.retain, second.once_per, second.once_for_s) == (0, False, ("a",), 7200.0)


def test_a_bare_row_is_put_into_an_envelope_for_econia(tmp_path: Path) -> None:
    text = GOOD + '[[websocket.route]]\nfrom = "events"\nchannel = "{$kind}_event"\n'
    assert load_text(tmp_path, text).feeds[0].routes[-1].body == "envelope"


def test_a_plain_kind_is_recovered_for_every_source_that_listens_to_it(tmp_path: Path) -> None:
    text = GOOD.replace('{ events = "fill", econiaws = "fill_event" }', '"fill"')
    assert load_text(tmp_path, text).feeds[0].recoveries[0].kinds == (("events", "fill"),)
    text = GOOD.replace('{ events = "fill", econiaws = "fill_event" }', '"fill_event"')
    assert load_text(tmp_path, text).feeds[0].recoveries[0].kinds == (("econiaws", "fill_event"),)


def test_rows_too_long_to_be_notified_are_fetched_from_their_table(tmp_path: Path) -> None:
    key = ("version", "index")
    (fetch,) = load_text(tmp_path, GOOD + FETCH).feeds[0].fetches
    where = f"{tmp_path / 'rowcast.toml'}:34"
    assert fetch == Fetch("public.fill_events", key, (("events", "fill"),), ("cut",), where)
    (fetch,) = load_text(tmp_path, GOOD + FETCH.replace('when = "$.cut"\n', "")).feeds[0].fetches
    assert fetch.when == ()


FETCH_MISTAKES = [
    ('"public.fill_events"', '""', 35, 'table: "schema.table" or "table" is wanted'),
    ('["version", "index"]', "[]", 36, "key: name the columns that identify a row"),
    ('"index"]', '"id"]', 36, r"key: add index, by which the \[\[recover\]\] of line 30 knows its rows"),
    ('kind = "fill"', 'kind = { events = "fil" }', 37, "kind: source events has no fil: its kinds are cancel, fill"),
    ('kind = "fill"', "", 34, 'kind: "KIND" is wanted, or { SOURCE = "KIND" } where sources differ'),
    ('"$.cut"', '"cut"', 38, r'when: \$ and keys with a point before each are wanted, such as "\$.channel"'),
    ("when = ", "if = ", 38, "unknown key if: known here: key, table, when"),
    ('when = "$.cut"', FETCH.replace("$.cut", "$.c"), 41, "kind: fill of events is fetched already, on line 34: .*"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "line", "words"), FETCH_MISTAKES)
def test_a_mistake_in_a_fetch_is_told_with_its_line_and_its_cure(
    tmp_path: Path, right: str, wrong: str, line: int, words: str
) -> None:
    assert right in FETCH
    (found,) = mistakes(tmp_path, GOOD + FETCH.replace(right, wrong, 1))
    where = f"rowcast.toml:{line}: "
    assert found.startswith(where)
    assert re.fullmatch(words, found.removeprefix(where))


def test_a_plain_kind_that_several_sources_may_carry_is_asked_about(tmp_path: Path) -> None:
    text = GOOD.replace('{ events = "fill", econiaws = "fill_event" }', '"other"')
    other = '[source.more]\nlisten = "more"\nkind = "$.k"\n[[mqtt.route]]\nfrom = "more"\ntopics = "m"\n'
    assert mistakes(tmp_path, text + other) == [
        'rowcast.toml:33: kind: no source is known to carry other, so say which: { econiaws = "other" }'
    ]


def test_a_listener_may_have_rules_of_its_own(tmp_path: Path) -> None:
    text = "[security]\nallow_anonymous = true\n" + GOOD.replace(
        "port = 1883\n", "port = 1883\n[listener.security]\nallow_anonymous = false\n"
    )
    config = load_text(tmp_path, text)
    assert [one.security.allow_anonymous for one in config.listeners] == [False, True]
    assert config.per_listener_settings


def test_a_broker_needs_no_database(tmp_path: Path) -> None:
    assert load_text(tmp_path, "[[listener]]\nport = 1883\n").feeds == ()


def test_the_other_dialects_can_be_set_up(tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        """
        [[listener]]
        port = 8080
        protocol = "websockets"
        dialects = ["exchange", "canton"]
        [websocket]
        outbox_bytes_max = "2MB"
        [websocket.exchange]
        hook = { url = "http://127.0.0.1/who", timeout = "2s" }
        limits = { subscriptions_max = 5 }
        [websocket.canton]
        jwt = { secret = "env:SECRET", alg = ["HS256", "HS512"], roles = "r" }
        [[history]]
        topics = ["$ws/exchange/+", "$ws/canton/system_health"]
        """,
    )
    gateway = config.gateway
    assert gateway.exchange is not None
    assert gateway.canton is not None
    assert gateway.exchange.hook is not None
    assert gateway.exchange.hook.timeout_s == 2.0
    assert gateway.exchange.limits.subscriptions_max == 5
    assert gateway.canton.jwt.algorithms == ("HS256", "HS512")
    assert gateway.outbox_bytes_max == 2 * 1024**2


# What is changed in GOOD, into what, and the one mistake that it makes: its line and its words.
MISTAKES = [
    ("qos = 1", "qso = 1", 18, "unknown key qso: did you mean qos?"),
    ("[database]", "[datebase]\n[database]", 1, "unknown key datebase: did you mean database?"),
    ("port = 1883", "port = 1883\nzzz = 1", 5, r"unknown key zzz: known here: accept_protocol_versions, .*"),
    ("qos = 1", 'qos = "1"', 18, "qos: a whole number is wanted, not text"),
    ("qos = 1", "qos = true", 18, "qos: a whole number is wanted, not true or false"),
    ("qos = 1", "qos = 1.0", 18, "qos: a whole number is wanted, not a number"),
    ("qos = 1", "qos = 3", 18, "qos: 0, 1 or 2 is wanted, not 3"),
    ("qos = 1", "retain = 1", 18, "retain: true or false is wanted, not a whole number"),
    ("qos = 1", 'body = "json"', 18, 'body: "row" or "raw" or "envelope" is wanted, not "json"'),
    ("qos = 1", 'on_null = "a/b"', 18, 'on_null: "drop" is wanted, or text to use instead, without .*'),
    ("qos = 1", 'on_unsafe = ""', 18, 'on_unsafe: "drop" or "percent" is wanted, or text to use instead.*'),
    ("dsn = ", "dns = ", 2, "unknown key dns: did you mean dsn?"),
    ('"env:DATABASE_URL"', '"env:NOWHERE"', 2, "dsn: there is no environment variable NOWHERE: set it.*"),
    ('"env:DATABASE_URL"', '"host=x pasword=hunter2"', 2, "dsn: postgres://USER@HOST/DATABASE or .* is wanted.*"),
    ("dsn = ", 'kind = "wall"\ndsn = ', 2, 'kind: "listen" or "wal" or "outbox" is wanted, not "wall"'),
    ("dsn = ", 'name = "My DB"\ndsn = ', 2, "name: 1 to 40 of a-z, 0-9 and _ are wanted"),
    ("dsn = ", 'check_interval = "5 sec"\ndsn = ', 2, 'check_interval: a duration is wanted, such as "30s".*'),
    ("dsn = ", "check_interval = -1\ndsn = ", 2, 'check_interval: a duration is wanted, such as "30s".*'),
    ("[database]\ndsn = ", "[broker]\nuser = ", 11, r"source without a database: add \[database\] with its dsn"),
    ("port = 1883", "port = 70000", 4, r"port: 0 \(any free one\) to 65535 is wanted, not 70000"),
    ("port = 1883", "port = 3001", 6, "port: 3001 is taken by the listener of line 3"),
    ("port = 1883", 'host = "::1"', 3, "port is missing: add `port = ...`"),
    ('"websockets"', '"websocket"', 7, 'protocol: "mqtt" or "websockets" is wanted, not "websocket"'),
    ('["econia", "mqtt"]', '["econia", "mqt"]', 8, 'dialects: "mqtt" or "econia" or .* is wanted.*'),
    ('["econia", "mqtt"]', '["econia", "canton"]', 8, r"dialects: canton is not set up: add \[websocket.canton\]"),
    ('["econia", "mqtt"]', "[]", 8, "dialects: name at least one, or leave it out for MQTT"),
    ("port = 1883", 'port = 1883\ndialects = ["mqtt"]', 5, 'dialects: only with `protocol = "websockets"`'),
    ("port = 1883", "port = 1883\nmax_qos = 4", 5, "max_qos: 0, 1 or 2 is wanted, not 4"),
    ("port = 1883", "port = 1883\naccept_protocol_versions = [6]", 5, "accept_protocol_versions: of 3, 4 and 5 only"),
    ("port = 1883", 'port = 1883\nmax_keepalive = "1.5s"', 5, 'max_keepalive: whole seconds are wanted, such as "30s"'),
    ("port = 1883", 'port = 1\ntls = { certfile = "no.pem", keyfile = "/dev/null" }', 5, "certfile: there is no .*"),
    ("port = 1883", 'port = 1883\ntls = { certfile = "/dev/null" }', 5, "keyfile is missing: add `keyfile = ...`"),
    ("[database]", '[security]\nanonymous_access = "write"\n[database]', 2, '.*"readwrite" or "read" is wanted.*'),
    ("[database]", '[security]\nacl_file = "acl"\n[database]', 2, "acl_file: there is no acl"),
    ('"env:SECRET"', '"short"', 10, "secret: at least 32 bytes are wanted.*"),
    ('secret = "env:SECRET"', 'alg = "HS256"', 10, "secret is missing: add `secret = ...`"),
    ('secret = "env:SECRET"', 'secret = "env:SECRET", alg = "none"', 10, 'alg: "ES256" or .* is wanted, not "none"'),
    ('secret = "env:SECRET"', 'secret = "env:SECRET", require = ["ext"]', 10, 'require: .*"exp".*, not "ext"'),
    ('secret = "env:SECRET"', 'secret = "env:SECRET", alg = []', 10, 'alg: at least one is wanted, such as "HS256"'),
    ('secret = "env:SECRET"', 'secret = "env:SECRET", alg = ["HS256", "RS256"]', 10, "alg: .* can't be mixed .*"),
    ("[websocket.econia]", '[websocket]\ntrusted_proxies = ["10/8"]\n[websocket.econia]', 10, '.* "10/8"'),
    ('"econia", ', "", 9, 'no listener speaks econia: add "econia" to the dialects of a websockets listener'),
    ('listen = ["fill", "cancel"]', "", 11, 'events listens to nothing: add `listen = "CHANNEL"`'),
    ('"cancel"]', "7]", 12, "listen: text in quotes is wanted, not a whole number"),
    ('"cancel"]', '"fill"]', 12, "listen: fill belongs to source events already: listen to it once"),
    ('"cancel"]', '"econiaws"]', 14, "listen: econiaws belongs to source events already: listen to it once"),
    ('"cancel"]', f'"{"x" * 64}"]', 12, "listen: a Postgres channel's name has 1 to 63 bytes"),
    ('"$.channel"', '"channel"', 15, r'kind: \$ and keys with a point before each are wanted, such as .*'),
    ('"$.payload"', '"$.channel.x"', 16, "row: one of kind and row lies inside the other"),
    ('row = "$.payload"', 'tables = ["t"]', 16, 'tables: only for the database kinds "wal" and "outbox"'),
    ('from = "events"\nkind', 'from = "event"\nkind', 20, "from: no source event: there are events, econiaws"),
    ('from = "events"\nkind', "kind", 19, "from is missing: add `from = ...`"),
    ('kind = "fill"\n', 'kind = "fil"\n', 21, "kind: source events has no fil: its kinds are cancel, fill"),
    ('"fill/{market_id}/{maker}"', '"fill/{market_id/x"', 22, r"topics: unpaired '\{': a column is .*"),
    ('"fill/{market_id}/{maker}"', '["a", "b/+/{c}"]', 22, r"topics: a topic to publish to holds no \+, #.*"),
    ('"fill/{market_id}/{maker}"', '"$SYS/x"', 22, r"topics: topics that start with \$ are the broker's own.*"),
    ('"fill/{market_id}/{maker}"', "[]", 22, "topics: at least one is wanted"),
    ('once_per = ["market_id", "order_id"]', 'once_for = "1h"', 23, r"once_for without once_per: add .*"),
    ('once_per = ["market_id", "order_id"]', "snapshot = 'table'", 23, 'snapshot: only for the database kinds.*'),
    ('once_per = ["market_id", "order_id"]', "position = true", 23, "position: .*"),
    ('once_per = ["market_id", "order_id"]', 'channel = "x"', 23, "unknown key channel: .*"),
    ('channel = "{$kind}"', 'channel = "{$table}"', 29, r"channel: \{\$table\} is not known.*"),
    ('channel = "{$kind}"', 'dialect = "econ"\nchannel = "x"', 29, 'dialect: "econia" or .* is wanted, not "econ"'),
    ('channel = "{$kind}"', 'dialect = "canton"\nchannel = "x"', 27, "nobody can receive this: no listener .* canton"),
    ("kind = { events", "kinds = { events", 33, "unknown key kinds: .*"),
    ('"public.fill_events"', '"a.b.c"', 31, 'table: "schema.table" or "table" is wanted'),
    ('["version", "index"]', "[]", 32, "key: name the columns that put the rows in their order"),
    ('{ events = "fill", ', '{ event = "fill", ', 33, "kind: no source event: there are events, econiaws"),
    ('{ events = "fill", ', "{ events = 1, ", 33, "kind: text in quotes is wanted for events: the kind's name"),
    ("[[recover]]", "[recover]", 30, r"recover: tables are wanted, each begun by \[\[recover\]\]"),
    ("[database]", '[[history]]\ntopics = ["$ws/canton/+", "$ws/econia/+"]\n[database]', 2, "topics: .*ws/econia"),
    ("[[mqtt.route]]\nfrom = \"events\"\ntopics", "[mqtt.more]\nfrom = \"events\"\ntopics", 24, "unknown key more: .*"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "line", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_its_cure(
    tmp_path: Path, right: str, wrong: str, line: int, words: str
) -> None:
    assert right in GOOD
    found = mistakes(tmp_path, GOOD.replace(right, wrong, 1))
    where = f"rowcast.toml:{line}: "
    matching = [one for one in found if one.startswith(where) and re.match(words, one.removeprefix(where))]
    assert matching, "\n".join(found)


def test_every_mistake_is_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = (
        GOOD.replace("qos = 1", "qos = 9").replace("port = 1883", "port = -1").replace('"fill"\n', '"fll"\n')
    )
    text = text.replace('"$.channel"', '"channel"').replace("[mqtt]", "[mqtt]\nunknown = 1\nretain = 0")
    found = mistakes(tmp_path, text)
    lines = [int(one.split(":")[1]) for one in found]
    assert lines == sorted(lines) == [4, 15, 18, 19, 20, 23]


def test_a_broken_table_is_not_held_against_what_refers_to_it(tmp_path: Path) -> None:
    assert len(mistakes(tmp_path, GOOD.replace('listen = ["fill", "cancel"]', "listen = 5"))) == 1
    assert len(mistakes(tmp_path, GOOD.replace("port = 3001", 'port = "3001"'))) == 1
    assert len(mistakes(tmp_path, GOOD.replace('"env:SECRET"', '"env:NO_SECRET"'))) == 1
    assert len(mistakes(tmp_path, GOOD.replace('"env:DATABASE_URL"', "5"))) == 1


def test_a_secret_is_never_in_a_message(tmp_path: Path) -> None:
    text = GOOD.replace('"env:DATABASE_URL"', '"host=x password=hunter2 bad"').replace(
        '"env:SECRET"', '"hunter2"'
    )
    found = mistakes(tmp_path, text)
    assert len(found) == 2
    assert not any("hunter2" in one for one in found)


def test_sources_and_kinds_that_nothing_takes_are_mistakes(tmp_path: Path) -> None:
    unrouted = GOOD.replace('from = "events"\ntopics', 'from = "events"\nkind = "fill"\ntopics')
    assert mistakes(tmp_path, unrouted) == [
        "rowcast.toml:11: no route takes cancel of events: add a route, or don't listen to it"
    ]
    unused = GOOD + '[source.more]\nlisten = "more"\n'
    assert mistakes(tmp_path, unused) == [
        "rowcast.toml:34: no route takes anything from more: add a route, or remove it"
    ]
    twice = GOOD + '[[mqtt.route]]\nfrom = "events"\ntopics = ["{$kind}/{market_id}"]\n'
    assert mistakes(tmp_path, twice) == [
        "rowcast.toml:34: the same route as on line 24: it would publish everything twice"
    ]


def test_a_database_that_nothing_is_taken_from_is_a_mistake(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("[websocket.econia]")].replace('"econia", ', "")
    assert mistakes(tmp_path, text) == [
        "rowcast.toml:1: nothing is taken from the database: add [source.NAME], or [[mqtt.sink]] to write to it"
    ]
    by_sql = text.replace("[database]", '[database]\nkind = "wal"')  # `rowcast.publish()` needs no source
    assert load_text(tmp_path, by_sql).feeds[0].sources == ()


def test_a_document_without_a_listener_is_refused(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "") == [
        "rowcast.toml:1: no listener, so nobody can connect: add [[listener]] with `port = 1883`"
    ]


def test_the_dsn_is_taken_from_the_environment_by_default(tmp_path: Path) -> None:
    text = GOOD.replace('dsn = "env:DATABASE_URL"\n', "")
    assert load_text(tmp_path, text).feeds[0].dsn == "postgres://reader@db/econia"
    with pytest.raises(ConfigError, match="toml:1: dsn: there is no environment variable DATABASE_URL"):
        load_text(tmp_path, text, {"SECRET": "s" * 32})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\nb = = 2\n", "rowcast.toml:2: not TOML: Invalid value"),
        (b"a = [1,\n2\n", "rowcast.toml:3: not TOML: .*"),
        (b"a = 1\na = 2\n", "rowcast.toml:2: not TOML: Cannot overwrite a value"),
        (b"a = 1\nb = '\xff'\n", "rowcast.toml:2: not UTF-8, which TOML is: save it as UTF-8"),
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
