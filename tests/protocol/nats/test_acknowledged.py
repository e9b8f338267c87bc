"""What says that a message was taken, told from all else as the reader of JSON tells it."""

from __future__ import annotations

import pytest

from protocol.nats import jetstream, wire
from protocol.nats.acknowledged import Usual
from protocol.nats.errors import NatsProtocolError


def message(payload: bytes, block: bytes = b"") -> wire.Message:
    return wire.Message(b"r", 1, b"", block, payload)


@pytest.mark.parametrize(
    ("payload", "is_usual"),
    [
        (b'{"stream":"shop_MSGS", "seq":7}', True),
        (b'{"stream":"shop_MSGS","seq":3,"batch":"b1","count":3}', True),
        (b'{"stream":"shop_MSGS","seq":3,"domain":"hub"}', True),
        (b'{"stream":"shop_MSGS", "seq":1,"duplicate": true}', False),
        (b'{"error":{"code":503,"err_code":10077,"description":"no"},"stream":"shop_MSGS","seq":0}', False),
        (b'{"stream":"shop_MSGS","seq":0,"error":{"code":503,"err_code":1,"description":"no"}}', False),
        (b'{"stream":"other","seq":3}', False),
        (b'{"stream":"shop_MSGS","seq":3', False),
        (b'{"stream":"shop_MSGS",}', False),
        (b"", False),
    ],
)
def test_only_what_was_taken_as_usual_is(payload: bytes, is_usual: bool) -> None:
    assert Usual("shop_MSGS").has_taken(message(payload)) is is_usual
    try:
        ack = jetstream.pub_ack(message(payload))
    except (jetstream.ApiError, NatsProtocolError):
        assert not is_usual
    else:
        assert is_usual is (not ack.duplicate and ack.stream == "shop_MSGS")


def test_what_has_a_status_is_not() -> None:
    taken = b'{"stream":"shop_MSGS", "seq":7}'
    assert not Usual("shop_MSGS").has_taken(message(taken, b"NATS/1.0 503\r\n\r\n"))
