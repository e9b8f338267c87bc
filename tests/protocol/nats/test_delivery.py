"""What a consumer's reply subject says."""

from __future__ import annotations

import pytest

from protocol.nats.delivery import Delivered
from protocol.nats.errors import NatsProtocolError

SHORT = b"$JS.ACK.shop_MSGS.c1.1.2.3.1795676104685900071.8"
LONG = b"$JS.ACK._.AHASH.shop_MSGS.c1.1.2.3.1795676104685900071.8.tok"


@pytest.mark.parametrize("reply", [SHORT, LONG])
def test_reply_subjects_of_either_length(reply: bytes) -> None:
    about = Delivered(reply)
    assert (about.deliveries, about.stream_sequence, about.consumer_sequence, about.pending) == (1, 2, 3, 8)
    assert about.stored_at == pytest.approx(1795676104.6859)


@pytest.mark.parametrize(
    "reply", [b"", b"_INBOX.1", b"$JS.ACK.s.c.1.2", b"$JS.ACK.s.c.1.x.3.y.5", b"$JS.ACK.s.c.1.2.-3.4.5"]
)
def test_a_reply_subject_of_nobody(reply: bytes) -> None:
    with pytest.raises(NatsProtocolError):
        Delivered(reply)
