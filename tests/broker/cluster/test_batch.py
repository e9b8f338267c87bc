"""Batches as they are sent: one message alone, or all with the marks by which the log takes them together."""

from __future__ import annotations

import pytest

from broker.cluster.batch import Waiting, encoded, new_sender
from broker.core.publication import Publication
from protocol.nats.headers import Headers, decode

HEAD = b"NATS/1.0\r\nNats-Msg-Id: %d\r\n"


def waiting(number: int) -> Waiting:
    return Waiting(Publication(b"t", b"payload %d" % number, 1), b"shop.MSGS.c.m.t", HEAD % number, number)


def published(data: bytes) -> list[tuple[bytes, Headers, bytes]]:
    """(reply, headers, payload) of each HPUB."""
    found = []
    while data:
        line, _, rest = data.partition(b"\r\n")
        words = line.split(b" ")
        assert words[:2] == [b"HPUB", b"shop.MSGS.c.m.t"]
        head, total = int(words[-2]), int(words[-1])
        found.append((words[2] if len(words) == 5 else b"", decode(rest[:head]), rest[head:total]))
        assert rest[total : total + 2] == b"\r\n"
        data = rest[total + 2 :]
    return found


@pytest.mark.parametrize(
    ("packet_id", "message_id", "retain", "is_dead", "is_for_others"),
    [
        (7, b"", False, False, True),
        (7, b"c:7:x", True, True, True),
        (0, b"", True, False, True),
        (0, b"", False, True, False),
        (0, b"will:1", True, False, False),
        (0, b"will:1", False, True, True),
    ],
    ids=["acknowledged", "known by its id", "retained", "neither", "will", "will of the dead"],
)
def test_who_says_a_message_again(
    packet_id: int, message_id: bytes, retain: bool, is_dead: bool, is_for_others: bool
) -> None:
    one = waiting(1)
    one.publication.packet_id, one.publication.message_id = packet_id, message_id
    one.publication.retain = retain
    assert one.is_for_others(is_dead) is is_for_others


def test_one_message_is_no_batch() -> None:
    ((reply, headers, payload),) = published(encoded([waiting(1)], b"me", 7, b"_INBOX.r"))
    assert (reply, dict(headers.values), payload) == (b"_INBOX.r", {b"Nats-Msg-Id": b"1"}, b"payload 1")


def test_the_last_one_commits_and_is_answered() -> None:
    found = published(encoded([waiting(1), waiting(2), waiting(3)], b"me", 7, b"_INBOX.r"))
    assert [reply for reply, _, _ in found] == [b"", b"", b"_INBOX.r"]
    assert [headers.get(b"Nats-Batch-Id") for _, headers, _ in found] == [b"me.7"] * 3
    assert [headers.number(b"Nats-Batch-Sequence") for _, headers, _ in found] == [1, 2, 3]
    assert [headers.get(b"Nats-Batch-Commit") for _, headers, _ in found] == [None, None, b"1"]
    assert [payload for _, _, payload in found] == [b"payload 1", b"payload 2", b"payload 3"]


@pytest.mark.parametrize("count", [1, 3])
def test_its_condition_stands_in_the_first(count: int) -> None:
    batch = [waiting(number) for number in range(count)]
    found = published(encoded(batch, b"me", 7, b"_INBOX.r", b"If: 0\r\n"))
    assert [headers.get(b"If") for _, headers, _ in found] == [b"0", *[None] * (count - 1)]


def test_every_sender_has_a_name_that_fits_into_an_id() -> None:
    names = {new_sender() for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) + len(b".18446744073709551615") <= 64 for name in names)
