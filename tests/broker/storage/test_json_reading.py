"""Lines of JSON that somebody wrote: what is wrong is named with its line, and nothing else comes of it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.storage.json_reading import WrongLine, snapshot_of

HEAD = '{"format": "rowcast persistence", "version": 1, "saved_at": "2026-01-01T00:00:00Z"}'
MESSAGE = '{"message": 1, "topic": "a", "payload": "x", "qos": 1}'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: the first line must begin"),
        (MESSAGE, "line 1: the first line must begin"),
        (f"{HEAD}\n{{", "line 2: it is no JSON"),
        (f"{HEAD}\n[]", "line 2: an object is wanted"),
        (f"{HEAD}\n{{}}", "line 2: it has neither"),
        (f"{HEAD}\n" + MESSAGE.replace('"a"', '"a/#"'), "line 2: 'a/#' is no topic name"),
        (
            f"{HEAD}\n" + MESSAGE.replace('"qos": 1', '"qos": 3'),
            "line 2: 'qos' is a whole number from 0 to 2",
        ),
        (f"{HEAD}\n" + MESSAGE.replace('"x"', '{"base64": "?"}'), "line 2: "),
        (f"{HEAD}\n" + MESSAGE.replace(', "payload": "x"', ""), "line 2: there is no 'payload'"),
        (f'{HEAD}\n{MESSAGE}\n{{"retained": 2}}', "line 3: no line before has the message 2"),
        (f'{HEAD}\n{{"session": "s"}}\n{{"session": "s"}}', "line 3: this session has a line already"),
        (
            f'{HEAD}\n{MESSAGE}\n{{"session": "s", "in_flight": [{{"packet_id": 1, "message": 1, "qos": 1,'
            ' "awaits": "PUBREC"}]}',
            "line 3: 'awaits' is PUBACK at QoS 1",
        ),
        (
            f'{HEAD}\n{{"session": "s", "subscriptions": [{{"filter": "a/#/b", "qos": 1}}]}}',
            "line 2: 'a/#/b' is no topic filter",
        ),
    ],
)
def test_a_wrong_line_is_named(text: str, problem: str) -> None:
    with pytest.raises(WrongLine) as error:
        snapshot_of(text.splitlines())
    assert str(error.value).startswith(problem)


@given(
    st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text()), lambda inner: st.lists(inner))
)
def test_a_line_of_anything_is_taken_or_refused(value: object) -> None:
    for name in (
        "session",
        "subscriptions",
        "in_flight",
        "queued",
        "inbound",
        "will",
        "mount_point",
        "expiry_s",
    ):
        line = {"session": "s", name: value}
        with suppress(WrongLine):
            snapshot_of([HEAD, json.dumps(line)])


IN_FLIGHT = '{"packet_id": 1, "message": 1, "qos": 1, "awaits": "PUBACK"'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[" * 100_000, "line 3: it is no JSON: it goes too deep"),
        ('{"session": "s", "expiry_s": NaN}', "line 3: 'expiry_s' is a number of seconds, not nan"),
        ('{"session": "s", "expiry_s": -1}', "line 3: 'expiry_s' is a number of seconds, not -1"),
        ('{"session": "s", "expiry_s": "1"}', "line 3: 'expiry_s' is a number of seconds, not '1'"),
        ('{"session": "s", "expiry_s": true}', "line 3: 'expiry_s' is a number of seconds, not True"),
        ('{"session": "s", "last_packet_id": 65536}', "line 3: 'last_packet_id' is a whole number from 0 to"),
        ('{"session": "s", "last_packet_id": true}', "line 3: 'last_packet_id' is a whole number from 0 to"),
        ('{"session": "s", "disconnected_at": 5}', "line 3: a time is wanted, not 5"),
        ('{"session": 5}', 'line 3: a string or {"base64": "..."} is wanted, not 5'),
        ('{"session": "s", "will": {"message": 1}}', "line 3: there is no 'due'"),
        (f'{{"session": "s", "in_flight": [{IN_FLIGHT}}}, {IN_FLIGHT}}}]}}', "line 3: a packet id stands tw"),
        (
            f'{{"session": "s", "in_flight": [{IN_FLIGHT}, "properties": {{"base64": "AQE="}}}}]}}',
            "line 3: 'properties' of a session's message are subscription identifiers",
        ),
        (
            '{"session": "s", "queued": [{"message": 1, "qos": 1, "properties": "?"}]}',
            "line 3: 'properties' of a session's message are subscription identifiers",
        ),
        ('{"retained": [1]}', "line 3: 'message' is a whole number"),
        ('{"retained": true}', "line 3: 'message' is a whole number"),
        ('{"session": "s", "queued": 1}', "line 3: "),
    ],
)
def test_a_session_that_can_not_be_is_refused_with_its_line(line: str, problem: str) -> None:
    with pytest.raises(WrongLine) as error:
        snapshot_of([HEAD, MESSAGE, line])
    assert str(error.value).startswith(problem)


def test_a_time_without_a_zone_is_in_utc_and_empty_lines_are_none() -> None:
    saved = snapshot_of(
        [HEAD, "", MESSAGE, '{"session": "s", "disconnected_at": "1970-01-01T00:00:05"}', " "]
    )
    assert saved.sessions[0].disconnected_at == 5.0


def test_what_a_line_leaves_out_is_not_there() -> None:
    saved = snapshot_of(
        [
            HEAD,
            MESSAGE,
            '{"session": "s", "queued": [{"message": 1, "qos": 1}], "subscriptions": [{"filter": "#", "qos": 1}],'
            ' "in_flight": [{"packet_id": 1, "message": 1, "qos": 1, "awaits": "PUBACK"}], "expiry_s": 0}',
        ]
    )
    (session,) = saved.sessions
    assert (session.ids_after, session.last_packet_id, session.listener_port, session.bridge) == (
        0,
        0,
        0,
        False,
    )
    assert (session.expiry_s, session.subscriptions, session.replays) == (0.0, {b"#": 1}, set())
    assert [(one.retain, one.ids_before, one.ids) for one in session.queued] == [(False, 0, b"")]
    assert [(one.retain, one.ids) for one in session.inflight] == [(False, b"")]


def test_an_identifier_that_a_message_came_by_is_kept() -> None:
    line = '{"session": "s", "queued": [{"message": 1, "qos": 1, "properties": {"base64": "CwcL/wE="}}]}'
    (waiting,) = snapshot_of([HEAD, MESSAGE, line]).sessions[0].queued
    assert waiting.ids == b"\x0b\x07\x0b\xff\x01"
