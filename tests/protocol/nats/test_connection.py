"""A conversation with a server, over bytes."""

from __future__ import annotations

import json

import pytest

from protocol.nats import wire
from protocol.nats.connection import AWAITING_PONG, OPEN, Connection, Subscriptions
from protocol.nats.errors import NatsProtocolError

INFO = b'INFO {"version":"2.15.1","headers":true,"max_payload":100}\r\n'


def opened() -> tuple[Connection, Subscriptions]:
    subscriptions = Subscriptions(b"_INBOX.x")
    connection = Connection(subscriptions)
    connection.receive(INFO)
    connection.hello({})
    connection.receive(b"PONG\r\n")
    return connection, subscriptions


def test_hello_says_who_we_are_and_what_we_want() -> None:
    subscriptions = Subscriptions(b"_INBOX.x")
    subscriptions.add(b"a.>", lambda message: None)
    connection = Connection(subscriptions)
    assert connection.receive(INFO) == b""
    hello = connection.hello({"user": "u", "pass": "p"})
    first, *rest = hello.split(b"\r\n")
    said = json.loads(first.removeprefix(b"CONNECT "))
    assert (said["user"], said["headers"], said["no_responders"], said["verbose"]) == ("u", True, True, False)
    assert rest == [b"SUB _INBOX.x.r.* 1", b"SUB a.> 2", b"PING", b""]
    assert connection.state == AWAITING_PONG
    connection.receive(b"PONG\r\n")
    assert connection.state == OPEN


@pytest.mark.parametrize("version", ["2.9.10", "2.11.4", "", "x.y", "1.99.0"])
def test_a_server_that_is_too_old_is_named(version: str) -> None:
    connection = Connection(Subscriptions(b"_INBOX.x"))
    connection.receive(b'INFO {"version":"%b","headers":true}\r\n' % version.encode())
    with pytest.raises(NatsProtocolError, match=r"2\.12 or newer"):
        connection.hello({})


def test_a_ping_is_answered() -> None:
    connection, _ = opened()
    assert connection.receive(b"PING\r\nPING\r\n") == wire.PONG * 2


def test_an_answer_reaches_its_request_once() -> None:
    connection, subscriptions = opened()
    got: list[bytes] = []

    def take(message: wire.Message | None) -> None:
        got.append(b"lost" if message is None else message.payload)

    reply = subscriptions.expect(take)
    other = subscriptions.expect(take)
    subscriptions.give_up(other)
    connection.receive(b"MSG %b 1 2\r\nok\r\nMSG %b 1 2\r\nno\r\nMSG %b 1 0\r\n\r\n" % (reply, reply, other))
    assert got == [b"ok"]
    assert subscriptions.open_requests() == 0


def test_who_waits_for_an_answer_is_told_that_the_connection_is_lost() -> None:
    connection, subscriptions = opened()
    got: list[wire.Message | None] = []
    reply = subscriptions.expect(got.append)
    subscriptions.lose_requests()
    connection.receive(b"MSG %b 1 2\r\nok\r\n" % reply)
    assert got == [None]


def test_a_message_reaches_its_subscription_until_that_is_removed() -> None:
    connection, subscriptions = opened()
    got: list[bytes] = []
    sid = subscriptions.add(b"a.>", lambda message: got.append(message.payload))
    connection.receive(b"MSG a.b %d 1\r\nx\r\n" % sid)
    assert subscriptions.remove(sid)
    assert not subscriptions.remove(sid)
    connection.receive(b"MSG a.b %d 1\r\ny\r\n" % sid)
    assert got == [b"x"]


def test_what_the_server_says_before_it_hangs_up_is_the_reason() -> None:
    connection, _ = opened()
    connection.receive(b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n")
    assert connection.state == OPEN
    with pytest.raises(NatsProtocolError, match="Authorization Violation"):
        connection.receive(b"-ERR 'Authorization Violation'\r\n")


def test_what_a_server_does_not_take_is_known_before() -> None:
    connection, _ = opened()
    assert connection.payload_max == 100


def test_a_message_goes_to_its_handler_as_whoever_listens_says() -> None:
    handed: list[tuple[object, bytes]] = []
    subscriptions = Subscriptions(
        b"_INBOX.x", lambda handler, message: handed.append((handler, message.payload))
    )

    def take(message: wire.Message | None) -> None:
        raise AssertionError

    subscriptions.add(b"a", take)
    reply = subscriptions.expect(take)
    Connection(subscriptions).receive(INFO + b"MSG a 2 2\r\nok\r\nMSG %b 1 3\r\nyes\r\n" % reply)
    assert handed == [(take, b"ok"), (take, b"yes")]
