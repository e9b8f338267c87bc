"""CONNECT and SUBSCRIBE as values: equal by what they say, and a password never shows."""

from __future__ import annotations

import pytest

from protocol.mqtt.arrival import Connect, Subscribe
from protocol.mqtt.packets import Will
from protocol.mqtt.v5.properties import Properties

CONNECT = Connect(
    b"c", True, 30, 5, Will(b"w", b"gone", 1, False), b"user", b"secret", False, Properties({17: 9})
)
OTHERS = [
    Connect(b"d", True, 30, 5, CONNECT.will, b"user", b"secret", False, CONNECT.properties),
    Connect(b"c", False, 30, 5, CONNECT.will, b"user", b"secret", False, CONNECT.properties),
    Connect(b"c", True, 31, 5, CONNECT.will, b"user", b"secret", False, CONNECT.properties),
    Connect(b"c", True, 30, 4, CONNECT.will, b"user", b"secret", False, CONNECT.properties),
    Connect(b"c", True, 30, 5, None, b"user", b"secret", False, CONNECT.properties),
    Connect(b"c", True, 30, 5, CONNECT.will, None, b"secret", False, CONNECT.properties),
    Connect(b"c", True, 30, 5, CONNECT.will, b"user", b"guess", False, CONNECT.properties),
    Connect(b"c", True, 30, 5, CONNECT.will, b"user", b"secret", True, CONNECT.properties),
    Connect(b"c", True, 30, 5, CONNECT.will, b"user", b"secret"),
]
SUBSCRIBE = Subscribe(7, ((b"a/#", 1),), Properties(subscription_ids=[3]))


def test_the_same_connect_is_equal() -> None:
    will = Will(b"w", b"gone", 1, False)
    again = Connect(b"c", True, 30, 5, will, b"user", b"secret", False, Properties({17: 9}))
    assert again == CONNECT
    assert hash(again) == hash(CONNECT)


@pytest.mark.parametrize("other", OTHERS, ids=repr)
def test_any_other_value_makes_another_connect(other: Connect) -> None:
    assert other != CONNECT


def test_a_subscribe_is_equal_by_its_values() -> None:
    again = Subscribe(7, ((b"a/#", 1),), Properties(subscription_ids=[3]))
    assert again == SUBSCRIBE
    assert hash(again) == hash(SUBSCRIBE)
    assert Subscribe(8, SUBSCRIBE.filters, SUBSCRIBE.properties) != SUBSCRIBE
    assert Subscribe(7, ((b"a/#", 2),), SUBSCRIBE.properties) != SUBSCRIBE
    assert Subscribe(7, SUBSCRIBE.filters) != SUBSCRIBE
    assert SUBSCRIBE != CONNECT


def test_a_password_does_not_show() -> None:
    assert "secret" not in repr(CONNECT)
    assert "user_name=b'user'" in repr(CONNECT)
    assert "a/#" in repr(SUBSCRIBE)
