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
