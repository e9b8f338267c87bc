"""The `rowcast` dialect's requests and answers, as docs/rowcast-protocol.md says them."""

# mypy: disable-error-code="comparison-overlap"
# Subclasses of what a dialect may ask for are compared with what it asks for.
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.dialects.base import Clock, Close, Identity, Login, Refusal, Send
from protocol.dialects.rowcast import (
    Leave,
    Read,
    RowcastDialect,
    RowcastRules,
    Say,
    message_text,
    published_text,
)
from protocol.grants import Grants, grants_of

ALL = Grants((b"#",), (b"#",))


def dialect(grants: Grants = ALL, **rules: int) -> RowcastDialect:
    return RowcastDialect(Clock(1000.0), RowcastRules(anonymous=grants, **rules), 0.0)


def answer(one: RowcastDialect, request: str, now: float = 0.0) -> dict[str, object]:
    [command] = one.receive(request, now)
    assert isinstance(command, Send)
    found: dict[str, object] = json.loads(command.text)
    return found


def test_a_subscription_in_every_spelling() -> None:
    one = dialect()
    assert one.receive('{"id":2,"subscribe":"orders/+","since":"E/1"}', 0) == [Read("2", b"orders/+", "E/1")]
    many = '{"id":"x","state":true,"subscribe":["a",{"topic":"b","since":"now","state":false}]}'
    assert one.receive(many, 0) == [Read('"x"', b"a", None, True), Read('"x"', b"b", "now", False)]


def test_what_is_published_is_what_was_written() -> None:
    text = (
        '{"publish":"chat/7", "data": {"n" :1234567890123456789012345678901234567890, "x":[1.0e5]}, "id":7}'
    )
    (said,) = dialect().receive(text, 0)
    payload = b'{"n" :1234567890123456789012345678901234567890, "x":[1.0e5]}'
    assert said == Say(b"chat/7", payload, request="7")
    assert published_text("7") == '{"id":7,"published":true}'


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        ("", "bad_request"),
        ("[]", "bad_request"),
        ('{"id":1}', "bad_request"),
        ('{"subscribe":"a","publish":"b"}', "bad_request"),
        ('{"subscribe":"a/#/b"}', "bad_topic"),
        ('{"subscribe":""}', "bad_topic"),
        ('{"subscribe":"$share/g/a"}', "bad_topic"),
        ('{"subscribe":"$ws/canton/x"}', "bad_topic"),
        ('{"subscribe":7}', "bad_request"),
        ('{"subscribe":"a","since":7}', "bad_request"),
        ('{"subscribe":"a","state":"yes"}', "bad_request"),
        ('{"publish":"a/+","data":1}', "bad_topic"),
        ('{"publish":"$SYS/x","data":1}', "bad_topic"),
        ('{"publish":"a"}', "bad_request"),
        ('{"publish":"a","data":1,"encoding":"text"}', "bad_request"),
        ('{"publish":"a","data":"?","encoding":"base64"}', "bad_request"),
        ('{"publish":"a","data":1,"qos":"1"}', "bad_request"),
        ('{"connect":1}', "bad_request"),
        ('{"connect":{"token":1}}', "bad_request"),
        ('{"id":[],"ping":1}', "bad_request"),
    ],
)
def test_what_is_wrong_is_answered_and_harms_nothing(request_text: str, code: str) -> None:
    error = answer(dialect(), request_text)["error"]
    assert isinstance(error, dict)
    assert error["code"] == code


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    ("id", "connect", "subscribe", "publish", "data", "encoding", "topic", "since")
                ),
                x,
            )
        ),
    ).map(json.dumps)
)
def test_no_message_is_a_bug(text: str) -> None:
    one = dialect()
    for command in one.receive(text, 0.0):
        if isinstance(command, Send):
            json.loads(command.text)


