"""CantonDEX's dialect: replies word for word, the whole error table, permissions, limits and time."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.canton_examples import EXAMPLES
from support.dialects import done, exact, sent

from protocol.dialects.base import (
    NEVER,
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
from protocol.dialects.canton import (
    CHANNELS_MAX,
    MESSAGES_REFUSED_MAX,
    SYMBOLS_MAX,
    CantonDialect,
    CantonRules,
)
from protocol.dialects.canton_messages import ErrorCode

ACCOUNT = "acc_1234567890abcdef"
RULES = CantonRules(
    heartbeat_interval_s=15,
    heartbeat_timeout_s=30,
    idle_timeout_s=300,
    login_timeout_s=10,
    messages_per_s_max=100,
    message_bytes_max=65536,
    subscriptions_max=50,
    compliance_roles=frozenset({"compliance_officer"}),
    any_account_roles=frozenset({"admin"}),
)

# 2024-11-17T17:05:00Z, so that the document's timestamps can be met.
DOCUMENT_UTC_S = 1731863100


def connected(now: float = 0.0, utc_s: float = DOCUMENT_UTC_S) -> CantonDialect:
    return CantonDialect(Clock(utc_s - now), RULES, now)


def logged_in(account: str = ACCOUNT, *roles: str, expires_at: float = NEVER) -> CantonDialect:
    peer = connected()
    peer.login_ended(Identity(account, frozenset(roles), expires_at), 0.0)
    return peer


def request(peer: CantonDialect, now: float = 0.0, **fields: object) -> Commands:
    return peer.receive(json.dumps(fields), now)


def refusal(commands: Commands) -> tuple[str, dict[str, object]]:
    """The code and the details of the one error among these commands."""
    [message] = sent(commands)
    assert message["type"] == "error"
    code = ErrorCode[str(message["code"])]
    assert message["message"] == code.value
    details = message["details"]
    assert isinstance(details, dict)
    return code.name, details


# --- login -------------------------------------------------------------------------------------------------


def test_the_documents_login_asks_for_its_token() -> None:
    assert list(connected().receive(EXAMPLES["Authentication: Request"], 0.0)) == [
        Login("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...")
    ]


def test_a_login_is_confirmed_in_the_documents_words() -> None:
    [answer] = connected().login_ended(Identity(ACCOUNT), 0.0)
    assert isinstance(answer, Send)
    assert exact(answer.text) == exact(EXAMPLES["Authentication: Response (Success)"])


@pytest.mark.parametrize("reason", [Refusal.INVALID, Refusal.EXPIRED])
def test_a_failed_login_is_answered_in_the_documents_words(reason: Refusal) -> None:
    [answer] = connected().login_ended(reason, 0.0)
    assert isinstance(answer, Send)
    assert exact(answer.text) == exact(EXAMPLES["Authentication: Response (Error)"])


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Identity(""), "INVALID_TOKEN"),
        (Refusal.NOT_YET_VALID, "INVALID_TOKEN"),
        (Refusal.UNAVAILABLE, "AUTH_FAILED"),
        (Refusal.TOO_MANY_CONNECTIONS, "RATE_LIMITED"),
    ],
)
def test_every_other_failure_has_its_code(outcome: Identity | Refusal, code: str) -> None:
    [message] = sent(connected().login_ended(outcome, 0.0))
    assert (message["status"], message["error_code"]) == ("failed", code)


def test_the_third_failed_login_closes() -> None:
    peer = connected()
    assert done(peer.login_ended(Refusal.INVALID, 0.0)) == []
    assert done(peer.login_ended(Refusal.INVALID, 0.0)) == []
    [close] = done(peer.login_ended(Refusal.INVALID, 0.0))
    assert isinstance(close, Close)


def test_a_connection_too_many_closes_at_once() -> None:
    [close] = done(connected().login_ended(Refusal.TOO_MANY_CONNECTIONS, 0.0))
    assert isinstance(close, Close)


def test_a_refreshed_token_extends_the_connection() -> None:
    peer = logged_in(expires_at=20.0)
    assert sent(peer.login_ended(Identity(ACCOUNT, expires_at=100.0), 10.0))[0]["status"] == "authenticated"
    peer.receive('{"type":"pong"}', 20.0)
    assert done(peer.tick(20.0)) == []
    [close] = done(peer.tick(100.0)[-1:])
    assert isinstance(close, Close)


def test_another_accounts_token_is_refused_and_changes_nothing() -> None:
    peer = logged_in()
    [message] = sent(peer.login_ended(Identity("acc_other"), 0.0))
    assert message["error_code"] == "INVALID_TOKEN"
    assert (
        refusal(request(peer, type="subscribe", channel="orders", account_id="acc_other"))[0]
        == "SUBSCRIPTION_ERROR"
    )
    assert done(request(peer, type="subscribe", channel="orders")) == [Subscribe(f"orders/{ACCOUNT}")]


def test_a_refreshed_token_with_fewer_roles_ends_what_they_allowed() -> None:
    peer = logged_in(ACCOUNT, "compliance_officer", "admin")
    request(
        peer, type="subscribe", channels=["compliance_events", "orders", "system_health"], account_id="acc_9"
    )
    commands = peer.login_ended(Identity(ACCOUNT), 1.0)
    assert done(commands) == [Unsubscribe("compliance_events"), Unsubscribe("orders/acc_9")]
    assert [message.get("code") for message in sent(commands)] == [None, *["INSUFFICIENT_PERMISSIONS"] * 2]


# --- subscriptions -----------------------------------------------------------------------------------------

SUBSCRIBE_REQUESTS = [
    name for name in EXAMPLES if name.endswith("Subscribe Request") and "Unsubscribe" not in name
]


@pytest.mark.parametrize("name", SUBSCRIBE_REQUESTS)
def test_every_subscribe_request_of_the_document_is_confirmed(name: str) -> None:
    peer = logged_in(ACCOUNT, "compliance_officer")
    commands = peer.receive(EXAMPLES[name], 0.0)
    asked = json.loads(EXAMPLES[name])
    [message] = sent(commands)
    assert (message["type"], message["channel"], message["status"]) == (
        "subscription_response",
        asked["channel"],
        "subscribed",
    )
    assert all(isinstance(command, Subscribe) for command in done(commands))


def test_the_confirmation_is_the_documents() -> None:
    [answer, subscribe] = logged_in().receive(EXAMPLES["Order Updates Stream: Subscribe Request"], 0.0)
    assert isinstance(answer, Send)
    assert exact(answer.text) == exact(EXAMPLES["Order Updates Stream: Subscription Confirmation"])
    assert subscribe == Subscribe(f"orders/{ACCOUNT}", Slow.CLOSE)


def test_market_data_is_conflated_per_symbol_at_the_interval_asked_for() -> None:
    peer = logged_in()
    commands = peer.receive(EXAMPLES["Market Data Stream: Subscribe Request"], 0.0)
    assert done(commands) == [
        Subscribe("market_data/AAPL/USDC", Slow.CONFLATE, 1.0),
        Subscribe("market_data/GOOGL/USDC", Slow.CONFLATE, 1.0),
    ]


def test_another_interval_replaces_the_subscription() -> None:
    peer = logged_in()
    request(peer, type="subscribe", channel="market_data", symbols=["A", "B"])
    commands = request(peer, type="subscribe", channel="market_data", symbols=["A", "C"], aggregation="250ms")
    assert done(commands) == [
        Unsubscribe("market_data/A"),
        Subscribe("market_data/A", Slow.CONFLATE, 0.25),
        Subscribe("market_data/C", Slow.CONFLATE, 0.25),
    ]


def test_unsubscribing_is_confirmed_in_the_documents_words() -> None:
    peer = logged_in()
    peer.receive(EXAMPLES["Order Updates Stream: Subscribe Request"], 0.0)
    commands = peer.receive(EXAMPLES["Unsubscribe: Unsubscribe Request"], 0.0)
    [answer] = [command for command in commands if isinstance(command, Send)]
    assert exact(answer.text) == exact(EXAMPLES["Unsubscribe: Unsubscribe Response"])
    assert done(commands) == [Unsubscribe(f"orders/{ACCOUNT}")]


def test_market_data_can_be_left_by_symbol_or_altogether() -> None:
    peer = logged_in()
    request(peer, type="subscribe", channel="market_data", symbols=["A", "B", "C"])
    assert done(request(peer, type="unsubscribe", channel="market_data", symbols=["B", "X"])) == [
        Unsubscribe("market_data/B")
    ]
    assert done(request(peer, type="unsubscribe", channel="market_data")) == [
        Unsubscribe("market_data/A"),
        Unsubscribe("market_data/C"),
    ]


def test_several_channels_in_one_request_are_answered_one_by_one() -> None:
    peer = logged_in()
    commands = request(
        peer,
        type="subscribe",
        channels=["orders", {"channel": "market_data", "symbols": ["A"], "aggregation": "1s"}, "nonsense"],
    )
    assert [message.get("status") or message.get("code") for message in sent(commands)] == [
        "subscribed",
        "subscribed",
        "INVALID_CHANNEL",
    ]
    assert done(commands) == [
        Subscribe(f"orders/{ACCOUNT}", Slow.CLOSE),
        Subscribe("market_data/A", Slow.CONFLATE, 1.0),
    ]


def test_an_administrator_reads_every_account_and_an_officer_compliance_events() -> None:
    assert done(
        request(logged_in("acc_1", "admin"), type="subscribe", channel="orders", account_id="acc_2")
    ) == [Subscribe("orders/acc_2", Slow.CLOSE)]
    officer = logged_in("acc_1", "compliance_officer")
    assert done(request(officer, type="subscribe", channel="compliance_events")) == [
        Subscribe("compliance_events")
    ]


# --- errors ------------------------------------------------------------------------------------------------


def test_the_error_message_is_the_documents() -> None:
    peer = CantonDialect(Clock(1731863400.0), RULES, 0.0)
    peer.login_ended(Identity("acc_1"), 0.0)
    [answer] = request(peer, type="subscribe", channel="orders", account_id="acc_2")
    assert isinstance(answer, Send)
    assert exact(answer.text) == exact(EXAMPLES["Error Handling: Error Message"])


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        "null",
        "[" * 5000,
        "1" * 5000,
        "{}",
        '{"type":1}',
        '{"type":"sub"}',
        b"{}",
        '{"type":"auth"}',
        '{"type":"auth","token":1}',
        '{"type":"subscribe"}',
        '{"type":"subscribe","channel":1}',
        '{"type":"subscribe","channel":["orders"]}',
        '{"type":"subscribe","channels":"orders"}',
        '{"type":"subscribe","channels":[]}',
        '{"type":"subscribe","channels":[1]}',
        '{"type":"subscribe","channels":["orders"],"channel":"orders"}',
        json.dumps({"type": "subscribe", "channels": ["orders"] * (CHANNELS_MAX + 1)}),
        '{"type":"subscribe","channel":"orders","account_id":1}',
        '{"type":"subscribe","channel":"orders","account_id":""}',
        '{"type":"subscribe","channel":"orders","account_id":"\\ud800"}',
        '{"type":"subscribe","channel":"orders","account_id":"a\\u0000b"}',
        '{"type":"subscribe","channel":"market_data"}',
        '{"type":"subscribe","channel":"market_data","symbols":[]}',
        '{"type":"subscribe","channel":"market_data","symbols":"A"}',
        '{"type":"subscribe","channel":"market_data","symbols":[1]}',
        '{"type":"subscribe","channel":"market_data","symbols":[""]}',
        json.dumps({"type": "subscribe", "channel": "market_data", "symbols": ["s"] * (SYMBOLS_MAX + 1)}),
        '{"type":"subscribe","channel":"market_data","symbols":["A"],"aggregation":"0s"}',
        '{"type":"subscribe","channel":"market_data","symbols":["A"],"aggregation":"1h"}',
        '{"type":"subscribe","channel":"market_data","symbols":["A"],"aggregation":1}',
        '{"type":"subscribe","channel":"market_data","symbols":["A"],"aggregation":"99999s"}',
    ],
)
def test_a_malformed_request_is_answered_and_nothing_else_happens(message: str | bytes) -> None:
    commands = logged_in().receive(message, 0.0)
    assert refusal(commands)[0] == "INVALID_REQUEST"
    assert done(commands) == []


def test_nothing_but_a_login_is_heard_before_it() -> None:
    assert refusal(request(connected(), type="subscribe", channel="system_health"))[0] == "AUTH_FAILED"


def test_a_foreign_account_is_a_subscription_error() -> None:
    commands = request(logged_in(), type="subscribe", channel="trades", account_id="acc_other")
    assert refusal(commands) == (
        "SUBSCRIPTION_ERROR",
        {"channel": "trades", "reason": "insufficient_permissions"},
    )


def test_compliance_events_need_their_role() -> None:
    commands = request(logged_in(ACCOUNT, "admin"), type="subscribe", channel="compliance_events")
    assert refusal(commands)[0] == "INSUFFICIENT_PERMISSIONS"


def test_subscribing_twice_and_leaving_what_was_never_joined_have_their_codes() -> None:
    peer = logged_in()
    request(peer, type="subscribe", channel="orders")
    assert refusal(request(peer, type="subscribe", channel="orders"))[0] == "ALREADY_SUBSCRIBED"
    assert refusal(request(peer, type="unsubscribe", channel="trades"))[0] == "NOT_SUBSCRIBED"
    assert refusal(request(peer, type="unsubscribe", channel="market_data"))[0] == "NOT_SUBSCRIBED"


def test_a_channel_that_does_not_exist_has_its_code() -> None:
    for channel in ("order", "orders/acc_1", "market_data/A", "#", "+", "$ws/canton/orders"):
        assert refusal(request(logged_in(), type="subscribe", channel=channel))[0] == "INVALID_CHANNEL"


def test_subscriptions_have_a_limit() -> None:
    peer = logged_in()
    symbols = [f"S{number}" for number in range(RULES.subscriptions_max)]
    assert len(done(request(peer, type="subscribe", channel="market_data", symbols=symbols))) == len(symbols)
    code, details = refusal(request(peer, type="subscribe", channel="orders"))
    assert (code, details["reason"]) == ("SUBSCRIPTION_ERROR", "too_many_subscriptions")


def test_the_hundred_and_first_message_in_a_second_is_rate_limited() -> None:
    peer = logged_in()
    for _ in range(100):
        assert sent(request(peer, type="pong")) == []
    assert refusal(request(peer, type="subscribe", channel="orders"))[0] == "RATE_LIMITED"
    assert sent(request(peer, now=1.0, type="subscribe", channel="orders"))[0]["status"] == "subscribed"


def test_who_goes_on_over_the_rate_is_closed() -> None:
    peer = logged_in()
    commands: list[object] = []
    for _ in range(100 + MESSAGES_REFUSED_MAX):
        commands += done(request(peer, type="pong"))
    [close] = commands
    assert isinstance(close, Close)
    assert close.code == 1008


@pytest.mark.parametrize(
    ("close_code", "code"),
    [(1009, "MESSAGE_SIZE_EXCEEDED"), (1001, "CONNECTION_CLOSED"), (1008, "CONNECTION_CLOSED")],
)
def test_a_close_says_why_first(close_code: int, code: str) -> None:
    [text] = logged_in().closing(close_code, 0.0)
    assert json.loads(text)["code"] == code


# --- time --------------------------------------------------------------------------------------------------


def test_the_heartbeat_is_the_documents_and_comes_every_15_seconds() -> None:
    peer = connected(utc_s=DOCUMENT_UTC_S - 15)
    peer.login_ended(Identity(ACCOUNT), 0.0)
    assert peer.wake_at == 15.0
    [ping] = peer.tick(15.0)
    assert isinstance(ping, Send)
    assert exact(ping.text) == exact(EXAMPLES["Heartbeat / Keep-Alive: Server Heartbeat"])
    assert list(peer.receive(EXAMPLES["Heartbeat / Keep-Alive: Client Response"], 15.5)) == []
    assert peer.wake_at == 30.0


def test_thirty_seconds_of_silence_close() -> None:
    peer = logged_in()
    peer.tick(15.0)
    assert done(peer.tick(29.9)) == []
    commands = peer.tick(30.0)
    assert refusal(commands) == ("CONNECTION_CLOSED", {"reason": "no_heartbeat"})
    assert isinstance(done(commands)[0], Close)
    assert list(peer.closing(1008, 30.0)) == []


def minutes_of_pongs(peer: CantonDialect, until: float, events: bool = False) -> Commands:
    """Answer heartbeats until something ends the connection, or the time is over."""
    now = 0.0
    while now < until:
        now = peer.wake_at
        peer.was_sent_to = events
        commands = peer.tick(now)
        if done(commands):
            return commands
        peer.receive('{"type":"pong"}', now)
    return ()


def test_five_minutes_of_inactivity_close_although_heartbeats_are_answered() -> None:
    commands = minutes_of_pongs(logged_in(), until=1000)
    assert refusal(commands) == ("CONNECTION_CLOSED", {"reason": "inactivity"})


def test_a_connection_that_gets_events_is_not_inactive() -> None:
    assert minutes_of_pongs(logged_in(), until=1000, events=True) == ()


def test_a_connection_that_does_not_log_in_in_time_is_closed() -> None:
    peer = connected()
    assert peer.wake_at == 10.0
    commands = peer.tick(10.0)
    assert refusal(commands) == ("AUTH_FAILED", {"reason": "authentication_timeout"})
    assert isinstance(done(commands)[0], Close)


def test_an_expired_token_closes_with_its_code() -> None:
    peer = logged_in(expires_at=12.0)
    assert peer.wake_at == 12.0
    commands = peer.tick(12.0)
    assert refusal(commands) == ("AUTH_FAILED", {"reason": "token_expired"})
    assert done(commands) == [Close(3001, "token_expired")]


def test_a_slow_receiver_is_told_how_much_it_missed() -> None:
    text = logged_in().skipped("market_data/AAPL/USDC", 7, 0.0)
    assert text is not None
    message = json.loads(text)
    assert (message["type"], message["symbol"], message["skipped"]) == ("messages_skipped", "AAPL/USDC", 7)


names = (
    st.sampled_from([*"abc", ACCOUNT, "acc_2", "", "/", "acc_1/..", "#", "+", "%2F", "\ud800", "\x00"])
    | st.text()
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | names, lambda inner: st.lists(inner, max_size=3)
)
fields = st.fixed_dictionaries(
    {"type": st.sampled_from(["subscribe", "unsubscribe"])},
    optional={
        "channel": st.sampled_from(["orders", "trades", "market_data", "compliance_events"]) | values,
        "channels": values | st.lists(st.sampled_from(["orders", "settlements"]), max_size=3),
        "account_id": values,
        "symbols": st.lists(names, max_size=3),
        "aggregation": st.sampled_from(["1s", "5m", "x"]) | values,
    },
)


@given(st.lists(fields, max_size=12))
def test_no_sequence_of_requests_reaches_another_account(requests: list[dict[str, object]]) -> None:
    peer = logged_in(ACCOUNT)
    for number, message in enumerate(requests):
        for command in request(peer, now=float(number), **message):
            if isinstance(command, Subscribe):
                channel, _, rest = command.channel.partition("/")
                assert channel == "market_data" or command.channel == "system_health" or rest == ACCOUNT
