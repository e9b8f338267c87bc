"""What a mosquitto.conf means: listeners, local only mode, security per listener, TLS, and what the process is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.conf_mistakes import Read

from broker.config.arguments import Arguments
from broker.config.model import ConfigError, Limits, Listener, Security, Tls
from broker.config.mosquitto.configuration import load
from broker.config.mosquitto.special import every_log_type
from broker.config.tokens import TokenConfig


def test_no_file_is_loopback_1883_open_to_anonymous_clients() -> None:
    assert load(None).listeners == (Listener(1883, security=Security(allow_anonymous=True), local_only=True),)


def test_ports_of_the_command_line_are_loopback_too() -> None:
    listeners = load(None, Arguments(ports=(1884, 1885))).listeners
    assert [(listener.port, listener.local_only) for listener in listeners] == [(1884, True), (1885, True)]


def test_a_file_without_a_listener_is_local_only(read: Read) -> None:
    (listener,) = read("persistence true\n", Arguments(ports=(1884,))).listeners
    assert (listener.port, listener.local_only, listener.security.allow_anonymous) == (1884, True, True)


def test_local_only_may_be_closed_to_anonymous_clients(read: Read) -> None:
    (listener,) = read("allow_anonymous false\n").listeners
    assert listener.local_only
    assert not listener.security.allow_anonymous


def test_an_option_of_the_default_listener_opens_none(read: Read) -> None:
    config = read("max_connections 10\n", Arguments(ports=(1884,)))
    assert [(listener.port, listener.max_connections) for listener in config.listeners] == [(1884, -1)]
    assert "no effect" in config.warnings[0]
    assert "main.conf:1" in config.warnings[0]


def test_a_listener_is_closed_to_anonymous_clients_and_p_is_ignored(read: Read) -> None:
    (listener,) = read("listener 1884\n", Arguments(ports=(1885,))).listeners
    assert listener == Listener(1884)


@pytest.mark.parametrize(
    ("text", "listeners"),
    [
        ("listener 1883 127.0.0.1\n", [Listener(1883, "127.0.0.1")]),
        ("listener 1883 # everywhere\n", [Listener(1883)]),
        ("  listener   0x75b  ::1\n", [Listener(1883, "::1")]),
        ("listener 0 /tmp/mqtt.sock\n", [Listener(0, unix_path="/tmp/mqtt.sock")]),
        ("port 1884\n", [Listener(1884)]),
        ("port 1884\nport 1885\n", [Listener(1885)]),
        ("bind_address 127.0.0.1\n", [Listener(1883, "127.0.0.1")]),
        ("bind_address 127.0.0.1\nport 1884\n", [Listener(1884, "127.0.0.1")]),
        ("max_connections 5\nport 1884\n", [Listener(1884, max_connections=5)]),
        ("listener 1\nport 2\nlistener 3\n", [Listener(1), Listener(2), Listener(3)]),
        ("listener 1\nmax_qos 0\nlistener 2\nmax_qos 1\n", [Listener(1, max_qos=0), Listener(2, max_qos=1)]),
        ("listener 1\nprotocol websockets\n", [Listener(1, protocol="websockets")]),
        ("listener 1\nmount_point a/b/\n", [Listener(1, mount_point="a/b/")]),
        ("listener 1\nmax_connections -5\n", [Listener(1, max_connections=-1)]),
        ("listener 1\naccept_protocol_versions 4\n", [Listener(1, accept_protocol_versions=(4,))]),
        ("listener 1\naccept_protocol_versions 3 ,4, 5\n", [Listener(1, accept_protocol_versions=(3, 4, 5))]),
        ("listener 1\naccept_protocol_versions ,4,\n", [Listener(1, accept_protocol_versions=(4,))]),
        (
            "listener 1\nsocket_domain ipv6\nbind_interface lo\n",
            [Listener(1, socket_domain="ipv6", bind_interface="lo")],
        ),
        ("listener 1\nuse_username_as_clientid 1\n", [Listener(1, use_username_as_clientid=True)]),
        (
            "listener 1\nwebsockets_origin http://a\nwebsockets_origin http://b\n",
            [Listener(1, websockets_origins=("http://a", "http://b"))],
        ),
        ("listener 1\nenable_proxy_protocol 1\n", [Listener(1, enable_proxy_protocol=1)]),
        (
            "listener 1\nenable_proxy_protocol 2\nrequire_certificate true\nuse_identity_as_username true\n",
            [
                Listener(
                    1,
                    enable_proxy_protocol=2,
                    proxy_v2_require_certificate=True,
                    proxy_v2_use_identity_as_username=True,
                )
            ],
        ),
        ("listener 1\nmax_keepalive 60\n", [Listener(1, max_keepalive_s=60)]),
        ("max_keepalive 65535\nlistener 1\n", [Listener(1, max_keepalive_s=65535)]),
        ("max_keepalive 0\nlistener 1\n", [Listener(1)]),
        ("listener 1\nwebsockets_headers_size 0x1000\n", [Listener(1)]),
    ],
)
def test_listeners_are_those_of_the_file(read: Read, text: str, listeners: list[Listener]) -> None:
    assert list(read(text).listeners) == listeners


def test_security_below_a_listener_is_everybodys_without_per_listener_settings(read: Read) -> None:
    config = read(
        "listener 1\nlistener 2\nallow_anonymous true\nacl_file acl\npassword_file p\nauto_id_prefix x\n"
    )
    assert not config.per_listener_settings
    shared = Security(True, password_file=Path("p"), acl_file=Path("acl"), auto_id_prefix="x")
    assert [listener.security for listener in config.listeners] == [shared, shared]


def test_security_is_the_listeners_own_with_per_listener_settings(read: Read) -> None:
    config = read(
        "per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener 2\nacl_file a b.acl\n"
        "allow_zero_length_clientid false\nper_listener_settings false\n"
    )
    assert config.per_listener_settings
    assert [listener.security for listener in config.listeners] == [
        Security(allow_anonymous=True),
        Security(acl_file=Path("a b.acl"), allow_zero_length_clientid=False),
    ]


@pytest.mark.parametrize("everybody", ["true", "false"])
def test_a_listeners_own_word_about_anonymous_clients_wins(read: Read, everybody: str) -> None:
    config = read(
        f"listener 1\nlistener_allow_anonymous false\nlistener 2\nlistener_allow_anonymous true\n"
        f"listener 3\nallow_anonymous {everybody}\n"
    )
    allowed = [listener.security.allow_anonymous for listener in config.listeners]
    assert allowed == [False, True, everybody == "true"]


def test_id_prefixes(read: Read) -> None:
    config = read(
        "auto_id_prefix all-\nclientid_prefixes dev\nlistener 1\nlistener_auto_id_prefix one-\nlistener 2\n"
    )
    assert [listener.security.auto_id_prefix for listener in config.listeners] == ["one-", "all-"]
    assert {listener.security.clientid_prefixes for listener in config.listeners} == {"dev"}


def test_the_last_of_two_files_counts(read: Read) -> None:
    (listener,) = read("listener 1\nacl_file a\nacl_file b\npassword_file a\npassword_file b\n").listeners
    assert (listener.security.acl_file, listener.security.password_file) == (Path("b"), Path("b"))


def test_tls_needs_certificate_and_key(read: Read) -> None:
    config = read(
        "listener 1\ncertfile c\nkeyfile k\ncafile ca\ncapath /etc\ncrlfile crl\nciphers A\nciphers_tls1.3 B\n"
        "tls_version tlsv1.3\nrequire_certificate true\nuse_subject_as_username true\n"
        "disable_client_cert_date_checks true\nlistener 2\n",
        Arguments(tls_keylog=Path("keys")),
    )
    assert [listener.tls for listener in config.listeners] == [
        Tls(
            Path("c"),
            Path("k"),
            Path("ca"),
            Path("/etc"),
            Path("crl"),
            require_certificate=True,
            use_subject_as_username=True,
            disable_client_cert_date_checks=True,
            tls_version="tlsv1.3",
            ciphers="A",
            ciphers_tls13="B",
            keylog_file=Path("keys"),
        ),
        None,
    ]
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ("require_certificate true", "'require_certificate' without cafile or capath"),
        ("use_identity_as_username true", "'use_identity_as_username' without 'require_certificate true'"),
    ],
)
def test_tls_that_refuses_everybody_is_warned_about(read: Read, options: str, warned: str) -> None:
    (warning,) = read(f"listener 1\ncertfile c\nkeyfile k\n{options}\n").warnings
    assert warned in warning
    assert "main.conf:1" in warning


def test_the_environment_names_the_folder_for_persistence(read: Read) -> None:
    config = read("persistence_location /a\n", MOSQUITTO_PERSISTENCE_LOCATION="/b")
    assert config.persistence.persistence_location == Path("/b")


@pytest.mark.parametrize(
    ("arguments", "types"),
    [
        (Arguments(), ("error",)),
        (Arguments(verbose=True), every_log_type()),
        (Arguments(quiet=True, verbose=True), ()),
    ],
)
def test_v_and_q_win_over_log_type(read: Read, arguments: Arguments, types: tuple[str, ...]) -> None:
    assert read("log_type error\n", arguments).logging.log_type == types


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Limits()),
        ("max_queued_messages 7", Limits(max_queued_messages=7, outbox_messages_max=7)),
        ("max_queued_bytes 9", Limits(max_queued_bytes=9, outbox_bytes_max=9)),
        ("max_queued_bytes 0", Limits()),
        (
            "max_queued_messages 7\nmax_queued_bytes 9",
            Limits(max_queued_messages=7, max_queued_bytes=9, outbox_bytes_max=9),
        ),
    ],
)
def test_what_is_said_of_queues_holds_for_qos_0_to_slow_clients(
    read: Read, text: str, expected: Limits
) -> None:
    assert read(text + "\n").limits == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rowcast_token_secret_file s", TokenConfig(secret_files=(Path("s"),))),
        ("rowcast_token_jwks k.json", TokenConfig(jwks_file=Path("k.json"))),
        ("rowcast_token_jwks https://id/k", TokenConfig(jwks_url="https://id/k")),
        (
            "rowcast_token_jwks http://id/k\nrowcast_token_secret_file s",
            TokenConfig(jwks_url="http://id/k", secret_files=(Path("s"),)),
        ),
    ],
)
def test_clients_may_show_tokens_where_it_is_said_who_signs_them(
    read: Read, text: str, expected: TokenConfig
) -> None:
    [listener] = read(f"listener 1\n{text}\n").listeners
    assert (listener.security.tokens, listener.security.token_config) == (True, expected)
    assert not read("listener 1\n").listeners[0].security.tokens


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("certfile c", "Both certfile and keyfile must be provided to enable a TLS listener.|Add `keyfile FILE`"),
        ("keyfile k", "Both certfile and keyfile must be provided to enable a TLS listener.|Add `certfile FILE`"),
        ("cafile c", "cafile specified without certfile and keyfile.|Give the listener certfile and keyfile."),
        ("capath c", "capath specified without certfile and keyfile.|Give the listener certfile and keyfile."),
        (
            "enable_proxy_protocol 2\nuse_subject_as_username true",
            "use_subject_as_username cannot be used with `enable_proxy_protocol 2`.|Write `use_identity_as",
        ),
        (
            "enable_proxy_protocol 2\ncertfile c\nkeyfile k",
            "certfile and keyfile cannot be used with `enable_proxy_protocol 2`.|Delete both",
        ),
    ],
)  # fmt: skip
def test_options_that_a_listener_can_t_have_together(read: Read, options: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"listener 1\nlistener 2\n{options}\n")
    text, cure = words.split("|")
    [mistake] = caught.value.mistakes
    assert mistake.startswith(f"Error: {text} Found at main.conf:2. {cure}")


def test_saying_only_what_is_saved_needs_saving(read: Read) -> None:
    assert read("persistence true\nrowcast_acknowledge saved\n").persistence.acknowledge == "saved"
    with pytest.raises(ConfigError, match="rowcast_acknowledge saved without persistence"):
        read("rowcast_acknowledge saved\n")


def test_each_place_is_known_for_what_is_said_later(read: Read) -> None:
    config = read("listener 1\nacl_file a\n\nlistener 2\n")
    assert config.places["acl_file", "a"] == "main.conf:2"
    assert [config.places["listener", number] for number in ("0", "1")] == ["main.conf:1", "main.conf:4"]
