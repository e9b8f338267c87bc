"""What a token's claims allow: topic filters to subscribe and to publish to, whatever protocol it is shown in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from protocol.mqtt.reserved import CHANNEL_PREFIX
from protocol.mqtt.topics import covers, is_valid_topic_filter, matches


@frozen
class Grants:
    """Topic filters that may be subscribed, and published to."""

    subscribe: tuple[bytes, ...] = ()
    publish: tuple[bytes, ...] = ()

    def may_subscribe(self, topic_filter: bytes) -> bool:
        """Whether one of the granted filters covers all that this one matches."""
        return any(covers(granted, topic_filter) for granted in self.subscribe)

    def may_publish(self, topic: bytes) -> bool:
        """Whether one of the granted filters matches the topic."""
        return any(matches(granted, topic) for granted in self.publish)


def grants_of(claims: Mapping[str, Any], account: str) -> Grants:
    """What a verified token allows.

    Args:
        claims: its own; `subscribe` and `publish` are one topic filter or a list of them, `{sub}` in it is the
            account.  What is no topic filter allows nothing.
        account: the `sub` claim.  One that would change the shape of a filter (`/`, `+`, `#`) fills in nothing.
    """
    return Grants(_filters(claims.get("subscribe"), account), _filters(claims.get("publish"), account))


def filled(written: Iterable[str], account: str) -> tuple[bytes, ...]:
    """Topic filters with `{sub}` filled in; those that it can't be filled in are left out."""
    usable = account and not set(account) & set("/+#\0")
    found = []
    for text in written:
        if "{sub}" in text:
            if not usable:
                continue
            text = text.replace("{sub}", account)
        name = text.encode(errors="replace")
        if is_valid_topic_filter(name) and not name.startswith(CHANNEL_PREFIX):
            found.append(name)
    return tuple(found)


def _filters(value: object, account: str) -> tuple[bytes, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return ()
    return filled([one for one in value if isinstance(one, str)], account)
