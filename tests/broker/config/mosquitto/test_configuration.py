"""What a mosquitto.conf means: listeners, local only mode, security per listener, values, folders to include."""

from __future__ import annotations

import cProfile
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.config.arguments import Arguments
from broker.config.model import Config, Listener, Security, Tls
from broker.config.mosquitto.configuration import load
from broker.config.mosquitto.special import every_log_type
from broker.config.reload import reloaded

Read = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    monkeypatch.chdir(tmp_path)

    def read(text: str, arguments: Arguments | None = None, **environment: str) -> Config:
        Path("main.conf").write_text(text, newline="")
        return load(Path("main.conf"), arguments, environment)

    return read


# Listeners and local only mode


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


# Security


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


# TLS


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


# Values


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("max_inflight_messages 65535", "limits.max_inflight_messages", 0),
        ("max_inflight_messages -1", "limits.max_inflight_messages", 0),
        ("max_inflight_messages 1", "limits.max_inflight_messages", 1),
        ("max_queued_messages -1", "limits.max_queued_messages", 0),
        ("max_queued_messages 0x10 messages", "limits.max_queued_messages", 16),
        ("max_queued_bytes 010", "limits.max_queued_bytes", 8),
        ("message_size_limit 268435455", "limits.message_size_limit_bytes", 268_435_455),
        ("persistent_client_expiration 2m", "limits.persistent_client_expiration_s", 2 * 30 * 86400),
        ("persistent_client_expiration 1y", "limits.persistent_client_expiration_s", 365 * 86400),
        ("persistent_client_expiration 8h", "limits.persistent_client_expiration_s", 8 * 3600),
        ("persistent_client_expiration 14days", "limits.persistent_client_expiration_s", 14 * 86400),
        ("persistent_client_expiration 1month", "limits.persistent_client_expiration_s", 30 * 86400),
        ("allow_duplicate_messages 1", "delivery.allow_duplicate_messages", True),
        ("autosave_interval -3", "persistence.autosave_interval_s", 0),
        ("retained_persistence true", "persistence.persistence", True),
        ("persistence_location  /a b/ # c ", "persistence.persistence_location", Path("/a b/ # c")),
        ("log_dest none", "logging.log_dest", ("none",)),
        ("log_dest stdout unbuffered", "logging.log_dest", ("stdout",)),
        ("log_dest stdout\nlog_dest none\nlog_dest topic", "logging.log_dest", ("topic",)),
        ("log_dest stderr\nlog_dest file  /a b.log", "logging.log_dest", ("stderr", "file /a b.log")),
        ("log_type debug\nlog_type none\nlog_type error", "logging.log_type", ("error",)),
        ("log_type all", "logging.log_type", every_log_type()),
        ("log_facility 7", "logging.log_facility", 7),
        ("log_timestamp_format %Y-%m-%dT%H:%M:%S", "logging.log_timestamp_format", "%Y-%m-%dT%H:%M:%S"),
        ("connection_messages false", "logging.connection_messages", False),
        ("sys_interval 0", "sys_interval_s", 0),
        ("pid_file /run/a.pid", "pid_file", Path("/run/a.pid")),
        ("user a\nuser b", "user", "b"),
        ("\ufeffuser a", "user", "a"),
        ("user a\r\n\r\n# b\r\n", "user", "a"),
    ],
)
def test_values_arrive(read: Read, text: str, path: str, value: object) -> None:
    found: object = read(text + "\n")
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


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


def test_options_without_effect_are_named_in_warnings(read: Read) -> None:
    config = read(
        "retry_interval 20\nmemory_limit 5000000000\nretain_expiry_interval 3\nlistener 1\n"
        "http_dir /srv\nlog_dest dlt\n"
    )
    assert [warning.split("'")[1] for warning in config.warnings] == [
        "retry_interval",
        "memory_limit",
        "retain_expiry_interval",
        "http_dir",
        "log_dest dlt",
    ]


# Files


def test_files_of_a_folder_are_read_in_order_of_name_and_go_on_with_the_settings(read: Read) -> None:
    folder = Path("conf.d")
    folder.mkdir()
    (folder / "B.conf").write_text(
        "log_dest stdout\r\nsys_interval 2\r\nlistener 2\r\nmax_qos 1\r\n", newline=""
    )
    (folder / "a.conf").write_text("log_dest stderr\nsys_interval 1\nlistener 1")
    (folder / "c.conf.off").write_text("nonsense")
    (folder / ".conf").write_text("nonsense")
    config = read("listener 3\ninclude_dir conf.d\nmax_qos 0\n")
    assert config.logging.log_dest == ("stderr", "stdout")
    assert config.sys_interval_s == 2
    found = [(listener.port, listener.max_qos) for listener in config.listeners]
    assert found == [(3, 0), (1, 2), (2, 1)]


