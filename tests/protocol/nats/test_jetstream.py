"""JetStream's answers, as a server of version 2.15 gave them, and answers that are none."""

from __future__ import annotations

import json

import pytest
from attrs import evolve

from protocol.nats import jetstream, wire
from protocol.nats.errors import NatsProtocolError


def answer(payload: bytes, block: bytes = b"") -> wire.Message:
    return wire.Message(b"_INBOX.x.r.1", 1, b"", block, payload)


def test_acknowledgements() -> None:
    one = jetstream.pub_ack(answer(b'{"stream":"shop_MSGS", "seq":7}'))
    assert one == jetstream.PubAck("shop_MSGS", 7)
    again = jetstream.pub_ack(answer(b'{"stream":"shop_MSGS", "seq":1,"duplicate": true}'))
    assert again.duplicate
    batch = jetstream.pub_ack(answer(b'{"stream":"shop_MSGS","seq":3,"batch":"b1","count":3}'))
    assert batch.batch_size == 3


@pytest.mark.parametrize(
    "usual",
    [
        b'{"stream":"s_MSGS", "seq":7}',
        b'{"stream":"s_MSGS","seq":7}',
        b'{"stream":"s_MSGS","seq":7,"batch":"x.1-y","count":3}',
    ],
)
def test_an_acknowledgement_says_the_same_however_it_is_written(usual: bytes) -> None:
    assert jetstream.pub_ack(answer(usual)) == jetstream.pub_ack(answer(b" " + usual))
    more = usual[:-1] + b',"duplicate":true}'
    assert jetstream.pub_ack(answer(more)).duplicate
    with pytest.raises(jetstream.ApiError):
        jetstream.pub_ack(answer(usual, b"NATS/1.0 503\r\n\r\n"))


def test_refusals() -> None:
    text = (
        b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 6"},"stream":"s","seq":0}'
    )
    with pytest.raises(jetstream.ApiError, match="wrong last sequence: 6") as caught:
        jetstream.pub_ack(answer(text))
    assert caught.value.is_conflict
    assert not caught.value.passes
    with pytest.raises(jetstream.ApiError) as caught:
        jetstream.pub_ack(answer(b"", b"NATS/1.0 503\r\n\r\n"))
    assert caught.value.passes


@pytest.mark.parametrize("payload", [b"", b"x", b"[]", b"{}", b'{"seq":"7"}', b"[" * 100_000])
def test_an_answer_that_is_none(payload: bytes) -> None:
    with pytest.raises(NatsProtocolError):
        jetstream.pub_ack(answer(payload))


def test_a_stored_message() -> None:
    text = (
        b'{"message":{"subject":"shop.MSGS.c.m.a","seq":9,"data":"eDE=","hdrs":"TkFUUy8xLjANClg6IHkNCg0K"}}'
    )
    found = jetstream.stored(answer(text))
    assert found == jetstream.Stored(b"shop.MSGS.c.m.a", 9, b"NATS/1.0\r\nX: y\r\n\r\n", b"x1")
    timed = text.replace(b'"seq":9', b'"seq":9,"time":"2026-01-01T00:00:01.123456789Z"')
    assert jetstream.stored(answer(timed)) == evolve(found, at_ns=1_767_225_601_123_456_789)
    assert jetstream.stored(answer(timed)).at == pytest.approx(1767225601.123456)
    for written, fraction in ((b".5Z", 500_000_000), (b"Z", 0), (b".000000001+00:00", 1)):
        assert jetstream.stored(answer(timed.replace(b".123456789Z", written))).at_ns % 10**9 == fraction
    for wrong in (b'"time":"today"', b'"time":7'):
        with pytest.raises(NatsProtocolError):
            jetstream.stored(answer(text.replace(b'"seq":9', b'"seq":9,' + wrong)))
    with pytest.raises(NatsProtocolError):
        jetstream.stored(answer(b'{"message":{"seq":9}}'))
    with pytest.raises(NatsProtocolError):
        jetstream.stored(answer(b'{"message":{"subject":"a","seq":9,"data":"?"}}'))


def test_a_consumer_is_named_in_the_subject_and_in_what_is_wanted_of_it() -> None:
    subject, text = jetstream.consumer_create("LOG", "node-1", {"filter_subject": "a.>"})
    assert subject == b"$JS.API.CONSUMER.CREATE.LOG.node-1"
    assert json.loads(text) == {"stream_name": "LOG", "config": {"filter_subject": "a.>", "name": "node-1"}}
