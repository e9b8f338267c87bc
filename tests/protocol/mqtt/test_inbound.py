"""QoS 2 messages that wait for their PUBREL: how many may, and what they may take."""

from __future__ import annotations

from protocol.mqtt.inbound import Inbound
from protocol.mqtt.message import Message, MessageStore


def test_no_more_than_so_many_messages_wait() -> None:
    store = MessageStore()
    inbound = Inbound(store, messages_max=3)
    assert [inbound.accept(number, Message(b"t", b"%d" % number, 2), False) for number in range(1, 6)] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert inbound.release(4) is None
    assert inbound.release(1) is not None
    assert inbound.accept(4, Message(b"t", b"4", 2), False)
    assert (inbound.count(), store.count) == (3, 3)


def test_no_more_than_so_many_bytes_wait_but_one_of_any_length() -> None:
    store = MessageStore()
    inbound = Inbound(store, bytes_max=10)
    assert inbound.accept(1, Message(b"t", b"x" * 100, 2), False)
    assert not inbound.accept(2, Message(b"t", b"x", 2), False)
    assert inbound.accept(1, Message(b"t", b"y" * 6, 2), False), "another under the same id takes its place"
    assert inbound.accept(2, Message(b"t", b"x" * 4, 2), False)
    assert not inbound.accept(3, Message(b"t", b"x", 2), False)
    assert inbound.forget(1)
    assert inbound.accept(3, Message(b"t", b"x" * 6, 2), False)
    inbound.discard()
    assert (inbound.count(), store.count, store.payload_bytes) == (0, 0, 0)
    assert inbound.accept(3, Message(b"t", b"x" * 10, 2), False)


def test_a_publish_that_differs_only_in_retain_is_the_one_that_waits() -> None:
    store = MessageStore()
    inbound = Inbound(store)
    assert inbound.accept(1, Message(b"t", b"x", 2, False), False)
    assert inbound.accept(1, Message(b"t", b"x", 2, True), True)
    released = inbound.release(1)
    assert released is not None
    assert not released.retain
