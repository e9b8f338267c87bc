"""What a feed's gap means for readers of the dialects: whose channels may miss rows has to load again.

A client whose newest message is all that counts goes on; so does one that its dialect has told in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from broker.config.feeds import FeedConfig
from broker.config.templates import KIND, Template, parse_template
from broker.core.publication import Publication
from broker.core.receiver import Receiver

GAP_FILTER: Final = b"$SYS/feed/+/gap"

Channels = Mapping[str, re.Pattern[str]]
"""By dialect: the names of channels that a feed's rows may come to."""


class HearsGaps(Protocol):
    """A connection that may have been waiting for a missing row."""

    def rows_missing(self, channels: Channels) -> None:
        """Rows of these channels may be missing."""


class GapWatch(Receiver):
    """Tells all connections of the dialects when a feed says that rows may be missing.

    Args:
        links: the open connections; it is asked for them at each gap.
    """

    def __init__(self, links: Iterable[HearsGaps]) -> None:
        super().__init__(plain=False)
        self._links = links
        self._channels: dict[bytes, Channels] = {}

    def adopt(self, feeds: Iterable[FeedConfig]) -> bool:
        """What the feeds publish from now on; whether any of it is a dialect's."""
        self._channels = {f"$SYS/feed/{feed.name}/gap".encode(): channels_of(feed) for feed in feeds}
        return any(self._channels.values())

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        channels = self._channels.get(publication.topic)
        if channels:
            for link in list(self._links):
                link.rows_missing(channels)


def channels_of(feed: FeedConfig) -> Channels:
    """The channels that may lack rows after a gap, by dialect: all that the routes may publish to.

    A connection that only listens lacks nothing of the kinds that a `recover` reads again.
    """
    read_again: set[tuple[str, str]] = set()
    if feed.recoveries and not feed.keeps_place:
        read_again = {pair for recovery in feed.recoveries for pair in recovery.kinds}
    found: dict[str, list[str]] = {}
    for route in feed.routes:
        if route.target == "mqtt" or (route.source, route.kind) in read_again:
            continue
        kinds = [kind for source, kind in read_again if source == route.source]
        patterns = found.setdefault(route.target, [])
        patterns.extend(_pattern_but(template, kinds) for template in route.topics)
    return {target: re.compile("|".join(patterns), re.DOTALL) for target, patterns in found.items()}


def _pattern_but(template: str, kinds: list[str]) -> str:
    """What a template of all kinds gives, but for the channels that only these kinds give."""
    parsed = parse_template(template)
    if not kinds or KIND not in parsed.names:
        return _pattern(parsed)
    whole = "|".join(_pattern(parsed, kind) for kind in kinds)
    return f"(?!(?:{whole})\\Z){_pattern(parsed)}"


def _pattern(template: Template, kind: str | None = None) -> str:
    """What a template gives of any kind, or of this one."""
    found = re.escape(template.pieces[0])
    for name, piece in zip(template.names, template.pieces[1:], strict=True):
        found += (".*" if kind is None or name != KIND else re.escape(kind)) + re.escape(piece)
    return found
