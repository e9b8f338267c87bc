"""The table of mosquitto.conf's words is whole, sound, and what docs/mosquitto-conf.md is written from."""

from __future__ import annotations

import re

import attrs
import pytest

from broker.config import model
from broker.config.mosquitto.option import Kind, Level, Option, Role
from broker.config.mosquitto.options import OPTIONS, find_option
from broker.config.mosquitto.special import SPECIALS

CLASSES = {
    "config": model.Config,
    "limits": model.Limits,
    "delivery": model.Delivery,
    "persistence": model.Persistence,
    "logging": model.Logging,
    "security": model.Security,
    "listener": model.Listener,
    "listeners": model.Listener,
    "tls": model.Tls,
}

OUR_OWN = (
    "acl_patterns_allow_slash",
    "max_retained_bytes",
    "max_retained_messages",
    "max_subscriptions",
    "rowcast_acknowledge",
    "rowcast_token_jwks",
    "rowcast_token_secret_file",
)

# Mosquitto 2.1.2 knows these words, and a few of them only under a prefix.
KNOWN = re.findall(
    r"\S+",
    """
accept_protocol_versions acl_file address addresses allow_anonymous allow_duplicate_messages
allow_zero_length_clientid auth_opt_* auth_plugin auth_plugin_deny_special_chars auto_id_prefix
autosave_interval autosave_on_changes bind_address bind_interface bridge_alpn bridge_attempt_unsubscribe
bridge_bind_address bridge_cafile bridge_capath bridge_certfile bridge_ciphers bridge_ciphers_tls1.3
bridge_identity bridge_insecure bridge_keyfile bridge_max_packet_size bridge_max_topic_alias
bridge_outgoing_retain bridge_protocol_version bridge_psk bridge_receive_maximum bridge_reload_type
bridge_require_ocsp bridge_session_expiry_interval bridge_tcp_keepalive bridge_tcp_keepalive_counter
bridge_tcp_keepalive_idle bridge_tcp_keepalive_interval bridge_tcp_user_timeout bridge_tls_use_os_certs
bridge_tls_version cafile capath certfile check_retain_source ciphers ciphers_tls1.3 cleansession clientid
clientid_prefixes connection connection_messages crlfile dhparamfile disable_client_cert_date_checks
enable_control_api enable_proxy_protocol global_max_clients global_max_connections global_plugin http_api
http_dir idle_timeout include_dir keepalive_interval keyfile listener listener_allow_anonymous
listener_auto_id_prefix local_cleansession local_clientid local_password local_username log_dest log_facility
log_timestamp log_timestamp_format log_type max_connections max_inflight_bytes max_inflight_messages
max_keepalive max_packet_size max_qos max_queued_bytes max_queued_messages max_topic_alias
max_topic_alias_broker maximum_qos memory_limit message_size_limit mount_point notification_topic
notifications notifications_local_only packet_buffer_size password password_file per_listener_settings
persistence persistence_file persistence_location persistent_client_expiration pid_file plugin plugin_load
plugin_opt_* plugin_use port protocol proxy_protocol_v2_require_tls psk_file psk_hint queue_qos0_messages
remote_clientid remote_password remote_username require_certificate restart_timeout retain_available
retain_expiry_interval retained_persistence retry_interval round_robin set_tcp_nodelay socket_domain
start_type sys_interval threshold tls_engine tls_engine_kpass_sha1 tls_keyform tls_version topic try_private
upgrade_outgoing_qos use_identity_as_username use_subject_as_username use_username_as_clientid user username
websockets_headers_size websockets_log_level websockets_origin
""",
)


def test_every_word_of_mosquitto_is_known_and_no_other() -> None:
    assert sorted(OPTIONS) == sorted([*KNOWN, *OUR_OWN])


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_an_option_is_described_and_goes_where_there_is_a_place(option: Option) -> None:
    assert option.meaning
    assert option.meaning.endswith(".")
    if option.role is not Role.HONOURED:
        assert option.note
    if option.field:
        owner, _, name = option.field.partition(".")
        own = {"allow_anonymous", "auto_id_prefix"} if owner == "listener" else set()
        assert name in {field.name for field in attrs.fields(CLASSES[owner])} | own
    if option.kind in (Kind.SPECIAL, Kind.WORD):
        assert option.name in SPECIALS or option.words
    if option.alias_of:
        assert find_option(option.alias_of)


@pytest.mark.parametrize(
    "option",
    [
        option
        for option in OPTIONS.values()
        if option.role is Role.HONOURED and option.field and not option.alias_of
    ],
    ids=lambda option: option.name,
)
def test_the_default_in_the_table_is_the_models(option: Option) -> None:
    owner, _, name = option.field.partition(".")
    field = next((field for field in attrs.fields(CLASSES[owner]) if field.name == name), None)
    if field is None or option.name in ("port", "allow_anonymous", "log_type", "log_dest"):
        return
    if option.kind is Kind.BOOLEAN:
        assert field.default is (option.default == "true")
    if option.kind is Kind.INTEGER and option.default.lstrip("-").isdigit():
        assert field.default == int(option.default)


def test_prefixes_find_their_family_under_their_own_name() -> None:
    option = find_option("plugin_opt_config")
    assert option is not None
    assert (option.name, option.level) == ("plugin_opt_config", Level.PLUGIN)
    assert find_option("plugin_optional") is None
