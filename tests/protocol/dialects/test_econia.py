"""Econia's dialect: what a path and a token open, and what their bearer may do."""

from __future__ import annotations

import json

import pytest

from protocol.dialects.base import NEVER, Clock, Close, Identity, Publish, Slow, Subscribe
from protocol.dialects.econia import (
    READER_MESSAGES_PER_S_MAX,
    WRITER_MESSAGES_PER_S_MAX,
    Admission,
    Credentials,
    EconiaDialect,
    admit,
    credentials_of,
    why_unreadable,
)
from protocol.websocket import CloseCode

BOTH_FORMS = "/{channel?}/{jwt}"
CLOCK = Clock(utc_offset_s=1_700_000_000.0)


def admitted(claims: dict[str, object], requested: str | None = None) -> Admission | str:
    return admit(Identity("", claims=claims), requested, "mode", ("channels", "channel"))


def dialect(mode: str, *channels: str, expires_at: float = NEVER) -> EconiaDialect:
    admission = Admission(channels, mode, {"mode": mode, "user": 7}, expires_at)
    return EconiaDialect(CLOCK, admission, ping_interval_s=30.0)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/abc.def.ghi", Credentials("abc.def.ghi")),
        ("/fill_event/abc.def.ghi", Credentials("abc.def.ghi", "fill_event")),
        ("/fill%20event/abc", Credentials("abc", "fill event")),
        ("/abc?x=1", Credentials("abc")),
        ("/", Credentials("")),
        ("/fill_event/", Credentials("", "fill_event")),
        ("/a/b/c", None),
    ],
)
def test_a_path_is_a_token_or_a_channel_and_a_token(target: str, expected: Credentials | None) -> None:
    assert credentials_of(BOTH_FORMS, target) == expected


def test_literal_segments_of_the_template_must_be_there() -> None:
    assert credentials_of("/ws/{channel?}/{jwt}", "/ws/abc") == Credentials("abc")
    assert credentials_of("/ws/{channel?}/{jwt}", "/ws/fill_event/abc") == Credentials("abc", "fill_event")
    assert credentials_of("/ws/{channel?}/{jwt}", "/other/abc") is None


def test_a_template_without_a_channel_takes_the_token_alone() -> None:
    assert credentials_of("/{jwt}", "/abc") == Credentials("abc")
    assert credentials_of("/{jwt}", "/fill_event/abc") is None


@pytest.mark.parametrize(
    ("mode", "per_s"), [("r", READER_MESSAGES_PER_S_MAX), ("w", WRITER_MESSAGES_PER_S_MAX)]
)
def test_who_sends_more_than_its_rate_is_read_no_faster(mode: str, per_s: int) -> None:
    sender = dialect(mode, "c")
    now = 1000.0
    for _ in range(per_s):
        sender.receive("x", now)
    assert sender.rests_until <= now, "a second's worth may come at once"
    sent = 0
    while now < 1010.0:
        sender.receive("x", now)
        sent += 1
        now = max(now, sender.rests_until)
    assert sent == pytest.approx(10 * per_s, rel=0.02)


def test_a_token_never_shows_in_a_repr() -> None:
    assert "secret" not in repr(credentials_of(BOTH_FORMS, "/fill_event/secret"))


@pytest.mark.parametrize(
    ("claims", "requested", "channels"),
    [
        ({"mode": "r", "channels": ["fill_event"]}, None, ("fill_event",)),
        ({"mode": "r", "channels": ["a", "b"]}, None, ("a", "b")),
        ({"mode": "r", "channels": ["a", "b"], "channel": "c"}, None, ("c", "a", "b")),
        ({"mode": "r", "channels": ["a", "c"], "channel": "c"}, None, ("c", "a")),
        ({"mode": "r", "channels": ["a", "b"]}, "b", ("b",)),
    ],
)
def test_a_token_opens_its_channels_or_the_one_asked_for(
    claims: dict[str, object], requested: str | None, channels: tuple[str, ...]
) -> None:
    admission = admitted(claims, requested)
    assert isinstance(admission, Admission)
    assert admission.channels == channels


@pytest.mark.parametrize(
    ("claims", "requested", "reason"),
    [
        ({}, None, "Missing mode"),
        ({"mode": 1, "channels": ["a"]}, None, "Missing mode"),
        ({"mode": "x", "channels": ["a"]}, None, "Unknown mode: it must be r, w or rw"),
        ({"mode": "r"}, None, "No allowed channels"),
        ({"mode": "r", "channels": []}, None, "No allowed channels"),
        ({"mode": "r", "channels": ["a"]}, "b", "No allowed channels"),
        ({"mode": "r"}, "", "No allowed channels"),
    ],
)
def test_a_token_that_opens_nothing_is_refused_in_their_words(
    claims: dict[str, object], requested: str | None, reason: str
) -> None:
    assert admitted(claims, requested) == reason


