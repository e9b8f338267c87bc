"""[[listener]], [security] and the dialects: who may connect where, and each mistake with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.toml_files import ECONIA, check_changed, mistakes, read

from broker.config.model import Listener
from broker.config.toml.listeners import spoken_by


def test_a_listener_may_have_rules_of_its_own(tmp_path: Path) -> None:
    text = "[security]\nallow_anonymous = true\n" + ECONIA.replace(
        "port = 1883\n", "port = 1883\n[listener.security]\nallow_anonymous = false\n"
    )
    config = read(tmp_path, text)
    assert [one.security.allow_anonymous for one in config.listeners] == [False, True]
    assert config.per_listener_settings


def test_the_other_dialects_can_be_set_up(tmp_path: Path) -> None:
    config = read(
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


def test_a_document_without_a_listener_is_refused(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "") == [
        "1: no listener, so nobody can connect: add [[listener]] with `port = 1883`"
    ]


# What is changed in ECONIA, into what, and the mistake that it makes: its line and its words.
MISTAKES = [
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
    ("[database]", '[security]\nacl_file = "acl"\n[database]', 2, "acl_file: there is no .*/acl"),
    ('"env:SECRET"', '"short"', 10, "secret: at least 32 bytes are wanted.*"),
    ('secret = "env:SECRET"', 'alg = "HS256"', 10, "secret is missing: add `secret = ...`"),
    ('secret = "env:SECRET"', 'secret = "env:SECRET", alg = "none"', 10, 'alg: "ES256" or .* is wanted, not "none"'),
    ('secret = "env:SECRET"', 'secret = "env:SECRET", require = ["ext"]', 10, 'require: .*"exp".*, not "ext"'),
    ('secret = "env:SECRET"', 'secret = "env:SECRET", alg = []', 10, 'alg: at least one is wanted, such as "HS256"'),
    ('secret = "env:SECRET"', 'secret = "env:SECRET", alg = ["HS256", "RS256"]', 10, "alg: .* can't be mixed .*"),
    ("[websocket.econia]", '[websocket]\ntrusted_proxies = ["10/8"]\n[websocket.econia]', 10, '.* "10/8"'),
    ('"econia", ', "", 9, 'no listener speaks econia: add "econia" to the dialects of a websockets listener'),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "line", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_its_cure(
    tmp_path: Path, right: str, wrong: str, line: int, words: str
) -> None:
    check_changed(tmp_path, right, wrong, line, words)


def of(*listeners: str, rest: str = "") -> str:
    return "".join(f"[[listener]]\n{keys}\n" for keys in listeners) + rest


HOST = "host: an address or a name is wanted; the port stands beside it, as `port = 1883`"


MOUNT_POINT = 'mount_point: a topic without + and # is wanted, of at most 200 slashes, as "site/1/"'


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("port = -1", "port: 0 (any free one) to 65535 is wanted, not -1"),
        ('port = 1\nunix_path = "/s"', "port: a unix socket has none: leave it out"),
        ('port = 1\nhost = "h:1883"', f'{HOST}, not "h:1883"'),
        ('port = 1\nhost = "mqtt://h"', f'{HOST}, not "mqtt://h"'),
        ("port = 1\nenable_proxy_protocol = 3", "enable_proxy_protocol: 0 (off), 1 or 2 is wanted"),
        ("port = 1\nmax_qos = -1", "max_qos: 0, 1 or 2 is wanted, not -1"),
        ('port = 1\nmount_point = "a/+/"', MOUNT_POINT),
        ('port = 1\nmount_point = "#"', MOUNT_POINT),
        (f'port = 1\nmount_point = "{"a/" * 201}"', MOUNT_POINT),
    ],
)  # fmt: skip
def test_a_listener_that_can_t_be_is_told(tmp_path: Path, keys: str, what: str) -> None:
    found = mistakes(tmp_path, of(keys))
    assert [mistake.partition(": ")[2] for mistake in found] == [what]


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("port = 1", "port = 2", ""),
        ("port = 0", "port = 0", ""),
        ('port = 1\nhost = "10.0.0.1"', 'port = 1\nhost = "10.0.0.2"', ""),
        ('unix_path = "/a"', 'unix_path = "/b"', ""),
        ('unix_path = "/a"', "port = 1", ""),
        ("port = 1", 'port = 1\nhost = "10.0.0.2"', "4: port: 1 is taken by the listener of line 1"),
        ('unix_path = "/a"', 'unix_path = "/a"', "4: unix_path: /a is taken by the listener of line 1"),
    ],
)
def test_no_two_have_one_place(tmp_path: Path, one: str, other: str, what: str) -> None:
    text = of(one, other)
    if what:
        assert [re.sub(r"^\d", "4", mistake) for mistake in mistakes(tmp_path, text)] == [what]
    else:
        assert len(read(tmp_path, text).listeners) == 2


TLS = 'port = 1\ntls = { certfile = "/dev/null", keyfile = "/dev/null"'


@pytest.mark.parametrize(
    ("tls", "what"),
    [
        (
            ", require_certificate = true",
            "require_certificate: without cafile or capath every client is refused: add `cafile = ...`",
        ),
        (
            ', cafile = "/dev/null", use_identity_as_username = true',
            "use_identity_as_username: it needs `require_certificate = true`, or every client is refused",
        ),
        (
            ', cafile = "/dev/null", use_subject_as_username = true',
            "use_subject_as_username: it needs `require_certificate = true`, or every client is refused",
        ),
    ],
)  # fmt: skip
def test_tls_that_refuses_everybody_is_a_mistake(tmp_path: Path, tls: str, what: str) -> None:
    assert mistakes(tmp_path, of(TLS + tls + " }")) == [f"3: {what}"]


def test_tls_that_asks_for_certificates_by_an_authority_is_read(tmp_path: Path) -> None:
    keys = (
        ', require_certificate = true, capath = "/etc", use_subject_as_username = true, keylog_file = "new" }'
    )
    [listener] = read(tmp_path, of(TLS + keys)).listeners
    assert listener.tls is not None
    assert listener.tls.keylog_file == tmp_path / "new", "a file that is to be written need not be there"


JWT = f'jwt = {{ secret = "{"s" * 32}" }}'


@pytest.mark.parametrize(
    ("rest", "what"),
    [
        (f'[websocket.canton]\n{JWT}\npath = "v1"', '8: path: it begins with a slash, as "/v1"'),
        (
            f'[websocket.canton]\n{JWT}\npath = "/exchange-stream"',
            "8: path: /exchange-stream is exchange's already: a listener can't speak both there",
        ),
        (
            f'[websocket.canton]\n{JWT}\npath = "/mqtt"',
            "8: path: /mqtt is mqtt's already: a listener can't speak both there",
        ),
        (f'[websocket.canton]\n{JWT}\npath = "/v1?x"', "8: path: it is the whole path, without ? { and }"),
    ],
)
def test_what_is_asked_for_says_which_dialect_is_wanted(tmp_path: Path, rest: str, what: str) -> None:
    keys = 'port = 1\nprotocol = "websockets"\ndialects = ["mqtt", "exchange", "canton"]'
    text = of(keys, rest="[websocket.exchange]\n" + rest + "\n")
    assert mistakes(tmp_path, text) == [what]


def test_a_path_may_be_that_of_a_dialect_of_another_listener(tmp_path: Path) -> None:
    keys = 'protocol = "websockets"\ndialects = '
    rest = f'[websocket.exchange]\npath = "/x"\n[websocket.canton]\n{JWT}\npath = "/x"\n'
    text = of(f'port = 1\n{keys}["exchange"]', f'port = 2\n{keys}["canton"]', rest=rest)
    assert len(read(tmp_path, text).gateway.dialects) == 2


@pytest.mark.parametrize("network", ["10.0.0.0/8", "10.1.2.3/8", "::1", "127.0.0.1"])
def test_proxies_are_addresses_or_networks(tmp_path: Path, network: str) -> None:
    text = of("port = 1", rest=f'[websocket]\ntrusted_proxies = ["{network}"]\n')
    assert read(tmp_path, text).gateway.trusted_proxies == (network,)


def test_tokens_need_somebody_who_signs_them(tmp_path: Path) -> None:
    [mistake] = mistakes(tmp_path, of("port = 1", rest="[security]\ntokens = true\n"))
    assert mistake == "4: tokens: say who signs them: add [tokens] with `secrets = [...]`"
    signed = of("port = 1", rest=f'[security]\ntokens = true\n[tokens]\nsecrets = "{"s" * 32}"\n')
    [listener] = read(tmp_path, signed).listeners
    assert listener.security.token_config.secrets == ("s" * 32,)
    [open_one] = read(tmp_path, signed.replace("tokens = true", "")).listeners
    assert not open_one.security.token_config.is_set, "where none is shown none is verified"


def test_the_rights_of_those_without_a_token_are_topic_filters(tmp_path: Path) -> None:
    keys = 'port = 1\nprotocol = "websockets"\ndialects = ["rowcast"]'
    rest = '[websocket.rowcast]\nanonymous_subscribe = ["a/#", "a#"]\nanonymous_publish = "$share/g/a"\n'
    found = mistakes(tmp_path, of(keys, rest=rest))
    wanted = 'a topic filter is wanted, such as "orders/#", not'
    assert found == [f'6: anonymous_subscribe: {wanted} "a#"', f'7: anonymous_publish: {wanted} "$share/g/a"']


def test_a_secret_of_several_is_long_enough_and_a_public_key_may_be_short(tmp_path: Path) -> None:
    keys = 'port = 1\nprotocol = "websockets"\ndialects = ["canton"]'
    short = f'[websocket.canton]\njwt = {{ secret = ["{"s" * 32}", "short"] }}\n'
    [mistake] = mistakes(tmp_path, of(keys, rest=short))
    assert mistake.startswith("6: secret: at least 32 bytes are wanted")
    public = '[websocket.canton]\njwt = { secret = "short", alg = "RS256" }\n'
    assert read(tmp_path, of(keys, rest=public)).gateway.canton is not None


def test_what_dialects_a_listener_speaks() -> None:
    assert spoken_by(Listener(1, dialects=("econia",))) == ("mqtt",)
    assert spoken_by(Listener(1, protocol="websockets", dialects=("econia", "mqtt"))) == ("econia", "mqtt")
