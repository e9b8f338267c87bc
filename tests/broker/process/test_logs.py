"""The log's lines, places and types, as Mosquitto's options mean them."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.config.model import Logging
from broker.config.mosquitto.special import every_log_type
from broker.links.words import NOTICE, SUBSCRIBE, UNSUBSCRIBE
from broker.process import logs

logger = logging.getLogger("broker.test")
Open = Callable[..., logs.Log]


@pytest.fixture
def open_log() -> Iterator[Open]:
    opened: list[logs.Log] = []

    def open_one(*places: str, **options: object) -> logs.Log:
        config = Logging(log_dest=places, **options)  # type: ignore[arg-type]
        opened.append(logs.setup(config))
        return opened[-1]

    yield open_one
    for log in opened:
        logs.teardown(log)


def log_one_of_each() -> None:
    logger.error("an error")
    logger.warning("a warning")
    logger.log(NOTICE, "a notice")
    logger.info("an information")
    logger.log(SUBSCRIBE, "a subscribe")
    logger.log(UNSUBSCRIBE, "an unsubscribe")
    logger.log(logs.WEBSOCKETS, "a websockets")
    logger.debug("a debug")
    logger.log(logs.INTERNAL, "an internal")


def types_in(text: str) -> list[str]:
    return [line.split()[-1] for line in text.splitlines()]


def test_what_no_line_shows_is_not_found_out_meanwhile(open_log: Open) -> None:
    before = {name: getattr(logging, name) for name in logs.NOT_SHOWN}
    log = open_log("none")
    made: list[logging.LogRecord] = []

    def note(record: logging.LogRecord) -> bool:
        made.append(record)
        return True

    logger.addFilter(note)
    try:
        logger.error("an error")
    finally:
        logger.filters.clear()
        logs.teardown(log)
    assert (made[0].process, made[0].thread, made[0].lineno) == (None, None, 0)
    assert before == {name: getattr(logging, name) for name in logs.NOT_SHOWN}
    assert all(before.values())


def test_a_line_begins_with_the_seconds(open_log: Open, capsys: pytest.CaptureFixture[str]) -> None:
    open_log("stderr")
    logger.info("rowcast version %s starting", "1.0")
    assert re.fullmatch(r"\d{10}: rowcast version 1\.0 starting\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"log_timestamp": False}, "x"),
        ({"log_timestamp_format": "%Y-%m-%dT%H:%M:%S"}, r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d: x"),
        ({"log_timestamp": False, "log_timestamp_format": "%Y"}, "x"),
    ],
)
def test_the_time_is_shown_as_asked(
    open_log: Open, capsys: pytest.CaptureFixture[str], options: dict[str, object], line: str
) -> None:
    open_log("stdout", **options)
    logger.info("x")
    assert re.fullmatch(line + "\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (("error", "warning", "notice", "information"), ["error", "warning", "notice", "information"]),
        (("error",), ["error"]),
        (("subscribe", "notice"), ["notice", "subscribe"]),
        (("unsubscribe",), ["unsubscribe"]),
        (("debug",), ["debug"]),
        ((), []),
    ],
)
def test_only_the_types_asked_for_are_logged(
    open_log: Open, capsys: pytest.CaptureFixture[str], wanted: tuple[str, ...], shown: list[str]
) -> None:
    open_log("stderr", log_type=wanted)
    log_one_of_each()
    assert types_in(capsys.readouterr().err) == shown


def test_all_is_all(open_log: Open, capsys: pytest.CaptureFixture[str]) -> None:
    open_log("stderr", log_type=every_log_type())
    log_one_of_each()
    assert len(types_in(capsys.readouterr().err)) == 9


def test_none_is_nowhere(open_log: Open, capsys: pytest.CaptureFixture[str]) -> None:
    open_log("none")
    log_one_of_each()
    assert capsys.readouterr() == ("", "")


def test_several_places_get_the_same_line(
    open_log: Open, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a file.log"
    open_log("stdout", "stderr", f"file {path}")
    logger.info("x")
    shown = capsys.readouterr()
    assert shown.out == shown.err == path.read_text() != ""
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_moved_away_is_opened_again(open_log: Open, tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = open_log(f"file {path}", log_timestamp=False)
    logger.info("one")
    path.rename(tmp_path / "old")
    logger.info("two")
    log.reopen()
    logger.info("three")
    assert (tmp_path / "old").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"


def test_a_file_that_cannot_be_opened_again_is_told_where_lines_still_go(
    open_log: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = open_log(f"file {folder}/log", "stderr", log_timestamp=False)
    folder.rename(tmp_path / "moved")
    log.reopen()
    told = capsys.readouterr().err.splitlines()
    assert told == ["Error: Unable to open log file for writing. No such file or directory."]


def test_a_file_that_cannot_be_opened_leaves_errors_on_stderr(
    open_log: Open, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    open_log(f"file {tmp_path}/nowhere/log", log_timestamp=False)
    log_one_of_each()
    assert capsys.readouterr().err.splitlines() == [
        f"Error: Unable to open log file {tmp_path}/nowhere/log for writing. No such file or directory.",
        "an error",
    ]


def test_lines_are_published_under_their_types_but_never_debug(open_log: Open) -> None:
    log = open_log("topic", log_type=every_log_type(), log_timestamp=False)
    published: list[tuple[bytes, bytes]] = []
    logger.info("before anybody publishes")
    log.publish_with(lambda topic, line: published.append((topic, line)))
    log_one_of_each()
    assert published == [
        (b"$SYS/broker/log/I", b"before anybody publishes"),
        (b"$SYS/broker/log/E", b"an error"),
        (b"$SYS/broker/log/W", b"a warning"),
        (b"$SYS/broker/log/N", b"a notice"),
        (b"$SYS/broker/log/I", b"an information"),
        (b"$SYS/broker/log/M/subscribe", b"a subscribe"),
        (b"$SYS/broker/log/M/unsubscribe", b"an unsubscribe"),
        (b"$SYS/broker/log/WS", b"a websockets"),
    ]


def test_what_publishing_logs_is_not_published_again(
    open_log: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    log = open_log("topic", "stderr", log_timestamp=False)
    published: list[bytes] = []

    def publish(topic: bytes, line: bytes) -> None:
        published.append(line)
        logger.info("publishing")

    log.publish_with(publish)
    logger.info("x")
    assert published == [b"x"]
    assert capsys.readouterr().err == "publishing\nx\n"


def test_lines_of_other_threads_are_published_by_the_one_that_may(open_log: Open) -> None:
    log = open_log("topic", log_timestamp=False)
    published: list[tuple[bytes, int]] = []
    log.publish_with(lambda topic, line: published.append((line, threading.get_ident())))
    other = threading.Thread(target=logger.info, args=("from a thread",))
    other.start()
    other.join()
    assert published == []
    logger.info("from here")
    here = threading.get_ident()
    assert published == [(b"from a thread", here), (b"from here", here)]


def test_a_place_that_fails_does_not_stop_the_others(
    open_log: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    open_log("file /dev/full", "stderr", log_timestamp=False)
    logger.info("x")
    assert capsys.readouterr().err == "x\n"


def test_a_new_configuration_takes_effect(
    open_log: Open, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = open_log("stderr", log_timestamp=False)
    log.apply(Logging(log_dest=(f"file {tmp_path}/log",), log_type=("debug",), log_timestamp=False))
    log_one_of_each()
    assert capsys.readouterr().err == ""
    assert (tmp_path / "log").read_text() == "a debug\n"


def test_one_event_is_one_line_whatever_a_client_called_itself(
    open_log: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    open_log("stderr", log_timestamp=False)
    logger.info("Client %s is here", "a\nError: forged\r\u2028b")
    logger.info("Client %s is here", "\x1b[2J\x9b31m\u202e\x00\tgrün 日")
    try:
        raise ValueError("bug")
    except ValueError:
        logger.exception("a bug")
    first, other, second = capsys.readouterr().err.split("\n")[:3]
    assert other == "Client \\x1b[2J\\x9b31m\\u202e\\x00\tgrün 日 is here"
    assert first == "Client a\\nError: forged\\n\\nb is here"
    assert second.startswith("a bug\\nTraceback (most recent call last):\\n")


def test_json_says_what_happened_to_whom(open_log: Open, capsys: pytest.CaptureFixture[str]) -> None:
    open_log("stderr", log_format="json")
    logger.log(
        NOTICE,
        "New client connected from %s as %s (p%d, c%d, k%d%s).",
        *("127.0.0.1:1", 'a"da\n', 4, 1, 60, ", u'x'"),
    )
    logger.warning("feed %s: something new: %d", "main", 7)
    try:
        raise ValueError("bug")
    except ValueError:
        logger.exception("a bug")
    client, feed, bug = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", client.pop("time"))
    assert client == {
        "severity": "notice",
        "event": "client_connected",
        "message": "New client connected from 127.0.0.1:1 as a\"da\n (p4, c1, k60, u'x').",
        "peer": "127.0.0.1:1",
        "client": 'a"da\n',
        "protocol": 4,
        "clean": 1,
        "keep_alive_s": 60,
    }
    assert (feed["event"], feed["feed"], feed["severity"]) == ("feed", "main", "warning")
    assert (bug["event"], bug["severity"], "ValueError: bug" in bug["traceback"]) == ("log", "error", True)


def test_under_systemd_a_line_begins_with_its_severity_and_has_no_time(
    open_log: Open, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    open_log("stderr")
    logger.warning("look at this")
    logger.debug("not at this")
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert "<4>look at this\n" in capfd.readouterr().err
    assert not logs.leads_to_journal(2)