def test_a_line_of_a_very_large_file_costs_what_one_of_a_small_file_costs(read: Read) -> None:
    lines = ["# comment", "max_queued_messages 100", "", "log_type error", "sys_interval 10"]

    def calls(times: int) -> int:
        text = "\n".join(lines * times)
        with cProfile.Profile() as profile:
            assert read(text).limits.max_queued_messages == 100
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(2_000) < 2.2 * calls(1_000)


SAMPLES = [Path("/usr/share/doc/mosquitto/examples/mosquitto.conf"), Path("/etc/mosquitto/mosquitto.conf")]


@pytest.mark.parametrize("sample", [path for path in SAMPLES if path.exists()], ids=str)
def test_the_files_that_mosquitto_comes_with_are_read(sample: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mosquitto.conf"
    shutil.copy(sample, copy)
    load(copy)


def test_one_file_with_everything_is_read(read: Read) -> None:
    config = read(EVERYTHING)
    assert [listener.port for listener in config.listeners] == [1, 2, 3]
    assert config.listeners[1].security.acl_file == Path("acl")


EVERYTHING = """\
allow_duplicate_messages true
autosave_interval 1
autosave_on_changes true
check_retain_source true
enable_control_api true
global_max_clients 10
global_max_connections 10
log_dest stderr
log_timestamp true
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type all
max_inflight_bytes 10000
max_inflight_messages 100
max_keepalive 60
max_packet_size 1000
max_queued_bytes 10000
max_queued_messages 100
message_size_limit 1000
memory_limit 100000000
persistence true
persistence_file a.db
persistence_location .
persistent_client_expiration 1h
pid_file a.pid
queue_qos0_messages true
retain_available true
retry_interval not-used
set_tcp_nodelay true
sys_interval 60
upgrade_outgoing_qos true
websockets_log_level 255
websockets_headers_size 4096
allow_zero_length_clientid false
auto_id_prefix pre
acl_file acl
connection_messages true
dhparamfile file
listener 1
listener 2
allow_anonymous false
accept_protocol_versions 3,4,5
bind_interface lo
cafile all-ca.crt
certfile server.crt
keyfile server.key
ciphers ECDHE-ECDSA-AES256-GCM-SHA384
ciphers_tls1.3 TLS_AES_256_GCM_SHA384
clientid_prefixes client
crlfile crl.pem
disable_client_cert_date_checks true
http_dir .
max_connections 10
max_qos 1
mount_point mount/
protocol websockets
require_certificate true
socket_domain ipv4
tls_version tlsv1.2
max_topic_alias 15
max_topic_alias_broker 15
use_identity_as_username true
use_username_as_clientid true
websockets_origin localhost
port 3
"""


# SIGHUP


def test_a_reload_takes_what_mosquitto_takes_and_leaves_the_rest(read: Read) -> None:
    old = read("listener 1\nlistener 2 127.0.0.1\ncertfile a\nkeyfile b\n")
    new = read(
        "sys_interval 3\nmax_queued_messages 7\nqueue_qos0_messages true\nlog_type debug\nuser other\n"
        "persistent_client_expiration 1d\nretain_available false\nmessage_size_limit 9\nacl_file acl\n"
        "listener 2 127.0.0.1\nmax_qos 1\ncertfile c\nkeyfile b\ntls_version tlsv1.3\nlistener 1\nprotocol websockets\n"
    )
    result = reloaded(old, new)
    assert result.sys_interval_s == 3
    assert result.limits.max_queued_messages == 1000
    assert result.limits.message_size_limit_bytes == 9
    assert result.limits.persistent_client_expiration_s == 86400
    assert result.delivery.queue_qos0_messages
    assert result.delivery.retain_available
    assert result.logging.log_type == ("debug",)
    assert result.user is None
    first, second = result.listeners
    assert (first.port, first.protocol, first.security.acl_file) == (1, "mqtt", Path("acl"))
    assert (second.host, second.max_qos) == ("127.0.0.1", 1)
    assert second.tls == Tls(Path("c"), Path("b"))


def test_a_reload_of_the_same_file_changes_nothing(read: Read) -> None:
    assert reloaded(read(EVERYTHING), read(EVERYTHING)) == read(EVERYTHING)
