"""The words of mosquitto.conf that need more than the table, and that all values arrive where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.conf_mistakes import Read, cases_of, check

from broker.config.model import ConfigError, Listener
from broker.config.mosquitto.special import every_log_type


@pytest.mark.parametrize("case", cases_of("values"))
def test_mistake_is_told_with_file_line_and_cure(
    case: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(case)


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


@pytest.mark.parametrize(
    ("word", "seconds"),
    [
        ("1s", 1),
        ("2 seconds", None),
        ("2seconds", 2),
        ("1second", 1),
        ("3h", 10800),
        ("1hour", 3600),
        ("14d", 14 * 86400),
        ("2w", 14 * 86400),
        ("1m", 30 * 86400),
        ("1year", 365 * 86400),
        ("0d", None),
        ("00s", None),
        ("d", None),
        ("5", None),
        ("1.5d", None),
        ("-1d", None),
        ("1D", None),
        ("1dd", None),
        ("1234567890s", None),
    ],
)
def test_a_session_expires_after_a_number_and_a_unit(read: Read, word: str, seconds: int | None) -> None:
    text = f"persistent_client_expiration {word}\n"
    if seconds is not None:
        assert read(text).limits.persistent_client_expiration_s == seconds
        return
    with pytest.raises(
        ConfigError, match=r"Invalid 'persistent_client_expiration' duration in configuration\."
    ):
        read(text)


@pytest.mark.parametrize(("number", "expected"), [("0", 0), ("1", 1), ("65534", 65534), ("65535", 0)])
def test_as_many_in_flight_as_there_are_packet_ids_is_no_limit(
    read: Read, number: str, expected: int
) -> None:
    assert read(f"max_inflight_messages {number}\n").limits.max_inflight_messages == expected


def test_what_is_named_twice_goes_there_once_and_last(read: Read) -> None:
    assert read("log_dest stdout\nlog_dest topic\nlog_dest stdout\n").logging.log_dest == ("topic", "stdout")
    assert read("log_type debug\nlog_type error\nlog_type debug\n").logging.log_type == ("debug", "error")


def test_all_is_every_type_of_log_but_the_two_words(read: Read) -> None:
    assert len(every_log_type()) == 9
    assert not {"all", "none"} & set(every_log_type())


@pytest.mark.parametrize(
    "line", ["listener 1 a\0b", "listener 0 /a\0b", "log_dest file a\0b", "include_dir a\0b"]
)
def test_nothing_may_hold_a_nul(read: Read, line: str) -> None:
    with pytest.raises(
        ConfigError, match=r"Malformed UTF-8 in configuration\. Found at main.conf:1\. Save the file"
    ):
        read(line + "\n")


def test_the_default_listener_is_there_whichever_line_names_it(read: Read) -> None:
    assert read("port 1884\nlistener 1\nbind_address ::1\n").listeners == (Listener(1884, "::1"), Listener(1))


def test_capitals_stand_beside_small_letters_in_a_folder(read: Read) -> None:
    folder = Path("d")
    folder.mkdir()
    for number, name in enumerate(("b", "A", "a", "B", "Ab"), 1):
        (folder / f"{name}.conf").write_text(f"listener {number}\n")
    ports = [listener.port for listener in read("include_dir d\n").listeners]
    assert ports == [2, 5, 3, 4, 1], "letter by letter: a is behind all that begin with A"