def test_a_reader_is_subscribed_to_its_channels_when_the_connection_opens() -> None:
    assert dialect("r", "a", "b").open(0.0) == [Subscribe("a", Slow.CLOSE), Subscribe("b", Slow.CLOSE)]


def test_a_writer_receives_nothing() -> None:
    assert list(dialect("w", "a").open(0.0)) == []


def test_what_a_reader_sends_is_ignored() -> None:
    assert list(dialect("r", "a").receive("hello", 0.0)) == []


@pytest.mark.parametrize("message", ['he said "😀"', 'he said "😀"'.encode()])
def test_what_a_writer_sends_goes_to_all_its_channels_with_its_claims(message: str | bytes) -> None:
    commands = dialect("rw", "a", "b").receive(message, 12.5)
    assert [command.channel for command in commands if isinstance(command, Publish)] == ["a", "b"]
    assert isinstance(commands[0], Publish)
    assert commands[0].text == (
        '{"event":"WebsocketMessage","channel":"a","payload":"he said \\"😀\\"",'
        '"claims":{"mode":"rw","user":7,"message_delivered_at":1700000012.5}}'
    )
    assert json.loads(commands[0].text)["payload"] == 'he said "😀"'


def test_bytes_that_are_no_text_close_as_invalid_data() -> None:
    [command] = dialect("rw", "a").receive(b"\xff", 0.0)
    assert isinstance(command, Close)
    assert command.code == CloseCode.INVALID_DATA


def test_the_connection_is_closed_when_the_token_expires_and_not_before() -> None:
    peer = dialect("r", "a", expires_at=100.0)
    assert peer.wake_at == 100.0
    assert list(peer.tick(99.9)) == []
    assert list(peer.tick(100.0)) == [Close(3001, "JWT expired")]
    assert list(peer.tick(101.0)) == [Close(3001, "JWT expired")]
    assert peer.wake_at == NEVER


@pytest.mark.parametrize(
    ("now", "text"),
    [(0.0, "2023-11-14T22:13:20Z"), (0.5, "2023-11-14T22:13:20.500Z"), (0.9999, "2023-11-14T22:13:21Z")],
)
def test_timestamps_are_utc_with_z(now: float, text: str) -> None:
    assert CLOCK.iso(now) == text


def test_a_token_without_channels_opens_any_only_where_that_is_wanted() -> None:
    reader = Identity("", claims={"mode": "r"})
    assert admit(reader, "anything", "mode", ("channels",)) == "No allowed channels"
    assert admit(reader, None, "mode", ("channels",)) == "No allowed channels"
    admission = admit(reader, "anything", "mode", ("channels",), channels_required=False)
    assert isinstance(admission, Admission)
    assert admission.channels == ("anything",)


@pytest.mark.parametrize("channels", [[1, 2], {"a": 1}, 7, True, ["a", None]])
def test_channels_that_are_no_text_open_nothing(channels: object) -> None:
    reader = Identity("", claims={"mode": "r", "channels": channels})
    for required in (True, False):
        assert isinstance(admit(reader, "a", "mode", ("channels",), required), str)


@pytest.mark.parametrize("channel", ["*", "orders.*", "orders/#", "+", "orders/+/x", "#"])
def test_wildcards_are_refused_rather_than_read_as_a_name(channel: str) -> None:
    wanted = "Wildcards are not supported in channels"
    claimed = Identity("", claims={"mode": "r", "channels": ["a", channel]})
    assert admit(claimed, None, "mode", ("channels",)) == wanted
    asked = Identity("", claims={"mode": "r"})
    assert admit(asked, channel, "mode", ("channels",), channels_required=False) == wanted


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), [{"a": float("inf")}]])
def test_a_writer_whose_claims_no_json_can_say_is_refused(value: object) -> None:
    """Its readers were sent the word Infinity, which no browser reads."""
    claims: dict[str, object] = {"channels": ["a"], "more": value}
    assert isinstance(admitted({"mode": "rw", **claims}), str)
    assert isinstance(admitted({"mode": "r", **claims}), Admission), "nobody is shown a reader's"


@pytest.mark.parametrize(
    ("channel", "readable"),
    [("fill_event", True), ("a/b", True), ("a+b", True), ("#", False), ("a/+", False), ("*", False)],
)
def test_a_channel_that_no_token_reads_is_said(channel: str, readable: bool) -> None:
    admission = admitted({"mode": "r", "channels": [channel]}, channel)
    assert (why_unreadable(channel) is None) is isinstance(admission, Admission) is readable
