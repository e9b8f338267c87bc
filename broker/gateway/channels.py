"""Which topic a dialect's channel is: `$ws/<dialect>/<channel>`, the channel percent-encoded into one level.

Invariant: the mapping is injective, and a topic made here holds no wildcard and no level but its own three.
So no spelling of a channel name reaches another channel, whatever a client or a row put into it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from protocol.mqtt.reserved import CHANNEL_PREFIX

CHANNEL_BYTES_MAX: Final = 1024
"""A channel's name in UTF-8.  The longest that any of the three dialects uses in earnest is under 100."""

_KEPT: Final = "@:,;=!*()'&"
"""Kept as they are beside letters, digits and `_.-~`; everything else, `%` included, is encoded."""


class BadChannel(ValueError):
    """A name that can't be a channel: empty, too long, or not encodable as UTF-8."""


def topic_of(dialect: str, channel: str) -> bytes:
    """The topic under which a dialect's channel stands in the trie.

    Args:
        dialect: `econia`, `exchange`, `canton`.
        channel: the channel's full name, as the dialect writes it inside (`fill_event`, `1001@balance`,
            `market_data/AAPL/USDC`); any text.

    Raises:
        BadChannel: the name is empty, longer than 1024 bytes, or holds a lone surrogate.
    """
    try:
        name = channel.encode()
    except UnicodeEncodeError:
        raise BadChannel("a channel's name must be valid Unicode text") from None
    if not name:
        raise BadChannel("a channel's name must not be empty")
    if len(name) > CHANNEL_BYTES_MAX:
        raise BadChannel(f"a channel's name may have at most {CHANNEL_BYTES_MAX} bytes, not {len(name)}")
    return CHANNEL_PREFIX + dialect.encode() + b"/" + quote(name, safe=_KEPT).encode()
