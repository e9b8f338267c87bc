"""The CONNMIX exchange protocol: every message of the document, and who may read what."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dialects import done, sent

from protocol.dialects.base import (
    Clock,
    Close,
    Commands,
    Identity,
    Login,
    Refusal,
    Send,
    Slow,
    Subscribe,
    Unsubscribe,
)
from protocol.dialects.exchange import (
    PRIVATE_KINDS,
    PUBLIC_KINDS,
    ExchangeDialect,
    ExchangeRules,
    event,
    why_unreadable,
)

RULES = ExchangeRules(
    messages_per_s_max=100,
    subscriptions_max=20,
)
SUCCESS = Send('{"result":true}')
NOT_AUTH = Send('{"code":1,"msg":"Not Auth"}')


def connected() -> ExchangeDialect:
    return ExchangeDialect(Clock(0.0), RULES, 30.0, 0.0)


def logged_in(uid: str = "1001") -> ExchangeDialect:
    peer = connected()
    peer.login_ended(Identity(uid), 0.0)
    return peer


def ask(peer: ExchangeDialect, op: str, channel: str) -> list[object]:
    return list(peer.receive(json.dumps({"op": op, "channel": channel}), 0.0))


def test_a_login_hands_on_the_token_and_is_answered_with_success() -> None:
    peer = connected()
    assert list(peer.receive('{"op":"auth","token":"***"}', 0.0)) == [Login("***")]
    assert list(peer.login_ended(Identity("1001"), 0.0)) == [SUCCESS]


def test_a_login_without_a_token_asks_with_an_empty_one() -> None:
    assert list(connected().receive('{"op":"auth"}', 0.0)) == [Login("")]


@pytest.mark.parametrize("refusal", list(Refusal))
def test_a_failed_login_is_told_and_closes(refusal: Refusal) -> None:
    commands = connected().login_ended(refusal, 0.0)
    assert sent(commands)[0]["code"] == 1
    assert isinstance(done(commands)[0], Close)


@pytest.mark.parametrize("uid", ["", "a@b", "1001@balance", "a/b", "+", "x" * 65, "１００１"])
def test_a_uid_that_could_be_a_channel_is_refused(uid: str) -> None:
    assert isinstance(done(connected().login_ended(Identity(uid), 0.0))[0], Close)


@pytest.mark.parametrize("kind", sorted(PUBLIC_KINDS))
def test_public_channels_need_no_login(kind: str) -> None:
    peer = connected()
    channel = f"BTCUSDT@{kind}"
    slow = Slow.CLOSE if kind == "depth" else Slow.CONFLATE
    assert ask(peer, "subscribe", channel) == [SUCCESS, Subscribe(channel, slow)]
    assert ask(peer, "unsubscribe", channel) == [Unsubscribe(channel), SUCCESS]


@pytest.mark.parametrize("kind", sorted(PRIVATE_KINDS))
def test_private_channels_are_those_of_the_user_who_logged_in(kind: str) -> None:
    assert ask(connected(), "subscribe", f"@{kind}") == [NOT_AUTH]
    assert ask(connected(), "unsubscribe", f"@{kind}") == [NOT_AUTH]
    peer = logged_in()
    assert ask(peer, "subscribe", f"@{kind}") == [SUCCESS, Subscribe(f"1001@{kind}", Slow.CLOSE)]
    assert ask(peer, "unsubscribe", f"@{kind}") == [Unsubscribe(f"1001@{kind}"), SUCCESS]


def test_ones_own_uid_may_be_spelled_out_and_nobody_elses() -> None:
    peer = logged_in()
    assert ask(peer, "subscribe", "1001@balance")[0] == SUCCESS
    for name in ("1002", "01001", " 1001", "1001 ", "+", "#", "%31001"):
        assert ask(peer, "subscribe", f"{name}@balance") == [Send('{"code":1,"msg":"Not Allowed"}')]


def test_subscribing_twice_and_leaving_twice_succeed_and_change_nothing() -> None:
    peer = connected()
    ask(peer, "subscribe", "BTCUSDT@depth")
    assert ask(peer, "subscribe", "BTCUSDT@depth") == [SUCCESS]
    ask(peer, "unsubscribe", "BTCUSDT@depth")
    assert ask(peer, "unsubscribe", "BTCUSDT@depth") == [SUCCESS]


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        ("BTCUSDT@depths", "Invalid Channel"),
        ("BTCUSDT@Balance", "Invalid Channel"),
        ("BTCUSDT@balance ", "Invalid Channel"),
        ("@depth", "Invalid Symbol"),
        ("B TC@depth", "Invalid Symbol"),
        ("#@depth", "Invalid Symbol"),
        ("x" * 65 + "@depth", "Invalid Symbol"),
    ],
)
def test_a_channel_that_does_not_exist_is_an_error_and_no_end(channel: str, message: str) -> None:
    assert ask(logged_in(), "subscribe", channel) == [
        Send(json.dumps({"code": 1, "msg": message}, separators=(",", ":")))
    ]


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        "{}",
        '{"op":null}',
        '{"op":1}',
        '{"op":"ping"}',
        '{"op":"subscribe"}',
        '{"op":"subscribe","channel":null}',
        '{"op":"subscribe","channel":1}',
        '{"op":"subscribe","channel":"BTCUSDT"}',
        '{"op":"subscribe","channel":"a@b@c"}',
        '{"op":"auth","token":1}',
        "[" * 5000,
        "1" * 5000,
        b'{"op":"auth","token":"x"}',
    ],
)
def test_malformed_input_and_binary_messages_close_as_the_documents_script_does(message: str | bytes) -> None:
    [command] = logged_in().receive(message, 0.0)
    assert isinstance(command, Close)


def test_another_login_takes_the_private_channels_of_the_first_away() -> None:
    peer = logged_in("1001")
    ask(peer, "subscribe", "@balance")
    ask(peer, "subscribe", "BTCUSDT@depth")
    assert list(peer.login_ended(Identity("1002"), 0.0)) == [Unsubscribe("1001@balance"), SUCCESS]
    assert ask(peer, "subscribe", "@balance")[1] == Subscribe("1002@balance", Slow.CLOSE)


def test_the_same_login_again_only_extends_the_connection() -> None:
    peer = connected()
    peer.login_ended(Identity("1001", expires_at=10.0), 0.0)
    ask(peer, "subscribe", "@balance")
    assert list(peer.login_ended(Identity("1001", expires_at=50.0), 5.0)) == [SUCCESS]
    assert peer.wake_at == 50.0
    assert list(peer.tick(10.0)) == []
    assert done(peer.tick(50.0)) == [Close(3001, "token expired")]


def test_subscriptions_and_messages_have_limits() -> None:
    peer = connected()
    for number in range(RULES.subscriptions_max):
        assert ask(peer, "subscribe", f"S{number}@depth")[0] == SUCCESS
    assert ask(peer, "subscribe", "X@depth") == [Send('{"code":1,"msg":"Too Many Subscriptions"}')]
    for _ in range(100):
        assert ask(peer, "unsubscribe", "X@depth") == [SUCCESS]
    assert peer.rests_until > 0.0


def several(peer: ExchangeDialect, op: str, *channels: object) -> list[object]:
    return list(peer.receive(json.dumps({"op": op, "channels": channels}), 0.0))


def test_several_channels_in_one_request_are_all_taken_or_none() -> None:
    peer = logged_in()
    assert several(peer, "subscribe", "A@depth", "@order", "A@depth") == [
        SUCCESS,
        Subscribe("A@depth", Slow.CLOSE),
        Subscribe("1001@order", Slow.CLOSE),
    ]
    assert several(peer, "subscribe", "B@depth", "B@foo") == [Send('{"code":1,"msg":"Invalid Channel"}')]
    assert several(peer, "unsubscribe", "A@depth", "B@depth") == [Unsubscribe("A@depth"), SUCCESS]
    for bad in ((), (1,), ("A",), tuple(f"S{number}@depth" for number in range(501))):
        assert isinstance(several(peer, "subscribe", *bad)[-1], Close)


def test_candles_of_one_interval_do_not_stand_for_another() -> None:
    conflation = ExchangeDialect.conflation
    minute = conflation.key("A@kline", b'{"event":"A@kline","data":{"interval":"1m","open":"1"}}')
    hour = conflation.key("A@kline", b'{"event":"A@kline","data":{"interval": "1h","open":"1"}}')
    assert len({minute, hour, conflation.key("A@kline", b"{}"), conflation.key("A@ticker", b"{}")}) == 4


@pytest.mark.parametrize(
    "channel", ["foo", "1001@balances", "@balance", "a b@depth", "@depth", "x@y@depth", ""]
)
def test_a_channel_that_nobody_can_read_is_told(channel: str) -> None:
    assert why_unreadable(channel) is not None


@pytest.mark.parametrize("channel", ["BTCUSDT@depth", "1001@balance", "BTC/USDT@kline"])
def test_a_channel_that_somebody_can_read_is_none_of_them(channel: str) -> None:
    assert why_unreadable(channel) is None


def test_an_event_names_a_private_channel_as_its_reader_does() -> None:
    data = b'{"bids":[],"asks":[]}'
    assert event("BTCUSDT@depth", data) == b'{"event":"BTCUSDT@depth","data":{"bids":[],"asks":[]}}'
    assert event("1001@balance", b"{}") == b'{"event":"@balance","data":{}}'
    assert event('a"b@depth', b"1") == b'{"event":"a\\"b@depth","data":1}'


def test_a_slow_receiver_is_told_how_much_it_missed() -> None:
    assert connected().skipped("BTCUSDT@depth", 7, 0.0) == (
        '{"code":2,"msg":"Slow Receiver: 7 messages of BTCUSDT@depth skipped"}'
    )


pieces = st.sampled_from(
    ["1001", "1002", "@", "balance", "order", "depth", "BTCUSDT", "#", "+", "/", "$ws", "%", "\ud800"]
)
channels = st.lists(pieces | st.text(max_size=4), max_size=5).map("".join)
steps = st.tuples(st.sampled_from(["subscribe", "unsubscribe", "login 1001", "login 1003"]), channels)


@given(st.lists(steps, max_size=20))
def test_no_spelling_reaches_a_private_channel_of_another_user(steps: list[tuple[str, str]]) -> None:
    """Whatever a client says, it is subscribed to private channels of the last uid it logged in as only."""
    peer = connected()
    uid = ""
    private: set[str] = set()
    for step, channel in steps:
        commands: Commands
        if step.startswith("login"):
            uid = step.removeprefix("login ")
            commands = peer.login_ended(Identity(uid), 0.0)
        else:
            commands = peer.receive(json.dumps({"op": step, "channel": channel}), 0.0)
        for command in commands:
            if isinstance(command, Subscribe) and command.channel.partition("@")[2] in PRIVATE_KINDS:
                private.add(command.channel)
            elif isinstance(command, Unsubscribe):
                private.discard(command.channel)
        assert {name.partition("@")[0] for name in private} <= {uid}
