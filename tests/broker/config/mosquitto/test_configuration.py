"""A whole mosquitto.conf: folders to include, files as Mosquitto comes with, very large ones, and SIGHUP."""

from __future__ import annotations

import cProfile
import shutil
from pathlib import Path

import pytest
from support.conf_mistakes import Read

from broker.config.model import Tls
from broker.config.mosquitto.configuration import load
from broker.config.reload import reloaded

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