def test_rights_of_a_token_and_of_the_one_that_renews_it() -> None:
    one = dialect(Grants())
    assert "error" in answer(one, '{"subscribe":"orders/ada"}')
    assert one.receive('{"id":1,"connect":{"token":"t"}}', 0) == (Login("t"),)
    claims = {"subscribe": ["orders/{sub}", "price/#"], "publish": "chat/+"}
    [connected] = one.login_ended(Identity("ada", expires_at=50.0, claims=claims), 0)
    assert connected == Send('{"id":1,"connected":{"ping":25,"node":"","expires":1050}}')
    assert one.receive('{"subscribe":["orders/ada","price/+"]}', 0) == [
        Read("", b"orders/ada"),
        Read("", b"price/+"),
    ]
    assert "error" in answer(one, '{"subscribe":"orders/+"}')
    assert "error" in answer(one, '{"subscribe":"#"}')
    assert "error" in answer(one, '{"publish":"price/tea","data":1}')
    one.receive('{"connect":{"token":"u"}}', 0)
    commands = one.login_ended(Identity("ada", expires_at=90.0, claims={"subscribe": ["price/#"]}), 0)
    assert Leave(b"orders/ada") in commands
    assert Leave(b"price/+") not in commands
    assert one.tick(60.0)[0] == Send('{"ping":1}') or one.tick(60.0) == ()
    assert one.tick(90.0) == (Close(3001, "the token has expired"),)


@pytest.mark.parametrize("account", ["a/b", "+", "#", "", "a\0"])
def test_a_name_that_is_no_level_fills_in_nothing(account: str) -> None:
    assert grants_of({"subscribe": ["orders/{sub}", "x"]}, account).subscribe == (b"x",)


@pytest.mark.parametrize(
    ("refusal", "code"), [(Refusal.INVALID, 1008), (Refusal.EXPIRED, 3001), (Refusal.UNAVAILABLE, 1013)]
)
def test_a_refused_login_says_whether_to_come_back(refusal: Refusal, code: int) -> None:
    one = dialect()
    one.receive('{"id":1,"connect":{"token":"t"}}', 0)
    said, closed = one.login_ended(refusal, 0)
    assert isinstance(said, Send)
    assert isinstance(closed, Close)
    assert closed.code == code


def test_a_client_that_answers_no_ping_is_closed() -> None:
    one = dialect()
    assert one.tick(25.0) == (Send('{"ping":1}'),)
    one.receive('{"pong":1}', 30.0)
    assert one.tick(50.0) == (Send('{"ping":1}'),)
    assert one.tick(75.0) == (Send('{"ping":1}'),)
    [closed] = one.tick(100.0)
    assert isinstance(closed, Close)
    assert closed.code == 1001


@pytest.mark.parametrize(
    ("payload", "members"),
    [
        (
            b'{"n": 1234567890123456789012345678901234567890}',
            b'"data":{"n": 1234567890123456789012345678901234567890}',
        ),
        (b"hello", b'"encoding":"text","data":"hello"'),
        (b"", b'"encoding":"text","data":""'),
        (b"NaN", b'"encoding":"text","data":"NaN"'),
        (b'{"a":1}x', b'"encoding":"text","data":"{\\"a\\":1}x"'),
        (b"\xff\x00", b'"encoding":"base64","data":"/wA="'),
        (b"[" * 100_000, b'"encoding":"text","data":"' + b"[" * 100_000 + b'"'),
    ],
)
def test_a_payload_is_handed_on_unchanged_or_says_how_it_is_written(payload: bytes, members: bytes) -> None:
    assert message_text(b"a", payload, b"E/1") == b'{"topic":"a","at":"E/1",' + members + b"}"


def test_those_without_a_token_lose_what_is_not_allowed_any_more() -> None:
    one, with_token = dialect(Grants((b"#",))), dialect(Grants((b"#",)))
    with_token.login_ended(Identity("ada", claims={"subscribe": "#"}), 0)
    for peer in (one, with_token):
        peer.receive('{"subscribe":["price/#","orders/ada"]}', 0)
    assert Leave(b"orders/ada") in one.adopt_anonymous(Grants((b"price/#",)))
    assert "error" in answer(one, '{"subscribe":"orders/ada"}')
    assert one.receive('{"subscribe":"price/a"}', 0) == [Read("", b"price/a")]
    assert with_token.adopt_anonymous(Grants()) == ()
